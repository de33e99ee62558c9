"""`fantasytalking comfyui`: let a ComfyUI find the nodes of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.integrations.comfyui.node_folder import write_node_folder

__all__ = ["main"]


@dataclass(frozen=True)
class ComfyUI:
    """Write a small folder into ComfyUI's custom_nodes, by which it finds the nodes of this package, and example workflows. Run it with
    ComfyUI's Python, then start ComfyUI again. The last line of the output is the path of the folder.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """ComfyUI's folder."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking comfyui --help`."""
    print(write_node_folder(parse(ComfyUI, "comfyui", arguments).folder))
    return 0
