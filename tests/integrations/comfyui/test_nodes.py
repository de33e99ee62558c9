"""The nodes' schema is what ComfyUI takes, everything that can be set is reached by a node, and values arrive where they are for."""

from __future__ import annotations

import dataclasses
import inspect
import keyword
from pathlib import Path
from typing import Any

import pytest
import torch

from fantasytalking.errors import (
    AudioError,
    CheckpointError,
    FantasyTalkingError,
    ImageError,
    OutOfMemory,
    SettingsError,
)
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.pipeline.settings import GenerationSettings, settings_list
from tests.integrations.comfyui.run_workflow import plain_info

KINDS: dict[str, type[Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool, "COMBO": str}


@pytest.fixture
def nodes(folders: Path) -> dict[str, Any]:
    """Our nodes by name without its beginning."""
    from fantasytalking.integrations.comfyui.extension import NODES

    return {node.__name__.removeprefix("FantasyTalking"): node for node in NODES}


def inputs_of(node: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    groups = plain_info(node)["input"]
    return {**groups["required"], **groups.get("optional", {})}


def defaults_of(node: Any) -> dict[str, Any]:
    return {name: options["default"] for name, (_, options) in inputs_of(node).items() if "default" in options}


def test_each_node_is_described_as_comfyui_takes_it(nodes: dict[str, Any]) -> None:
    assert len(nodes) == 12
    for node in nodes.values():
        info = plain_info(node)
        assert info["name"] == node.__name__ and info["display_name"].startswith("FantasyTalking ")
        assert info["category"] == "FantasyTalking" and info["description"].endswith(".")
        assert all(tip and tip.endswith(".") for tip in info["output_tooltips"])
        # the page and workflows know outputs by these names
        assert len(set(info["output_name"])) == len(info["output_name"])


def test_each_widget_has_a_default_that_it_accepts_and_a_text(nodes: dict[str, Any]) -> None:
    for node in nodes.values():
        for name, (kind, options) in inputs_of(node).items():
            assert name.isidentifier() and not keyword.iskeyword(name)
            assert options["tooltip"].endswith("."), f"{node.__name__}.{name}"
            if kind not in KINDS or name == "file":
                continue
            default: Any = options["default"]
            assert type(default) is KINDS[kind], f"{node.__name__}.{name}"
            if kind in ("INT", "FLOAT"):
                least, most = options["min"], options["max"]
                assert type(least) is type(most) is KINDS[kind]
                assert least <= options["default"] <= most
            if kind == "FLOAT":
                # the page rounds what is typed to this
                assert options["round"] == 0.001
            if kind == "COMBO":
                assert default in options["options"] and len(set(options["options"])) == len(options["options"])


def test_execute_takes_exactly_the_inputs(nodes: dict[str, Any]) -> None:
    for node in nodes.values():
        groups = plain_info(node)["input"]
        parameters = inspect.signature(node.execute).parameters
        named = {name: one for name, one in parameters.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}
        assert set(named) <= set(inputs_of(node)), node.__name__
        assert all(named[name].default is not inspect.Parameter.empty for name in groups.get("optional", {}))
        if len(named) == len(parameters):
            assert set(named) == set(inputs_of(node)), node.__name__


def test_every_setting_is_on_a_node_and_a_new_one_comes_to_the_settings_node(nodes: dict[str, Any]) -> None:
    from fantasytalking.integrations.comfyui.node_inputs import MAIN_SETTINGS, OTHER_SETTINGS

    known = [one.name for one in settings_list()]
    found = [name for kind in ("Speech", "Face", "Settings") for name in inputs_of(nodes[kind]) if name in known]
    found += [name for name in inputs_of(nodes["Dub"]) if name in known]
    assert sorted(found) == sorted(known)
    for kind in ("Sampler", "LongVideo", "SeveralSpeakers", "Dub"):
        assert set(MAIN_SETTINGS) <= set(inputs_of(nodes[kind]))
    assert "negative_prompt" in OTHER_SETTINGS


@pytest.mark.parametrize("setting", settings_list(), ids=lambda one: one.name)
def test_a_setting_arrives_as_it_was_set_and_its_default_leaves_it_to_the_model(setting: Any, folders: Path) -> None:
    from fantasytalking.integrations.comfyui.load_nodes import FantasyTalkingModel  # noqa: F401  # the API is there
    from fantasytalking.integrations.comfyui.node_inputs import given_settings, setting_inputs

    (made,) = setting_inputs([setting.name])
    options = made.as_dict() if hasattr(made, "as_dict") else made.options()
    left = given_settings({setting.name: options["default"]})
    assert left == ({"seed": 0} if setting.name == "seed" else {})
    if setting.choices:
        assert options["options"][1:] == list(setting.choices)
        value: Any = setting.choices[-1]
    elif setting.kind is str:
        value = "a word"
    else:
        assert options["max"] == setting.maximum
        value = setting.kind(setting.maximum)
        if setting.name.endswith("_start_percent") or setting.name == "cache_threshold":
            value = 0.0
    assert given_settings({setting.name: value}) == {setting.name: value}
    assert getattr(GenerationSettings(**{setting.name: value}), setting.name) == value


def test_a_value_between_not_given_and_the_smallest_is_refused(folders: Path) -> None:
    from fantasytalking.integrations.comfyui.node_inputs import given_settings

    with pytest.raises(SettingsError, match="steps must be a whole number from 1 to 1000"):
        given_settings({"steps": 0})


def test_every_option_of_a_run_is_on_the_model_node(nodes: dict[str, Any]) -> None:
    options = [one.name for record in (MemoryOptions, ProfileOptions, RunOptions) for one in dataclasses.fields(record)]
    # files have names of their own, nothing is printed, and where a key lies is nothing for a workflow that is handed on
    missing = set(options) - set(inputs_of(nodes["Model"]))
    assert missing - {"signing_certificate", "signing_key"} == {"overwrite", "json"}
    tips = " ".join(one["tooltip"] for _, one in inputs_of(nodes["Model"]).values())
    assert "--" not in tips.replace("info --plan", "")


def test_a_model_with_files_of_comfyuis_folders_and_lora(nodes: dict[str, Any], folders: Path) -> None:
    models = folders / "models"
    for name in ("diffusion_models/Wan/i2v-Q4.gguf", "fantasytalking/adapter.safetensors", "loras/fast 4.safetensors"):
        (models / name).parent.mkdir(exist_ok=True)
        (models / name).write_bytes(b"x")
    for name in ("diffusion_models/fantasytalking_fp16.safetensors", "fantasytalking/14B/transformer/a.safetensors"):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_bytes(b"x")
    (models / "fantasytalking/14B/model_index.json").write_text("{}")
    shown = inputs_of(nodes["Model"])
    own = "model's own"
    assert shown["model"][1]["options"] == ["embedded", "14B"]
    assert shown["transformer"][1]["options"] == [own, "Wan/i2v-Q4.gguf", "fantasytalking_fp16.safetensors"]
    assert shown["adapter"][1]["options"] == [own, "adapter.safetensors", "fantasytalking_fp16.safetensors"]
    (lora,) = nodes["Lora"].execute("fast 4.safetensors", 0.8).args
    (lora,) = nodes["Lora"].execute("fast 4.safetensors", -1.0, lora).args
    values = defaults_of(nodes["Model"]) | {
        "model": "14B",
        "transformer": "Wan/i2v-Q4.gguf",
        "adapter": "adapter.safetensors",
        "memory": "low",
        "profile": "fast",
        "threads": 3,
        "attention": "sage",
    }
    (chosen,) = nodes["Model"].execute(**values, lora=lora).args
    assert chosen.name == str(models / "fantasytalking/14B")
    assert chosen.run == RunOptions(
        transformer=models / "diffusion_models/Wan/i2v-Q4.gguf",
        adapter=models / "fantasytalking/adapter.safetensors",
        threads=3,
    )
    assert chosen.memory == MemoryOptions(memory="low")
    file = models / "loras/fast 4.safetensors"
    assert chosen.profile == ProfileOptions("fast", attention="sage", lora=(f"{file}=0.8", f"{file}=-1"))


def test_a_lora_weight_keeps_its_digits(nodes: dict[str, Any], folders: Path) -> None:
    (folders / "models/loras/a.safetensors").write_bytes(b"x")
    (lora,) = nodes["Lora"].execute("a.safetensors", 0.123).args
    assert lora[0].endswith("=0.123")


@pytest.mark.parametrize("name", ["model", "transformer", "lora"])
def test_a_file_that_has_gone_is_named(name: str, nodes: dict[str, Any]) -> None:
    if name == "lora":
        kind, values = "Lora", {"file": "gone.safetensors", "weight": 1.0}
    else:
        kind, values = "Model", defaults_of(nodes["Model"]) | {name: "gone.gguf"}
    with pytest.raises(CheckpointError, match=r"There is no .*'gone\..*models/"):
        nodes[kind].execute(**values)


def test_what_is_set_twice_must_be_the_same(nodes: dict[str, Any]) -> None:
    (first,) = nodes["Face"].execute(**defaults_of(nodes["Face"]) | {"w_face": 0.7}).args
    (both,) = nodes["Settings"].execute(settings=first, **defaults_of(nodes["Settings"]) | {"fps": 24.0}).args
    assert both == {"w_face": 0.7, "fps": 24.0}
    with pytest.raises(SettingsError, match=r"Two nodes set w_face, one to 0\.7 and one to 0\.1"):
        nodes["Face"].execute(settings=both, **defaults_of(nodes["Face"]) | {"w_face": 0.1})


def test_pictures_and_sounds_pass_without_loss(nodes: dict[str, Any]) -> None:
    from fantasytalking.integrations.comfyui import tensors
    from fantasytalking.media.audio import Audio

    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert (tensors.picture_from(pixels.float() / 255) == pixels[0].numpy()).all()
    sound = torch.linspace(-1, 1, 1600)
    samples, rate = tensors.audio_from({"waveform": sound.expand(1, 2, -1), "sample_rate": 16000})
    torch.testing.assert_close(torch.from_numpy(samples), sound)
    back = tensors.audio_to(Audio(samples, rate))
    assert back["waveform"].shape == (1, 1, 1600) and back["sample_rate"] == 16000
    with pytest.raises(ImageError, match="this IMAGE holds 2"):
        tensors.picture_from(torch.zeros(2, 16, 16, 3))
    with pytest.raises(AudioError, match="this AUDIO holds 3"):
        tensors.audio_from({"waveform": torch.zeros(3, 1, 1600), "sample_rate": 16000})
    with pytest.raises(OutOfMemory, match="FantasyTalking long video"):
        tensors.check_room(10**7, (1024, 1024))


@pytest.mark.parametrize("given", [{}, {"speech": 1, "speakers": 1}])
def test_dubbing_takes_a_speech_or_speakers(given: dict[str, Any], nodes: dict[str, Any]) -> None:
    values = defaults_of(nodes["Dub"]) | {"model": None, "video": None, **given}
    with pytest.raises(SettingsError, match="connect one of them"):
        nodes["Dub"].execute(**values)


def test_a_face_speaks_once(nodes: dict[str, Any]) -> None:
    (one,) = nodes["Speaker"].execute(None, 0).args
    (two,) = nodes["Speaker"].execute(None, 1, one).args
    assert list(two) == [0, 1]
    with pytest.raises(FantasyTalkingError, match="Face 1 has a speech already"):
        nodes["Speaker"].execute(None, 1, two)


def test_footage_that_is_a_part_of_its_file_is_written_apart(folders: Path) -> None:
    from comfy_api.latest import InputImpl

    from fantasytalking.integrations.comfyui.tensors import source_of
    from fantasytalking.media.video import probe_video, write_video
    from tests.pipeline.test_dubbing import nodding

    file = folders / "input" / "footage.mp4"
    write_video(file, nodding(20), 25, None)
    assert source_of(InputImpl.VideoFromFile(str(file)), folders / "temp") == file
    part = source_of(InputImpl.VideoFromFile(str(file), start_time=0.2, duration=0.4), folders / "temp" / "new")
    assert part.parent == folders / "temp" / "new" and probe_video(part).frames == 10
