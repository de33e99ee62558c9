"""Training of the lip-sync network on a folder of talking videos, with its validation table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.data.catalogue import read_catalogue
from fantasytalking.data.face_tracks import TRACK_FPS, FaceTrack, load_track, prepare_tracks
from fantasytalking.data.motion_dataset import SPEECH_PER_FRAME
from fantasytalking.errors import InputError
from fantasytalking.perception.landmarks import mouth_opening
from fantasytalking.perception.lip_sync import LipSync, sync_curve
from fantasytalking.perception.mouth_view import MouthView
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.progress import stage
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.files import atomic_path
from fantasytalking.system.json import write_json
from fantasytalking.training.check_folders import check_data, check_output_folder, make_run_folder
from fantasytalking.training.embedded.linear_sync import CONTEXT, fit_ridge, measure_sync
from fantasytalking.training.embedded.training_tracks import SPEECH_ENCODER, TRUSTED, without_leaks
from fantasytalking.training.lip_sync.align_clips import cross_align, reference_offset
from fantasytalking.training.lip_sync.lip_sync_data import (
    MouthClip,
    SyncWindows,
    cached_view,
    least_frames,
    make_clip,
    most_window,
    moved,
)
from fantasytalking.training.lip_sync.lip_sync_figures import ClipMeasure, correlation_cost, figures
from fantasytalking.training.lip_sync.lip_sync_objective import (
    LipSyncConfig,
    LipSyncRecipe,
    averaged_network,
    check_network,
    clip_measure,
    lip_sync_trainer,
    new_network,
)
from fantasytalking.training.trainer.engine import main_process_first
from fantasytalking.training.trainer.phases import begin_phase
from fantasytalking.training.trainer.random_draws import undrawn
from fantasytalking.training.trainer.resuming import note_finished
from fantasytalking.training.trainer.run_folder import RunFolder, owns_run

EMBEDDED_CODEC = embedded_folder() / "vae" / "diffusion_pytorch_model.safetensors"
"""Weights of the embedded codec, whose template is the average upright face that clips are aligned to."""
LOST_FACE, MOSTLY = 0.5, 0.05


def average_face() -> NDArray[np.float32]:
    """Load the mesh [468, 3] of an average upright face, eyes one unit apart: the template of the embedded codec."""
    return np.asarray(load_file(EMBEDDED_CODEC)["codec.template"].float().numpy(), np.float32)


@owns_run
def train_lip_sync(recipe: LipSyncRecipe, data: Path, output: Path) -> Path:
    """Train the weights of the network from videos; an interrupted run continues where it stopped.

    Args:
        recipe: Recipe of the run.
        data: Folder with ``catalogue.jsonl`` and the videos that it names.
        output: Run folder. Measurements are written to ``tracks`` and ``mouths``, checkpoints to ``network``, the sync of the clips to
            ``sync.json`` and ``aligned.json``, and the validation table to ``figures.json``.

    Returns:
        The weights, ``output/lip_sync.safetensors``, float16.

    Raises:
        InputError: There is no catalogue, or none of its real training clips can be used.
        OutputError: The run folder cannot be made.
    """
    check_lip_sync(recipe, data, output)
    clips = read_catalogue(data / "catalogue.jsonl")
    make_run_folder(output, "mouths")
    template, config, fingerprint = average_face(), recipe.train, file_sha256(data / "catalogue.jsonl")
    begin_phase(output, "tracks", first=True)
    with main_process_first():
        prepare_tracks(data, output / "tracks", SpeechEncoder.from_pretrained(SPEECH_ENCODER), clips)
        tracks = {path.stem: load_track(path) for path in sorted((output / "tracks").glob("[!.]*.safetensors"))}
        begin_phase(output, "mouths")
        views = _mouth_views(tracks, data, template, output / "mouths")
        training, ridge = training_clips(tracks, views, output / "sync.json")
    require_length(training, config, data)
    begin_phase(output, "align")
    training, found, judges = cross_align(training, recipe, template, output / "align", fingerprint=fingerprint)
    validation = [(t, make_clip(t, views[s])) for s, t in tracks.items() if t.info.split == "val"]
    begin_phase(output, "network")
    network = new_network(training, template, config.seed)
    windows = SyncWindows(training, config.window, config.generated_weight, config.variation, config.batch, fingerprint)
    # the alignment shortens clips
    require_length(training, config, data)
    watched = [clip for _, clip in validation if clip.kind == TRUSTED]
    trainer = lip_sync_trainer(network, windows, config, RunFolder(output / "network"), watched)
    trainer.train()
    begin_phase(output, "export")
    sync, weights = averaged_network(trainer), output / "lip_sync.safetensors"
    with main_process_first() as main:
        if main:
            write_json(output / "aligned.json", {name: asdict(row) for name, row in found.items()}, indent=1)
            save_weights(sync, weights)
            references = {clip.name: reference_offset(judges, clip) for _, clip in validation}
            with undrawn():
                finished = LipSync.from_file(weights)
            table = validation_table(finished, validation, ridge, references)
            write_json(output / "figures.json", table, indent=1)
    return weights


def _mouth_views(
    tracks: Mapping[str, FaceTrack], data: Path, template: NDArray[np.float32], cache: Path
) -> dict[str, MouthView]:
    """Measure the mouths of all clips, or read them from `cache`."""
    views = {}
    with stage("mouths", len(tracks)) as advance:
        for stem, track in tracks.items():
            views[stem] = cached_view(data / track.info.file, track, template, cache / f"{stem}.safetensors")
            advance()
    return views


def check_lip_sync(recipe: LipSyncRecipe, data: Path, output: Path) -> None:
    """Check recipe and folders of a run before any video is measured.

    Raises:
        SettingsError: The network cannot be trained on such windows.
        InputError: There is no catalogue.
        OutputError: The run folder lies in the data.
    """
    check_output_folder(output, data)
    check_data(data, ("catalogue",))
    check_network(recipe)
    note_finished(RunFolder(output / "network"), recipe.train)


def require_length(clips: Sequence[MouthClip], config: LipSyncConfig, data: Path) -> None:
    """Require a clip that is long enough for a window, also before the networks that synchronise clips are trained."""
    used = [len(clip) for clip in clips if clip.kind == TRUSTED or config.generated_weight > 0]
    needed, longest = least_frames(config.window), max(used, default=0)
    if longest < needed:
        raise InputError(
            f"No usable training clip in {data} is as long as {needed / TRACK_FPS:.2f} s; add longer clips, or give a "
            f"--train.window of at most {most_window(longest)}."
        )


def save_weights(sync: LipSync, path: Path) -> Path:
    """Write the network's weights in half precision; the file appears complete or not at all."""
    with atomic_path(path, overwrite=True) as temporary:
        save_file({k: v.half().contiguous() for k, v in sync.network.state_dict().items()}, temporary)
    return path


def training_clips(
    tracks: dict[str, FaceTrack], views: dict[str, MouthView], report: Path
) -> tuple[list[MouthClip], NDArray[np.float64]]:
    """Select the clips of the training split, synchronised by the ridge, without people of the validation split.

    Clips whose mouth does not follow the sound, or whose face is often lost, are left out; the measurements are written to `report`.

    Returns:
        The clips, and the ridge fitted to the real ones.

    Raises:
        InputError: No real clip of the training split can be used.
    """
    val = [t for t in tracks.values() if t.info.split == "val"]
    train = without_leaks([t for t in tracks.values() if t.info.split == "train"], val)
    real = [t for t in train if t.info.kind == TRUSTED]
    if not real:
        raise InputError(
            "The lip-sync network learns from real clips of split train whose face is in no validation clip, and there is none; "
            "add some to catalogue.jsonl (tracks/left_out.json says which clips could not be measured)."
        )
    ridge = fit_ridge(real)
    clips, rows = [], {}
    chosen = {id(t) for t in train}
    for stem, track in tracks.items():
        if id(track) not in chosen:
            continue
        measured = measure_sync(track, ridge)
        rows[track.info.file] = asdict(measured)
        if measured.keep and float((track.scores < LOST_FACE).mean()) < MOSTLY:
            clips.append(make_clip(track, views[stem], measured.offset))
    write_json(report, rows, indent=1)
    if not any(clip.kind == TRUSTED for clip in clips):
        raise InputError(
            f"In none of the {len(real)} real training clips does the mouth follow the speech while the face stays in view; see "
            f"{report} for the measurements, and add clips that are in sync."
        )
    return clips, ridge


def ridge_measure(track: FaceTrack, ridge: NDArray[np.float64], other: FaceTrack, offset: int = 0) -> ClipMeasure:
    """Apply the linear model of `fantasytalking.training.embedded.linear_sync` as a measure: correlation of the mouth opening.

    Args:
        track: Track of the clip.
        ridge: Weights from `fit_ridge`.
        other: Track whose sound is the foreign one.
        offset: Frames by which the clip's face lags, which are corrected first.
    """
    opening = mouth_opening(track.points)[max(0, offset) :]
    own = track.speech[SPEECH_PER_FRAME * max(0, -offset) :]
    frames = min(len(opening), len(own) // SPEECH_PER_FRAME)
    opening = opening[:frames]

    def predicted(speech: NDArray[np.float16]) -> NDArray[np.float32]:
        count = len(speech) // SPEECH_PER_FRAME
        index = np.clip(SPEECH_PER_FRAME * np.arange(count)[:, None] + np.array(CONTEXT), 0, len(speech) - 1)
        return np.asarray(speech.astype(np.float32)[index].reshape(count, -1) @ ridge[:-1], np.float32)

    foreign = correlation_cost(opening, np.resize(predicted(other.speech), frames))
    return ClipMeasure(track.info.file, frames, correlation_cost(opening, predicted(own)), foreign)


def validation_table(
    sync: LipSync,
    validation: Sequence[tuple[FaceTrack, MouthClip]],
    ridge: NDArray[np.float64],
    references: dict[str, int],
) -> dict[str, Any]:
    """Compute the validation figures of the network and of the ridge, for real and generated clips separately, and a row for each clip.

    Args:
        sync: The network.
        validation: Tracks and clips that it was not trained on.
        ridge: Weights of the linear model, fitted to the training split.
        references: Clip name -> frames by which its face lags, as found by other networks. The figures "in_step" are for clips shifted by
            that offset, the figures "as_published" for the original clips.
    """
    table: dict[str, Any] = {}
    for kind in ("real", "generated"):
        some = [(t, c) for t, c in validation if c.kind == kind]
        if len(some) < 2:
            continue
        after = some[1:] + some[:1]
        for state, offsets in (("in_step", references), ("as_published", {})):
            pairs = [(t, c, o, d, offsets.get(c.name, 0)) for (t, c), (o, d) in zip(some, after, strict=True)]
            network = [clip_measure(sync, moved(clip, offset), other) for _, clip, _, other, offset in pairs]
            linear = [ridge_measure(track, ridge, other, offset) for track, _, other, _, offset in pairs]
            table[f"{kind}_{state}"] = {"network": figures(network), "ridge": figures(linear)}
    table["clips"] = [_clip_row(sync, t, clip, ridge, references.get(clip.name, 0)) for t, clip in validation]
    return table


def _clip_row(
    sync: LipSync, track: FaceTrack, clip: MouthClip, ridge: NDArray[np.float64], reference: int
) -> dict[str, object]:
    """Offset, distance and confidence of a clip as it is and with shifted sound, with the reference and the ridge's offset."""
    mouth, speech = (
        sync.embed_view(MouthView(clip.shape.numpy(), clip.crops.numpy())),
        sync.embed_speech(clip.speech.numpy()),
    )
    whole = sync_curve(mouth, speech)
    linear = measure_sync(track, ridge)
    found = {k: sync_curve(*_later_face(mouth, clip, sync, k)).offset for k in (-8, -5, -1, 1, 5, 8)}
    second = figures([clip_measure(sync, moved(clip, reference))], (25,))
    return {
        "clip": clip.name,
        "kind": clip.kind,
        "frames": len(clip),
        "offset": whole.offset,
        "distance": round(whole.distance, 4),
        "confidence": round(whole.confidence, 4),
        "distance_at_0": round(float(whole.distances[whole.offsets == 0][0]), 4),
        "ridge_offset": linear.offset,
        "ridge_correlation": round(linear.correlation, 3),
        "reference_offset": reference,
        "pairwise_25_in_step": round(second[0]["pairwise"], 3) if second else None,
        "offset_of_sound_moved_by": {str(k): v for k, v in found.items()},
    }


def _later_face(
    mouth: NDArray[np.float32], clip: MouthClip, sync: LipSync, k: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings of a clip whose sound is moved k frames earlier, so that the face lags by k more frames."""
    speech = clip.speech.numpy()
    if k > 0:
        heard = sync.embed_speech(speech[SPEECH_PER_FRAME * k :])
        return mouth[: len(heard)], heard
    heard = sync.embed_speech(speech[: len(speech) + SPEECH_PER_FRAME * k])
    return mouth[-k:][: len(heard)], heard
