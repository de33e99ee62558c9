"""Windows of tracks as training samples."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from fantasytalking.autoencoder.mesh_codec import LIDS, POSE_DIMENSIONS
from fantasytalking.data.motion_dataset import (
    NO_AUGMENTATION,
    SPEECH_PER_FRAME,
    Augmentation,
    Continuation,
    IntensityScale,
    MotionDataset,
    canvas_lip_mask,
    prepare,
    window_motion,
)
from fantasytalking.perception.landmarks import mouth_opening
from tests.training.synthetic import codec, make_track, tracks

SCALE = IntensityScale(torch.linspace(0, 1, 21)[:, None].repeat(1, 2))


@cache
def dataset(augmentation: Augmentation = NO_AUGMENTATION, frames: int = 9) -> MotionDataset:
    prepared = [prepare(track) for track in tracks()]
    return MotionDataset(prepared, codec(), frames, SCALE, augmentation, 0.5, torch.zeros(1, 16))


def test_a_sample_is_what_the_transformer_is_trained_on() -> None:
    sample = dataset().draw(np.random.default_rng(0))
    assert sample.latents.shape == (16, 3, 6, 4)
    assert sample.condition.shape == (20, 3, 6, 4)
    assert sample.lip_mask.shape == (1, 3, 6, 4)
    assert sample.audio is not None and sample.audio.shape == (18, 384)
    assert sample.identity is not None and sample.identity.shape == (192,)
    assert sample.motion is not None and 0 <= sample.motion.min() <= sample.motion.max() <= 1
    assert torch.equal(sample.condition[:4, 0], torch.ones(4, 6, 4))
    assert sample.latents[8:, 0].abs().max() == 0  # the head is where the portrait has it
    assert sample.latents[:8, 0].abs().max() > 0  # expression is relative to closed lips


def test_of_a_portrait_the_transformer_is_shown_what_a_single_frame_tells() -> None:
    """When a video is made there is only the photo: a clip's own measure of its closed lips is unknown then."""
    data, fitted = dataset(), codec()
    track = data.people.groups["person0"][0]
    closed = int(mouth_opening(track.points.numpy()).argmin())
    for start in (min(closed, 90), int(mouth_opening(track.points[:90].numpy()).argmax())):
        sample = data.window(track, start, 9)
        shape = fitted.shape_latents(fitted.shape_cells_of(track.points[start]))
        told = fitted.portrait_expression(track.points[start])
        shown = fitted.from_latents((sample.condition[4:] - shape)[None, :, :1], noise=0.0)[0]
        assert torch.allclose(shown[0, : fitted.coefficients], told, atol=1e-3)
        apart = float(fitted.gap_of(told) - fitted.gap_of(track.described(fitted, None).expression[start]))
        assert 0 < abs(apart) < 0.05
        assert (sample.condition[4:, 1:] - shape).abs().max() < 1e-3


def test_expression_is_relative_to_the_clips_own_closed_lips() -> None:
    fitted = codec()
    for track in dataset().people.groups["person1"]:
        expression = track.described(fitted, None).expression
        opening = fitted.gap_of(expression)
        measured = mouth_opening(track.points.numpy())
        order = measured.argsort()
        assert opening[order[:10]].abs().max() < 0.03 and opening[order[-5:]].min() > 0.1
        assert np.corrcoef(opening, measured)[0, 1] > 0.98


def test_a_draw_is_a_pure_function_of_the_generator() -> None:
    data = dataset(Augmentation())
    a, b, c = (data.draw(np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert torch.equal(a.latents, b.latents)
    assert a.audio is not None and b.audio is not None and torch.equal(a.audio, b.audio)
    assert not torch.equal(a.latents, c.latents)


def test_speech_and_face_move_together() -> None:
    """The synthetic mouth follows one direction of the speech; so it must in every window."""
    data = dataset(frames=33)
    direction = torch.from_numpy(np.random.default_rng(99).standard_normal(384)).float()
    track = data.people.groups["person0"][0]
    for start in (0, 17, 60):
        sample = data.window(track, start, 33)
        assert sample.audio is not None
        numbers = codec().from_latents(sample.latents[None])[0]
        opening = mouth_opening(codec().points_of(numbers, track.points[start]).numpy())
        sound = (sample.audio @ direction).reshape(33, SPEECH_PER_FRAME).mean(1)
        assert np.corrcoef(opening, sound.numpy())[0, 1] > 0.8


def test_a_mirrored_window_turns_the_head_the_other_way_and_speaks_alike() -> None:
    data = dataset()
    track = data.people.groups["person1"][0]
    plain, mirrored = track.described(codec(), None), track.described(codec(), data.mirror)
    a, b = (one.motion.pose_relative_to(one.motion[0]) for one in (plain, mirrored))
    for index, sign in ((0, 1), (1, -1), (2, -1), (4, -1), (5, 1)):  # nod, shake, roll, x, y
        assert np.corrcoef(a[:, index], b[:, index])[0, 1] * sign > 0.8
    assert np.corrcoef(plain.expression[:, 0], mirrored.expression[:, 0])[0, 1] > 0.95  # the jaw


def test_the_mirror_maps_left_to_right_and_is_its_own_inverse_nearly_everywhere() -> None:
    mirror = dataset().mirror
    assert (mirror[33], mirror[263], mirror[61]) == (263, 33, 291)
    assert (mirror[mirror] == torch.arange(468)).float().mean() > 0.9


def test_stretching_keeps_the_number_of_frames() -> None:
    data = dataset()
    track = data.people.groups["person2"][0]
    for span in (8.1, 9.9):
        sample = data.window(track, 3, span)
        assert sample.latents.shape[1] == 3
        assert sample.audio is not None and len(sample.audio) == 18


def test_short_tracks_are_left_out_and_generated_footage_counts_less() -> None:
    people = [
        prepare(make_track("a", "a")),
        prepare(make_track("b", "b", kind="generated")),
        prepare(make_track("c", "c", frames=20)),
    ]
    data = MotionDataset(people, codec(), 33, SCALE, NO_AUGMENTATION, 0.25, torch.zeros(1, 16))
    assert data.people.names == ["a", "b"]
    assert data.people.weights == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize("lag", [4, -4])
def test_preparing_a_shifted_track_puts_it_in_step_and_remembers_the_first_frame(lag: int) -> None:
    track = make_track("late", "person0", lag=lag, seed=3)
    prepared = prepare(track, lag)
    assert prepared.first == max(0, lag)
    assert len(prepared.points) == 100 - abs(lag)
    assert len(prepared.speech) == SPEECH_PER_FRAME * len(prepared.points)
    inner = slice(10, -10)
    given = torch.from_numpy(track.points)[prepared.first :][: len(prepared.points)]
    assert (prepared.points - given)[inner].norm(dim=-1).mean() < 0.5  # smoothing only
    direction = np.random.default_rng(99).standard_normal(384)
    sound = (prepared.speech.numpy() @ direction).reshape(-1, 2).mean(1)
    assert np.corrcoef(mouth_opening(prepared.points.numpy()), sound)[0, 1] > 0.85


def test_motion_grows_with_its_amplitude_face_and_body_apart() -> None:
    k = codec().coefficients
    numbers = torch.randn(40, k + POSE_DIMENSIONS + LIDS, generator=torch.Generator().manual_seed(0))
    numbers[:, :k] *= codec().coefficient_std
    numbers[:, k:] *= codec().pose_std
    base = window_motion(codec(), numbers)
    livelier, restless, blinking = numbers.clone(), numbers.clone(), numbers.clone()
    livelier[:, :k] *= 2
    restless[:, k : k + POSE_DIMENSIONS] *= 2
    blinking[:, -LIDS:] *= 2
    assert torch.equal(window_motion(codec(), blinking), base)  # blinks are drawn, whatever the intensity learned
    assert torch.allclose(window_motion(codec(), livelier), base * torch.tensor([4.0, 1.0]), rtol=1e-3)
    assert torch.allclose(window_motion(codec(), restless), base * torch.tensor([1.0, 4.0]), rtol=1e-3)


def test_the_face_part_is_the_variance_of_the_pose_free_mesh() -> None:
    k = codec().coefficients
    numbers = torch.randn(40, k + 6, generator=torch.Generator().manual_seed(1)) * 0.1
    displacement = torch.einsum("fk,kvi->fvi", numbers[:, :k], codec().basis)
    assert window_motion(codec(), numbers)[0] == pytest.approx(float(displacement.var(0).sum(-1).mean()), rel=1e-3)


def test_the_median_window_has_intensity_one_half() -> None:
    raw = torch.rand(501, 2, generator=torch.Generator().manual_seed(0)) ** 3
    scale = IntensityScale.fit(raw)
    assert torch.allclose(scale(raw.median(0).values), torch.full((2,), 0.5), atol=1e-3)
    assert torch.equal(scale(torch.tensor([-1.0, 9.0])), torch.tensor([0.0, 1.0]))


def test_the_lip_mask_of_the_canvas_covers_the_mouth_only() -> None:
    mask = canvas_lip_mask(codec(), 3)
    assert mask.shape == (1, 3, 6, 4)
    assert 0.05 < float(mask.mean()) < 0.6
    lips = codec().layout[[13, 14]].mean(0) / codec().strides.width
    assert mask[0, 0, int(lips[1]), int(lips[0])] > 0.5
    assert mask[0, :, 0].max() == 0  # the forehead


def test_continuations_show_their_first_frames_and_keep_an_earlier_portrait() -> None:
    prepared = [prepare(track) for track in tracks()]
    always = Continuation(share=1.0, longest=3, reach=40)
    data = MotionDataset(prepared, codec(), 33, SCALE, NO_AUGMENTATION, 0.5, torch.zeros(1, 16), True, always)
    counts, moved = set(), 0
    for seed in range(12):
        sample = data.draw(np.random.default_rng(seed))
        mask = sample.condition[:4]
        given = int(mask[0, :, 0, 0].sum())
        counts.add(given)
        assert mask[:, :given].min() == 1 and mask[:, given:].abs().max() == 0
        shown = sample.condition[4:] - sample.condition[4:, -1:]  # the portrait's shape taken out
        torch.testing.assert_close(shown[:, :given], sample.latents[:, :given], atol=1e-5, rtol=1e-5)
        assert shown[:, given:].abs().max() == 0
        moved += bool(sample.latents[:, 0].abs().max() > 0.05)
    assert counts == {1, 2, 3} and moved > 6


def test_percentiles_come_back_from_what_is_stored() -> None:
    scale = IntensityScale.fit(torch.rand(50, 2, generator=torch.Generator().manual_seed(0)))
    assert scale.as_percentiles().keys() == {"w_face", "w_body"}
    assert torch.equal(IntensityScale.from_percentiles(**scale.as_percentiles()).percentiles, scale.percentiles)
