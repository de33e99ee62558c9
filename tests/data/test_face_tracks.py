"""Catalogues and the cache of face tracks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.data.face_tracks import (
    ClipInfo,
    load_track,
    make_track,
    mean_embedding,
    prepare_tracks,
    read_catalogue,
    save_track,
)
from fantasytalking.errors import InputError
from fantasytalking.media.video import write_video
from tests.pipeline.tiny_pipeline import portrait, speech
from tests.tiny import tiny_whisper
from tests.training import synthetic

ROW = {"file": "a.mp4", "identity": "one", "kind": "real", "split": "train"}


def write(folder: Path, *lines: str) -> Path:
    path = folder / "catalogue.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_catalogue_is_read_and_other_keys_are_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(ROW), "", json.dumps(ROW | {"file": "b.mp4", "seconds": 3, "source": "x"}))
    assert read_catalogue(path) == [
        ClipInfo("a.mp4", "one", "real", "train"),
        ClipInfo("b.mp4", "one", "real", "train", "x"),
    ]


def test_a_missing_catalogue_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no catalogue at .*catalogue.jsonl; give the folder"):
        read_catalogue(tmp_path / "catalogue.jsonl")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"file": "b.mp4", "kind": "real"}', "Row 2 .* lacks identity, split"),
        ("{broken", "Row 2 .* is not JSON"),
        ("[1, 2]", "Row 2 .* is a list"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_catalogue(write(tmp_path, json.dumps(ROW), line))


def test_an_empty_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        read_catalogue(write(tmp_path, ""))


def test_a_track_survives_the_cache(tmp_path: Path) -> None:
    track = synthetic.make_track("clip", "someone", frames=30)
    save_track(track, tmp_path / "clip.safetensors")
    back = load_track(tmp_path / "clip.safetensors")
    assert back.info == track.info
    for name in ("points", "scores", "speech", "embedding"):
        assert np.array_equal(getattr(back, name), getattr(track, name))
        assert getattr(back, name).dtype == getattr(track, name).dtype
    assert [p.name for p in tmp_path.iterdir()] == ["clip.safetensors"]


def test_a_damaged_track_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    path.write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"clip.safetensors cannot be read .* delete it"):
        load_track(path)


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    return tiny_whisper()


def test_a_clip_is_measured_at_25_frames_and_50_features_a_second(tmp_path: Path, encoder: SpeechEncoder) -> None:
    frames = np.repeat(portrait(128)[None], 12, 0)
    write_video(tmp_path / "a.mp4", frames, 20, speech(0.6), preset="ultrafast")
    track = make_track(tmp_path / "a.mp4", ClipInfo("a.mp4", "one", "real", "train"), encoder)
    assert track.points.shape == (15, 468, 3)  # 0.6 s
    assert track.scores.min() > 0.5
    assert abs(len(track.speech) - 30) <= 1
    assert track.speech.dtype == np.float16
    assert np.linalg.norm(track.embedding) == pytest.approx(1, abs=1e-4)


def test_clips_that_cannot_be_used_are_left_out_with_the_reason(tmp_path: Path, encoder: SpeechEncoder) -> None:
    write_video(tmp_path / "mute.mp4", np.repeat(portrait(128)[None], 4, 0), 25, preset="ultrafast")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    clips = [ClipInfo(name, "one", "real", "train") for name in ("mute.mp4", "broken.mp4", "gone.mp4")]
    left_out = prepare_tracks(tmp_path, tmp_path / "cache", encoder, clips)
    assert left_out.keys() == {"mute.mp4", "broken.mp4", "gone.mp4"}
    assert json.loads((tmp_path / "cache" / "left_out.json").read_text()) == left_out
    assert not list((tmp_path / "cache").glob("*.safetensors"))


def test_what_is_cached_is_not_measured_again(tmp_path: Path, encoder: SpeechEncoder) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    save_track(synthetic.make_track("clip", "someone", frames=30), cache / "clip.safetensors")
    # the video does not exist: reading it would be reported
    assert not prepare_tracks(tmp_path, cache, encoder, [ClipInfo("clips/clip.mp4", "someone", "real", "train")])


def test_videos_of_one_name_in_two_folders_do_not_share_a_track(tmp_path: Path, encoder: SpeechEncoder) -> None:
    frames = np.repeat(portrait(128)[None], 3, 0)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "1.mp4", frames, 25, speech(0.3), preset="ultrafast")
    clips = [ClipInfo(f"{folder}/1.mp4", folder, "real", "train") for folder in ("x", "y")]
    assert not prepare_tracks(tmp_path, tmp_path / "cache", encoder, clips)
    stored = [load_track(path).info.file for path in (tmp_path / "cache").glob("*.safetensors")]
    assert sorted(stored) == ["x/1.mp4", "y/1.mp4"]


def test_a_clip_without_a_face_has_no_embedding() -> None:
    with pytest.raises(InputError, match="No face"):
        mean_embedding(np.full((3, 64, 64, 3), 90, np.uint8))
