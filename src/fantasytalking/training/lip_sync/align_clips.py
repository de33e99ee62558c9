"""Putting training clips in step to the frame: networks that never saw a clip say where its face belongs.

The ridge of `fantasytalking.training.embedded.linear_sync` finds clips that are far out of step. One or two frames remain, and published
clips are seldom in step to the frame, which is what the network is to learn. So people are dealt into folds, a network is trained on all
folds but one, briefly and on mouth shapes alone, and clips of the fold left out are moved where it finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fantasytalking.perception.lip_sync import LipSync, SyncCurve, sync_curve
from fantasytalking.perception.mouth_view import MouthView
from fantasytalking.perception.sync_judgement import FARTHEST, Alignment, judge
from fantasytalking.training.lip_sync.lip_sync_data import MouthClip, SyncWindows, moved
from fantasytalking.training.lip_sync.lip_sync_objective import (
    LipSyncRecipe,
    averaged_network,
    lip_sync_trainer,
    new_network,
)
from fantasytalking.training.trainer.run_folder import RunFolder

SHAPE_ALONE = (1.0, 0.0)


def deal(clips: Sequence[MouthClip], folds: int, seed: int) -> list[set[str]]:
    """Identities in `folds` groups, at random."""
    names = sorted({clip.identity for clip in clips})
    order = np.random.default_rng(seed).permutation(len(names))
    return [{names[i] for i in order[fold::folds]} for fold in range(folds)]


def cross_align(
    clips: Sequence[MouthClip],
    recipe: LipSyncRecipe,
    template: NDArray[np.float32],
    run: Path,
    folds: int = 3,
    fingerprint: str | None = None,
) -> tuple[list[MouthClip], dict[str, Alignment], list[LipSync]]:
    """Move each clip to where networks trained on other people find it.

    Args:
        clips: of the training split, roughly in step.
        recipe: of the network to be trained afterwards; the folds take `align_steps`.
        template: [468, 3].
        run: folder for the folds' checkpoints.
        folds: how many; fewer identities than folds are left as they are.
        fingerprint: checksum of the data; None: unknown.

    Returns:
        The clips, moved; what was found of each by name; the folds' networks.
    """
    found: dict[str, Alignment] = {}
    judges: list[LipSync] = []
    if len({clip.identity for clip in clips}) < folds:
        return list(clips), found, judges
    variation = replace(recipe.train.variation, shape_only=1.0, pixels_only=0.0)
    brief = replace(recipe.train.scaled_to(recipe.align_steps), variation=variation)
    for number, left_out in enumerate(deal(clips, folds, brief.seed)):
        others = [clip for clip in clips if clip.identity not in left_out]
        windows = SyncWindows(others, brief.window, brief.generated_weight, variation, brief.batch, fingerprint)
        if not windows.names:
            continue
        network = new_network(others, template, brief.seed)
        trainer = lip_sync_trainer(network, windows, brief, RunFolder(run / f"fold-{number}"))
        trainer.train()
        sync = averaged_network(trainer)
        judges.append(sync)
        for clip in clips:
            if clip.identity in left_out and len(clip) > FARTHEST + 15:
                found[clip.name] = judge(shape_curve(sync, clip))
    aligned = [moved(clip, found[clip.name].offset) if clip.name in found else clip for clip in clips]
    return aligned, found, judges


def reference_offset(judges: Sequence[LipSync], clip: MouthClip) -> int:
    """Median of the offsets that networks find of a clip that none of them was trained on; 0 without networks."""
    return int(np.median([shape_curve(judge, clip).offset for judge in judges])) if judges else 0


def shape_curve(sync: LipSync, clip: MouthClip) -> SyncCurve:
    """Curve over offsets of a clip, from the mouth's shape alone."""
    mouth = sync.embed_view(MouthView(clip.shape.numpy(), clip.crops.numpy()), SHAPE_ALONE)
    return sync_curve(mouth, sync.embed_speech(clip.speech.numpy()))
