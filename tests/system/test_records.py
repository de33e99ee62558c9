"""Records of what people write: every value is checked, every error is one sentence with a way out."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import pickle
import typing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pytest

import fantasytalking
from fantasytalking.errors import SettingsError
from fantasytalking.system.records import describe, field, nearest_name, plain, read_record, record


@record
class Recipe:
    """What is trained."""

    steps: Annotated[int, field("Optimiser steps.", minimum=1, maximum=1000)] = 100
    rate: Annotated[float, field("Learning rate.", minimum=0, unit="per step")] = 0.5
    limit: Annotated[float | None, field("Largest gradient.", maximum=10)] = None
    kind: Annotated[Literal["whole", "lora", "none"], field("What learns.")] = "whole"
    name: Annotated[str, field("Shown in reports.")] = ""
    fsdp: bool = False
    frames: tuple[int, ...] = (9,)


@record
class Pair:
    """A record whose fields depend on each other."""

    first: float
    last: Annotated[float, field("End.", unit="seconds")] = 1.0

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise SettingsError("first must not exceed last; swap them.")


@record
class Run:
    """A record in a record."""

    recipe: Recipe
    pairs: tuple[Pair, ...] = ()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to 1000, but 0 was given; leave it out for 100."),
        ({"steps": 2.5}, "steps must be a whole number from 1 to 1000, but 2.5 was given; leave it out for 100."),
        ({"steps": True}, "steps must be a whole number from 1 to 1000, but True was given; leave it out for 100."),
        ({"steps": "3"}, "steps must be a whole number from 1 to 1000, but '3' was given; leave it out for 100."),
        ({"steps": None}, "steps must be a whole number from 1 to 1000, but None was given; leave it out for 100."),
        ({"rate": -1}, "rate must be a number of at least 0 (per step), but -1 was given; leave it out for 0.5."),
        ({"rate": float("nan")}, "rate must be a number of at least 0 (per step), but nan was given; leave it out for"),
        ({"rate": float("inf")}, "rate must be a number of at least 0 (per step), but inf was given; leave it out for"),
        (
            {"limit": 11},
            "limit must be a number of at most 10 or nothing, but 11 was given; leave it out for the model's",
        ),
        ({"kind": "all"}, "kind must be whole, lora or none, but 'all' was given; leave it out for 'whole'."),
        ({"name": 3}, "name must be text, but 3 was given; leave it out for ''."),
        ({"fsdp": "yes"}, "fsdp must be true or false, but 'yes' was given; leave it out for False."),
        ({"step": 3}, "There is no setting 'step'; did you mean 'steps'?"),
        ({"xy": 3}, "There is no setting 'xy'; the settings are steps, rate, limit, kind, name, fsdp, frames."),
    ],
)
def test_a_bad_value_is_one_sentence_with_what_is_accepted_and_what_to_do(
    values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Recipe(**values)
    assert str(caught.value).startswith(sentence)


def test_a_value_by_position_is_named_in_its_error() -> None:
    with pytest.raises(SettingsError, match="rate must be a number of at least 0"):
        Recipe(3, -1)
    with pytest.raises(SettingsError, match="first is missing"):
        Pair()  # type: ignore[call-arg]


def test_whole_numbers_may_be_written_with_a_point_and_others_without() -> None:
    recipe = Recipe(steps=4.0, rate=1)  # type: ignore[arg-type]
    assert (recipe.steps, recipe.rate) == (4, 1.0)
    assert isinstance(recipe.steps, int) and isinstance(recipe.rate, float)
    assert isinstance(Recipe(4.0).steps, int)  # type: ignore[arg-type]


def test_a_record_is_a_frozen_dataclass_that_checks_its_copies() -> None:
    recipe = Recipe(steps=3)
    assert replace(recipe, steps=5) == Recipe(5) and hash(Recipe(5)) == hash(replace(recipe, steps=5))
    assert pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe) == recipe
    assert dataclasses.asdict(recipe)["frames"] == (9,)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.steps = 4  # type: ignore[misc]
    with pytest.raises(SettingsError, match="steps must be"):
        replace(recipe, steps=-1)
    with pytest.raises(SettingsError, match="did you mean 'steps'"):
        replace(recipe, stepss=1)  # type: ignore[call-arg]


def test_what_json_holds_becomes_a_record_again() -> None:
    run = Run(Recipe(steps=3, frames=(9, 17)), (Pair(0.5),))
    assert read_record(Run, json.loads(json.dumps(dataclasses.asdict(run)))) == run


def test_an_error_in_a_file_names_the_file_and_the_way_to_the_value() -> None:
    with pytest.raises(SettingsError) as caught:
        read_record(Run, {"recipe": {"steps": 0}}, "run.json")
    assert str(caught.value).startswith("run.json: recipe.steps must be a whole number from 1 to 1000, but 0 was given")
    with pytest.raises(SettingsError, match=r"run\.json: There is no setting 'recipe\.rates'; did you mean 'rate'"):
        read_record(Run, {"recipe": {"rates": 0}}, "run.json")
    with pytest.raises(SettingsError, match="recipe is missing"):
        read_record(Run, {})


def test_a_check_of_the_whole_record_keeps_its_own_sentence() -> None:
    with pytest.raises(SettingsError, match=r"^first must not exceed last; swap them\.$"):
        Pair(3.0, 2.0)


def test_texts_are_read_as_on_a_command_line() -> None:
    fields = {one.name: one for one in describe(Recipe)}
    assert fields["steps"].parse("12") == 12
    assert fields["rate"].parse("1e-3") == 0.001
    assert fields["limit"].parse("none") is None and fields["limit"].parse("AUTO") is None
    assert fields["name"].parse("none") == "none" and fields["kind"].parse("none") == "none"
    assert fields["fsdp"].parse("True") is True and fields["fsdp"].parse("false") is False
    for name, text in (("steps", "many"), ("steps", "3.0"), ("rate", "none"), ("fsdp", "perhaps")):
        with pytest.raises(SettingsError, match=f"{name} must be .*, but '{text}' was given; leave it out for"):
            fields[name].parse(text)


def test_every_field_describes_itself() -> None:
    steps, rate, limit, kind, name, fsdp, frames = describe(Recipe)
    assert (steps.name, steps.option, steps.help) == ("steps", "--steps", "Optimiser steps.")
    assert (steps.minimum, steps.maximum, steps.default, steps.kind) == (1, 1000, 100, int)
    assert (rate.unit, limit.optional, limit.default, limit.kind) == ("per step", True, None, float)
    assert (kind.choices, kind.kind, kind.accepted) == (("whole", "lora", "none"), str, "whole, lora or none")
    assert (name.accepted, fsdp.accepted, frames.default) == ("text", "true or false", (9,))
    first, last = describe(Pair)
    assert first.default is dataclasses.MISSING and last.unit == "seconds"


def test_the_nearest_name_or_all_of_them() -> None:
    assert nearest_name("stpes", ["steps", "rate"]) == "did you mean 'steps'?"
    assert nearest_name("colour", ["steps", "rate"], "settings") == "the settings are steps, rate."
    assert nearest_name("colour", ["steps", "rate"]) == "choose from steps, rate."


def test_numbers_are_shown_without_a_needless_end() -> None:
    assert (plain(5.0), plain(0.1), plain(2**32 - 1), plain(True), plain("a")) == (
        "5",
        "0.1",
        "4294967295",
        "True",
        "a",
    )


def _all_records() -> list[type[Any]]:
    """Every record of the package; modules without any are not imported."""
    root = Path(fantasytalking.__file__).parent
    files = [path for path in sorted(root.rglob("*.py")) if "\n@record\n" in path.read_text()]
    names = [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in files]
    found = [one for name in names for one in vars(importlib.import_module(name)).values()]
    return list(
        {id(one): one for one in found if isinstance(one, type) and hasattr(one, "__pydantic_fields__")}.values()
    )


def test_no_number_of_any_record_may_be_infinite_or_no_number() -> None:
    checked, taken = 0, []
    for kind in _all_records():
        for known in describe(kind):
            inner = [part for part in (known.kind, *typing.get_args(known.kind)) if part in (int, float)]
            if not inner or known.choices:
                continue
            for value in (float("nan"), float("inf"), -float("inf")):
                given = value if known.kind in (int, float) else (value,) * max(1, len(typing.get_args(known.kind)) - 1)
                with pytest.raises(pydantic.ValidationError) as caught:
                    pydantic.TypeAdapter(kind).validate_json(json.dumps({known.name: given}))
                places = {error["loc"][0] if error["loc"] else error["msg"] for error in caught.value.errors()}
                checked += 1
                if known.name not in places:
                    taken.append(f"{kind.__name__}.{known.name} = {given}")
    assert taken == []
    assert checked > 300
    with pytest.raises(SettingsError, match=r"run\.json: recipe\.rate must be a number"):
        read_record(Run, {"recipe": {"rate": float("nan")}}, "run.json")
