"""Write the example workflows for ComfyUI in both of its formats and the tables of nodes in docs/comfyui.md, from the nodes themselves, and
requirements.txt.

    PYTHONPATH=src:tests/integrations/comfyui_double python -m scripts.comfyui_workflows

A workflow is listed here by its nodes and links alone; everything else is the default of its widget. `tests/integrations/comfyui` runs the
workflows, and checks that the files are what this writes.
"""

from __future__ import annotations

import json
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fantasytalking.integrations.comfyui.node_folder import WORKFLOWS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "comfyui.md"
START, END = "<!-- nodes: written by scripts/comfyui_workflows.py -->", "<!-- end of nodes -->"

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
PORTRAIT, SPEECH = "fantasytalking_portrait.png", "fantasytalking_speech.wav"


@dataclass(frozen=True)
class Link:
    """An output of another node."""

    node: str
    output: int = 0


@dataclass
class Node:
    """A node of a workflow: its class, and what differs from its defaults."""

    kind: str
    inputs: dict[str, Any] = field(default_factory=dict)


def n(kind: str, **inputs: Any) -> Node:
    return Node(kind if kind.startswith("Load") else f"FantasyTalking{kind}", inputs)


def common(seed: int = 0) -> dict[str, Any]:
    return {"model": Link("model"), "settings": Link("face"), "seed": seed}


EXAMPLES: Mapping[str, dict[str, Node]] = {
    "portrait_and_speech": {
        "portrait": n("LoadImage", image=PORTRAIT),
        "sound": n("LoadAudio", audio=SPEECH),
        "model": n("Model"),
        "speech": n("Speech", audio=Link("sound")),
        "face": n("Face"),
        "sampler": n("Sampler", **common(), image=Link("portrait"), speech=Link("speech")),
        "save": n(
            "Save",
            images=Link("sampler", 0),
            audio=Link("sampler", 1),
            fps=Link("sampler", 2),
            marks=Link("sampler", 3),
        ),
    },
    "long_video": {
        "portrait": n("LoadImage", image=PORTRAIT),
        "model": n("Model"),
        "speech": n("SpeechFile", file=SPEECH),
        "face": n("Face"),
        "video": n("LongVideo", **common(), image=Link("portrait"), speech=Link("speech")),
    },
    "dub": {
        "footage": n("LoadVideo", file="footage.mp4"),
        "sound": n("LoadAudio", audio=SPEECH),
        "model": n("Model"),
        "speech": n("Speech", audio=Link("sound")),
        "face": n("Face"),
        "dub": n("Dub", **common(), video=Link("footage"), speech=Link("speech")),
    },
    "several_speakers": {
        "picture": n("LoadImage", image="two_people.png"),
        "anna": n("LoadAudio", audio="anna.wav"),
        "ben": n("LoadAudio", audio="ben.wav"),
        "model": n("Model"),
        "anna's speech": n("Speech", audio=Link("anna")),
        "ben's speech": n("Speech", audio=Link("ben")),
        "first": n("Speaker", speech=Link("anna's speech"), face=0),
        "both": n("Speaker", speech=Link("ben's speech"), face=1, speakers=Link("first")),
        "settings": n("Settings"),
        "video": n(
            "SeveralSpeakers",
            model=Link("model"),
            image=Link("picture"),
            speakers=Link("both"),
            settings=Link("settings"),
            seed=0,
        ),
    },
    "released_14b": {
        "portrait": n("LoadImage", image=PORTRAIT),
        "sound": n("LoadAudio", audio=SPEECH),
        "model": n("Model", model="FantasyTalking-14B", profile="balanced"),
        "speech": n("Speech", audio=Link("sound"), max_seconds=3.5),
        "face": n("Face"),
        "settings": n("Settings", settings=Link("face"), longest_side=512),
        "sampler": n(
            "Sampler",
            model=Link("model"),
            settings=Link("settings"),
            seed=0,
            prompt="A person is talking.",
            image=Link("portrait"),
            speech=Link("speech"),
        ),
        "save": n(
            "Save",
            images=Link("sampler", 0),
            audio=Link("sampler", 1),
            fps=Link("sampler", 2),
            marks=Link("sampler", 3),
        ),
    },
}


def inputs_of(info: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """All inputs of a node, as the page orders them."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def value_of(node: Node, name: str, options: Mapping[str, Any]) -> Any:
    """The value of a widget."""
    given = node.inputs.get(name)
    return options.get("default") if given is None or isinstance(given, Link) else given


def api_format(nodes: Mapping[str, Node], infos: Mapping[str, Any]) -> dict[str, Any]:
    """A workflow as programs send it to `/prompt`."""
    numbers = {name: str(number) for number, name in enumerate(nodes, 1)}
    made = {}
    for name, node in nodes.items():
        inputs = {}
        for key, (kind, options) in inputs_of(infos[node.kind]).items():
            given = node.inputs.get(key)
            if isinstance(given, Link):
                inputs[key] = [numbers[given.node], given.output]
            elif kind in WIDGETS:
                inputs[key] = value_of(node, key, options)
        made[numbers[name]] = {
            "class_type": node.kind,
            "inputs": inputs,
            "_meta": {"title": title_of(infos[node.kind])},
        }
    return made


def title_of(info: Mapping[str, Any]) -> str:
    return str(info["display_name"])


def page_format(title: str, nodes: Mapping[str, Node], infos: Mapping[str, Any]) -> dict[str, Any]:
    """A workflow as ComfyUI's page saves and opens it."""
    numbers = {name: number for number, name in enumerate(nodes, 1)}
    columns = depths(nodes)
    drawn = {name: drawn_node(numbers[name], node, infos[node.kind]) for name, node in nodes.items()}
    links: list[list[Any]] = []
    for name, node in nodes.items():
        for slot, entry in enumerate(drawn[name]["inputs"]):
            link = node.inputs.get(entry["name"])
            if isinstance(link, Link):
                number = len(links) + 1
                entry["link"] = number
                drawn[link.node]["outputs"][link.output].setdefault("links", []).append(number)
                links.append([number, numbers[link.node], link.output, numbers[name], slot, entry["type"]])
    place(drawn, columns)
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"fantasytalking/{title}")),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": list(drawn.values()),
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def drawn_node(number: int, node: Node, info: Mapping[str, Any]) -> dict[str, Any]:
    """One node: sockets, linked widgets, outputs, and the values of its widgets in their order."""
    inputs, values = [], []
    for key, (kind, options) in inputs_of(info).items():
        linked = isinstance(node.inputs.get(key), Link)
        if kind in WIDGETS:
            values.append(value_of(node, key, options))
            if options.get("control_after_generate"):
                values.append("fixed")
            if any(name.endswith("_upload") for name in options):
                values += ["image"] if kind == "COMBO" and "audio_upload" not in options else [None, None]
        if linked or kind not in WIDGETS:
            widget = {"widget": {"name": key}} if kind in WIDGETS else {}
            inputs.append({"name": key, "type": kind, "link": None, **widget})
    outputs = [
        {"name": name, "type": kind, "links": []}
        for name, kind in zip(info["output_name"], info["output"], strict=True)
    ]
    return {
        "id": number,
        "type": node.kind,
        "pos": [0, 0],
        "size": [330, 60 + 26 * (len(values) + max(len(inputs), len(outputs)))],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "properties": {"Node name for S&R": node.kind},
        "widgets_values": values,
    }


def depths(nodes: Mapping[str, Node]) -> dict[str, int]:
    """The column of each node: one right of the last that it takes from."""
    found: dict[str, int] = {}
    for name, node in nodes.items():
        before = [found[link.node] for link in node.inputs.values() if isinstance(link, Link)]
        found[name] = 1 + max(before, default=-1)
    return found


def place(drawn: Mapping[str, dict[str, Any]], columns: Mapping[str, int]) -> None:
    """Put the nodes of a column below each other."""
    bottoms: dict[int, int] = {}
    for name, node in drawn.items():
        top = bottoms.get(columns[name], 0)
        node["pos"] = [400 * columns[name], top]
        bottoms[columns[name]] = top + node["size"][1] + 60


def files(infos: Mapping[str, Any]) -> dict[Path, str]:
    """All files of the workflows, by their place, and the requirements of a clone."""
    made = {}
    for title, nodes in EXAMPLES.items():
        made[WORKFLOWS / f"{title}.json"] = json.dumps(page_format(title, nodes, infos), indent=1) + "\n"
        made[WORKFLOWS / "api" / f"{title}.json"] = json.dumps(api_format(nodes, infos), indent=1) + "\n"
    made[ROOT / "requirements.txt"] = requirements()
    return made


def requirements() -> str:
    """What ComfyUI's manager installs for a clone: what the package needs, but for PyTorch, which it must not replace."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    lines = [one for one in needed if not one.startswith("torch>")]
    first = "# For a clone in ComfyUI's custom_nodes, by scripts/comfyui_workflows.py from pyproject.toml; PyTorch is ComfyUI's own."
    return "\n".join([first, *lines]) + "\n"


def tables(infos: Mapping[str, Any]) -> str:
    """A section for each node: its inputs and outputs."""
    parts = []
    for info in infos.values():
        if not info["name"].startswith("FantasyTalking"):
            continue
        rows = ["| input | type | default | what it does |", "|---|---|---|---|"]
        for name, (kind, options) in inputs_of(info).items():
            needed = "optional" if name in info["input"].get("optional", {}) else "needed"
            default = f"`{options['default']}`" if options.get("default") not in (None, "") else "empty"
            words = options.get("tooltip", "").replace("|", "\\|")
            if kind == "COMBO" and name not in ("model", "transformer", "adapter", "file"):
                words += " One of " + ", ".join(f"`{one}`" for one in options["options"]) + "."
            rows.append(f"| `{name}` | {kind} | {default if kind in WIDGETS else needed} | {words} |")
        outputs = ", ".join(
            f"`{name}` {kind} ({tip.rstrip('.')[0].lower()}{tip.rstrip('.')[1:]})"
            for name, kind, tip in zip(info["output_name"], info["output"], info["output_tooltips"], strict=True)
        )
        parts.append(
            f"### {info['display_name']}\n\n{info['description']}\n\n" + "\n".join(rows) + f"\n\nOutputs: {outputs}.\n"
        )
    return "\n".join(parts)


def page(text: str, infos: Mapping[str, Any]) -> str:
    """docs/comfyui.md with its tables."""
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{tables(infos)}\n{END}{rest.partition(END)[2]}"


def node_infos() -> dict[str, Any]:
    """What the page is told about all nodes, with empty folders."""
    import tempfile

    import folder_paths

    from tests.integrations.comfyui.run_workflow import Server

    with tempfile.TemporaryDirectory() as folder:
        before = folder_paths.get_input_directory()
        folder_paths.set_input_directory(folder)
        try:
            from fantasytalking.integrations.comfyui.extension import NODES

            return Server(list(NODES)).infos
        finally:
            folder_paths.set_input_directory(before)


def main() -> None:
    infos = node_infos()
    for path, text in files(infos).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), infos), encoding="utf-8")


if __name__ == "__main__":
    main()
