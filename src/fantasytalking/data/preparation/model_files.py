"""Small files of a model, read before any framework is imported, so that a misspelt name is told at once."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from fantasytalking.errors import CheckpointError

__all__ = ["read_model_file"]

_HUB_SECONDS = 10.0


@functools.cache
def _from_hub(source: str, name: str) -> str:
    """Path of a small file of a repository; of the copy that was downloaded before if the hub cannot be reached."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # asked first, because the download repeats what fails for half a minute, and tells each time
        HfApi().model_info(source, timeout=_HUB_SECONDS)
    except HfHubHTTPError as error:
        raise OSError("the hub has no such repository, or it is not open to you") from error
    except Exception as error:
        cached = try_to_load_from_cache(source, name)
        if isinstance(cached, str):
            return cached
        raise OSError("the hub cannot be reached") from error
    return hf_hub_download(source, name)


def read_model_file(source: str | Path, name: str) -> dict[str, Any]:
    """Read a small JSON file of a model.

    Args:
        source: The model's folder, or the name of a repository on the hub, as `resolve_model` gives it.
        name: Path of the file in it.

    Raises:
        CheckpointError: There is no such model, or the file cannot be read.
    """
    path: str | os.PathLike[str] = Path(source) / name
    try:
        if isinstance(source, str):
            path = _from_hub(source, name)
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except Exception as error:
        # whatever a missing repository or network makes the hub's client raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"The model '{source}' has no readable {name} ({reason}); give embedded, or a folder that "
            "'fantasytalking convert' made with --layout pipeline."
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(
            f"The file {name} of the model '{source}' is not a JSON object; make the folder again with 'fantasytalking convert'."
        )
    return found
