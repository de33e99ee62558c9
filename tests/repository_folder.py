"""A plugin of pytest: the repository is no Python package for tests, though it has the `__init__.py` by which ComfyUI loads a clone.

pytest would import that file under the folder's name, and a clone called `fantasytalking` would take the place of the package.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take the repository for a plain folder."""
    return pytest.Dir.from_parent(parent, path=path) if path == parent.config.rootpath else None
