"""The page on training cost matches the script, and the script matches published sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_cost import SECTIONS, encoder_operations, flops, memory, parameters, stored, table

PAGE = (Path(__file__).parents[2] / "docs" / "training-cost.md").read_text()


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_holds_the_tables_of_the_script(name: str) -> None:
    assert SECTIONS[name]() in PAGE, (
        f"put the output of benchmarks/training_cost.py into docs/training-cost.md ({name})"
    )


def test_the_sizes_are_those_that_are_published() -> None:
    counts = parameters()
    # the released adapter: a projector and 40 times two matrices of 5120 x 2048
    assert counts["audio"] == 768 * 2048 + 2 * 2048 + 40 * 2 * 5120 * 2048
    assert 16.3e9 < counts["backbone"] < 16.5e9
    # 175 times 10^12 a second in the released code would be more than an A100 can do if a pass were counted twice
    assert 0.4 < 3 * flops("frame").forward / 15.5 / 312e12 < 0.7


def test_memory_is_shared_and_activations_are_not() -> None:
    one, many = memory(1), memory(8)
    assert many["frozen"] == pytest.approx(one["frozen"] / 8) and many["AdamW"] == pytest.approx(one["AdamW"] / 8)
    assert many["kept"] == one["kept"] and one["gathered"] == 0 < many["gathered"]


def test_latents_are_most_of_the_storage() -> None:
    parts = stored()
    # two windows, 16 channels, 21 x 64 x 64, two bytes
    assert parts["latents"] == 2 * 16 * 21 * 64 * 64 * 2
    assert parts["latents"] + parts["condition"] > sum(parts.values()) / 2
    assert 1e11 < encoder_operations() < 1e13


def test_tables_are_markdown() -> None:
    assert table(("a", "b"), [[1, "x"]]) == "| a | b |\n|---|---|\n| 1 | x |"
