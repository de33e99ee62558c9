"""What users and other programs rely on: the public names, the call, the knobs, and where numbers live."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

import fantasytalking
from fantasytalking.cli.__main__ import COMMANDS
from fantasytalking.pipeline.settings import GenerationSettings

PACKAGE = Path(__file__).parents[1] / "src" / "fantasytalking"

# The 4n+1 rule in any spelling, the patch, and the native frame rate.
GEOMETRY = re.compile(r"- 1\) ?(?://|%) ?4\b|% ?4 ?== ?1|\* ?4 ?\+ ?[15]\b|\b23\.0\b")


def test_the_public_names() -> None:
    assert sorted(fantasytalking.__all__) == [
        "AsyncClient",
        "Audio",
        "Client",
        "Conditions",
        "FantasyTalkingError",
        "FantasyTalkingPipeline",
        "FantasyTalkingTransformer3DModel",
        "GenerationSettings",
        "MeshAutoencoder",
        "TalkingVideo",
        "__version__",
    ]


def test_every_public_name_is_there_and_explained() -> None:
    for name in fantasytalking.__all__:
        value = getattr(fantasytalking, name)
        assert name in dir(fantasytalking)
        assert name == "__version__" or len(inspect.getdoc(value) or "") > 20, name


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pipeline'"):
        fantasytalking.Pipeline  # noqa: B018


def test_the_names_that_a_module_exports_exist() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        module = importlib.import_module(name)
        missing = [export for export in getattr(module, "__all__", []) if not hasattr(module, export)]
        assert not missing, f"{name} exports {missing}"


def test_the_knobs() -> None:
    assert [field.name for field in dataclasses.fields(GenerationSettings)] == [
        "steps",
        "prompt_guidance_scale",
        "audio_guidance_scale",
        "audio_start_percent",
        "audio_end_percent",
        "guidance_start_percent",
        "guidance_end_percent",
        "audio_scale",
        "audio_level",
        "identity_scale",
        "w_face",
        "w_body",
        "sigma_shift",
        "seed",
        "fps",
        "max_seconds",
        "long_video",
        "segment_seconds",
        "window_weights",
        "prefix_noise",
        "anchor_audio",
        "hold_look",
        "longest_side",
        "face",
        "face_check",
        "dub_area",
        "dub_strength",
        "dub_volume",
        "prompt",
        "negative_prompt",
        "batch_passes",
        "reuse_conditions",
        "cache",
        "cache_threshold",
        "cache_interval",
    ]


def test_the_released_defaults() -> None:
    settings = GenerationSettings()
    assert (settings.steps, settings.sigma_shift) == (30, 5.0)
    assert (settings.prompt_guidance_scale, settings.audio_guidance_scale) == (5.0, 5.0)
    assert (settings.w_face, settings.w_body, settings.identity_scale, settings.audio_scale) == (0.5, 0.5, 0.5, 1.0)
    assert settings.negative_prompt.startswith("色调艳丽") and settings.negative_prompt.endswith("倒着走")


def test_the_call_of_the_pipeline() -> None:
    parameters = inspect.signature(fantasytalking.FantasyTalkingPipeline.__call__).parameters
    assert list(parameters) == [
        "self",
        "image",
        "audio",
        "settings",
        "progress",
        "callback_on_step_end",
        "callback_on_step_end_tensor_inputs",
        "previous",
        "output",
        "generator",
        "prompt_embeds",
        "negative_prompt_embeds",
        "output_type",
        "return_dict",
        "overrides",
    ]


def test_the_commands() -> None:
    expected = "demo generate batch serve info download convert prepare train export evaluate compare weights benchmark manifest"
    assert list(COMMANDS) == expected.split()


def test_no_forward_swallows_a_misspelt_name() -> None:
    import ast

    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "forward":
                assert node.args.kwarg is None and node.args.vararg is None, f"{path}:{node.lineno}"


def test_the_numbers_of_the_geometry_live_in_one_module() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "geometry.py":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.partition("#")[0]
            assert not GEOMETRY.search(code), f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
