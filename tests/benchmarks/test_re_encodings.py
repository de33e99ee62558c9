"""Encoding alone moves metrics: each encoding does what its name says, the metrics move as they should, and a rewarded damage is bold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from re_encodings import ENCODINGS, Change, change_rows, changes, write_encodings

from fantasytalking.evaluation.evaluate import EvaluationOptions, evaluate
from fantasytalking.evaluation.pairing import GROUND_TRUTH
from fantasytalking.evaluation.results import Comparison, Report
from fantasytalking.media.audio import load_audio
from fantasytalking.media.video import probe_video, read_frames, write_video
from fantasytalking.pipeline.progress import Progress
from tests.evaluation.conftest import SMALL


@pytest.fixture(scope="module")
def report(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """One talking clip against its encodings."""
    folder = tmp_path_factory.mktemp("encodings")
    frames, _ = read_frames(talking / "lively.mp4", max_frames=45)
    sound = load_audio(talking / "lively.mp4", 48000)
    (folder / "real").mkdir()
    write_video(folder / "real" / "clip.mp4", frames, 25, sound, crf=4)
    folders = write_encodings(["clip"], [frames], [sound], folder)
    options = EvaluationOptions(
        SMALL, ("es", "mouth", "sharpness", "fid"), "proxy", (), workers=1, device="cpu", media=False
    )
    return evaluate(folders, folder / "real", folder / "report", options, Progress()), folder


@pytest.mark.slow
def test_each_encoding_does_what_its_name_says(report: tuple[Report, Path]) -> None:
    files = {e.name: report[1] / e.name.replace(" ", "-") / "clip.mp4" for e in ENCODINGS}
    truth, _ = read_frames(report[1] / "real" / "clip.mp4")
    for name, file in files.items():
        info = probe_video(file)
        assert (info.frames, float(info.fps), info.has_audio) == (len(truth), 25.0, True)
        assert (info.width, info.height) == ((128, 128) if name == "half size" else (256, 256))
        heard, true = load_audio(file).samples, load_audio(report[1] / "real" / "clip.mp4").samples
        assert np.corrcoef(heard[: len(true)], true[: len(heard)])[0, 1] > 0.95, "the sound stays where it is"
    with av.open(str(files["HEVC CRF 28"])) as container:
        assert container.streams.video[0].codec_context.name == "hevc"
    assert files["H.264 CRF 38"].stat().st_size < files["H.264 CRF 28"].stat().st_size
    held, _ = read_frames(files["held frames"])
    still = [float(np.abs(held[i + 1].astype(int) - held[i]).mean()) for i in range(len(held) - 1)]
    assert np.mean(still[::2]) < 0.3 * np.mean(still[1::2]), "every second frame is the one before"


@pytest.mark.slow
def test_metrics_move_with_the_damage_that_encoding_does(report: tuple[Report, Path]) -> None:
    found = {(c.column, c.encoding): c for c in changes(report[0])}
    assert len(found) == 4 * len(ENCODINGS)
    sharp = [found["sharpness", name].mean for name in ("H.264 CRF 18", "H.264 CRF 28", "H.264 CRF 38")]
    assert 0.02 > sharp[0] > sharp[1] > sharp[2] and sharp[2] < -0.1
    assert found["sharpness", "half size"].mean < -0.1
    assert found["sharpness", "held frames"].mean > sharp[2]
    # how much a frame's delay costs depends on how fast the mouth moves; encoding hardly costs anything
    assert found["mouth", "held frames"].mean < -0.01
    assert found["mouth", "H.264 CRF 18"].mean > found["mouth", "held frames"].mean / 2
    distances = [found["fid", name].mean for name in ("H.264 CRF 18", "H.264 CRF 28", "H.264 CRF 38")]
    assert 0 < distances[0] < distances[1] < distances[2]
    truth = report[0].methods[0].clips["clip"].values
    for one in found.values():
        if one.column != "fid":
            value = next(m for m in report[0].methods if m.name == one.encoding).clips["clip"].values[one.column]
            assert one.mean == pytest.approx(value - truth[one.column]) == one.largest


@pytest.mark.slow
def test_a_metric_that_is_better_after_the_damage_is_bold_where_the_interval_excludes_zero(
    report: tuple[Report, Path],
) -> None:
    def row(gap: float, low: float, high: float) -> str:
        compared = Comparison("es", GROUND_TRUTH, "half size", -gap, -high, -low, 0.01, 1)
        column = replace(report[0].columns[0], decimals=3)
        (one,) = changes(replace(report[0], comparisons=(compared,), columns=(column,)))[-1:]
        assert isinstance(one, Change) and one.mean == gap
        return change_rows([one])[1][0][1]

    assert row(0.1, 0.05, 0.2).startswith("**+0.100 (+0.050 to +0.200); ")
    assert row(0.1, -0.05, 0.2).startswith("+0.100 (-0.050") and row(-0.1, -0.2, -0.05).startswith("-0.100")
