"""`fantasytalking train RECIPE`: from data to a model folder or to weights, with any field of the recipe replaced."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.progress import quiet_frameworks

__all__ = ["FAMILIES", "Family", "Train", "main", "run"]

WHOLE = tyro.conf.arg(name="")
"""The recipe's own fields are options without a prefix."""
_ELSEWHERE = {
    "--painter-steps": "trains no mouth painter",
    "--teacher": "has no teacher",
    "--base": "starts from no base model",
}
"""Options of some recipes, and why the others have none."""


@dataclass(frozen=True)
class Train:
    """What every recipe needs."""

    data: Path
    """A prepared set (see `fantasytalking prepare`); for embedded and tiny also, and for lip-sync only, a folder with catalogue.jsonl."""
    output: Path
    """Run folder: configuration, log, checkpoints, and what comes out. Given again, the run goes on where it was stopped."""
    threads: int | None = None
    """Processor threads of each process; nothing means PyTorch's choice."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""


@dataclass(frozen=True)
class _Scaled(Train):
    steps: int | None = None
    """Optimiser steps of the transformer in all, stages in proportion; nothing means the recipe's own."""


@dataclass(frozen=True)
class _OnBase(_Scaled):
    base: Path = tyro.MISSING
    """Model folder or weights that the run starts from; they stay as they are."""


@dataclass(frozen=True)
class _OfTeacher(_Scaled):
    teacher: Path = tyro.MISSING
    """Model folder that the student starts from and is taught by."""


@dataclass(frozen=True)
class Family:
    """Recipes of one kind.

    Attributes:
        names: recipe -> what it makes, in a line.
        registry: module and name of the dict of recipes.
        options: what has to be given besides the recipe's fields.
        train: recipe and options -> what was made. Imported late: --help must not wait for the frameworks.
    """

    names: Mapping[str, str]
    registry: tuple[str, str]
    options: type[Train]
    train: Callable[[Any, Any], Path]

    def recipes(self) -> dict[str, Any]:
        """Name -> recipe."""
        import importlib

        found: dict[str, Any] = getattr(importlib.import_module(self.registry[0]), self.registry[1])
        return found


def _embedded(recipe: Any, options: Any) -> Path:
    from fantasytalking.evaluation.video_figures import video_figures
    from fantasytalking.training.embedded.train_embedded import train_embedded

    return train_embedded(recipe, options.data, options.output, video_figures)


def _adapter(recipe: Any, options: Any) -> Path:
    from fantasytalking.training.adapter.train_adapter import train_adapter

    return train_adapter(recipe, options.data, options.output, options.base)


def _student(recipe: Any, options: Any) -> Path:
    if recipe.lora is None:
        from fantasytalking.training.distillation.distil_model import distil_embedded as distil
    else:
        from fantasytalking.training.distillation.distil_adapter import distil_released as distil
    return distil(recipe, options.teacher, options.data, options.output)


def _lip_sync(recipe: Any, options: Any) -> Path:
    from fantasytalking.training.lip_sync.lip_sync_run import train_lip_sync

    return train_lip_sync(recipe, options.data, options.output)


FAMILIES = (
    Family(
        {
            "embedded": "the embedded model: codec, transformer in two stages, mouth painter",
            "tiny": "the same in seconds, to try the machinery out",
        },
        ("fantasytalking.training.embedded.embedded_recipes", "RECIPES"),
        _Scaled,
        _embedded,
    ),
    Family(
        {
            "adapter-14b": "the paper's run: audio, identity and motion parts on Wan2.1-I2V-14B",
            "lora-14b": "LoRA on the backbone beside the adapter",
            "adapter-tiny": "adapter-14b in seconds, on a tiny base",
            "lora-tiny": "lora-14b in seconds, on a tiny base",
        },
        ("fantasytalking.training.adapter.adapter_recipes", "ADAPTER_RECIPES"),
        _OnBase,
        _adapter,
    ),
    Family(
        {
            "distil": "a student of the embedded model that needs 4 steps of one pass",
            "distil-14b": "LoRA weights that let the 14B model do so",
            "distil-tiny": "distil in seconds",
            "distil-lora-tiny": "distil-14b in seconds, on a tiny teacher",
        },
        ("fantasytalking.training.distillation.distillation_recipes", "DISTIL_RECIPES"),
        _OfTeacher,
        _student,
    ),
    Family(
        {"lip-sync": "the network that measures lip sync"},
        ("fantasytalking.training.embedded.embedded_recipes", "LIP_SYNC_RECIPES"),
        Train,
        _lip_sync,
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking train --help`."""
    words = list(arguments)
    families = {name: family for family in FAMILIES for name in family.names}
    place = next((i for i, word in enumerate(words) if word in families), 0)
    if not words or (words[0] in ("-h", "--help")):
        print(_overview())
        return 0 if words else 2
    name = words[place]
    if name not in families:
        raise SettingsError(_no_recipe(name, list(families)))
    return run(name, _parse(name, families[name], words[:place] + words[place + 1 :]))


def run(name: str, options: Any) -> int:
    """Train a recipe as the options say.

    Args:
        name: of the recipe.
        options: of its family, with the recipe itself as `recipe`.

    Raises:
        SettingsError: A number is not positive, or the run folder is that of another run.
        InputError: The data cannot be used.
        OutputError: The run folder cannot be made.
    """
    family = next(family for family in FAMILIES if name in family.names)
    recipe = options.recipe
    for field in ("steps", "threads", "recipe.steps"):
        value = getattr(recipe if "." in field else options, field.rpartition(".")[2], None)
        if value is not None and value < 1:
            raise SettingsError(
                f"--{field.rpartition('.')[2].replace('_', '-')} must be at least 1, but {value} was given."
            )
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)
    quiet_frameworks()
    if getattr(options, "steps", None) is not None:
        recipe = _scaled(recipe, options.steps)
    made = family.train(recipe, options)
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps({"output": str(made), "recipe": name}) if options.json else made)
    return 0


def _scaled(recipe: Any, steps: int) -> Any:
    if hasattr(recipe, "scaled_to"):
        return recipe.scaled_to(steps)
    return dataclasses.replace(recipe, transformer=recipe.transformer.scaled_to(steps))


def _parse(name: str, family: Family, words: Sequence[str]) -> Any:
    """Options of a family and every field of the recipe.

    Raises:
        SettingsError: An option that does not exist; the nearest one is offered.
        SystemExit: Help was asked for (0), or an option is missing or malformed (2), after printing what and why.
    """
    recipe = family.recipes()[name]
    field = ("recipe", Annotated[type(recipe), WHOLE], dataclasses.field(default=recipe))
    kind = dataclasses.make_dataclass("Options", [field], bases=(family.options,), frozen=True, kw_only=True)
    kind.__doc__ = f"Recipe {name}: {family.names[name]}. Every field of the recipe is an option; its default is the recipe's value."
    options: Any
    options, unknown = tyro.cli(
        kind,
        prog=f"fantasytalking train {name}",
        args=list(words),
        return_unknown_args=True,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    for word in unknown:
        if not word.startswith("--"):
            raise SettingsError(f"{word!r} belongs to no option; 'fantasytalking train {name} --help' lists them.")
        given = word.partition("=")[0]
        if given in _ELSEWHERE:
            raise SettingsError(f"The recipe {name} {_ELSEWHERE[given]}; leave {given} out.")
        known = ["--" + option for option in _names(options)]
        nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
        way_out = f"did you mean {nearest[0]}?" if nearest else f"'fantasytalking train {name} --help' lists them."
        raise SettingsError(f"There is no option {given}; {way_out}")
    return options


def _names(value: Any) -> list[str]:
    """Options of a record, dotted, without dashes before them."""
    if dataclasses.is_dataclass(value):
        inner = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif isinstance(value, dict):
        inner = value
    elif isinstance(value, tuple) and any(dataclasses.is_dataclass(v) for v in value):
        inner = {str(i): v for i, v in enumerate(value)}
    else:
        return [""]
    return [
        ".".join(filter(None, ("" if key == "recipe" else key.replace("_", "-"), name)))
        for key, one in inner.items()
        for name in _names(one)
    ]


def _no_recipe(name: str, names: list[str]) -> str:
    if name.startswith("-"):
        return f"Name a recipe before the options: {', '.join(names)}."
    nearest = difflib.get_close_matches(name, names, n=1)
    way_out = f"did you mean '{nearest[0]}'?" if nearest else f"the recipes are {', '.join(names)}."
    return f"There is no recipe '{name}'; {way_out}"


def _overview() -> str:
    rows = "\n".join(f"  {name:<18}{text}" for family in FAMILIES for name, text in family.names.items())
    return (
        "usage: fantasytalking train RECIPE --data DATA --output RUN [OPTIONS]\n\n"
        "Train a model. Every part goes on where it was stopped when the command is given again.\n\n"
        f"recipes:\n{rows}\n\n"
        "options of all recipes: --data, --output, --threads, --json; of most: --steps; of embedded and tiny: --painter-steps;\n"
        "of adapter and LoRA: --base; of distillations: --teacher. 'fantasytalking train RECIPE --help' lists every field.\n\n"
        "Several processes: torchrun --nproc-per-node N -m fantasytalking.cli train RECIPE ..."
    )
