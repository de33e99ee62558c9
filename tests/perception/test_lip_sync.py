"""Whether lips and sound are in step: the curve over offsets, and the bundled network on a video that the embedded model made."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.errors import CheckpointError, InputError
from fantasytalking.perception.lip_sync import WEIGHTS, LipSync, SyncCurve, sync_curve

Array = NDArray[np.float32]


def vectors(count: int, seed: int = 0, width: int = 16) -> Array:
    """Unit vectors [count, width] that have nothing to do with each other."""
    drawn = np.random.default_rng(seed).standard_normal((count, width))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("lag", [-15, -7, -1, 0, 1, 7, 15])
def test_a_known_lag_of_the_face_is_found_exactly(lag: int) -> None:
    events = vectors(90)
    mouth, speech = events[20 - lag : 70 - lag], events[20:70]
    curve = sync_curve(mouth, speech)
    assert curve.offset == lag
    assert curve.distance == pytest.approx(0, abs=1e-6)
    assert curve.confidence > 1
    assert curve.offsets.tolist() == list(range(-15, 16))
    assert curve.offsets.dtype == np.int64
    assert curve.distances.shape == (31,)


def test_exchanging_mouth_and_speech_mirrors_the_curve() -> None:
    mouth, speech = vectors(60, 1), vectors(60, 2)
    there, back = sync_curve(mouth, speech), sync_curve(speech, mouth)
    np.testing.assert_allclose(there.distances, back.distances[::-1])
    assert there.confidence == pytest.approx(back.confidence)


def test_the_distance_is_the_mean_over_overlapping_frames() -> None:
    mouth, speech = vectors(30, 3), vectors(30, 4)
    curve = sync_curve(mouth, speech, 3)
    expected = np.mean([np.linalg.norm(mouth[t + 3] - speech[t]) for t in range(27)])
    assert curve.distances[-1] == pytest.approx(expected)
    expected = np.mean([np.linalg.norm(mouth[t] - speech[t + 2]) for t in range(28)])
    assert curve.distances[1] == pytest.approx(expected)


def test_nothing_stands_out_of_constant_embeddings() -> None:
    curve = sync_curve(np.ones((40, 8)), np.zeros((40, 8)))
    assert curve.confidence == pytest.approx(0, abs=1e-9)
    assert curve.offset == 0
    assert curve.distance == pytest.approx(8**0.5)


def test_vectors_of_any_length_will_do() -> None:
    """SyncNet's own are not normalised."""
    events = 9 * vectors(60, 5, 1024)
    curve = sync_curve(events[5:], events[:-5])
    assert curve.offset == -5
    assert np.median(curve.distances) == pytest.approx(9 * 2**0.5, rel=0.05)


@pytest.mark.parametrize(("frames", "largest"), [(6, 1), (10, 5), (13, 8), (24, 15), (400, 15)])
def test_a_short_clip_has_fewer_offsets(frames: int, largest: int) -> None:
    events = vectors(frames + 1, 6)
    curve = sync_curve(events[:-1], events[1:])
    assert curve.offsets.tolist() == list(range(-largest, largest + 1))
    assert curve.offset == 1


def test_sequences_that_do_not_belong_together_are_refused() -> None:
    assert sync_curve(vectors(40), vectors(41)).offset == 0
    with pytest.raises(InputError, match=r"less than 25 frames.*\(40, 16\).*\(65, 16\)"):
        sync_curve(vectors(40), vectors(65))
    with pytest.raises(InputError, match="two sequences"):
        sync_curve(vectors(40), vectors(40, width=8))
    with pytest.raises(InputError, match=r"at least 6 frames.*5 frames"):
        sync_curve(vectors(5), vectors(5))
    with pytest.raises(InputError, match="offset of at least 1"):
        sync_curve(vectors(40), vectors(40), 0)


def test_of_equal_distances_the_offset_nearest_to_zero_counts() -> None:
    assert SyncCurve(np.arange(-3, 4), np.array([1.0, 2, 3, 4, 3, 1, 2])).offset == 2


def test_the_notice_names_the_weights_with_size_and_checksum() -> None:
    notice = (WEIGHTS.parent / "NOTICE").read_text()
    found = re.search(r"^lip_sync\.safetensors +([\d,]+) bytes\n +sha256 (\w{64})$", notice, re.M)
    assert found is not None
    data = WEIGHTS.read_bytes()
    assert (int(found[1].replace(",", "")), found[2]) == (len(data), hashlib.sha256(data).hexdigest())
    assert len(data) < 4_000_000


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train lip-sync"):
        LipSync.from_file(tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        LipSync.from_file(tmp_path / "broken.safetensors")


def test_speech_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[t, 384\].*\(20, 80\)"):
        LipSync.bundled().embed_speech(np.zeros((20, 80), np.float32))


def test_speech_embeddings_are_unit_vectors_one_a_frame_that_see_only_their_surroundings() -> None:
    features = np.random.default_rng(0).standard_normal((51, 384)).astype(np.float32)
    whole = LipSync.bundled().embed_speech(features)
    assert whole.shape == (25, 128)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    changed = features.copy()
    changed[40:] = 0
    np.testing.assert_allclose(LipSync.bundled().embed_speech(changed)[:16], whole[:16], atol=1e-5)
    assert np.abs(LipSync.bundled().embed_speech(changed)[20] - whole[20]).max() > 0.01


@cache
def talking() -> tuple[NDArray[np.uint8], Array, Array, Array]:
    """A short video of the embedded model: frames, mesh, scores, speech features; 25 frames a second."""
    from fantasytalking import FantasyTalkingPipeline
    from fantasytalking.conditioning.speech_features import SpeechEncoder
    from fantasytalking.media.audio import load_audio, normalise_loudness
    from fantasytalking.perception.landmarks import track_mesh
    from fantasytalking.training.embedded.training_tracks import SPEECH_ENCODER
    from tests.pipeline.tiny_pipeline import EXAMPLE

    sound = load_audio(EXAMPLE / "speech.wav", seconds=4.0)
    pipeline = FantasyTalkingPipeline.from_pretrained("embedded")
    video = pipeline(EXAMPLE / "portrait.png", sound, longest_side=256, fps=25, seed=0)
    points, scores = track_mesh(video.frames)
    features = SpeechEncoder.from_pretrained(SPEECH_ENCODER).encode(normalise_loudness(sound.samples)).numpy()
    return video.frames, points, scores, features


@pytest.mark.slow
def test_the_example_of_the_documentation_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from contextlib import chdir

    from fantasytalking.media.audio import Audio, load_audio
    from fantasytalking.media.video import write_video
    from tests.pipeline.tiny_pipeline import EXAMPLE

    frames = talking()[0]
    sound = load_audio(EXAMPLE / "speech.wav", seconds=4.0)
    write_video(tmp_path / "talking.mp4", frames, 25, Audio(sound.samples, sound.sample_rate))
    page = (Path(__file__).resolve().parents[2] / "docs" / "lip-sync.md").read_text()
    with chdir(tmp_path):
        exec(compile(page.split("```python\n")[1].split("```")[0], "lip-sync.md", "exec"), {})
    offset, distance, confidence = map(float, re.findall(r"-?[0-9.]+", capsys.readouterr().out))
    assert abs(offset) <= 1
    assert distance < 1.2
    assert confidence > 0.2


@pytest.mark.slow
def test_a_generated_video_is_nearest_to_its_sound_in_step() -> None:
    frames, points, scores, features = talking()
    sync = LipSync.bundled()
    mouth, speech = sync.embed_mouth(frames, points, scores), sync.embed_speech(features)
    assert mouth.shape == (len(frames), 128)
    np.testing.assert_allclose(np.linalg.norm(mouth, axis=1), 1, atol=1e-5)
    curve = sync_curve(mouth, speech)
    assert abs(curve.offset) <= 1
    at = dict(zip(curve.offsets.tolist(), curve.distances.tolist(), strict=True))
    assert at[0] < min(at[k] for k in (*range(-15, -3), *range(4, 16))) - 0.05
    assert curve.confidence > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("early", [5, -5])
def test_moving_the_sound_moves_the_offset(early: int) -> None:
    frames, points, scores, features = talking()
    sync = LipSync.bundled()
    mouth = sync.embed_mouth(frames, points, scores)
    before = sync_curve(mouth, sync.embed_speech(features)).offset
    moved = np.roll(features, -2 * early, axis=0)
    assert abs(sync_curve(mouth, sync.embed_speech(moved)).offset - before - early) <= 1
