"""What is recorded of the machine and of the software."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch

from fantasytalking.errors import SettingsError
from fantasytalking.system.machine import (
    choose_device,
    free_memory,
    git_commit,
    installed_version,
    library_versions,
    machine,
    usable_cores,
)


def test_every_device_that_a_refusal_lists_is_taken() -> None:
    with pytest.raises(SettingsError, match="There is no device 'tpu' on this machine; use ") as caught:
        choose_device("tpu")
    for name in re.split(r", | or ", str(caught.value).partition("; use ")[2].rstrip(".")):
        assert choose_device(name).type in name or name == "auto"


def test_the_machine_is_described_by_plain_values() -> None:
    facts = machine()
    assert list(facts) == ["cpu", "cores", "system", "python", "torch", "accelerator", "load_at_start"]
    assert facts["torch"] == torch.__version__ and facts["cpu"]


def test_only_installed_packages_have_a_version_and_their_order_stays() -> None:
    assert installed_version("no-such-package") is None
    found = library_versions(["torch", "no-such-package", "numpy"])
    assert list(found) == ["torch", "numpy"] and found["torch"] == installed_version("torch")


def test_there_is_a_core_to_work_on_and_memory_to_work_in() -> None:
    assert usable_cores() >= 1
    assert free_memory(torch.device("cpu")) > 0


def test_the_commit_carries_a_plus_where_files_differ(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    (tmp_path / "__init__.py").write_text("")
    assert git_commit(tmp_path) is None, "outside a repository"
    git("init", "-q")
    assert git_commit(tmp_path) is None, "a package beside somebody else's repository is not part of it"
    git("add", "__init__.py")
    git("commit", "-q", "-m", "one")
    clean = git_commit(tmp_path)
    assert clean is not None and len(clean) == 40
    (tmp_path / "__init__.py").write_text("changed")
    assert git_commit(tmp_path) == clean + "+"
