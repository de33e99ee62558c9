"""ComfyUI finds the nodes in a clone and in the folder that `fantasytalking comfyui` writes; files and page are what the nodes say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.integrations.comfyui.node_folder import EXAMPLES, WORKFLOWS
from scripts.comfyui_workflows import PAGE, WIDGETS, files, node_infos, page
from tests.integrations.comfyui.conftest import DOUBLE, ROOT, load_custom_node

LOAD = """
import importlib.util, sys, asyncio
folder = sys.argv[1]
name = folder.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
nodes = asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
import fantasytalking
# ComfyUI itself imports PyTorch; its start waits for nothing else
heavy = {"diffusers", "transformers", "cv2", "ai_edge_litert"} & set(sys.modules)
assert not heavy, heavy
print(len(nodes), fantasytalking.__file__)
"""


def loaded(folder: Path) -> list[str]:
    """Load a folder of `custom_nodes` in a new process; the number of its nodes and the file of the package."""
    # without the path to this package, which may be installed
    env = os.environ | {"PYTHONPATH": os.environ.get("FANTASYTALKING_COMFYUI", str(DOUBLE))}
    command = [sys.executable, "-c", LOAD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_clone_is_loaded_by_its_own_code(tmp_path: Path) -> None:
    clone = tmp_path / "custom_nodes" / "fantasytalking.git"
    clone.mkdir(parents=True)
    shutil.copyfile(ROOT / "__init__.py", clone / "__init__.py")
    (clone / "src").symlink_to(ROOT / "src")
    count, file = loaded(clone)
    assert count == "12" and Path(file).resolve().parent == (ROOT / "src" / "fantasytalking").resolve()
    assert (ROOT / "example_workflows").resolve() == WORKFLOWS.resolve()


def test_an_installed_package_is_found_by_the_folder_that_the_command_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "custom_nodes").mkdir()
    for _ in range(2):
        assert main(["comfyui", str(tmp_path)]) == 0
    folder = tmp_path / "custom_nodes" / "fantasytalking"
    assert capsys.readouterr().out.splitlines() == [str(folder)] * 2
    assert len(load_custom_node(folder)[1]) == 12
    assert {path.name for path in (folder / "example_workflows").glob("*.json")} == {
        p.name for p in WORKFLOWS.glob("*.json")
    }
    assert {path.name for path in (tmp_path / "input").iterdir()} == set(EXAMPLES)


def test_a_folder_that_is_no_comfyui_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["comfyui", str(tmp_path)]) == 2
    assert "has no folder custom_nodes" in capsys.readouterr().err
    (tmp_path / "custom_nodes" / "fantasytalking" / "src").mkdir(parents=True)
    assert main(["comfyui", str(tmp_path)]) == 2
    assert "is a clone of the repository" in capsys.readouterr().err


def test_the_tests_do_not_take_the_repository_for_a_package() -> None:
    assert getattr(sys.modules.get(ROOT.name), "__file__", None) != str(ROOT / "__init__.py")


def test_workflows_requirements_and_page_are_up_to_date() -> None:
    infos = node_infos()
    made = files(infos)
    assert {path: path.read_text() for path in made} == made, "run scripts/comfyui_workflows.py"
    assert set(WORKFLOWS.rglob("*.json")) == set(made) - {ROOT / "requirements.txt"}
    assert PAGE.read_text() == page(PAGE.read_text(), infos), "run scripts/comfyui_workflows.py"


@pytest.mark.parametrize("file", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_the_page_opens_a_workflow_as_it_was_meant(file: Path) -> None:
    """As the page reads it: values of widgets by position, links by slot; then it is the workflow in API format."""
    drawn, sent = json.loads(file.read_text()), json.loads((WORKFLOWS / "api" / file.name).read_text())
    infos = node_infos()
    links = {link[0]: link for link in drawn["links"]}
    by_number = {node["id"]: node for node in drawn["nodes"]}
    assert drawn["last_node_id"] == max(by_number) and drawn["last_link_id"] == max(links)
    read: dict[str, Any] = {}
    for node in drawn["nodes"]:
        groups = infos[node["type"]]["input"]
        inputs: dict[str, Any] = {}
        values = iter(node["widgets_values"])
        for name, (kind, options) in {**groups["required"], **groups.get("optional", {})}.items():
            if kind in WIDGETS:
                inputs[name] = next(values)
            if options.get("control_after_generate"):
                assert next(values) == "fixed"
        for slot, entry in enumerate(node["inputs"]):
            if entry["link"] is None:
                continue
            number, source, output, target, target_slot, kind = links.pop(entry["link"])
            assert (target, target_slot, kind) == (node["id"], slot, entry["type"])
            origin = by_number[source]["outputs"][output]
            assert origin["type"] == kind and number in origin["links"]
            inputs[entry["name"]] = [str(source), output]
        read[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    assert not links
    assert read == {key: {name: node[name] for name in ("class_type", "inputs")} for key, node in sent.items()}


def test_no_two_nodes_lie_on_each_other() -> None:
    for file in WORKFLOWS.glob("*.json"):
        boxes = [(*node["pos"], *node["size"]) for node in json.loads(file.read_text())["nodes"]]
        for index, (x, y, w, h) in enumerate(boxes):
            assert not [
                b for b in boxes[:index] if x < b[0] + b[2] and b[0] < x + w and y < b[1] + b[3] and b[1] < y + h
            ]


def test_on_load_comfyui_knows_our_folder_of_models(folders: Path) -> None:
    import folder_paths

    folder_paths.folder_names_and_paths.pop("fantasytalking")
    load_custom_node(ROOT)
    assert folder_paths.get_folder_paths("fantasytalking") == [str(folders / "models" / "fantasytalking")]
