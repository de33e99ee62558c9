"""The pretended device refuses what CUDA refuses, allows what CUDA allows, and computes what the CPU computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator, PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.devices.pretended import DEVICE, PretendedTensor, pretended_device


@pytest.fixture(autouse=True)
def entered() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        stack.enter_context(pretended_device())
        yield stack


def here() -> Tensor:
    return torch.arange(6.0).reshape(2, 3) + 1


def there() -> Tensor:
    return here().to(DEVICE)


@pytest.mark.parametrize(
    "mix",
    [
        lambda a, b: a + b,
        lambda a, b: b + a,
        lambda a, b: a @ b.T,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.stack([a[0, 0], b[0, 0]]),
        lambda a, b: torch.where(a > 2, a, b),
        lambda a, b: torch.where(b > 2, a, a),
        lambda a, b: a.add_(b),
        lambda a, b: b.add_(a),
        lambda a, b: b[0, 0].add_(a[0, 0]),
        lambda a, b: a[0, 0] * b,
        lambda a, b: a.masked_fill(b > 2, 0.0),
        lambda a, b: a.index_select(0, torch.tensor([0])),
        lambda a, b: a.gather(1, torch.tensor([[0], [1]])),
        lambda a, b: F.embedding(torch.tensor([0]), a),
        lambda a, b: F.linear(a, b),
        lambda a, b: F.linear(b, a),
        lambda a, b: F.scaled_dot_product_attention(a[None], a[None], b[None]),
        lambda a, b: torch.equal(a, b),
        lambda a, b: torch._foreach_add([a], [b]),
        lambda a, b: a.index_put((torch.tensor([0]),), b[0]),
        lambda a, b: b[torch.tensor([0]).to(DEVICE)],
        lambda a, b: b[b.to(DEVICE) > 2],
    ],
)
def test_tensors_of_two_devices_do_not_mix(mix: Callable[[Tensor, Tensor], Any]) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        mix(there(), here())


@pytest.mark.parametrize(
    "use",
    [
        lambda a: a * torch.tensor(2.0),
        lambda a: torch.tensor(2.0) - a,
        lambda a: torch.where(a > 2, a, torch.tensor(0.0)),
        lambda a: a.masked_fill(a > 2, torch.tensor(0.0)),
        lambda a: a.clone().mul_(torch.tensor(2.0)),
        lambda a: torch._foreach_mul([a], torch.tensor(2.0))[0],
        lambda a: a[torch.tensor([1, 0])],
        lambda a: a[here() > 2],
        lambda a: a.index_put((torch.tensor([0]),), torch.tensor(9.0)),
        lambda a: a[:, [0, 2]],
        lambda a: a * 2 + 1.5,
        lambda a: torch.lerp(a, a + 1, 0.5),
        lambda a: a.clone().copy_(here()),
        lambda a: here().copy_(a) + 0,
        lambda a: torch.zeros_like(a).index_add_(0, torch.tensor([1, 0]).to(a.device), a),
        lambda a: a.new_zeros(2, 3) + a,
        lambda a: a + torch.arange(3, device=a.device),
        lambda a: a + torch.linspace(0, 1, 3, device=a.device),
        lambda a: a + torch.tensor([1.0, 2, 3], device=a.device),
        lambda a: a + torch.full((3,), 2.0, device=a.device),
        lambda a: torch.eye(2, device=a.device) @ a,
        lambda a: a.to(torch.float64),
        lambda a: a.to("cpu", non_blocking=True),
        lambda a: torch.einsum("ij,kj->ik", a, a),
        lambda a: F.scaled_dot_product_attention(a[None, None], a[None, None], a[None, None]),
        lambda a: F.conv1d(a[None], a[None, :, :2]),
        lambda a: a.unfold(1, 2, 1),
        lambda a: torch.linalg.svd(a)[1],
    ],
)
def test_what_cuda_allows_gives_the_values_of_the_cpu(use: Callable[[Tensor], Tensor]) -> None:
    torch.testing.assert_close(use(there()).cpu(), use(here()))


def test_random_numbers_are_made_on_the_device_and_not_by_a_generator_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    made = (torch.rand(3, device=DEVICE), torch.randn(3, device=DEVICE), torch.randperm(3, device=DEVICE))
    assert [(t.device, t.shape) for t in made] == [(DEVICE, (3,))] * 3
    for draw in (torch.randn, torch.rand):
        with pytest.raises(RuntimeError, match="device type for generator"):
            draw(3, device=DEVICE, generator=generator)
    with pytest.raises(RuntimeError, match="device type for generator"):
        there().normal_(generator=generator)
    assert torch.randn(3, generator=generator).to(DEVICE).device == DEVICE


def test_values_leave_the_device_as_they_leave_cuda() -> None:
    a = there()
    for leave in (lambda: a.numpy(), lambda: np.asarray(a), lambda: np.sum(np.array(a))):
        with pytest.raises(TypeError, match="device type tensor to numpy"):
            leave()
    assert np.array_equal(a.cpu().numpy(), here().numpy())
    assert type(a.cpu()) is Tensor
    assert (a[1, 1].item(), float(a.sum()), a.tolist()) == (5.0, 21.0, here().tolist())
    assert bool((a > 0).all())
    assert a.is_cpu is False


def test_views_share_their_values_and_assignments_reach_them() -> None:
    a = there()
    a[:, 1:] = 0.0
    a[0].add_(1)
    a.view(-1)[0:1].copy_(torch.tensor([7.0]))
    assert a.tolist() == [[7.0, 1.0, 1.0], [4.0, 0.0, 0.0]]
    with pytest.raises(RuntimeError, match="same device"):
        a[0] += torch.ones(3)
    a.data = there().double()
    assert (a.dtype, (a + 1).dtype) == (torch.float64, torch.float64)


def test_inference_mode_works_on_tensors_from_before_it() -> None:
    model, x = network().to(DEVICE), there()
    with torch.inference_mode():
        found = model(x[None])[0] + x.new_ones(2)
        found[:, 0] += 1
    assert found.shape == (2, 2)
    assert (x[0] + 1).tolist() == [2.0, 3.0, 4.0]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2))


def trained(device: torch.device, repeat_forward: bool = False) -> dict[str, Tensor]:
    """Weights after three steps of an optimiser that was made before the network was moved."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.to(device)
    for _ in range(3):
        x = here().to(device)
        y = checkpoint(model, x, use_reentrant=False) if repeat_forward else model(x)
        y.square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.cpu() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("repeat_forward", [False, True])
def test_a_network_trains_there_as_it_does_on_the_cpu(repeat_forward: bool) -> None:
    there, here = trained(DEVICE, repeat_forward), trained(torch.device("cpu"))
    assert all(torch.allclose(there[name], here[name], atol=1e-6) for name in here)
    assert not torch.equal(here["0.weight"], network().state_dict()["0.weight"])


def test_moved_modules_keep_their_parameters_and_can_be_copied() -> None:
    model = network()
    weights = list(model.parameters())
    model.register_buffer("table", torch.ones(2))
    model.to(DEVICE)
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))
    assert {t.device for t in model.state_dict().values()} == {DEVICE}
    other = copy.deepcopy(model)
    other.load_state_dict(network(1).state_dict() | {"table": torch.zeros(2)})
    assert all(isinstance(p, nn.Parameter) and isinstance(p, PretendedTensor) for p in other.parameters())
    assert all(p.requires_grad for p in other.parameters())
    for found, wanted in ((other, network(1)), (model, network())):
        assert torch.equal(found.state_dict()["0.weight"].cpu(), wanted.state_dict()["0.weight"])
    with pytest.raises(RuntimeError, match="same device"):
        model(here())
    with pytest.raises(RuntimeError, match="same device"):
        network()(there())


def test_what_is_saved_there_is_loaded_there_or_where_the_reader_wants_it(tmp_path: Path) -> None:
    torch.save({"a": there()}, tmp_path / "a.pt")
    save_file({"a": there()}, tmp_path / "a.safetensors")
    back = torch.load(tmp_path / "a.pt", weights_only=True)["a"]
    assert back.device == DEVICE
    assert torch.equal(back.cpu(), here())
    assert torch.equal(load_file(tmp_path / "a.safetensors")["a"], here())


def test_accelerate_finds_the_device_only_while_it_is_there(entered: ExitStack) -> None:
    assert Accelerator(cpu=not torch.cuda.is_available()).device == DEVICE
    entered.close()
    assert PartialState().device.type in ("cpu", "cuda")
    assert not torch.get_device_module("pretended").is_available()
