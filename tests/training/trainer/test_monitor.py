"""What a run leaves behind: log, TensorBoard, videos, and a record of what it ran on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.errors import SettingsError
from fantasytalking.system.json import append_json_line, read_json_lines
from fantasytalking.training.trainer.callbacks import Moment, Validate, Validated
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.monitor import Interval, Monitor, batch_sums, is_logged
from fantasytalking.training.trainer.objective import Losses
from fantasytalking.training.trainer.run_folder import RunFolder
from fantasytalking.training.trainer.throughput import Speedometer, measure_peak_flops
from tests.training.tiny_run import CONFIG, RandomSource, trainer

ROOT = Path(__file__).resolve().parents[3]


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_every_figure_once_per_log_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = replace(CONFIG, tensorboard=True, log_every=2, validate_every=4)
    trainer(tmp_path, config, callbacks=[Validate(lambda model: {"r": 0.25})]).train(until=6)
    trainer(tmp_path, config).train(until=12)
    # both starts may fall into one second, and the files of one second are read in any order
    found = {name: sorted(values) for name, values in scalars(tmp_path).items()}
    records = [r for r in RunFolder(tmp_path).records() if "validation" not in r]
    assert [step for step, _ in found["loss/total"]] == [1, 2, 4, 6, 8, 10, 12]
    assert [value for _, value in found["loss/total"]] == pytest.approx([r["loss"] for r in records])
    assert [step for step, _ in found["loss_by_stage/clip"]] == [1, 2, 4, 6, 8, 10]
    assert [step for step, _ in found["loss_by_stage/frame"]] == [12]
    assert found["validation/r"] == [(4, 0.25)]
    expected = {
        "loss/lips",
        "loss/rest",
        "optimizer/learning_rate",
        "optimizer/gradient_norm",
        "memory/peak_gib",
        "speed/mfu",
    }
    expected |= {f"speed/{name}_per_second" for name in ("steps", "samples", "tokens")}
    expected |= {f"loss_by_noise/{a}" for a in ("0.50-0.75", "0.75-1.00")}
    assert expected <= found.keys()
    assert all(0 < value < 1 for _, value in found["speed/mfu"])


def test_without_tensorboard_a_note_is_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trainer(tmp_path, replace(CONFIG, tensorboard=True)).train(until=1)
    assert "TensorBoard is not installed" in capsys.readouterr().err
    assert len(RunFolder(tmp_path).records()) == 1


def test_the_loss_is_told_by_noise_level() -> None:
    names = ("lips", "rest")
    interval = Interval(names)
    for levels, norm in (([0.1, 0.99, 0.8], 5.0), ([0.3, 0.2, 0.0], 7.0)):
        parts = {"lips": torch.ones(3), "rest": torch.zeros(3)}
        losses = Losses(torch.tensor([1.0, 2.0, 4.0]), parts, torch.tensor(levels))
        interval.add(batch_sums(losses, names), 3, norm)
    figures = interval.figures()
    assert figures["loss"] == pytest.approx(7 / 3)
    assert (figures["lips"], figures["rest"], figures["norm"]) == (1.0, 0.0, 6.0)
    assert figures["levels"] == [pytest.approx(7 / 3), 1.0, None, 3.0]
    assert Interval(names, **json.loads(json.dumps(interval.state()))).figures() == figures


def test_what_a_checkpoint_keeps_does_not_change_while_it_is_written(tmp_path: Path) -> None:
    """The sums of the log go on growing in the next step."""
    made = trainer(tmp_path, replace(CONFIG, log_every=10))
    made.train(until=3)
    before = json.loads((tmp_path / "step-3" / "meta.json").read_text())["extra"]["interval"]
    kept = {"interval": json.loads(json.dumps(before))}
    path = made.checkpoints.save(4, kept)
    kept["interval"]["levels"][0][0] += 1000.0
    made.checkpoints.wait()
    assert json.loads((path / "meta.json").read_text())["extra"]["interval"] == before


def test_the_log_is_exact_over_a_resume_inside_an_interval(tmp_path: Path) -> None:
    config = replace(CONFIG, log_every=4)
    trainer(tmp_path / "one", config).train(until=8)
    trainer(tmp_path / "two", config).train(until=6)
    trainer(tmp_path / "two", config).train(until=8)
    one, two = (
        [
            [r[k] for k in ("step", "loss", "lips", "rest", "norm", "levels")]
            for r in RunFolder(tmp_path / name).records()
        ]
        for name in ("one", "two")
    )
    assert [row[0] for row in one] == [1, 2, 4, 8]
    assert one == two


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        (1, [*range(1, 41)]),
        (4, [1, 2, *range(4, 41, 4)]),
        (20, [1, 2, 5, 10, 20, 40]),
        (50, [1, 2, 5, 10, 20]),
    ],
)
def test_a_run_shows_its_losses_from_the_first_step(every: int, steps: list[int]) -> None:
    assert [step for step in range(1, 41) if is_logged(step, every)] == steps
    assert is_logged(50, 100) and is_logged(500, 1000) and not is_logged(1500, 1000)


def test_a_torn_log_line_is_left_out_and_repeated_steps_count_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_json_line(path, {"step": 2, "loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    append_json_line(path, {"step": 2, "loss": 1.5})
    append_json_line(path, {"step": 2, "validation": {"r": 0.1}})
    assert len(read_json_lines(path)) == 3
    assert RunFolder(tmp_path).records() == [{"step": 2, "loss": 1.5}, {"step": 2, "validation": {"r": 0.1}}]


def test_every_start_is_recorded(tmp_path: Path) -> None:
    trainer(tmp_path).train(until=2)
    trainer(tmp_path)
    starts = read_json_lines(RunFolder(tmp_path).starts)
    assert [start["step"] for start in starts] == [0, 2]
    assert starts[0]["versions"]["torch"] == torch.__version__
    assert starts[0]["machine"]["processes"] == 1
    assert starts[0]["command"]
    assert {"commit", "data", "time"} <= starts[0].keys()


def test_a_run_is_not_continued_with_other_settings_or_other_data(tmp_path: Path) -> None:
    def made(fingerprint: str | None = "a" * 64, **changes: object) -> Trainer:
        config = replace(CONFIG, **changes)  # type: ignore[arg-type]
        return trainer(tmp_path, config, source=RandomSource(fingerprint=fingerprint))

    made().train(until=1)
    with pytest.raises(
        SettingsError, match=r"other settings \(clip_norm: 1.0 there, 2.0 now; shift: 3.0 there, 5.0 now\)"
    ):
        made(shift=5.0, clip_norm=2.0)
    with pytest.raises(SettingsError, match=r"stages.1.steps: 10 there, 12 now"):
        made(stages=(CONFIG.stages[0], replace(CONFIG.stages[1], steps=12)))
    with pytest.raises(SettingsError, match=r"data: checksum aaaaaaaaaaaa there, bbbbbbbbbbbb now"):
        made("b" * 64)
    assert made(checkpoint_minutes=9.0, log_every=7, keep=5, accumulate=2, validate_every=3).step == 1


def test_settings_may_change_before_the_first_checkpoint(tmp_path: Path) -> None:
    trainer(tmp_path)
    assert trainer(tmp_path, replace(CONFIG, shift=5.0)).step == 0
    assert json.loads((tmp_path / "config.json").read_text())["shift"] == 5.0


STOPPED = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from tests.training.tiny_run import CONFIG, trainer
torch.set_num_threads(1)
trainer(Path(sys.argv[1]), replace(CONFIG.scaled_to(100000), log_every=1)).train()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_the_step_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(run)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        while not RunFolder(run).records():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        shown = process.communicate(timeout=120)[1]
    latest = RunFolder(run).latest()
    assert latest is not None
    step = int(latest.name.removeprefix("step-"))
    assert step == RunFolder(run).records()[-1]["step"] >= 1
    assert f"Stopped after step {step} of 100000; its checkpoint is in {run}" in shown
    assert shown.rstrip().endswith("KeyboardInterrupt")


def test_speeds_are_per_second_of_all_processes() -> None:
    speed = Speedometer(torch.device("cpu"), 2, peak=1e15)
    for _ in range(3):
        speed.add(5, 18, 1e12)
    figures = {name: figure for name, figure in speed.figures(10).items() if figure is not None}
    assert figures["samples_per_second"] == pytest.approx(5 * figures["steps_per_second"], rel=0.01)
    assert figures["tokens_per_second"] == pytest.approx(5 * 18 * figures["steps_per_second"], rel=0.01)
    assert figures["memory_gib"] > 0.05
    speed.restart()
    assert speed.figures(10)["minutes_left"] is None
    assert measure_peak_flops(torch.device("cpu"), torch.float32, 0.01) > 1e8


def test_validation_videos_are_files_strips_and_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from fantasytalking import FantasyTalkingPipeline
    from fantasytalking.evaluation.video_figures import video_figures
    from fantasytalking.training.trainer.validation_videos import ValidationVideos
    from tests.pipeline.tiny_pipeline import portrait, speech

    demo = FantasyTalkingPipeline.from_pretrained("embedded")

    def pipeline(transformer: object) -> FantasyTalkingPipeline:
        demo.transformer = transformer
        return demo

    settings = {"steps": 1, "seed": 1, "longest_side": 192}
    videos = ValidationVideos(pipeline, {"one": (portrait(), speech(1.0))}, settings, every=2, measure=video_figures)
    monitor, run = Monitor(), RunFolder(tmp_path)
    monitor.on_begin(run, 0, 8)
    assert videos.on_validation(demo.transformer, Moment(4, 1, run)) == Validated()
    found = videos.on_validation(demo.transformer, Moment(8, 2, run))
    monitor.on_validated(8, found)
    monitor.on_end()
    figures = found.figures
    assert (tmp_path / "validation" / "step-8" / "one.mp4").stat().st_size > 1000
    assert {"video_sync_confidence", "video_sync_distance", "video_mouth_motion", "video_head_motion"} <= figures.keys()
    assert all(np.isfinite(value) for value in figures.values())
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Images("validation/one")[0].width == 8 * 192
