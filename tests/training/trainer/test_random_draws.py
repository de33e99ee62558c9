"""Draws of a run are functions of its seed and the part of the run; none comes from a global random state."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import fantasytalking
from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.training.trainer.random_draws import part_seed, seeded, undrawn

PACKAGE = Path(fantasytalking.__file__).parent
STATES = ("np.random", "numpy.random", "torch.random")
OWN_GENERATOR = {"default_rng", "SeedSequence", "Generator", "fork_rng", "default_generator"}
"""Names of `numpy.random` and `torch.random` that do not draw from the global state."""
TORCH_DRAWS = {
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli"),
    *(
        "multinomial",
        "poisson",
        "normal_",
        "uniform_",
        "bernoulli_",
        "random_",
        "exponential_",
        "cauchy_",
        "geometric_",
    ),
}
SEEDS = {"manual_seed", "manual_seed_all", "seed", "set_seed", "seed_everything"}


def global_draws(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every use of a global random state in a module."""
    tree = ast.parse(source)
    imported = {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random", "torch.random"):
            yield node.lineno, f"from {node.module} import"
        drawn_from = ast.unparse(node.value) if isinstance(node, ast.Attribute) else ""
        if isinstance(node, ast.Attribute) and drawn_from in STATES and node.attr not in OWN_GENERATOR:
            yield node.lineno, ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        if name.startswith("random.") and "random" in imported:
            yield node.lineno, name
        if (
            last in TORCH_DRAWS
            and not name.startswith(("rng.", "np."))
            and "generator" not in {k.arg for k in node.keywords}
        ):
            yield node.lineno, name
        if name.endswith("default_rng") and not node.args:
            yield node.lineno, f"{name}()"
        if last in SEEDS and not name.startswith(("torch.Generator(", "torch.default_generator.")):
            yield node.lineno, name


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("torch.randn(3)", True),
        ("torch.randn(3, generator=g)", False),
        ("torch.randperm(3)", True),
        ("x.normal_()", True),
        ("torch.manual_seed(0)", True),
        ("torch.Generator().manual_seed(0)", False),
        ("np.random.seed(0)", True),
        ("np.random.rand(3)", True),
        ("np.random.default_rng()", True),
        ("np.random.default_rng(seed).random()", False),
        ("import random; random.random()", True),
        ("from random import random", True),
        ("rng.random()", False),
    ],
)
def test_the_check_below_sees_global_draws(line: str, found: bool) -> None:
    assert bool(list(global_draws(line))) == found


def test_nothing_in_training_and_data_draws_from_a_global_random_state() -> None:
    """Before, `fit_codec`, `train_embedded`, `train_adapter`, `loop` and others seeded torch globally, and the painter relied on it."""
    allowed = {"training/trainer/random_draws.py": {"torch.cuda.manual_seed"}}
    found = {}
    for folder in ("training", "data"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            name = str(path.relative_to(PACKAGE))
            rows = [row for row in global_draws(path.read_text()) if row[1] not in allowed.get(name, ())]
            if rows:
                found[name] = rows
    assert found == {}


def disturb(seed: int) -> None:
    """Put all global random states somewhere else."""
    torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)


def weights(seed: int, part: str) -> torch.Tensor:
    with seeded(seed, part):
        return torch.cat([p.detach().flatten() for p in MouthPainter((8, 8)).parameters()])


def test_a_module_depends_on_seed_and_part_alone_and_leaves_the_global_state() -> None:
    disturb(1)
    state, one = torch.get_rng_state(), weights(3, "painter")
    assert torch.equal(torch.get_rng_state(), state)
    disturb(2)
    assert torch.equal(weights(3, "painter"), one)
    assert not torch.equal(weights(4, "painter"), one)
    assert not torch.equal(weights(3, "student"), one)
    state = torch.get_rng_state()
    with undrawn():
        MouthPainter((8, 8))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_error_gives_the_global_state_back_too() -> None:
    disturb(1)
    state = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(0, "painter"):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_of_parts_differ() -> None:
    assert len({part_seed(seed, part) for seed in range(50) for part in ("pairs", "painter", "codec", "lora")}) == 200
    assert 0 <= part_seed(2**62, "dropout") < 2**63
