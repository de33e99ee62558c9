"""Types, schema and base class of nodes. An argument that ComfyUI does not take is an error here, too."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_INPUT = {"display_name", "optional", "tooltip", "lazy", "extra_dict", "raw_link"}
_WIDGET = _INPUT | {"default", "socketless", "force_input"}
_NAMES = {
    "raw_link": "rawLink",
    "dynamic_prompts": "dynamicPrompts",
    "force_input": "forceInput",
    "display_mode": "display",
}


class Input:
    """An input; `takes` are its arguments beside the id."""

    io_type = ""
    takes = _INPUT

    def __init__(self, id: str, **given: Any) -> None:
        unknown = set(given) - self.takes
        if unknown:
            raise TypeError(f"{self.io_type}.Input has no argument {sorted(unknown)}")
        self.id, self.given = id, given
        self.optional = bool(given.get("optional"))

    def options(self) -> dict[str, Any]:
        """As the page gets them; of the extra dictionary the entries themselves."""
        plain = {
            _NAMES.get(name, name): value
            for name, value in self.given.items()
            if name not in ("extra_dict", "optional")
        }
        return {name: value for name, value in plain.items() if value is not None} | (
            self.given.get("extra_dict") or {}
        )


class Output:
    """An output."""

    io_type = ""

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.id, self.display_name, self.tooltip, self.is_output_list = id, display_name, tooltip, is_output_list


def _kind(io_type: str, takes: set[str] = _INPUT) -> Any:
    input_class = type("Input", (Input,), {"io_type": io_type, "takes": takes})
    output_class = type("Output", (Output,), {"io_type": io_type})
    return type(io_type, (), {"io_type": io_type, "Input": input_class, "Output": output_class})


Boolean = _kind("BOOLEAN", _WIDGET | {"label_on", "label_off"})
Int = _kind("INT", _WIDGET | {"min", "max", "step", "control_after_generate", "display_mode"})
Float = _kind("FLOAT", _WIDGET | {"min", "max", "step", "round", "display_mode"})
String = _kind("STRING", _WIDGET | {"multiline", "placeholder", "dynamic_prompts"})
Combo = _kind(
    "COMBO", (_WIDGET - {"force_input"}) | {"options", "control_after_generate", "upload", "image_folder", "remote"}
)
Image, Audio, Video = _kind("IMAGE"), _kind("AUDIO"), _kind("VIDEO")


def Custom(io_type: str) -> Any:  # noqa: N802  # ComfyUI's name
    return _kind(io_type)


class Hidden(StrEnum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


@dataclass
class Schema:
    """What a node is."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def finalize(self) -> None:
        if self.is_output_node:
            self.hidden += [one for one in (Hidden.prompt, Hidden.extra_pnginfo) if one not in self.hidden]
        for number, output in enumerate(self.outputs):
            output.id = output.id or f"_{number}_{output.io_type}_"

    def validate(self) -> None:
        inputs, outputs = [one.id for one in self.inputs], [one.id for one in self.outputs]
        twice = [name for name, count in Counter(inputs + outputs).items() if count > 1]
        if twice:
            raise ValueError(f"Ids must be unique among and between inputs and outputs, but {twice} are not.")

    def get_v1_info(self, cls: Any) -> dict[str, Any]:
        groups: dict[str, dict[str, Any]] = {"required": {}}
        for one in self.inputs:
            groups.setdefault("optional" if one.optional else "required", {})[one.id] = (one.io_type, one.options())
        if self.hidden:
            groups["hidden"] = {one.name: (one.value,) for one in self.hidden}
        return {
            "input": groups,
            "input_order": {name: list(group) for name, group in groups.items()},
            "output": [one.io_type for one in self.outputs],
            "output_is_list": [one.is_output_list for one in self.outputs],
            "output_name": [one.display_name or one.io_type for one in self.outputs],
            "output_tooltips": [one.tooltip for one in self.outputs],
            "name": self.node_id,
            "display_name": self.display_name,
            "description": self.description,
            "category": self.category,
            "output_node": self.is_output_node,
            "python_module": cls.RELATIVE_PYTHON_MODULE,
        }


class NodeOutput:
    def __init__(
        self, *args: Any, ui: Any = None, expand: dict[str, Any] | None = None, block_execution: str | None = None
    ) -> None:
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution

    @property
    def result(self) -> Any:
        return self.args if self.args else None


class ComfyNode:
    """Base class of nodes."""

    RELATIVE_PYTHON_MODULE: str | None = None
    SCHEMA: Schema | None = None
    hidden: Any = None

    def __init__(self) -> None:
        self.VALIDATE_CLASS()

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs: Any) -> NodeOutput:
        raise NotImplementedError

    @classmethod
    def validate_inputs(cls, **kwargs: Any) -> bool | str:
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, **kwargs: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def VALIDATE_CLASS(cls) -> None:  # noqa: N802  # this name and those below are ComfyUI's
        for name in ("define_schema", "execute"):
            if getattr(cls, name).__func__ is getattr(ComfyNode, name).__func__:
                raise Exception(f"No {name} function was defined for node class {cls.__name__}.")

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802
        cls.VALIDATE_CLASS()
        schema = cls.define_schema()
        schema.finalize()
        schema.validate()
        cls.SCHEMA = schema
        return schema

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:  # noqa: N802
        return cls.GET_SCHEMA().get_v1_info(cls)

    @classmethod
    def PREPARE_CLASS_CLONE(cls, v3_data: Any) -> type[ComfyNode]:  # noqa: N802
        return type(f"{cls.__name__}Clone", (cls, *cls.__bases__), dict(cls.__dict__))

    @classmethod
    def EXECUTE_NORMALIZED(cls, *args: Any, **kwargs: Any) -> NodeOutput:  # noqa: N802
        made: Any = cls.execute(*args, **kwargs)
        if inspect.isawaitable(made):
            raise Exception("A node that is awaited runs by EXECUTE_NORMALIZED_ASYNC.")
        if made is None:
            return NodeOutput()
        if isinstance(made, tuple):
            return NodeOutput(*made)
        if not isinstance(made, NodeOutput):
            raise Exception(f"Invalid return type from node: {type(made)}")
        return made
