"""The Frechet distance against closed forms and against scipy's matrix root."""

import numpy as np
import pytest

from fantasytalking.errors import SettingsError
from fantasytalking.evaluation.statistics.frechet import Gaussian, Moments, resampled_gaussians

scipy_linalg = pytest.importorskip("scipy.linalg")


def test_isotropic_gaussians_have_the_closed_form() -> None:
    # |m1 - m2|^2 + d (s1 - s2)^2
    d, s1, s2 = 7, 1.5, 0.4
    m1, m2 = np.arange(d, dtype=np.float64) * 0.1, np.ones(d)
    expected = ((m1 - m2) ** 2).sum() + d * (s1 - s2) ** 2
    assert Gaussian(m1, s1**2 * np.eye(d)).distance(m2, s2**2 * np.eye(d)) == pytest.approx(expected, rel=1e-12)


def test_commuting_covariances_have_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    a, b = rng.uniform(0.1, 3, 6), rng.uniform(0.1, 3, 6)
    found = Gaussian(np.zeros(6), basis * a @ basis.T).distance(np.zeros(6), basis * b @ basis.T)
    assert found == pytest.approx(((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-10)


def test_general_covariances_agree_with_scipys_root() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((80, 9)) @ rng.standard_normal((9, 9)), rng.standard_normal((70, 9)) + 0.3
    c1, c2 = np.cov(x.T), np.cov(y.T)
    root = scipy_linalg.sqrtm(c1 @ c2).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert Gaussian(*Moments.of(x).gaussian()).distance(*Moments.of(y).gaussian()) == pytest.approx(expected, rel=1e-8)


def test_equal_sets_are_at_distance_zero_even_with_fewer_samples_than_dimensions() -> None:
    x = np.random.default_rng(2).standard_normal((5, 40))
    assert Gaussian(*Moments.of(x).gaussian()).distance(*Moments.of(x).gaussian()) == pytest.approx(0, abs=1e-6)


def test_moments_of_clips_add_up_to_those_of_all_their_samples() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.standard_normal((n, 4)) + 100 for n in (3, 8, 5)]
    moments = [Moments.of(p, 100.0) for p in parts]
    mean, covariance = Moments.add(moments).gaussian()
    np.testing.assert_allclose(mean + 100, np.concatenate(parts).mean(0))
    np.testing.assert_allclose(covariance, np.cov(np.concatenate(parts).T), atol=1e-10)
    means, covariances = resampled_gaussians(moments, np.array([[1, 1, 1], [1, 0, 2]]))
    repeated = np.concatenate([parts[0], parts[2], parts[2]])
    np.testing.assert_allclose(means, [mean, repeated.mean(0) - 100])
    np.testing.assert_allclose(covariances, [covariance, np.cov(repeated.T)], atol=1e-10)


def test_features_of_two_networks_cannot_be_compared() -> None:
    with pytest.raises(SettingsError, match="same network"):
        Gaussian(np.zeros(3), np.eye(3)).distance(np.zeros(4), np.eye(4))
