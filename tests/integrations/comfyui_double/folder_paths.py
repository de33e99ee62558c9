"""Folders of models, input and output."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

models_dir = "models"
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}
_directories = {"input": "input", "output": "output", "temp": "temp"}


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    paths = folder_names_and_paths.setdefault(folder_name, ([], set()))[0]
    if full_folder_path not in paths:
        paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    return folder_names_and_paths[folder_name][0][:]


def set_input_directory(path: str) -> None:
    _directories["input"] = path


def set_output_directory(path: str) -> None:
    _directories["output"] = path


def set_temp_directory(path: str) -> None:
    _directories["temp"] = path


def get_input_directory() -> str:
    return _directories["input"]


def get_output_directory() -> str:
    return _directories["output"]


def get_temp_directory() -> str:
    return _directories["temp"]


def get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
    found = re.fullmatch(r"(.*) \[(input|output|temp)\]", name)
    folder = _directories[found[2]] if found else default_dir or get_input_directory()
    return str(Path(folder) / (found[1] if found else name))


def filter_files_content_types(files: list[str], content_types: list[str]) -> list[str]:
    return [name for name in files if (mimetypes.guess_type(name)[0] or "").split("/")[0] in content_types]


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    prefix = filename_prefix.replace("%width%", str(image_width)).replace("%height%", str(image_height))
    subfolder, name = str(Path(prefix).parent), Path(prefix).name
    folder = Path(output_dir) / subfolder
    if not folder.resolve().is_relative_to(Path(output_dir).resolve()):
        raise Exception("Saving image outside the output folder is not allowed.")
    folder.mkdir(parents=True, exist_ok=True)
    found = [re.match(rf"{re.escape(name)}_(\d+)_?", file.name) for file in folder.iterdir()]
    counter = max((int(match[1]) for match in found if match), default=0) + 1
    return str(folder), name, counter, subfolder, prefix
