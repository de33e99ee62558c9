"""Runs a workflow as ComfyUI's executor does: checks all inputs, runs each node after those that it takes from, keeps what did not change.

Written from knowledge of what ComfyUI's executor does, without its source;
works with the real `comfy_api` as well as with the double. Three of ComfyUI's own nodes,
which load files, are here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fantasytalking.media.audio import load_audio


class InvalidPromptError(Exception):
    """The workflow was refused before anything ran."""


def _core(name: str, file: str, output: str, upload: str) -> dict[str, Any]:
    import folder_paths

    files = sorted(path.name for path in Path(folder_paths.get_input_directory()).iterdir())
    group = {"required": {file: ("COMBO", {"options": files, upload: True})}}
    return {"name": name, "display_name": name, "input": group, "output": [output], "output_name": [output]}


class LoadImage:
    @staticmethod
    def info() -> dict[str, Any]:
        return _core("LoadImage", "image", "IMAGE", "image_upload")

    @staticmethod
    def run(image: str) -> tuple[Any, ...]:
        import folder_paths

        pixels = np.array(Image.open(folder_paths.get_annotated_filepath(image)).convert("RGB"))
        return (torch.from_numpy(pixels.astype(np.float32) / 255)[None],)


class LoadAudio:
    @staticmethod
    def info() -> dict[str, Any]:
        return _core("LoadAudio", "audio", "AUDIO", "audio_upload")

    @staticmethod
    def run(audio: str) -> tuple[Any, ...]:
        import folder_paths

        sound = load_audio(folder_paths.get_annotated_filepath(audio), 44100)
        return ({"waveform": torch.from_numpy(np.array(sound.samples)).expand(1, 2, -1), "sample_rate": 44100},)


class LoadVideo:
    @staticmethod
    def info() -> dict[str, Any]:
        return _core("LoadVideo", "file", "VIDEO", "video_upload")

    @staticmethod
    def run(file: str) -> tuple[Any, ...]:
        import folder_paths
        from comfy_api.latest import InputImpl

        return (InputImpl.VideoFromFile(folder_paths.get_annotated_filepath(file)),)


CORE: tuple[Any, ...] = (LoadImage, LoadAudio, LoadVideo)


class Server:
    """The nodes, and what they returned for which inputs.

    Attributes:
        infos: What the page is told about each node.
        runs: Names of the nodes that ran, in order.
        shown: What output nodes showed, in order.
    """

    def __init__(self, nodes: list[Any]) -> None:
        self.nodes: dict[str, Any] = {core.__name__: core for core in CORE}
        self.infos: dict[str, dict[str, Any]] = {core.__name__: core.info() for core in CORE}
        for node in nodes:
            info = plain_info(node)
            self.nodes[info["name"]], self.infos[info["name"]] = node, info
        self.runs: list[str] = []
        self.shown: list[dict[str, Any]] = []
        self._kept: dict[str, tuple[Any, ...]] = {}

    def run(self, prompt: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        """Run a workflow in API format; what each node returned, by its id."""
        for number, node in prompt.items():
            self._check(number, node, prompt)
        made: dict[str, tuple[Any, ...]] = {}
        # ComfyUI's executor is in inference mode from its first node to its last.
        with torch.inference_mode():
            for number, node in prompt.items():
                if self.infos[node["class_type"]].get("output_node"):
                    self._make(number, prompt, made)
        return made

    def _check(self, number: str, node: Mapping[str, Any], prompt: Mapping[str, Any]) -> None:
        where = f"{node['class_type']} ({number})"
        if node["class_type"] not in self.infos:
            raise InvalidPromptError(f"{where}: there is no such node")
        groups = self.infos[node["class_type"]]["input"]
        known = {**groups.get("required", {}), **groups.get("optional", {})}
        if set(node["inputs"]) - set(known):
            raise InvalidPromptError(f"{where}: unknown inputs {sorted(set(node['inputs']) - set(known))}")
        for name, (kind, options) in known.items():
            if name not in node["inputs"]:
                if name in groups["required"]:
                    raise InvalidPromptError(f"{where}: required input is missing: {name}")
                continue
            value = node["inputs"][name]
            if isinstance(value, list):
                source = self.infos[prompt[value[0]]["class_type"]]["output"][value[1]]
                if source != kind:
                    raise InvalidPromptError(f"{where}: {name} is {kind}, and {source} was linked")
            elif kind == "COMBO" and value not in options["options"]:
                raise InvalidPromptError(f"{where}: {name}: {value!r} not in {options['options']}")
            elif kind in ("INT", "FLOAT") and not options["min"] <= value <= options["max"]:
                raise InvalidPromptError(f"{where}: {name}: {value} outside {options['min']}..{options['max']}")
            elif kind not in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"):
                raise InvalidPromptError(f"{where}: {name} needs a link")

    def _signature(self, number: str, prompt: Mapping[str, Any]) -> str:
        """All that a node's result depends on: its inputs and those of the nodes before it, and the state of its files."""
        node = prompt[number]
        inputs = {
            name: [self._signature(value[0], prompt), value[1]] if isinstance(value, list) else value
            for name, value in node["inputs"].items()
        }
        widgets = {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}
        looks = getattr(self.nodes[node["class_type"]], "fingerprint_inputs", None)
        try:
            print_of = None if looks is None else looks(**widgets)
        except NotImplementedError:
            print_of = None
        return json.dumps([node["class_type"], inputs, print_of], sort_keys=True)

    def _make(self, number: str, prompt: Mapping[str, Any], made: dict[str, tuple[Any, ...]]) -> tuple[Any, ...]:
        if number in made:
            return made[number]
        inputs = {
            name: self._make(value[0], prompt, made)[value[1]] if isinstance(value, list) else value
            for name, value in prompt[number]["inputs"].items()
        }
        signature = self._signature(number, prompt)
        if signature not in self._kept:
            kind = prompt[number]["class_type"]
            self.runs.append(kind)
            if hasattr(self.nodes[kind], "run"):
                result = self.nodes[kind].run(**inputs)
            else:
                clone = self.nodes[kind].PREPARE_CLASS_CLONE({})
                output = clone.EXECUTE_NORMALIZED(**inputs)
                result = output.args
                if output.ui is not None:
                    self.shown.append(output.ui if isinstance(output.ui, dict) else output.ui.as_dict())
            self._kept[signature] = result
        made[number] = self._kept[signature]
        return made[number]


def plain_info(node: Any) -> dict[str, Any]:
    """What the page is told about a node."""
    if hasattr(node, "info"):
        core: dict[str, Any] = node.info()
        return core
    info: dict[str, Any] = node.GET_NODE_INFO_V1()
    return info
