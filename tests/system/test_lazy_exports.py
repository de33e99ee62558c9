"""Packages name what their modules define, and import it only when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fantasytalking.autoencoder as package


def test_an_exported_name_is_the_one_of_its_module_and_others_are_attribute_errors() -> None:
    from fantasytalking.autoencoder.mesh_autoencoder import MeshAutoencoder

    assert package.MeshAutoencoder is MeshAutoencoder
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match=r"'fantasytalking.autoencoder' has no attribute 'Codec'"):
        package.Codec  # noqa: B018


@pytest.mark.parametrize(
    "module",
    [
        "fantasytalking.evaluation.evaluate",
        "fantasytalking.evaluation.benchmark.generation_process",
        "fantasytalking.data.preparation.worker_tasks",
    ],
)
def test_workers_start_without_the_frameworks_that_only_some_of_their_work_needs(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in ('diffusers', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
