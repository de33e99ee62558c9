"""From a model's name to its folder. Needs no framework, so that commands and workers that load no model start fast."""

from __future__ import annotations

import warnings
from importlib.resources import files
from pathlib import Path

from fantasytalking.errors import CheckpointError, InputError
from fantasytalking.system.files import check_name

__all__ = [
    "DEPRECATED_NAMES",
    "EMBEDDED",
    "INDEX",
    "embedded_folder",
    "is_cached",
    "model_index",
    "resolve_model",
    "unreachable_model",
]

EMBEDDED = "embedded"
"""Name of the model that comes with the package."""
DEPRECATED_NAMES = {"demo": EMBEDDED}
"""Former names of models, and what they are called now."""
INDEX = "model_index.json"
"""File that makes a folder a model folder."""


def embedded_folder() -> Path:
    """The folder of the embedded model, which also holds the example portrait and speech."""
    return Path(str(files("fantasytalking"))) / "models" / "embedded"


def resolve_model(name: str) -> str | Path:
    """The folder of a model, or the name of a repository on the hub.

    Args:
        name: `embedded`, a folder, or `owner/name` on the hub.

    Raises:
        CheckpointError: The name is neither a folder nor a possible repository name.
    """
    if name in DEPRECATED_NAMES and not Path(name).is_dir():
        warnings.warn(
            f"The model '{name}' is now called '{DEPRECATED_NAMES[name]}'; the old name will go in version 0.3.",
            FutureWarning,
            stacklevel=2,
        )
        name = DEPRECATED_NAMES[name]
    if name == EMBEDDED:
        return embedded_folder()
    folder = Path(name).expanduser()
    try:
        check_name(folder, InputError)
    except InputError as error:
        raise CheckpointError(str(error)) from error
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(
            f"The model '{name}' is a file; give the folder that holds {INDEX}, or convert the file first."
        )
    parts = str(name).split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~"):
        raise CheckpointError(
            f"There is no model '{name}'; give '{EMBEDDED}', a folder that holds {INDEX}, "
            "or a hub repository as owner/name."
        )
    return name


def model_index(folder: Path) -> Path:
    """The file that makes a folder a model folder.

    Raises:
        CheckpointError: There is none.
    """
    path = folder / INDEX
    if not path.is_file():
        raise CheckpointError(
            f"The folder '{folder}' holds no {INDEX}, so it is no model folder; "
            "give one that 'fantasytalking convert' made, or the folder of a trained model."
        )
    return path


def is_cached(name: str) -> bool:
    """Whether the index of a repository on the hub has been downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, INDEX), str)


def unreachable_model(name: str, error: Exception) -> CheckpointError:
    """Make the error for a name that is no folder here and could not be fetched from the hub either.

    Args:
        name: What was given, `owner/name`.
        error: What the hub's client raised, which may run over many lines and advise on options that we do not have.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause if isinstance(cause, Exception) else error)
    missing = any(isinstance(one, RepositoryNotFoundError) for one in causes)
    why = "the hub has no such repository, or it is not open to you" if missing else "the hub cannot be reached"
    return CheckpointError(
        f"There is no model folder '{name}' here, and the repository '{name}' cannot be fetched ({why}); check the path, or the name on "
        "the hub."
    )
