"""Gains that make motion follow the intensities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fantasytalking.autoencoder import MeshAutoencoder
from fantasytalking.autoencoder.interface import Reference
from fantasytalking.autoencoder.mesh_codec import POSE_DIMENSIONS
from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.training.embedded import intensity_gains
from fantasytalking.training.embedded.calibration import one_a_person
from fantasytalking.training.embedded.embedded_recipes import TINY_TRANSFORMER
from fantasytalking.training.embedded.intensity_gains import INTENSITIES, LEAST, MOST, _gains, fit_intensity_gains
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.data.test_motion_dataset import dataset


def scale() -> IntensityScale:
    """The spread of faces and heads at rank w is 1 + w and 1 + 3 w."""
    ranks = torch.linspace(0, 1, 21)
    return IntensityScale(torch.stack([(1 + ranks) ** 2, (1 + 3 * ranks) ** 2], 1))


def test_a_model_that_follows_the_intensities_needs_no_gain() -> None:
    made = [1 + value for value in INTENSITIES]
    assert _gains(scale(), 0, made, 0.5) == pytest.approx([1.0] * 11)
    assert _gains(scale(), 0, [7 * size for size in made], 0.5) == pytest.approx([1.0] * 11)


def test_gains_make_up_for_what_a_model_does_not_follow() -> None:
    gains = _gains(scale(), 1, [1.0] * 11, 0.5)
    assert gains == pytest.approx([max(LEAST, min(MOST, (1 + 3 * w) / 2.5)) for w in INTENSITIES], abs=1e-3)
    assert gains[0] == pytest.approx(0.4, abs=1e-3) and gains[5] == 1 and gains[10] == pytest.approx(1.6, abs=1e-3)
    assert _gains(scale(), 1, [10.0] + [1.0] * 10, 0.5)[0] == LEAST


def test_the_usual_intensity_may_lie_between_the_others() -> None:
    gains = _gains(scale(), 0, [1.0] * 12, 0.55)
    assert np.interp(0.55, INTENSITIES, gains) == pytest.approx(1, abs=5e-3)


def test_a_model_is_asked_at_each_intensity(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(frames=9)
    torch.manual_seed(0)
    model = FantasyTalkingTransformer3DModel(**TINY_TRANSFORMER.model).eval()
    windows, asked = one_a_person(data), []
    real = vars(intensity_gains)["sample_latents"]

    def noted(*given: object) -> torch.Tensor:
        settings = given[3]
        assert isinstance(settings, GenerationSettings)
        asked.append((settings.w_face, settings.w_body))
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(intensity_gains, "sample_latents", noted)
    settings = GenerationSettings(steps=1, w_face=0.6, batch_passes="off")
    gains = fit_intensity_gains(model, data, windows, settings)
    if not model.config.motion:
        assert gains == {"face_gains": (), "body_gains": ()}
        return
    assert sorted(set(asked)) == sorted(
        {(value, 0.5) for value in INTENSITIES} | {(0.6, value) for value in INTENSITIES}
    )
    assert gains["face_gains"][6] == 1 and gains["body_gains"][5] == 1
    assert all(LEAST <= gain <= MOST for row in gains.values() for gain in row)


def test_without_a_motion_network_there_are_no_gains() -> None:
    model = FantasyTalkingTransformer3DModel(**{**TINY_TRANSFORMER.model, "motion": False}).eval()
    assert fit_intensity_gains(model, dataset(frames=9), [], GenerationSettings()) == {
        "face_gains": (),
        "body_gains": (),
    }


def test_the_embedded_model_applies_its_gains_and_takes_them_out_of_what_it_is_given() -> None:
    vae = MeshAutoencoder.from_pretrained(embedded_folder() / "vae")
    k, codec = vae.codec.coefficients, vae.codec
    image = torch.zeros(1, 3, 8, 8)
    usual, lively, still = (
        vae._gains(Reference(image, None, (intensities,))) for intensities in ((0.6, 0.5), (1.0, 1.0), (0.0, 0.0))
    )
    assert usual == (1.0, 1.0) == vae._gains(Reference(image))
    assert still[0] < 1 < lively[0] and still[1] < 1 < lively[1]
    generator = torch.Generator().manual_seed(0)
    motion = codec.coefficient_std.new_zeros(40, k + POSE_DIMENSIONS + 2)
    motion[:, :k] = 0.5 * codec.coefficient_std * torch.randn(40, k, generator=generator)
    motion[:, k : k + POSE_DIMENSIONS] = 0.02 * torch.randn(40, POSE_DIMENSIONS, generator=generator)
    plain, shown = codec.shown(motion), codec.shown(motion, lively)
    assert torch.allclose(shown[:, k : k + 6], lively[1] * plain[:, k : k + 6], atol=1e-6)
    openings, wider = codec.gap_of(plain[:, :k]), codec.gap_of(shown[:, :k])
    parted = openings > 0.02
    assert parted.sum() > 5
    assert torch.allclose(wider[parted], lively[0] * openings[parted], rtol=0.02)
    closed = openings <= 0
    assert torch.allclose(wider[closed], openings[closed], atol=4e-3)  # 0 lies between two knots
    assert torch.allclose(codec.unshown(shown, lively), motion, atol=2e-3)
