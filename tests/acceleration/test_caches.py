"""The setting `cache` through the pipeline and the command line."""

from __future__ import annotations

import json
from contextlib import nullcontext as no_context
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig
from PIL import Image

from fantasytalking.acceleration.caches import measure_ratios
from fantasytalking.cli.__main__ import main
from fantasytalking.errors import SettingsError
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.settings import GenerationSettings
from tests.acceleration.cached_runs import HALF, SCALES, STEPS, WINDOW, apart, counted, latents
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, transformer, wan_pipeline

CACHES: dict[str, tuple[dict[str, Any], float]] = {
    "first-block": ({"cache_threshold": 0.06}, 0.05),
    "magcache": ({"cache_threshold": 0.1}, 0.05),
    "sea": ({"cache_threshold": 0.6}, 0.05),
    "taylorseer": ({"cache_interval": 2}, 0.1),
    "pab": ({"cache_interval": 2}, 0.05),
}
"""Cache -> settings, and the largest difference from the plain latents, in shares of the largest latent."""


@pytest.fixture(scope="module")
def pipeline() -> FantasyTalkingPipeline:
    return wan_pipeline(transformer=transformer(num_layers=4), mag_ratios=[1.0] * STEPS)


@pytest.mark.parametrize(
    "scales", [SCALES, HALF, WINDOW], ids=["one set of passes", "passes change in mid-run", "guidance in a window"]
)
@pytest.mark.parametrize("name", CACHES)
def test_each_cache_skips_work_and_changes_little(
    pipeline: FantasyTalkingPipeline, name: str, scales: dict[str, Any]
) -> None:
    settings, bound = CACHES[name]
    part = "blocks.2.attn1.to_q" if name == "pab" else "blocks.2.ffn"
    with counted(pipeline, part) as rows:
        plain, made, computed = latents(pipeline, **scales), [], [rows()]
    for batching in ("off", "on"):
        told = (
            pytest.warns(UserWarning, match="no effect") if (name, batching) == ("first-block", "on") else no_context()
        )
        with counted(pipeline, part) as rows, told:
            made.append(latents(pipeline, batch_passes=batching, cache=name, **scales, **settings))
        computed.append(rows())
    assert 0 < apart(made[0], plain) < bound
    assert apart(made[1], made[0]) < 1e-5
    assert computed[0] > computed[1] == computed[2]
    assert torch.equal(latents(pipeline, **scales), plain) and not pipeline.transformer.is_cache_enabled


def test_ratios_are_measured_stored_with_the_model_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = embedded_pipeline(transformer=embedded_pipeline().transformer)
    ratios = measure_ratios(made, portrait(), speech(0.4), steps=STEPS)
    assert len(ratios) == STEPS and ratios[0] == 1.0 and all(0.3 < ratio < 3 for ratio in ratios)
    assert len(set(ratios)) == STEPS and not capsys.readouterr().out
    embedded_pipeline(mag_ratios=ratios).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["mag_ratios"] == ratios
    loaded = FantasyTalkingPipeline.from_pretrained(tmp_path)
    with counted(loaded, "blocks.1.ffn") as rows:
        loaded(portrait(), speech(0.4), steps=12, cache="magcache", cache_threshold=1, cache_interval=2)
    assert 0 < rows() < 24


def test_magcache_without_ratios_says_how_to_get_them() -> None:
    with pytest.raises(SettingsError, match=r"measure_ratios .* model_index\.json"):
        wan_pipeline()(portrait(), speech(0.4), cache="magcache")


def test_two_caches_at_once_are_refused(pipeline: FantasyTalkingPipeline) -> None:
    pipeline.transformer.enable_cache(FirstBlockCacheConfig())
    try:
        with pytest.raises(SettingsError, match=r"FirstBlockCacheConfig is enabled .* already"):
            pipeline(portrait(), speech(0.4), cache="sea")
    finally:
        pipeline.transformer.disable_cache()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cache": "taylorseer", "cache_threshold": 0.1}, "cache_threshold has no effect with the cache taylorseer"),
        ({"cache": "first-block", "cache_interval": 3}, "use cache_threshold, and none for cache_interval"),
        ({"cache": "teacache"}, "none, first-block, magcache, sea, taylorseer or pab"),
    ],
)
def test_settings_that_do_not_go_together_are_one_sentence(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        GenerationSettings(**settings)


def test_the_command_line_takes_a_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embedded_pipeline(defaults={"steps": 6}).save_pretrained(tmp_path / "model")
    Image.fromarray(portrait()).save(tmp_path / "face.png")
    write_video(tmp_path / "voice.mp4", [portrait(64)] * 10, 25, speech(0.4))
    given = [
        "--image",
        str(tmp_path / "face.png"),
        "--audio",
        str(tmp_path / "voice.mp4"),
        "--model",
        str(tmp_path / "model"),
    ]
    cached = ["--output", str(tmp_path / "out.mp4"), "--json", "--cache", "first-block", "--cache-threshold", "0.2"]
    assert main(["generate", *given, *cached]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["cache"], settings["cache_threshold"]) == ("first-block", 0.2)
    assert main(["generate", *given, "--output", str(tmp_path / "other.mp4"), "--cache", "magcache"]) == 2
    assert "measure_ratios" in capsys.readouterr().err
