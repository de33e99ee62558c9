"""Models as they lie in ComfyUI's folders: `models/fantasytalking` for model folders and adapters, `models/diffusion_models` for Wan's."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from fantasytalking.errors import CheckpointError
from fantasytalking.pipeline.model_names import EMBEDDED, INDEX

__all__ = ["FOLDER", "adapter_files", "file_of", "lora_files", "model_of", "models", "register", "transformer_files"]

FOLDER = "fantasytalking"
"""Name of our folder among ComfyUI's."""
_WEIGHTS = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
_OUR_NAMES = ("fantasytalking", "fantasy_talking", "fantasy-talking")


def register() -> None:
    """Tell ComfyUI of our folder of models, beside those that a user's `extra_model_paths.yaml` names."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def models() -> list[str]:
    """Names of the models: the embedded one, and folders that hold a model."""
    found = {
        index.parent.relative_to(root).as_posix() for root in _roots(FOLDER) for index in sorted(root.rglob(INDEX))
    }
    return [EMBEDDED, *sorted(found - {"."})]


def model_of(name: str) -> str:
    """What the pipeline is loaded by: the name of the embedded model, or a folder.

    Args:
        name: A name of `models`.

    Raises:
        CheckpointError: There is no such model.
    """
    if name == EMBEDDED:
        return name
    for root in _roots(FOLDER):
        if (root / name / INDEX).is_file():
            return str(root / name)
    raise CheckpointError(
        f"There is no model '{name}' in ComfyUI's folder models/{FOLDER}; choose from {', '.join(models())}."
    )


def transformer_files() -> list[str]:
    """Names of files that may hold Wan's transformer."""
    return _weights("diffusion_models")


def adapter_files() -> list[str]:
    """Names of files that may hold an adapter: those of our folder, and what is called so among the diffusion models."""
    named = [name for name in _weights("diffusion_models") if any(ours in name.lower() for ours in _OUR_NAMES)]
    return sorted({*_weights(FOLDER), *named})


def lora_files() -> list[str]:
    """Names of LoRA files."""
    return _weights("loras")


def file_of(name: str, *folders: str) -> Path:
    """The file of a name that was chosen from one of ComfyUI's folders.

    Args:
        name: Path within the folder.
        folders: Names of folders, such as `loras`; the first that has the file counts.

    Raises:
        CheckpointError: There is none.
    """
    for folder in folders:
        for root in _roots(folder):
            if (root / name).is_file():
                return root / name
    raise CheckpointError(
        f"There is no '{name}' in ComfyUI's {' or '.join(f'models/{folder}' for folder in folders)}; put the file there, or choose another."
    )


def _weights(folder: str) -> list[str]:
    """Names of weights files within a folder of ComfyUI's, but for those that belong to a model folder."""
    found = set()
    for root in _roots(folder):
        inner = {index.parent for index in root.rglob(INDEX)}
        for file in root.rglob("*"):
            if file.suffix.lower() in _WEIGHTS and not inner.intersection(file.parents) and file.is_file():
                found.add(file.relative_to(root).as_posix())
    return sorted(found)


def _roots(folder: str) -> list[Path]:
    try:
        paths = folder_paths.get_folder_paths(folder)
    except KeyError:
        return []
    return [Path(path) for path in paths if Path(path).is_dir()]
