"""One span to one prepared clip: what is kept, what is dropped and why, and that the same input gives the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load as load_tensors

from fantasytalking.data.preparation.check_sync import least_confidence
from fantasytalking.data.preparation.clip_records import ClipSpan, Dropped, PreparedClip, StageClock
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.data.preparation.prepare_clip import ClipPreparer
from fantasytalking.errors import CheckpointError
from fantasytalking.perception.landmarks import track_mesh
from tests.data.preparation.footage import (
    FRAME,
    Frames,
    Sound,
    decoded_frames,
    decoded_sound,
    early,
    likeness,
    load,
    source,
    whole,
    write,
)
from tests.media.files import tone
from tests.perception.pictures import CLIPS, clips

SETTINGS = PreparationSettings()


@pytest.fixture(scope="module")
def prepare() -> ClipPreparer:
    return ClipPreparer(SETTINGS)


@pytest.fixture(scope="module")
def material(talking: Path) -> tuple[Frames, Sound]:
    return load(talking / "lively.mp4")


@pytest.fixture(scope="module")
def kept(prepare: ClipPreparer, talking: Path) -> PreparedClip:
    outcome = prepare(whole(talking / "lively.mp4"), StageClock())
    assert isinstance(outcome, PreparedClip), outcome
    return outcome


def refused(prepare: ClipPreparer, path: Path, seconds: float = 2.6) -> Dropped:
    outcome = prepare(whole(path, seconds), StageClock())
    assert isinstance(outcome, Dropped), outcome
    assert outcome.detail.endswith(".") and "\n" not in outcome.detail
    json.dumps(outcome.row)
    return outcome


def test_a_good_clip_is_kept_with_all_its_parts(kept: PreparedClip, material: tuple[Frames, Sound]) -> None:
    tensors = load_tensors(kept.files["safetensors"])
    count = kept.row["frames"]
    assert count == 65
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        "points": (count, 468, 3),
        "scores": (count,),
        "joints": (count, 33, 3),
        "speech": (2 * count, 384),
        "embedding": (192,),
        "motion": (2,),
    }
    assert float(tensors["embedding"].norm()) == pytest.approx(1, abs=1e-4)
    assert [float(v) for v in tensors["motion"]] == pytest.approx([kept.row["w_face"], kept.row["w_body"]], rel=1e-4)
    assert min(kept.row["w_face"], kept.row["w_body"]) > 0
    assert kept.row["sync_shift"] == 0
    assert kept.row["face_confidence"] > 0.9
    assert kept.row["speech_share"] > 0.3
    sound = decoded_sound(kept.files["flac"])
    assert len(sound) == count * FRAME
    assert np.abs(sound - material[1]).max() < 2e-4  # 16 bits, otherwise untouched
    json.dumps(kept.row)


def test_the_mesh_belongs_to_the_pixels_of_the_crop(kept: PreparedClip) -> None:
    frames = decoded_frames(kept.files["mp4"])
    assert frames.shape == (65, kept.row["height"], kept.row["width"], 3)
    assert frames.shape[1] % 2 == 0 and frames.shape[2] % 2 == 0
    portrait = cv2.imdecode(np.frombuffer(kept.files["jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert portrait is not None
    assert np.abs(portrait[..., ::-1].astype(int) - frames[0].astype(int)).mean() < 4
    found, _ = track_mesh(frames[:5])
    stored = load_tensors(kept.files["safetensors"])["points"][:5].numpy()
    assert np.linalg.norm((found - stored)[..., :2], axis=-1).mean() < 1.0


def test_the_same_input_gives_the_same_bytes(kept: PreparedClip, talking: Path) -> None:
    again = ClipPreparer(SETTINGS)(whole(talking / "lively.mp4"), StageClock())
    assert isinstance(again, PreparedClip)
    assert again.files == kept.files
    assert again.row == kept.row


@pytest.mark.parametrize("frames", [5, -4])
def test_a_known_shift_is_found_and_undone(
    prepare: ClipPreparer, material: tuple[Frames, Sound], tmp_path: Path, frames: int
) -> None:
    pictures, sound = material
    path = write(tmp_path / "shifted.mp4", pictures, early(sound, frames))
    outcome = prepare(whole(path), StageClock())
    assert isinstance(outcome, PreparedClip), outcome
    # sound that comes early is a face that lags
    assert outcome.row["sync_shift"] == outcome.row["sync_offset"] == frames
    first, count = max(0, frames), 65 - abs(frames)
    assert outcome.row["frames"] == len(decoded_frames(outcome.files["mp4"])) == count
    tensors = load_tensors(outcome.files["safetensors"])
    assert len(tensors["points"]) == count and len(tensors["speech"]) == 2 * count
    restored = decoded_sound(outcome.files["flac"])
    assert len(restored) == count * FRAME
    assert likeness(restored, sound[first * FRAME : (first + count) * FRAME]) > 0.95
    left, top, width, height = outcome.row["crop"]
    shown = decoded_frames(outcome.files["mp4"])[0]
    expected = pictures[first, top : top + height, left : left + width]
    assert np.abs(shown.astype(int) - expected.astype(int)).mean() < 4


def test_drop_leaves_out_what_correct_would_move(material: tuple[Frames, Sound], tmp_path: Path) -> None:
    path = write(tmp_path / "shifted.mp4", material[0], early(material[1], 5))
    outcome = refused(ClipPreparer(replace(SETTINGS, sync="drop")), path)
    assert outcome.reason == "out-of-sync"
    assert outcome.row["sync_offset"] == 5


def test_a_voice_that_is_not_the_faces_is_dropped(
    prepare: ClipPreparer, material: tuple[Frames, Sound], tmp_path: Path
) -> None:
    path = write(tmp_path / "dubbed.mp4", material[0], np.roll(material[1], len(material[1]) // 2))
    outcome = refused(prepare, path)
    assert outcome.reason == "out-of-sync"
    assert outcome.row["sync_confidence"] < least_confidence(2.6, SETTINGS)


def test_sound_faults_have_their_reasons(prepare: ClipPreparer, material: tuple[Frames, Sound], tmp_path: Path) -> None:
    pictures, sound = material
    assert refused(prepare, write(tmp_path / "mute.mp4", pictures, None)).reason == "no-sound"
    assert refused(prepare, write(tmp_path / "quiet.mp4", pictures, 0 * sound)).reason == "silent"
    humming = refused(prepare, write(tmp_path / "tone.mp4", pictures, tone(2.6)))
    assert (humming.reason, humming.row["speech_share"]) == ("no-speech", 0.0)


def faulty(kind: str, pictures: Frames) -> Frames:
    """Frames with one fault."""
    height, width = pictures.shape[1:3]
    if kind == "faceless":
        blurred = cv2.GaussianBlur(pictures[0], (0, 0), 40)
        return np.repeat(blurred[None], len(pictures), 0)
    if kind == "two":
        return np.concatenate([pictures, pictures[:, :, ::-1]], 2)
    if kind == "small":
        result = np.full_like(pictures, 90)
        for target, frame in zip(result, pictures, strict=True):
            target[60 : 60 + height // 2, 60 : 60 + width // 2] = cv2.resize(
                frame, (width // 2, height // 2), interpolation=cv2.INTER_AREA
            )
        return result
    if kind == "jumping":
        result = np.full((len(pictures), height, 2 * width, 3), 90, np.uint8)
        result[:30, :, :width] = pictures[:30]
        result[30:, :, 60 : width + 60] = pictures[30:]
        return result
    assert kind == "leaving"
    result = pictures.copy()
    result[40:] = cv2.GaussianBlur(pictures[0], (0, 0), 40)
    return result


@pytest.mark.parametrize(
    ("kind", "reason", "measure"),
    [
        ("faceless", "no-face", None),
        ("two", "several-faces", "second_face_share"),
        ("small", "face-small", "face_width"),
        ("jumping", "face-unsteady", "face_jump"),
        ("leaving", "face-lost", "face_tracked"),
    ],
)
def test_picture_faults_have_their_reasons(
    prepare: ClipPreparer,
    material: tuple[Frames, Sound],
    tmp_path: Path,
    kind: str,
    reason: str,
    measure: str | None,
) -> None:
    outcome = refused(prepare, write(tmp_path / "faulty.mp4", faulty(kind, material[0]), material[1]))
    assert outcome.reason == reason
    assert "speech_share" in outcome.row  # what was measured before stays
    assert measure is None or measure in outcome.row


def test_an_unsure_face_is_dropped(talking: Path) -> None:
    strict = ClipPreparer(replace(SETTINGS, min_confidence=0.999))
    assert refused(strict, talking / "calm.mp4").reason == "face-unsure"


def test_a_file_that_is_gone_is_a_dropped_clip(prepare: ClipPreparer, tmp_path: Path) -> None:
    outcome = prepare(ClipSpan(source(tmp_path / "gone.mp4"), 0, 0.0, 3.0), StageClock())
    assert isinstance(outcome, Dropped)
    assert outcome.reason in ("no-sound", "unreadable") and "does not exist" in outcome.detail


def test_a_fault_of_the_run_is_raised(talking: Path) -> None:
    with pytest.raises(CheckpointError, match="no model 'nowhere'"):
        ClipPreparer(PreparationSettings(model="nowhere"))(whole(talking / "calm.mp4"), StageClock())


def test_the_clock_knows_the_stages(prepare: ClipPreparer, material: tuple[Frames, Sound], tmp_path: Path) -> None:
    clock = StageClock()
    path = write(tmp_path / "quiet.mp4", material[0], 0 * material[1])
    for _ in range(2):
        prepare(whole(path), clock)
    assert {name: entry["clips"] for name, entry in clock.as_dict().items()} == {"reading": 2}
    clock.add(clock.as_dict())
    assert clock.as_dict()["reading"]["clips"] == 4


def test_a_shift_of_real_footage_is_undone(prepare: ClipPreparer, tmp_path: Path) -> None:
    row = next(row for row in clips("val") if row["kind"] == "real" and row["seconds"] < 6)
    span = ClipSpan(source(CLIPS / row["file"]), 0, 0.0, 2.96)
    plain = prepare(span, StageClock())
    assert isinstance(plain, PreparedClip), plain
    reader_frames, sound = load(CLIPS / row["file"])
    moved = write(tmp_path / "moved.mp4", reader_frames[:75], early(sound[: 75 * FRAME], 6))
    again = prepare(replace(span, video=source(moved)), StageClock())
    assert isinstance(again, PreparedClip), again
    assert again.row["sync_offset"] == plain.row["sync_offset"] + 6
