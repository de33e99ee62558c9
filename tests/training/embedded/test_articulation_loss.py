"""The loss on the opening of the mouth."""

from __future__ import annotations

import numpy as np
import torch

from fantasytalking.data.motion_dataset import MotionDataset
from fantasytalking.training.embedded.articulation_loss import CLOSED, ArticulationMatching, mouth_readout
from fantasytalking.training.embedded.embedded_recipes import TINY_TRANSFORMER
from fantasytalking.training.embedded.mouth_validation import openings
from fantasytalking.training.flow_matching import FlowBatch, FlowMatching
from fantasytalking.training.trainer.objective import Losses
from fantasytalking.training.trainer.sources import WindowSource
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.data.test_motion_dataset import dataset
from tests.training.synthetic import codec


def objective(weight: float = 1.0) -> ArticulationMatching:
    return ArticulationMatching(TINY_TRANSFORMER, codec(), weight)


def batch() -> FlowBatch:
    """Two windows of training clips."""
    data: MotionDataset = dataset(frames=33)
    source = WindowSource({33: data.draw}, (33,), 18, 0, None)
    return objective().prepare(source, 0, range(2))


def opening_term(made: FlowBatch, prediction: torch.Tensor) -> torch.Tensor:
    losses = Losses(torch.zeros(len(prediction)), {}, torch.zeros(len(prediction)))
    return objective().extended(losses, prediction, made).parts["opening"]


def test_the_readout_tells_opening_and_width_from_the_cells() -> None:
    fitted = codec()
    numbers = torch.randn(7, fitted.coefficients, generator=torch.Generator().manual_seed(0)) * fitted.coefficient_std
    told = numbers @ fitted.expression_cells.T @ mouth_readout(fitted).T
    assert told.shape == (7, 4)
    assert torch.allclose(told[:, 0], fitted.gap_of(numbers), atol=0.01)
    latents = dataset().draw(np.random.default_rng(0)).latents[None]
    along = mouth_readout(fitted)[:1] @ latents[0, :8].unflatten(0, (2, 4))[:, 3].movedim(1, 0).flatten(1).T
    assert torch.allclose(along[0], openings(fitted, latents)[0, ::4], atol=0.02)


def test_a_perfect_prediction_costs_nothing_and_one_of_the_wrong_opening_does() -> None:
    made = batch()
    velocity = made.target.velocity
    assert opening_term(made, velocity).abs().max() == 0
    head = velocity.clone()
    head[:, 8:] += 1  # the head's part has none in it
    assert opening_term(made, head).abs().max() == 0
    assert opening_term(made, velocity + 0.1).min() > 0


def test_an_error_counts_more_where_lips_are_closed() -> None:
    """One frame's opening is wrong by the same amount, in turn in every frame of a window."""
    fitted, made = codec(), batch()
    change = fitted.expression_cells @ (0.1 * fitted.opening_direction)
    latents = made.samples.latents
    costs, opened = [], []
    for frame in range(latents.shape[2]):
        wrong = made.target.velocity.clone()
        wrong[:, 3:8:4, frame] += change.reshape(2, fitted.height, fitted.width)
        costs.append(opening_term(made, wrong))
        cells = latents[:, 3:8:4, frame].flatten(1)
        opened.append((mouth_readout(fitted)[:1] @ cells.T)[0])
    cost, opening = torch.stack(costs, 1), torch.stack(opened, 1)
    closed = opening < CLOSED
    for row, shut in zip(cost, closed, strict=True):
        if 0 < int(shut.sum()) < len(shut):
            assert row[shut].min() > 1.9 * row[~shut].max()  # 4 to 1, and 4 to 2 for the widest
    assert closed.any() and not closed.all()


def test_the_gradient_reaches_the_model_and_the_weight_scales_the_term() -> None:
    torch.manual_seed(0)
    model = FantasyTalkingTransformer3DModel(**TINY_TRANSFORMER.model)
    made = batch()
    plain = FlowMatching(TINY_TRANSFORMER).losses(model, made, 0)
    once, twice = (objective(weight).losses(model, made, 0) for weight in (1.0, 2.0))
    assert once.parts.keys() == {"lips", "rest", "opening"} == set(ArticulationMatching.parts)
    assert torch.allclose(once.total - plain.total, once.parts["opening"], atol=1e-5)
    assert torch.allclose(twice.total - plain.total, 2 * once.parts["opening"], atol=1e-5)
    model.zero_grad()
    once.parts["opening"].mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert max(float(gradient.abs().max()) for gradient in gradients) > 0


def test_without_weight_it_is_flow_matching() -> None:
    torch.manual_seed(0)
    model = FantasyTalkingTransformer3DModel(**TINY_TRANSFORMER.model)
    made = batch()
    assert torch.equal(
        objective(0.0).losses(model, made, 0).total, FlowMatching(TINY_TRANSFORMER).losses(model, made, 0).total
    )
