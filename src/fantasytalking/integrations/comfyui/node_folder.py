"""The folder in ComfyUI's `custom_nodes` by which it finds the nodes of an installed package. Needs no ComfyUI."""

from __future__ import annotations

import shutil
from pathlib import Path

from fantasytalking.errors import OutputError
from fantasytalking.pipeline.model_names import embedded_folder

__all__ = ["WORKFLOWS", "write_node_folder"]

WORKFLOWS = Path(__file__).parent / "example_workflows"
"""Example workflows as the page opens them; below, in `api`, as programs send them."""
EXAMPLES = {"fantasytalking_portrait.png": "portrait.png", "fantasytalking_speech.wav": "speech.wav"}
"""File in ComfyUI's input folder that the example workflows name -> file of the embedded model's example."""
_INIT = '''"""FantasyTalking's nodes, which are in the installed package `fantasytalking`; written by `fantasytalking comfyui`."""

from fantasytalking.integrations.comfyui import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
'''


def write_node_folder(comfyui: Path) -> Path:
    """Write `custom_nodes/fantasytalking` with the example workflows, and the examples' portrait and speech into `input`.

    Args:
        comfyui: ComfyUI's folder.

    Returns:
        The folder that was written; one that is there already is brought up to date.

    Raises:
        OutputError: It is no folder of ComfyUI's, holds a clone already, or cannot be written.
    """
    nodes = comfyui.expanduser() / "custom_nodes"
    if not nodes.is_dir():
        raise OutputError(
            f"'{comfyui}' has no folder custom_nodes; give ComfyUI's own folder, the one that holds main.py and custom_nodes."
        )
    target = nodes / "fantasytalking"
    if (target / "src").exists():
        raise OutputError(
            f"'{target}' is a clone of the repository, which ComfyUI loads by itself; remove it first, or do without this command."
        )
    try:
        shutil.copytree(WORKFLOWS, target / "example_workflows", dirs_exist_ok=True)
        (target / "__init__.py").write_text(_INIT, encoding="utf-8")
        inputs = nodes.parent / "input"
        inputs.mkdir(exist_ok=True)
        for name, example in EXAMPLES.items():
            if not (inputs / name).exists():
                shutil.copyfile(embedded_folder() / "example" / example, inputs / name)
    except OSError as error:
        raise OutputError(
            f"'{target}' cannot be written ({error.strerror or error}); look whether the folder is yours and the disk has space."
        ) from error
    return target
