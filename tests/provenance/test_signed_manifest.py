"""Signing of a finished file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import OutputError
from fantasytalking.media.video import write_video
from fantasytalking.provenance.bmff import xmp_box
from fantasytalking.provenance.marks import Marks
from fantasytalking.provenance.signed_manifest import sign_file, tool_name
from tests.media.files import left_over
from tests.pipeline.tiny_pipeline import speech
from tests.system.file_limit import file_limit


def test_a_disk_that_is_full_while_a_file_is_signed_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "done.mp4"
    # Noise, so that what is too much is written before the last buffer.
    frames = np.random.default_rng(0).integers(0, 256, (5, 128, 128, 3), np.uint8)
    write_video(path, frames, 25, speech(0.2), preset="ultrafast")
    # The source type is put behind the file, the manifest into a copy of both.
    marks = Marks(model="tiny")
    size = path.stat().st_size + len(xmp_box(marks.source_type, tool_name()))
    with file_limit(size + 100), pytest.raises(OutputError) as told:
        sign_file(path, marks, tmp_path / "talking.mp4")
    assert "'" + str(tmp_path / "talking.mp4") + "' could not be written (the file would exceed" in str(told.value)
    assert left_over(tmp_path) == ["done.mp4"]
