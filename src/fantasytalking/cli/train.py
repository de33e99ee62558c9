"""`fantasytalking train`: from a folder of talking videos to a model folder, or to the weights of the lip-sync network."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import SettingsError

__all__ = ["Train", "main", "run"]


@dataclass(frozen=True)
class Train:
    """Train the embedded model: measure the videos, train transformer and mouth painter, write a model folder.

    The recipe lip-sync trains the network that measures lip sync instead, and writes its weights. Every part goes on
    where it was stopped when the command is given again. The path of what was made is the last line of the output.
    """

    recipe: Annotated[str, tyro.conf.Positional]
    """Which recipe: embedded, tiny (a try-out of seconds), or lip-sync."""
    data: Path
    """Folder with the videos and catalogue.jsonl (a JSON object a line: file, identity, kind, split)."""
    output: Path
    """Run folder: measurements, checkpoints, log, and the finished model in its subfolder model."""
    steps: int | None = None
    """Steps of the transformer in all, both stages in proportion, or of the lip-sync network; nothing means the recipe's own."""
    painter_steps: int | None = None
    """Steps of the mouth painter; nothing means the recipe's own."""
    threads: int | None = None
    """Processor threads; nothing means PyTorch's choice."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking train --help`."""
    return run(parse(Train, "train", arguments))


def run(options: Train) -> int:
    """Train as the options say.

    Raises:
        SettingsError: There is no such recipe, or a number of steps is not positive.
        InputError: The data cannot be used.
        OutputError: The run folder cannot be made.
    """
    # Here and not above: --help must not wait for the frameworks.
    from fantasytalking.training.recipes import LIP_SYNC_RECIPES, RECIPES

    names = [*RECIPES, *LIP_SYNC_RECIPES]
    if options.recipe not in names:
        nearest = difflib.get_close_matches(options.recipe, names, n=1)
        way_out = f"did you mean '{nearest[0]}'?" if nearest else f"the recipes are {', '.join(names)}."
        raise SettingsError(f"There is no recipe '{options.recipe}'; {way_out}")
    for name in ("steps", "painter_steps", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise SettingsError(f"--{name.replace('_', '-')} must be at least 1, but {value} was given.")
    if options.recipe in LIP_SYNC_RECIPES and options.painter_steps is not None:
        raise SettingsError(f"The recipe {options.recipe} trains no mouth painter; leave --painter-steps out.")
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    made = _train_lip_sync(options) if options.recipe in LIP_SYNC_RECIPES else _train_embedded(options)
    print(json.dumps({"output": str(made), "recipe": options.recipe}) if options.json else made)
    return 0


def _train_embedded(options: Train) -> Path:
    from fantasytalking.training.embedded import train_embedded
    from fantasytalking.training.recipes import RECIPES

    recipe = RECIPES[options.recipe]
    if options.steps is not None:
        recipe = dataclasses.replace(recipe, transformer=recipe.transformer.scaled_to(options.steps))
    if options.painter_steps is not None:
        recipe = dataclasses.replace(recipe, painter_steps=options.painter_steps)
    return train_embedded(recipe, options.data, options.output)


def _train_lip_sync(options: Train) -> Path:
    from fantasytalking.training.lip_sync_run import train_lip_sync
    from fantasytalking.training.recipes import LIP_SYNC_RECIPES

    config = LIP_SYNC_RECIPES[options.recipe]
    if options.steps is not None:
        config = dataclasses.replace(config, steps=options.steps)
    return train_lip_sync(config, options.data, options.output)
