"""Files and arrays to what the pipeline computes with; sizes, lengths and every note on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fantasytalking.errors import AudioError, FaceError, SettingsError
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.inputs import load_portrait, load_speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.settings import GenerationSettings
from tests.media.files import write_sound
from tests.perception.pictures import CASES
from tests.pipeline.tiny_pipeline import EXAMPLE, portrait, speech

RELEASED = ModelRules()
EMBEDDED = ModelRules(native_fps=25.0, max_frames=501, longest_side=1024, own_size=True, needs_face=True)
PLAIN = GenerationSettings()


def two_faces() -> np.ndarray:
    canvas = np.full((240, 480, 3), 128, np.uint8)
    canvas[:240, :240] = portrait(240)
    canvas[20:220, 270:470] = portrait(200)
    return canvas


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), (512, 512)), ((1920, 1080), (512, 288)), ((1000, 700), (512, 368))]
)
def test_the_released_rule_scales_the_longest_side_and_rounds_up_to_whole_tokens(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    pixels = load_portrait(Image.new("RGB", size, "grey"), PLAIN, RELEASED, find_face=False).pixels
    assert pixels.shape == (expected[1], expected[0], 3)


def test_a_picture_keeps_its_own_size_where_the_model_says_so() -> None:
    image = Image.fromarray(portrait(301)).crop((0, 0, 301, 299))
    loaded = load_portrait(image, PLAIN, EMBEDDED, find_face=True)
    assert loaded.pixels.shape == (299, 301, 3)
    assert np.array_equal(loaded.pixels, np.asarray(image))
    assert not loaded.notes


def test_a_picture_above_the_limit_is_shrunk_with_a_word_and_its_face_with_it() -> None:
    settings = GenerationSettings(longest_side=160)
    loaded = load_portrait(portrait(320), settings, EMBEDDED, find_face=True)
    assert loaded.pixels.shape == (160, 160, 3)
    assert loaded.notes == ("The picture of 320 x 320 pixels is shrunk to 160 x 160.",)
    assert loaded.face is not None and loaded.original_face is not None
    np.testing.assert_allclose(loaded.face.points * 2, loaded.original_face.points, rtol=1e-6)
    np.testing.assert_allclose(np.array(loaded.face.box) * 2, loaded.original_face.box)


def test_of_several_faces_the_largest_is_taken_and_told_and_another_can_be_chosen() -> None:
    largest = load_portrait(two_faces(), PLAIN, EMBEDDED, find_face=True)
    second = load_portrait(two_faces(), GenerationSettings(face=1), EMBEDDED, find_face=True)
    assert largest.face is not None and second.face is not None
    assert largest.face.points[:, 0].max() < 240 < second.face.points[:, 0].min()
    assert len(largest.notes) == 1 and "2 faces were found" in largest.notes[0] and "--face" in largest.notes[0]
    assert not second.notes


def test_no_face_is_looked_for_where_the_model_needs_none() -> None:
    loaded = load_portrait(np.full((64, 64, 3), 90, np.uint8), PLAIN, RELEASED, find_face=False)
    assert loaded.face is None


def test_a_portrait_without_a_face_is_refused_where_the_model_needs_one() -> None:
    with pytest.raises(FaceError, match="No face was found in the 96 x 96 image"):
        load_portrait(np.full((96, 96, 3), 90, np.uint8), PLAIN, EMBEDDED, find_face=True)


@pytest.mark.parametrize(
    ("seconds", "rules", "generated", "kept"),
    [(0.5, RELEASED, 13, 12), (3.4, RELEASED, 81, 78), (1.0, EMBEDDED, 29, 25), (4.0, EMBEDDED, 105, 100)],
)
def test_the_frames_cover_the_speech_and_the_video_is_as_long_as_it_to_a_frame(
    seconds: float, rules: ModelRules, generated: int, kept: int
) -> None:
    loaded = load_speech(speech(seconds), PLAIN, rules)
    assert (loaded.num_frames, loaded.video_frames) == (generated, kept)
    assert abs(kept / loaded.fps - seconds) <= 0.5 / loaded.fps
    assert len(loaded.samples) == round(generated / rules.native_fps * 16000)
    assert not loaded.notes


def test_the_samples_are_padded_with_silence_so_that_speech_stays_in_time() -> None:
    loaded = load_speech(speech(0.5, rate=48000), PLAIN, RELEASED)
    assert abs(loaded.samples[7000:8000]).max() > 0.05
    assert not loaded.samples[8001:].any()


def test_the_sound_of_the_video_keeps_its_quality() -> None:
    loaded = load_speech(speech(0.5, rate=44100), PLAIN, RELEASED)
    assert loaded.soundtrack.sample_rate == 44100 and loaded.soundtrack.seconds == 0.5


def test_speech_longer_than_a_clip_is_taken_as_a_whole() -> None:
    loaded = load_speech(speech(5.0), PLAIN, RELEASED)
    assert (loaded.num_frames, loaded.video_frames, loaded.notes) == (117, 115, ())
    assert len(loaded.samples) == round(117 / 23 * 16000)


def test_max_seconds_says_what_is_cut() -> None:
    loaded = load_speech(speech(5.0), GenerationSettings(max_seconds=3.52), RELEASED)
    assert (loaded.num_frames, loaded.video_frames) == (81, 81)
    assert loaded.notes == ("Only the first 3.52 s of the speech are used (max_seconds).",)


def test_max_seconds_longer_than_the_speech_changes_nothing() -> None:
    loaded = load_speech(speech(1.0), GenerationSettings(max_seconds=2), RELEASED)
    assert loaded.soundtrack.seconds == 1.0 and not loaded.notes


def test_another_frame_rate_holds_another_number_of_frames() -> None:
    loaded = load_speech(speech(1.0), GenerationSettings(fps=50), EMBEDDED)
    assert (loaded.fps, loaded.video_frames, loaded.num_frames) == (50.0, 50, 53)
    assert len(loaded.samples) == round(53 / 50 * 16000)


@pytest.mark.parametrize(
    "bad",
    [
        Audio(np.zeros(16000, np.float32), 16000),
        Audio(np.full(1600, 0.5, np.float32), 16000),
        Audio(np.ones((2, 16000), np.float32), 16000),
    ],
    ids=["silent", "short", "stereo"],
)
def test_sound_in_memory_is_checked_like_a_file(bad: Audio) -> None:
    with pytest.raises(AudioError, match="speech"):
        load_speech(bad, PLAIN, RELEASED)


def test_the_sound_of_a_video_is_used(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    write_video(path, np.zeros((25, 64, 64, 3), np.uint8), 25, speech(1.0))
    loaded = load_speech(path, PLAIN, RELEASED)
    assert loaded.video_frames == 23 and abs(loaded.soundtrack.samples).max() > 0.1


def test_quiet_and_loud_speech_reach_the_encoder_alike_where_the_model_wants_it() -> None:
    rules = ModelRules(speech_level=-20.0)
    quiet = Audio(speech(1.0).samples * 0.02, 16000)
    np.testing.assert_allclose(
        load_speech(quiet, PLAIN, rules).samples, load_speech(speech(1.0), PLAIN, rules).samples, atol=2e-3
    )
    assert abs(load_speech(quiet, PLAIN, rules).soundtrack.samples).max() < 0.01


def test_rules_that_no_clip_can_follow_are_refused() -> None:
    with pytest.raises(SettingsError, match="multiple of 4 plus 1"):
        ModelRules(max_frames=80)


def test_a_sound_source_whose_picture_begins_late_is_used_from_its_first_sample() -> None:
    path = CASES / "late_picture.mp4"
    if not path.is_file():
        pytest.skip("needs late_picture.mp4 of the cases, which are not part of the project")
    loaded = load_speech(path, PLAIN, EMBEDDED)
    assert abs(loaded.soundtrack.seconds - 4.03) < 0.05 and not loaded.notes


def test_what_a_reader_tells_of_the_speech_is_a_note(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    write_sound(path, speech(2.0).samples[None])
    path.write_bytes(path.read_bytes()[:40000])
    (note,) = load_speech(path, PLAIN, EMBEDDED).notes
    assert "is incomplete: 1.2 of its 2.0 s could be read and are used." in note


def test_music_under_the_speech_is_told_and_speech_alone_is_not() -> None:
    spoken = load_audio(EXAMPLE / "speech.wav", 16000).samples
    time = np.arange(len(spoken)) / 16000
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 277, 330)) * (
        1 + 0.5 * np.sin(2 * np.pi * 2 * time)
    )
    chord *= 0.56 * np.sqrt(np.square(spoken).mean() / np.square(chord).mean())
    mixed = (0.5 * (spoken + chord)).astype(np.float32)
    assert not load_speech(Audio(spoken, 16000), PLAIN, EMBEDDED).notes
    (note,) = load_speech(Audio(mixed, 16000), PLAIN, EMBEDDED).notes
    assert "music or noise under the speech" in note and "--separate-speech on" in note
    # a short sound may have no pause
    assert not load_speech(Audio(mixed[:32000], 16000), PLAIN, EMBEDDED).notes
