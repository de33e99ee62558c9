"""What the first video of a process would wait for, done before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import QuietProgress
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, wan_pipeline
from tests.system.test_startup import after_start

FIRST_STREAM = """
import sys
import numpy as np
from fantasytalking.media.audio import Audio
from fantasytalking.media.stream_writer import StreamWriter
from fantasytalking.perception.networks.network_runner import _interpreter
from fantasytalking.pipeline.model_names import embedded_folder

def loaded():
    return {name for name in sys.modules if not name.startswith("encodings.")}, _interpreter.cache_info().currsize

pipeline.warm_up()
before = loaded()
face = embedded_folder() / "example" / "portrait.png"
frames = pipeline.stream(face, Audio(np.sin(np.arange(8000) / 9).astype(np.float32), 16000), steps=1, longest_side=160)
first = next(frames)
with StreamWriter(lambda data: None, first.fps, first.sample_rate, marks=first.marks) as writer:
    writer.write(first.pixels, first.sound)
    for frame in frames:
        writer.write(frame.pixels, frame.sound)
after = loaded()
print(sorted(after[0] - before[0]), after[1] - before[1])
"""


def test_the_first_stream_after_it_imports_nothing_and_reads_no_network() -> None:
    assert after_start(FIRST_STREAM) == ["[] 0"]


@pytest.mark.parametrize("kind", ["embedded", "wan"])
def test_videos_are_the_same_with_it_and_without_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    # Nothing can be signed there, which is no reason to fail before a video is wanted.
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))

    def shown(pipeline: FantasyTalkingPipeline) -> np.ndarray:
        return pipeline(portrait(), speech(0.3), progress=QuietProgress(), longest_side=64).frames

    pipeline = embedded_pipeline() if kind == "embedded" else wan_pipeline()
    usual = shown(pipeline)
    pipeline.warm_up()
    assert np.array_equal(shown(pipeline), usual) and not recwarn.list
