"""The mouth painter's part of a run that makes an embedded model: pairs from the videos, and training on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.errors import InputError
from fantasytalking.pipeline.progress import show_note
from fantasytalking.training.embedded.embedded_recipes import EmbeddedRecipe
from fantasytalking.training.embedded.mouth_pairs import MouthPairs, collect_pairs
from fantasytalking.training.embedded.train_painter import PainterConfig, painter_config, train_painter
from fantasytalking.training.embedded.training_tracks import Footage
from fantasytalking.training.trainer.engine import main_process_first
from fantasytalking.training.trainer.phases import begin_phase
from fantasytalking.training.trainer.random_draws import part_seed, seeded
from fantasytalking.training.trainer.run_folder import RunFolder

__all__ = ["PAIRS", "collect_run_pairs", "run_pairs", "train_run_painter"]

PAIRS = "mouth_pairs.npz"
"""File of the pairs in a run folder."""


def collect_run_pairs(recipe: EmbeddedRecipe, footage: Footage, output: Path) -> None:
    """Collect the pairs that the mouth painter is trained on, where they are not yet there."""
    stored = output / PAIRS
    begin_phase(output, "pairs")
    with main_process_first():
        if not _is_usable(stored):
            seed = part_seed(recipe.train.seed, "pairs")
            collect_pairs(footage.frames, footage.material.train, recipe.pairs_per_identity, seed).save(stored)


def run_pairs(output: Path) -> MouthPairs:
    """Read the pairs of a run.

    Raises:
        InputError: They are missing or damaged.
    """
    if not (output / PAIRS).is_file():
        raise InputError(
            f"There are no pairs {output / PAIRS}; run the part measure of this run first, or copy them here."
        )
    return MouthPairs.load(output / PAIRS)


def train_run_painter(recipe: EmbeddedRecipe, fingerprint: str, output: Path) -> MouthPainter:
    """Train the mouth painter of a run, or resume its training.

    Args:
        recipe: Recipe of the run.
        fingerprint: Checksum of the data.
        output: Run folder.
    """
    pairs = run_pairs(output)
    begin_phase(output, "painter")
    with seeded(recipe.train.seed, "painter"):
        painter = MouthPainter()
    return train_painter(painter, pairs, _painter_config(recipe), RunFolder(output / "painter"), fingerprint)


def _is_usable(pairs: Path) -> bool:
    try:
        return pairs.exists() and len(MouthPairs.load(pairs)) > 0
    except InputError as error:
        show_note(f"{str(error).rpartition(';')[0]}; they are collected again.")
        return False


def _painter_config(recipe: EmbeddedRecipe) -> PainterConfig:
    train, rate = recipe.train, recipe.painter_learning_rate
    config = painter_config(recipe.painter_steps, recipe.painter_batch, rate, train.seed, train.checkpoint_minutes)
    return replace(config, allow_changes=train.allow_changes, prefetch=train.prefetch)
