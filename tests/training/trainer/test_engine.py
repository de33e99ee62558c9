"""The file that knows accelerate."""

from __future__ import annotations

import pytest
import torch

from fantasytalking.errors import ResourceError
from fantasytalking.training.trainer.engine import Engine


def engine(precision: str = "no") -> Engine:
    torch.manual_seed(0)
    return Engine.create(torch.nn.Linear(3, 2), 1e-2, 0.1, 1.0, precision)


def test_one_process_may_train_two_models_at_two_precisions() -> None:
    x = torch.ones(1, 3)
    for precision in ("bf16", "no"):
        made = engine(precision)
        assert made.accelerator.mixed_precision == precision
        made.backward(made.model(x).float().square().mean())
        made.update()
        assert made.bare_model.get_parameter("weight").dtype == torch.float32


def test_a_step_moves_the_weights_and_clears_the_gradient() -> None:
    made = engine()
    before = made.bare_model.get_parameter("weight").detach().clone()
    made.backward(made.model(torch.ones(1, 3)).square().mean())
    assert made.update() > 0
    assert not torch.equal(made.bare_model.get_parameter("weight"), before)
    assert made.bare_model.get_parameter("weight").grad is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_updates_nothing(value: float) -> None:
    made = engine()
    before = made.bare_model.get_parameter("weight").detach().clone()
    with pytest.raises(ResourceError, match=r"is (nan|inf)"):
        made.check_finite(value)
    made.backward(made.model(torch.ones(1, 3)).sum() * value)
    with pytest.raises(ResourceError, match=r"is (nan|inf)"):
        made.update()
    assert torch.equal(made.bare_model.get_parameter("weight"), before)


def test_vectors_are_not_decayed() -> None:
    groups = engine().optimizer.param_groups
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups] == [(0.1, {2}), (0.0, {1})]


def test_the_learning_rate_is_set_for_every_group() -> None:
    made = engine()
    made.set_learning_rate(0.5)
    assert [group["lr"] for group in made.optimizer.param_groups] == [0.5, 0.5]
