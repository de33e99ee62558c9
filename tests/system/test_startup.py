"""What surrounds the import of the frameworks: no collection of garbage, and threads that wait without spinning."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fantasytalking.errors import SettingsError
from fantasytalking.system.startup import check_threads, importing_frameworks


def test_garbage_is_collected_again_afterwards() -> None:
    with importing_frameworks():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_module_needs_no_framework_and_a_choice_of_the_user_stays() -> None:
    code = (
        "import gc, os, sys\n"
        "from fantasytalking.system.startup import importing_frameworks\n"
        "assert 'torch' not in sys.modules\n"
        "with importing_frameworks(): import json.tool\n"
        "print(os.environ['OMP_WAIT_POLICY'], gc.get_freeze_count() > 0)\n"
    )
    for given, policy in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.split() == [policy, "True"]


STARTED = """
import sys
from fantasytalking.system.startup import SELDOM_USED, importing_frameworks
with importing_frameworks():
    from fantasytalking.pipeline.load_pipeline import load_pipeline
    pipeline = load_pipeline("embedded", "cpu")
loaded = [name for name in SELDOM_USED if name in sys.modules]
assert not loaded, loaded
"""
"""The beginning of a process that loads a model as `fantasytalking generate` does."""


def after_start(code: str) -> list[str]:
    """Run code in a process that has loaded a model, in the folder of the repository; return the lines that it prints."""
    folder = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", STARTED + code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


MODELS = """
from transformers.utils import import_utils
from transformers import models
whole = import_utils.define_import_structure(models.__file__)
names = {f"{place}.{name}" for kept in whole.values() for place, found in kept.items() for name in found}
shown = {f"{place}.{name}" for place, found in models._import_structure.items() for name in found}
print(import_utils.create_import_structure_from_path.__module__, len(names) > 1000, names == shown)
"""
LATER = """
import torch
from diffusers import BitsAndBytesConfig, FlowMatchEulerDiscreteScheduler, LMSDiscreteScheduler
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from diffusers.quantizers.bitsandbytes import replace_with_bnb_linear
from diffusers.utils import load_image
from diffusers.utils.torch_utils import is_compiled_module
from transformers.loss.loss_for_object_detection import linear_sum_assignment
from transformers.masking_utils import TransformGetItemToIndex

schedule = FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config, use_beta_sigmas=True)
schedule.set_timesteps(4)
assert bool((schedule.sigmas[:-1] > schedule.sigmas[1:]).all())
lms = LMSDiscreteScheduler()
lms.set_timesteps(4)
assert abs(lms.get_lms_coefficient(1, 0, 0) - float(lms.sigmas[1] - lms.sigmas[0])) < 1e-4
assert [list(way) for way in linear_sum_assignment([[2, 1], [1, 2]])] == [[0, 1], [1, 0]]
try:
    load_image("http://127.0.0.1:9/face.png")
except Exception as error:
    import requests
    assert isinstance(error, requests.ConnectionError), error

import peft
pipeline.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"]), "speaker")
pipeline.set_adapters("speaker", 0.5)
assert pipeline.get_active_adapters() == ["speaker"]
pipeline.unload_lora_weights()
from diffusers.hooks import layerwise_casting
assert layerwise_casting.BaseTunerLayer is peft.tuners.tuners_utils.BaseTunerLayer

import bitsandbytes
four_bits = BitsAndBytesConfig(load_in_4bit=True)
quantised = replace_with_bnb_linear(torch.nn.Sequential(torch.nn.Linear(64, 64)), [], quantization_config=four_bits)
assert type(quantised[0]) is bitsandbytes.nn.Linear4bit

with TransformGetItemToIndex():
    pass
assert torch._dynamo.trace_rules.is_callable_allowed(WanTransformerBlock)
compiled = torch.compile(torch.nn.Linear(2, 2), backend="eager")
assert compiled(torch.ones(1, 2)).shape == (1, 2) and is_compiled_module(compiled)
import numpy.f2py
assert callable(numpy.f2py.main)
print(*[name for name in SELDOM_USED if name not in sys.modules], "all")
"""


def missing() -> list[str]:
    """Packages that are asked for later and are not installed; they are not imported for it, which takes seconds."""
    return [name for name in ("peft", "bitsandbytes") if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What one process prints that looks at transformers' models, and then uses what it had not imported at its start."""
    return after_start(MODELS + ("" if missing() else LATER))


def test_what_was_not_imported_at_the_start_works_when_it_is_asked_for_later(told: list[str]) -> None:
    if missing():
        pytest.skip(f"{missing()[0]} is not installed")
    assert told[-1] == "all"


@pytest.mark.slow
def test_what_diffusers_can_do_to_a_transformer_it_can_do_after_such_a_start() -> None:
    options = "'-p', 'no:cacheprovider', '-W', 'ignore::pytest.PytestAssertRewriteWarning'"
    code = f"import pytest; print(int(pytest.main([{options}, 'tests/transformer/test_diffusers.py'])))"
    assert after_start(code)[-1] == "0"


def test_transformers_finds_its_models_as_ever(told: list[str]) -> None:
    assert told[0] == "transformers.utils.import_utils True True"


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_an_impossible_number_of_threads_is_refused(count: int) -> None:
    with pytest.raises(SettingsError, match="--threads must be at least 1 and at most 1024"):
        check_threads(count)
    check_threads(None)
    check_threads(1024)
