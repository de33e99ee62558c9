"""Ablations are trained with equal compute and differ in one thing each."""

from __future__ import annotations

from train_ablations import variants

from fantasytalking.training.embedded.embedded_recipes import EMBEDDED_MODEL


def test_every_variant_has_the_same_number_of_steps_and_one_difference() -> None:
    found = variants(120)
    assert {config.total_steps for config in found.values()} == {120}
    stages = {name: [(s.stage, s.steps) for s in config.stages] for name, config in found.items()}
    assert stages["both"] == stages["no-identity"] == [("clip", 20), ("frame", 100)]
    assert stages["clip-only"] == [("clip", 120)] and stages["frame-only"] == [("frame", 120)]
    assert found["both"].model == found["clip-only"].model == found["frame-only"].model == EMBEDDED_MODEL
    without = found["no-identity"].model
    assert {k: v for k, v in EMBEDDED_MODEL.items() if k in without} == without
    assert all(k.startswith("identity") for k in EMBEDDED_MODEL.keys() - without.keys())
    shared = {(c.seed, c.frames, c.batch_tokens, c.ema, c.shift) for c in found.values()}
    assert len(shared) == 1, "the same clips in the same order"
