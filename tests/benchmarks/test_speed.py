"""The benchmark of speed measures what it says it does, each cell once, and goes on where it was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from other_loops import ReleasedLoop, SilentRun, wan_network
from speed import LEFT, SHAPES, expected_cells, main, pending, result_of, sessions
from speed_cells import LOOP, PASS, PASSES, Cell, Session, Shape, session_of
from speed_docs import BEGIN, END, put, summary
from speed_loading import Job, Loaded, load, made_here
from speed_quality import measure_quality
from speed_report import computed, drawing, ratio, tables, target_lines
from speed_worker import measure_generation, measure_pass, released, work

from fantasytalking.acceleration.profiles import PROFILES
from fantasytalking.acceleration.resolve_plan import PLANS
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.system.machine import machine
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, wan_pipeline

ROOT = Path(__file__).parents[2]


def latents(pipeline: FantasyTalkingPipeline, **settings: Any) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    pipeline(
        portrait(),
        speech(0.3),
        callback_on_step_end=lambda pipeline, step, timestep, tensors: seen.append(tensors["latents"]),
        output_type="latent",
        **{"steps": 3, **settings},
    )
    return seen[-1]


@pytest.mark.parametrize("make", [wan_pipeline, embedded_pipeline], ids=["wan", "embedded"])
def test_the_released_loop_gives_what_our_sampler_gives_in_three_passes(make: Any) -> None:
    pipeline = make()
    passes: list[int] = []
    pipeline.transformer.register_forward_hook(lambda *_: passes.append(1))
    for scales in ({}, {"prompt_guidance_scale": 4.0, "audio_guidance_scale": 2.5}):
        ours = latents(pipeline, **scales)
        passes.clear()
        with released(pipeline):
            assert isinstance(pipeline, ReleasedLoop)
            plain = latents(pipeline, **scales)
        assert len(passes) == 3 * 3
        assert (plain - ours).abs().max() < 1e-5 * ours.abs().max()


def test_diffusers_network_is_ours_without_speech_over_the_same_tensors() -> None:
    pipeline = wan_pipeline()
    theirs = wan_network(pipeline.transformer)
    assert theirs.patch_embedding.weight.data_ptr() == pipeline.transformer.patch_embedding.weight.data_ptr()
    assert {name for name, _ in theirs.named_parameters()} < {n for n, _ in pipeline.transformer.named_parameters()}


def test_a_pass_is_timed_in_both_pipelines() -> None:
    run = SilentRun(embedded_pipeline(), (3, 4, 4), steps=3)
    for clock in (run.theirs(), run.ours(kept=False), run.ours(kept=True)):
        assert len(clock.ends) == 3 and min(clock.step) > 0


def test_the_cells_are_all_profiles_plans_and_passes_each_after_what_it_is_compared_with() -> None:
    cells = expected_cells(["14b"])
    whole, short = Shape(512, 81, 30), Shape(512, 81, 4)
    assert [(cell.kind, cell.name) for cell in cells if cell.shape == whole] == [
        ("loop", LOOP),
        *(("profile", name) for name in PROFILES),
    ]
    assert [(cell.kind, cell.name) for cell in cells if cell.shape == short] == [
        ("loop", LOOP),
        ("pass", PASS),
        *(("plan", name) for name in PLANS),
    ]
    assert len({cell.key for cell in cells}) == len(cells)
    assert [cell.shape.steps for cell in expected_cells(["14b"], steps=12) if cell.kind == "profile"] == [12] * 4
    for model, (first, *others) in SHAPES.items():
        cells = expected_cells([model])
        assert {cell.shape for cell in cells if cell.kind == "profile"} == {first, *others}


def test_cells_that_change_the_model_have_a_process_of_their_own() -> None:
    cells = expected_cells(["14b"])
    found = sessions(cells, compiles=True)
    assert list(found) == [
        Session("14b"),
        *(Session("14b", name) for name in PLANS),
        Session("14b", compiled=True),
        Session("14b", compiled=True, distilled=True),
    ]
    assert {cell for group in found.values() for cell in group} == set(cells)
    fast = Cell("14b", Shape(512, 81, 30), "profile", "fast")
    assert session_of(fast, compiles=False) == Session("14b")


def result(seconds: float, **more: Any) -> dict[str, Any]:
    return {"seconds": {"sampling": seconds}, "cpu_seconds": seconds / 2, "device": "cpu", **more}


def test_figures_are_shares_of_the_plain_loop() -> None:
    loop, *_, silent = (cell for cell in expected_cells(["wide"], count=1) if cell.kind in ("loop", "pass"))
    exact, fast = (replace(loop, kind="profile", name=name) for name in ("exact", "fast"))
    settings = {"cache": "taylorseer", "steps": 12}
    found = {
        loop: result(10.0, passes=36, rows=360),
        exact: result(5.0, passes=24, rows=120, settings=settings),
        fast: result(2.0, passes=24, rows=None, settings=settings),
        silent: {"ways": {PASSES[0]: 1.0, PASSES[1]: 1.04}, "of_diffusers": {PASSES[0]: 1.0, PASSES[1]: 1.04}},
    }
    assert ratio(found, exact) == 0.5 == ratio(found, exact, "cpu")
    assert computed(found, loop) == 1.0 and computed(found, exact) == 0.5 == computed(found, fast)
    told = {name.split(", ", 1)[1]: (limit, met) for name, limit, _, met in target_lines(found)}
    assert told == {"exact": ("0.6", "yes"), PASS: ("1.03", "NO")}
    picture = ElementTree.fromstring(drawing(found))
    bars = [bar for bar in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert [float(bar.attrib["width"]) for bar in bars] == pytest.approx([380, 190, 76])


def job(output: Path, cells: list[Cell], session: Session, deadline: float) -> Job:
    (output / "cells").mkdir(exist_ok=True)
    return Job(tuple(cells), session, "tiny", None, output, "cpu", 1, 1, time.time() + deadline)


def test_every_kind_of_cell_is_measured(tmp_path: Path) -> None:
    cells = expected_cells(["tiny"])
    for session, group in sessions(cells, compiles=False).items():
        work(job(tmp_path, group, session, deadline=60))
    assert not pending(tmp_path, cells)
    found = {cell: result_of(tmp_path, cell) for cell in cells}
    for cell, told in found.items():
        assert told["step_seconds"] > 0, cell
        assert (cell.kind == "pass") == ("of_diffusers" in told)
        if cell.kind == "plan" or cell.name == "exact":
            assert told["rms_error"] < 1e-5 and told["plan"]["name"] == (cell.name if cell.kind == "plan" else "high")
    turbo = next(cell for cell in cells if cell.name == "turbo")
    assert found[turbo]["passes"] == 4 and (tmp_path / "work" / "lora-tiny.safetensors").is_file()
    told = tables(found, {"machine": machine(), "targets": target_lines(found)})
    assert told.count("| plan ") == 4 and "14b" not in told


def test_a_model_that_is_made_on_its_device_is_measured_like_one_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    cells = [cell for cell in expected_cells(["tiny"]) if cell.kind in ("loop", "pass") or cell.name == "high"][:3]
    told = job(tmp_path, cells, Session("tiny"), deadline=60)
    loaded = Loaded(*made_here(told, "tiny", torch.bfloat16), 0.0, 1.0)
    assert loaded.pipeline.transformer.dtype == torch.bfloat16 and loaded.plan.name == "high"
    loop, silent, plan = cells
    assert measure_generation(told, loaded, loop)["rms_error"] == 0
    assert measure_generation(told, loaded, plan)["rms_error"] < 0.05  # rounding to bfloat16
    assert measure_pass(told, loaded, silent)["of_diffusers"]["diffusers"] == 1


def test_a_cell_that_the_deadline_cuts_is_left_for_the_next_run(tmp_path: Path) -> None:
    cells = expected_cells(["tiny"])[:1]
    late = job(tmp_path, cells, Session("tiny"), deadline=-1)
    loaded = load(late)
    assert measure_generation(late, loaded, cells[0])["cut_after"] == 1
    work(late)
    assert pending(tmp_path, cells) == cells


def test_a_model_that_cannot_be_loaded_fails_its_cells_in_a_sentence(tmp_path: Path) -> None:
    cells = expected_cells(["tiny"])[:2]
    work(replace(job(tmp_path, cells, Session("tiny"), deadline=60), model=str(tmp_path)))
    assert all("model_index.json" in result_of(tmp_path, cell)["failed"] for cell in cells)


def test_videos_are_measured_beside_the_still_portrait(tmp_path: Path, talking: Path) -> None:
    loop, *others = (cell for cell in expected_cells(["embedded"]) if cell.kind != "pass")
    folder = tmp_path / "work" / "videos" / loop.key
    folder.mkdir(parents=True)
    shutil.copy(talking / "lively.mp4", folder / "example.mp4")
    measure_quality([loop, *others], tmp_path)
    told = json.loads((tmp_path / "quality.json").read_text())
    assert told["labels"]["sync_c"] == "sync-proxy-C" and told["labels"]["csim"] == "CSIM-mobilefacenet"
    figures = told["cells"]
    assert figures[loop.key]["csim"] > 0.6 and figures[loop.key]["sync_c"] > figures["ground truth"]["sync_c"]


@pytest.mark.slow
def test_a_run_that_is_killed_after_a_cell_goes_on_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["--limit", "3"]
    command = [
        "make",
        "-s",
        "bench-gpu",
        "DEVICE=cpu",
        "SIZE=tiny",
        f"OUTPUT={tmp_path}",
        f"BENCH_PYTHON={sys.executable}",
    ]
    cells = expected_cells(["tiny"])[:3]
    first = tmp_path / "cells" / f"{cells[0].key}.json"
    process = subprocess.Popen(
        [*command, f"BENCH_OPTIONS={' '.join(chosen)}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    while not first.exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = pending(tmp_path, cells)
    assert first.exists() and left
    seen = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*.json")}

    def again(minutes: str) -> int:
        options = ["--models", "tiny", "--device", "cpu", "--output", str(tmp_path), "--minutes", minutes, *chosen]
        monkeypatch.setattr(sys, "argv", ["speed.py", *options])
        return main()

    # Time for nothing: no process is begun.
    assert again("0") == LEFT and pending(tmp_path, cells) == left
    assert again("5") == 0
    assert all(path.stat().st_mtime_ns == when for path, when in seen.items())
    record = json.loads((tmp_path / "report.json").read_text())
    assert list(record["cells"]) == [cell.key for cell in cells] and record["complete"] and len(record["runs"]) == 2
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put(page, summary(record))
    told = page.read_text()
    assert told.startswith("before\n") and told.endswith("after\n") and "old" not in told
    assert "| plain loop |" in told and "| plan `high` |" in told and "Two passes without speech take" in told
    assert "### tiny: 9 frames" in (tmp_path / "report.md").read_text() and (tmp_path / "speed.svg").is_file()
