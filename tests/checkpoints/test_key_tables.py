"""Key tables are reversible, and the report names the keys that do not fit."""

import pytest

from fantasytalking.checkpoints.adapter_layouts import ADAPTER_TABLES
from fantasytalking.checkpoints.key_tables import KeyTable, Rule, compare_keys
from fantasytalking.checkpoints.wan_layouts import CLIP_ORIGINAL, TRANSFORMER_ORIGINAL, UMT5_ORIGINAL, VAE_ORIGINAL
from fantasytalking.errors import CheckpointError

TABLES = [TRANSFORMER_ORIGINAL, VAE_ORIGINAL, UMT5_ORIGINAL, CLIP_ORIGINAL, *ADAPTER_TABLES.values()]


def examples(table: KeyTable) -> list[str]:
    """One name in the file for each rule."""
    return [rule.source.format(n=17, p="weight", tail="layers.0.norm.bias") for rule in table.rules]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_back_and_forth_gives_the_same_name(table: KeyTable) -> None:
    for key in examples(table):
        targets = table.forward(key)
        assert targets, key
        for target in targets:
            piece = table.backward(target)
            assert piece is not None and piece.source == key


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_two_names_of_a_file_become_the_same_name(table: KeyTable) -> None:
    targets = [target for key in examples(table) for target in table.forward(key) or ()]
    assert len(targets) == len(set(targets))


def test_a_stacked_tensor_becomes_equal_parts() -> None:
    table = KeyTable("test", (Rule("qkv.{p}", ("q.{p}", "k.{p}", "v.{p}")),))
    plan, unknown = table.plan(["qkv.weight"])
    assert not unknown
    assert {key: piece.shape((9, 4)) for key, piece in plan.items()} == {f"{name}.weight": (3, 4) for name in "qkv"}
    assert [plan[f"{name}.weight"].part for name in "qkv"] == [0, 1, 2]


def test_leading_ones_go_and_only_where_they_are() -> None:
    plan, _ = KeyTable("test", (Rule("class", "class", leading_ones=2),)).plan(["class"])
    assert plan["class"].shape((1, 1, 8)) == (8,)
    assert plan["class"].shape((8,)) == (8,)


def test_ignored_names_are_neither_read_nor_unknown() -> None:
    plan, unknown = CLIP_ORIGINAL.plan(["textual.blocks.0.weight", "log_scale", "visual.head"])
    assert not plan and not unknown


def test_the_report_names_every_kind_of_mismatch_and_the_nearest_name() -> None:
    expected = {"blocks.0.attn1.to_q.weight": (4, 4), "proj_out.bias": (2,), "proj_out.weight": (2, 4)}
    found = {"blocks.0.attn1.to_qq.weight": (4, 4), "proj_out.weight": (4, 4)}
    report = compare_keys(expected, found)
    with pytest.raises(CheckpointError) as raised:
        report.raise_if_bad("model.safetensors", "a transformer", "check the file")
    message = str(raised.value)
    assert "2 missing (blocks.0.attn1.to_q.weight; proj_out.bias)" in message
    assert "blocks.0.attn1.to_qq.weight, nearest known name blocks.0.attn1.to_q.weight" in message
    assert "proj_out.weight is [4, 4] and must be [2, 4]" in message
    assert "model.safetensors" in message and "\n" not in message


def test_a_long_report_says_how_many_more_there_are() -> None:
    report = compare_keys({f"layer.{i}": (1,) for i in range(9)}, {})
    assert "9 missing" in str(report) and "and 4 more" in str(report)


def test_optional_names_may_be_missing() -> None:
    assert compare_keys({"a": (1,), "b": (1,)}, {"a": (1,)}, optional=["b"]).ok
