"""A disk that is full while a video is written: one sentence, and nothing half-written beyond what plays."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import OutputError
from fantasytalking.media.stream_writer import StreamWriter
from fantasytalking.media.video import probe_video, read_frames
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.talking_video import VideoOutput
from tests.media.files import left_over
from tests.pipeline.test_dubbing import Quiet, filmed, nodding, side_by_side
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, wan_pipeline
from tests.system.file_limit import file_limit

SAYS_SO = r"could not be written \((the file would exceed|the disk is full).*free some space"


@pytest.fixture(scope="module")
def tiny() -> FantasyTalkingPipeline:
    return embedded_pipeline(defaults={"steps": 1, "audio_guidance_scale": 1.0, "face_check": "off"}, max_frames=33)


@pytest.fixture(autouse=True)
def limit_is_undone() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill() -> None:
    """Let no file grow beyond what a line of JSON takes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def free() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


class Filling(Quiet):
    """Fills the disk at the beginning of a stage, or at a frame of it."""

    def __init__(self, stage: str, frame: int = 0) -> None:
        super().__init__()
        self.when, self.frame = stage, frame

    @contextlib.contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Callable[..., None]]:
        done = 0

        def advance(steps: int = 1) -> None:
            nonlocal done
            done += steps
            if name == self.when and done == self.frame:
                fill()

        if name == self.when and not self.frame:
            fill()
        yield advance


def write(pipeline: FantasyTalkingPipeline, path: Path, progress: Quiet) -> None:
    pipeline(portrait(), speech(2.6), progress=progress, output=VideoOutput(path), long_video="continue")


@pytest.mark.parametrize(("stage", "frame", "finished"), [("generating", 40, 1), ("writing", 0, 3)])
def test_a_disk_that_is_full_in_a_part_or_while_parts_are_joined_costs_no_finished_part(
    stage: str, frame: int, finished: int, tiny: FantasyTalkingPipeline, tmp_path: Path
) -> None:
    path, folder = tmp_path / "out.mp4", tmp_path / "out.mp4.unfinished"
    with pytest.raises(OutputError, match=SAYS_SO):
        write(tiny, path, Filling(stage, frame))
    free()
    record = json.loads((folder / "progress.json").read_text())
    assert record["segment"] == finished and left_over(tmp_path) == [folder.name]
    # no more than the parts, the state and the record, and each part plays
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [*(one["file"] for one in record["segments"]), record["state"], "progress.json"]
    )
    for one in record["segments"]:
        assert len(read_frames(folder / one["file"])[0]) == one["frames"]
    calls: list[int] = []
    hook = tiny.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    write(tiny, path, Quiet())
    hook.remove()
    assert len(calls) == 3 - finished and probe_video(path).frames == 65 and left_over(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("kind", ["windows", "dub", "together"])
def test_a_video_that_is_written_in_one_piece_is_complete_or_not_there(
    kind: str, tiny: FantasyTalkingPipeline, tmp_path: Path
) -> None:
    output = VideoOutput(tmp_path / "out.mp4")
    progress = Filling("dubbing" if kind == "dub" else "generating", 3)
    film = filmed(tmp_path / "film.mp4", nodding(10))

    def run() -> None:
        if kind == "windows":
            wan = wan_pipeline(defaults={"steps": 1})
            wan(portrait(), speech(2.0), progress=progress, output=output, segment_seconds=1)
        elif kind == "dub":
            tiny.dub(film, speech(0.4), output, progress=progress)
        else:
            tiny.speak_together(side_by_side(1)[0], {0: speech(0.4), 1: speech(0.4)}, output, progress=progress)

    with pytest.raises(OutputError, match=SAYS_SO):
        run()
    free()
    # What was sampled is kept.
    assert left_over(tmp_path) == ["film.mp4", *(["out.mp4.unfinished"] if kind == "windows" else [])]


def test_a_stream_to_a_file_plays_up_to_where_the_disk_was_full(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"

    def stream() -> None:
        frames = np.random.default_rng(0).integers(0, 255, (60, 96, 96, 3), np.uint8)
        with StreamWriter(path, 25, 48000) as writer:
            for frame in frames:
                writer.write(frame, np.zeros(1920, np.float32))

    with pytest.raises(OutputError, match=SAYS_SO), file_limit(200_000):
        stream()
    assert 0 < path.stat().st_size <= 200_000
    assert 5 < len(read_frames(path)[0]) < 60
