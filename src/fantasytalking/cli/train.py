"""`fantasytalking train RECIPE`: train a model folder or weights from data, with any field of the recipe as an option."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fantasytalking.cli.recipe_options import as_typed, parse_recipe, respelt
from fantasytalking.data.catalogue import CATALOGUE
from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.progress import quiet_frameworks, stage
from fantasytalking.system.records import nearest_name
from fantasytalking.system.startup import check_threads, importing_frameworks
from fantasytalking.training.check_folders import DataKind, check_data, check_output_folder

__all__ = ["FAMILIES", "Family", "Train", "main", "run"]

_ELSEWHERE = {
    "--painter-steps": "trains no mouth painter",
    "--teacher": "has no teacher",
    "--base": "starts from no base model",
}
"""Options of some recipes, and the reason why the others lack them."""


_SET = "A prepared set, as 'fantasytalking prepare VIDEOS --output SET' makes it"
_VIDEOS = f"a folder of videos with {CATALOGUE}, one line a clip (docs/training.md)"


@dataclass(frozen=True)
class Train:
    """Options common to all recipes."""

    data: Annotated[Path, tyro.conf.arg(help=f"{_SET}, or {_VIDEOS}.")]
    output: Path
    """Run folder for configuration, log, checkpoints and the result. With an existing run folder, the run continues where it stopped."""
    steps: int | None = None
    """Total number of optimiser steps (for embedded and tiny: of the transformer), stages in proportion; by default the recipe's own."""
    threads: int | None = None
    """CPU threads per process; by default PyTorch's choice."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""


@dataclass(frozen=True)
class _OnVideos(Train):
    data: Annotated[Path, tyro.conf.arg(help=f"{_VIDEOS[0].upper()}{_VIDEOS[1:]}.")]


@dataclass(frozen=True)
class _OnSet(Train):
    verify: bool = True
    """Compare the shards of a prepared set with their checksums before training or, if they are large, meanwhile; a set that the run has
    verified and that has not changed is not read again."""


@dataclass(frozen=True)
class _OnBase(_OnSet):
    data: Annotated[Path, tyro.conf.arg(help=f"{_SET} with --model naming a folder with the base's encoders.")]
    base: Path = tyro.MISSING
    """Model folder or weights that the run starts from; they are not changed."""


@dataclass(frozen=True)
class _OfTeacher(_OnSet):
    data: Annotated[
        Path,
        tyro.conf.arg(help=f"{_SET}; distil and distil-tiny also take {_VIDEOS}, or the run folder of the teacher."),
    ]
    teacher: Path = tyro.MISSING
    """Model folder of the teacher, from which the student also starts."""


@dataclass(frozen=True)
class Family:
    """Recipes of one kind.

    Attributes:
        names: Recipe -> its result, in one line.
        registry: Module and name of the dict of recipes.
        options: Dataclass of the options in addition to the recipe's fields.
        data: Kinds of data folders, as `training.check_folders` names them.
        train: Function from recipe and options to the path of the result; it imports late, as --help must not wait for the frameworks.
        former: Former names of options, or their prefixes up to a dot -> present ones.
    """

    names: Mapping[str, str]
    registry: tuple[str, str]
    options: type[Train]
    data: tuple[DataKind, ...]
    train: Callable[[Any, Any], Path]
    former: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def recipes(self) -> dict[str, Any]:
        """Load the recipes by name."""
        found: dict[str, Any] = getattr(importlib.import_module(self.registry[0]), self.registry[1])
        return found


def _embedded(recipe: Any, options: Any) -> Path:
    with importing_frameworks():
        from fantasytalking.evaluation.video_figures import video_figures
        from fantasytalking.training.embedded.train_embedded import train_embedded

    return train_embedded(recipe, options.data, options.output, video_figures, options.verify)


def _adapter(recipe: Any, options: Any) -> Path:
    with importing_frameworks():
        from fantasytalking.training.adapter.train_adapter import train_adapter

    return train_adapter(recipe, options.data, options.output, options.base, options.verify)


def _student(recipe: Any, options: Any) -> Path:
    with importing_frameworks():
        if recipe.lora is None:
            from fantasytalking.training.distillation.distil_embedded import distil_embedded as distil
        else:
            from fantasytalking.training.distillation.distil_adapter import distil_released as distil
    return distil(recipe, options.teacher, options.data, options.output, options.verify)


def _lip_sync(recipe: Any, options: Any) -> Path:
    with importing_frameworks():
        from fantasytalking.training.lip_sync.train_lip_sync import train_lip_sync

    return train_lip_sync(recipe, options.data, options.output)


FAMILIES = (
    Family(
        {
            "embedded": "the embedded model: codec, transformer in two stages, mouth painter",
            "tiny": "the same in seconds, for trials",
        },
        ("fantasytalking.training.embedded.embedded_recipes", "RECIPES"),
        _OnSet,
        ("set", "catalogue"),
        _embedded,
        {"--transformer.": "--train."},
    ),
    Family(
        {
            "adapter-14b": "the paper's run: audio, identity and motion parts on Wan2.1-I2V-14B",
            "lora-14b": "LoRA on the backbone, together with the adapter",
            "adapter-tiny": "adapter-14b in seconds, on a tiny base",
            "lora-tiny": "lora-14b in seconds, on a tiny base",
        },
        ("fantasytalking.training.adapter.adapter_recipes", "ADAPTER_RECIPES"),
        _OnBase,
        ("set",),
        _adapter,
    ),
    Family(
        {
            "distil": "a student of the embedded model that needs 4 steps with one pass each",
            "distil-14b": "LoRA weights with which the 14B model needs only 4 such steps",
            "distil-tiny": "distil in seconds",
            "distil-lora-tiny": "distil-14b in seconds, on a tiny teacher",
        },
        ("fantasytalking.training.distillation.distillation_recipes", "DISTIL_RECIPES"),
        _OfTeacher,
        ("set", "catalogue", "tracks"),
        _student,
    ),
    Family(
        {"lip-sync": "the network that measures lip sync"},
        ("fantasytalking.training.lip_sync.lip_sync_recipes", "LIP_SYNC_RECIPES"),
        _OnVideos,
        ("catalogue",),
        _lip_sync,
        {"--variation.": "--train.variation.", "--learning-rate": "--train.stages.0.learning-rate"}
        | {
            f"--{name}": f"--train.{name}"
            for name in (
                *("weight-decay", "batch", "window", "smoothing", "generated-weight", "ema", "seed"),
                *("checkpoint-minutes", "log-every", "validate-every"),
            )
        },
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
    """Train a recipe with the given options.

    Args:
        name: Name of the recipe.
        options: Options of its family, with the recipe itself as `recipe`.

    Raises:
        SettingsError: A number is not positive, or the run folder belongs to another run.
        InputError: The data cannot be used.
        OutputError: The run folder cannot be made.
    """
    family = next(family for family in FAMILIES if name in family.names)
    recipe = options.recipe
    if options.steps is not None and options.steps < 1:
        raise SettingsError(f"--steps must be at least 1, but {options.steps} was given.")
    check_threads(options.threads)
    if options.steps is not None:
        try:
            recipe = recipe.scaled_to(options.steps)
        except SettingsError as error:
            raise SettingsError(f"--{error}") from None
    _check_folders(family, recipe, options)
    with stage("loading"), importing_frameworks():
        if options.threads is not None:
            import torch

            torch.set_num_threads(options.threads)
        quiet_frameworks()
        importlib.import_module("fantasytalking.training.trainer.loop")
    try:
        made = family.train(recipe, options)
    except SettingsError as error:
        raise SettingsError(as_typed(str(error), "--", [one.name for one in dataclasses.fields(recipe)])) from error
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps({"output": str(made), "recipe": name}) if options.json else made)
    return 0


def _check_folders(family: Family, recipe: Any, options: Any) -> None:
    """Check the folders and files that the options name, without loading a framework.

    Raises:
        InputError: There are no such data, or they are not of a kind that the recipe takes.
        OutputError: The run folder lies in the data or in a model.
        CheckpointError: There is no such base, teacher or start.
    """
    lora = getattr(recipe, "lora", None) is not None
    models: dict[str, str | Path] = {}
    for option in ("base", "teacher"):
        model = getattr(options, option, None)
        if model is None:
            continue
        # weights of any layout, or, for a student that is a whole model, a model folder
        models[option] = model if option == "base" or lora else resolve_model(str(model))
        if not Path(models[option]).expanduser().exists():
            raise CheckpointError(
                f"There is no model '{model}'; --{option} must be a model folder or a file of weights."
            )
    if getattr(recipe, "start", ""):
        models["start"] = resolve_model(recipe.start)
    check_output_folder(options.output, options.data, **models)
    if getattr(recipe, "reads_data", True):
        # without LoRA a student is an embedded model; with it, it needs latents
        check_data(options.data, ("set",) if lora else family.data)


def _parse(name: str, family: Family, words: Sequence[str]) -> Any:
    """Parse the options of a family and the fields of the recipe.

    Raises:
        SettingsError: An option does not exist, or a value is not accepted.
        SystemExit: Help was requested (0).
    """
    for word in words:
        given = word.partition("=")[0]
        if given in _ELSEWHERE and given.removeprefix("--").replace("-", "_") not in _fields(family, name):
            raise SettingsError(f"The recipe {name} {_ELSEWHERE[given]}; leave {given} out.")
    recipe, words = family.recipes()[name], respelt(words, family.former)
    return parse_recipe(f"{name}: {family.names[name]}", recipe, family.options, words)


def _fields(family: Family, name: str) -> set[str]:
    """Names of the options of a recipe, excluding those of nested records."""
    return {field.name for kind in (family.options, family.recipes()[name]) for field in dataclasses.fields(kind)}


def _no_recipe(name: str, names: list[str]) -> str:
    if name.startswith("-"):
        return f"Name a recipe before the options: {', '.join(names)}."
    return f"There is no recipe '{name}'; {nearest_name(name, names, 'recipes')}"


def _overview() -> str:
    rows = "\n".join(f"  {name:<18}{text}" for family in FAMILIES for name, text in family.names.items())
    return (
        "usage: fantasytalking train RECIPE --data DATA --output RUN [OPTIONS]\n\n"
        "Train a model. After an interruption, the same command continues where it stopped.\n\n"
        f"recipes:\n{rows}\n\n"
        "options of all recipes: --data, --output, --steps, --threads, --json, --train.*; of embedded and tiny: --painter-steps;\n"
        "of adapter and LoRA: --base; of distillations: --teacher. 'fantasytalking train RECIPE --help' lists every field.\n\n"
        "Several processes: torchrun --nproc-per-node N -m fantasytalking.cli train RECIPE ..."
    )
