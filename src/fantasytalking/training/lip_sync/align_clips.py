"""Frame-accurate synchronisation of training clips, by networks that were not trained on the clip.

The ridge of `fantasytalking.training.embedded.linear_sync` corrects clips that are far out of sync, but leaves errors of one or two
frames, and published clips are rarely in sync to the frame, which the network needs to learn. People are therefore split into folds. For
each fold a network is trained briefly on the others, from mouth shapes only, and the clips of the fold are shifted to the offsets that
it finds.
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
    """Split the identities into `folds` random groups."""
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
    """Shift each clip to the offset that a network trained on other people finds.

    Args:
        clips: Clips of the training split, roughly in sync.
        recipe: Recipe of the network to be trained afterwards; the networks of the folds take `align_steps` steps.
        template: Mesh of an average face [468, 3].
        run: Folder for the checkpoints of the folds.
        folds: Number of folds; with fewer identities the clips are returned unchanged.
        fingerprint: Checksum of the data; None if unknown.

    Returns:
        The shifted clips, the alignment of each clip by name, and the networks of the folds.
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
        if not windows.people.names:
            continue
        network = new_network(others, template, brief.seed, f"fold {number}")
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
    """Median of the offsets that networks find for a clip on which none of them was trained; 0 without networks."""
    return int(np.median([shape_curve(judge, clip).offset for judge in judges])) if judges else 0


def shape_curve(sync: LipSync, clip: MouthClip) -> SyncCurve:
    """Distance over offsets for a clip, from mouth shapes only."""
    mouth = sync.embed_view(MouthView(clip.shape.numpy(), clip.crops.numpy()), SHAPE_ALONE)
    return sync_curve(mouth, sync.embed_speech(clip.speech.numpy()))
