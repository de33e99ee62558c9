"""The cache of face tracks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.data.catalogue import CatalogueRow
from fantasytalking.data.face_tracks import load_track, make_track, mean_embedding, prepare_tracks, save_track
from fantasytalking.data.motion_dataset import prepare
from fantasytalking.errors import InputError
from fantasytalking.media.video import write_video
from tests.media.files import join, write_sound
from tests.pipeline.tiny_pipeline import portrait, speech
from tests.tiny import tiny_whisper
from tests.training import synthetic


def test_a_track_survives_the_cache(tmp_path: Path) -> None:
    track = synthetic.make_track("clip", "someone", frames=30)
    save_track(track, tmp_path / "clip.safetensors")
    back = load_track(tmp_path / "clip.safetensors")
    assert back.info == track.info
    for name in ("points", "scores", "speech", "embedding"):
        assert np.array_equal(getattr(back, name), getattr(track, name))
        assert getattr(back, name).dtype == getattr(track, name).dtype
    assert [p.name for p in tmp_path.iterdir()] == ["clip.safetensors"]


def test_a_track_of_an_unknown_kind_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    info = {"file": "clip.mp4", "identity": "one", "kind": "Real", "split": "train"}
    save_file({"points": np.zeros(1)}, path, metadata={"info": json.dumps(info), "schema": "1"})
    with pytest.raises(InputError, match=r"kind must be real or generated, but 'Real' was given.*measured again"):
        load_track(path)


def test_a_damaged_track_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    path.write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"clip.safetensors cannot be read .* delete it"):
        load_track(path)


def swaying(count: int) -> np.ndarray:
    """Frames [F, 128, 128, 3] of a portrait that moves by two pixels from one to the next."""
    return np.stack([np.roll(portrait(128), 2 * (index % 3), 1) for index in range(count)])


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    return tiny_whisper()


def test_a_clip_is_measured_at_25_frames_and_50_features_a_second(tmp_path: Path, encoder: SpeechEncoder) -> None:
    frames = swaying(12)
    write_video(tmp_path / "a.mp4", frames, 20, speech(0.6), preset="ultrafast")
    track = make_track(tmp_path / "a.mp4", CatalogueRow("a.mp4", "one", "real", "train"), encoder)
    assert track.points.shape == (15, 468, 3)  # 0.6 s
    assert track.scores.min() > 0.5
    assert abs(len(track.speech) - 30) <= 1
    assert track.speech.dtype == np.float16
    assert np.linalg.norm(track.embedding) == pytest.approx(1, abs=1e-4)


def test_clips_that_cannot_be_used_are_left_out_with_the_reason(tmp_path: Path, encoder: SpeechEncoder) -> None:
    write_video(tmp_path / "mute.mp4", np.repeat(portrait(128)[None], 4, 0), 25, preset="ultrafast")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    clips = [CatalogueRow(name, "one", "real", "train") for name in ("mute.mp4", "broken.mp4", "gone.mp4")]
    left_out = prepare_tracks(tmp_path, tmp_path / "cache", encoder, clips)
    assert left_out.keys() == {"mute.mp4", "broken.mp4", "gone.mp4"}
    assert json.loads((tmp_path / "cache" / "left_out.json").read_text()) == left_out
    assert not list((tmp_path / "cache").glob("*.safetensors"))


def test_a_track_is_the_longest_stretch_with_sound_and_a_moving_picture(tmp_path: Path, encoder: SpeechEncoder) -> None:
    frames = swaying(80)
    frames[45:] = frames[45]
    picture = write_video(tmp_path / "p.mp4", frames, 25, preset="ultrafast")
    sound = write_sound(tmp_path / "s.mka", speech(2.8).samples[None], 16000, "pcm_s16le", offset=0.4)
    path = join(tmp_path / "late.mkv", picture, sound)
    track = make_track(path, CatalogueRow("late.mkv", "one", "real", "train"), encoder)
    # the sound begins at 0.4 s, and the picture stands still from 1.8 s on
    assert track.first == 10 and 35 <= len(track.points) <= 38
    assert abs(len(track.speech) - 2 * len(track.points)) <= 1
    save_track(track, tmp_path / "late.safetensors")
    assert load_track(tmp_path / "late.safetensors").first == 10
    assert prepare(track).first == 10 and prepare(track, 3).first == 13
    still = write_video(tmp_path / "still.mp4", np.repeat(frames[:1], 50, 0), 25, speech(2.0), preset="ultrafast")
    with pytest.raises(InputError, match=r"The picture stands still from 0.* at most 0.5 s are accepted"):
        make_track(still, CatalogueRow("still.mp4", "one", "real", "train"), encoder)


def test_what_is_cached_is_not_measured_again(tmp_path: Path, encoder: SpeechEncoder) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    save_track(synthetic.make_track("clip", "someone", frames=30), cache / "clip.safetensors")
    # the video does not exist: reading it would be reported
    assert not prepare_tracks(tmp_path, cache, encoder, [CatalogueRow("clips/clip.mp4", "someone", "real", "train")])


def test_videos_of_one_name_in_two_folders_do_not_share_a_track(tmp_path: Path, encoder: SpeechEncoder) -> None:
    frames = np.repeat(portrait(128)[None], 3, 0)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "1.mp4", frames, 25, speech(0.3), preset="ultrafast")
    clips = [CatalogueRow(f"{folder}/1.mp4", folder, "real", "train") for folder in ("x", "y")]
    assert not prepare_tracks(tmp_path, tmp_path / "cache", encoder, clips)
    stored = [load_track(path).info.file for path in (tmp_path / "cache").glob("*.safetensors")]
    assert sorted(stored) == ["x/1.mp4", "y/1.mp4"]


def test_a_clip_without_a_face_has_no_embedding() -> None:
    with pytest.raises(InputError, match="No face"):
        mean_embedding(np.full((3, 64, 64, 3), 90, np.uint8))
