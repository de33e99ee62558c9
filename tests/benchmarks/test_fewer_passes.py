"""The benchmark of fewer passes counts, compares and draws what it says it does."""

from __future__ import annotations

import argparse
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from benchmark_run import Record
from fewer_passes import FIGURES, FULL, TURBO, VARIANTS, compared, run, summarise, window
from passes_plot import write_plot
from speaking_cases import SpeakingCase

from fantasytalking.pipeline.settings import GenerationSettings
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech


def spoken() -> SpeakingCase:
    onsets = [(0.5, "pa"), (1.0, "ba"), (1.5, "ma")]
    sound = np.zeros(round(2.1 * 16000), np.float32)
    return SpeakingCase("tiny, case", portrait(192), speech(2.1), sound, onsets=onsets)


def test_work_is_a_share_of_three_passes_a_step_and_kept_cases_are_not_generated_again(tmp_path: Path) -> None:
    record = Record("fewer_passes", argparse.Namespace(), {"seed": 0})
    pipeline = embedded_pipeline(defaults={"steps": 2, "audio_guidance_scale": 2.0})
    student = embedded_pipeline(defaults={"steps": 1, "audio_guidance_scale": 1.0})
    variants = {"0-50": window(0, 50), TURBO: {}}
    runs = run(pipeline, [spoken()], variants, record, tmp_path, student)
    full, half, turbo = (runs[name]["tiny, case"] for name in (FULL, "0-50", TURBO))
    assert [one["work"] for one in (full, half, turbo)] == pytest.approx([4 / 6, 3 / 6, 1 / 6])
    assert turbo["rms"] > 0
    assert full["rms"] == 0 < half["rms"] and {"sync_c", "csim", "contrast", "closed"} <= half.keys()
    assert (tmp_path / "tiny-case.json").is_file() and not record.left_out
    pipeline.transformer.blocks[0].register_forward_hook(lambda *_: pytest.fail("generated again"))
    again = run(pipeline, [spoken()], variants, record, tmp_path, student)
    assert again["0-50"]["tiny, case"]["rms"] == pytest.approx(half["rms"])


def test_differences_are_those_of_the_same_cases() -> None:
    made = {FULL: {"a": {"sync_c": 1.0, "work": 1.0, "rms": 0.0}, "b": {"sync_c": 2.0, "work": 1.0, "rms": 0.0}}}
    made["less"] = {name: {**case, "sync_c": case["sync_c"] - 0.5, "work": 0.5} for name, case in made[FULL].items()}
    found = summarise(made)["less"]
    assert found["work"] == 0.5 and found["differences"]["sync_c"] == pytest.approx([-0.5, -0.5, -0.5])
    assert found["csim"] is None and found["differences"]["csim"] is None and set(FIGURES) <= found.keys()


def test_the_latent_error_is_a_share_of_the_rms() -> None:
    one, other = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 5.0])
    assert compared({"latents": one}, {"latents": other})["rms"] == pytest.approx((1 / 34) ** 0.5)


def test_every_variant_is_settings_that_exist() -> None:
    for variants in VARIANTS.values():
        for settings in variants.values():
            GenerationSettings(**settings)


def test_the_plot_holds_each_variant(tmp_path: Path) -> None:
    row = {"work": 0.5, "sync_c": 0.2, "differences": {"sync_c": [0.0, -0.1, 0.1]}}
    write_plot(tmp_path / "plot.svg", {FULL: row, "heard 0-40": {**row, "work": 0.3}}, "sync_c", "sync", aside="heard")
    drawing = (tmp_path / "plot.svg").read_text()
    ElementTree.fromstring(drawing)
    assert "heard 0-40" in drawing and drawing.count("<circle") == 2
