"""ComfyUI for the tests: its double beside this folder, or the real one at `FANTASYTALKING_COMFYUI`."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fantasytalking.pipeline.model_names import embedded_folder

ROOT = Path(__file__).resolve().parents[3]
DOUBLE = Path(__file__).resolve().parent.parent / "comfyui_double"


@pytest.fixture(scope="session", autouse=True)
def comfyui() -> None:
    """Let `comfy_api`, `comfy` and `folder_paths` be imported."""
    sys.path.insert(0, os.environ.get("FANTASYTALKING_COMFYUI", str(DOUBLE)))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A ComfyUI folder with the example portrait and speech in its `input`."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {})
    before = {name: getattr(folder_paths, f"get_{name}_directory")() for name in ("input", "output", "temp")}
    for name in before:
        (tmp_path / name).mkdir()
        getattr(folder_paths, f"set_{name}_directory")(str(tmp_path / name))
    for name in ("fantasytalking", "diffusion_models", "loras"):
        (tmp_path / "models" / name).mkdir(parents=True)
        folder_paths.add_model_folder_path(name, str(tmp_path / "models" / name))
    example = embedded_folder() / "example"
    shutil.copyfile(example / "portrait.png", tmp_path / "input" / "fantasytalking_portrait.png")
    shutil.copyfile(example / "speech.wav", tmp_path / "input" / "fantasytalking_speech.wav")
    yield tmp_path
    for name, folder in before.items():
        getattr(folder_paths, f"set_{name}_directory")(folder)


def load_custom_node(folder: Path) -> tuple[ModuleType, list[Any]]:
    """Load a folder of `custom_nodes` as ComfyUI does: by its path, under a name with no dots; the module and its nodes."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)

    async def load() -> list[Any]:
        from comfy_api.latest import ComfyExtension

        extension = await module.comfy_entrypoint()
        assert isinstance(extension, ComfyExtension)
        await extension.on_load()
        nodes = await extension.get_node_list()
        assert isinstance(nodes, list)
        return nodes

    return module, asyncio.run(load())
