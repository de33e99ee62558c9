"""Published footage is fetched once, checked by its hash, and kept outside the project."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fantasytalking.errors import CheckpointError, InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Manifest
from fantasytalking.evaluation.benchmark.fetch_footage import fetch_footage, footage_folder
from tests.evaluation.benchmark.samples import case, manifest, method, talking_video


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that publishes two videos; the cache is empty."""
    monkeypatch.setenv("FANTASYTALKING_CACHE", str(tmp_path / "cache"))
    for index in range(2):
        talking_video(tmp_path / "page" / f"c{index}.mp4", 0.4, 200 + 100 * index, side=64)
    return tmp_path / "page"


def published(page: Path) -> Manifest:
    cases = [case(page, f"c{index}.mp4", 0.4) for index in range(2)]
    sources = {f"c{index}.mp4": (page / f"c{index}.mp4").as_uri() for index in range(2)}
    return manifest(*cases, methods=(method("own"),), sources=sources)


def unheard(text: str) -> None:
    """Takes a note and shows nothing."""


def test_what_is_missing_is_announced_and_fetched_once(page: Path) -> None:
    said: list[str] = []
    one = published(page)
    folder = fetch_footage(one, None, said.append)
    assert folder == page.parent / "cache" / "footage" / "tiny"
    assert (folder / "c1.mp4").read_bytes() == (page / "c1.mp4").read_bytes()
    assert said == [f"Fetching 2 of 2 files from this machine to {folder}. Terms: none"]
    (folder / "c0.mp4").write_bytes(b"damaged")
    fetch_footage(one, None, said.append)
    assert len(said) == 2 and said[1].startswith("Fetching 1 of 2 files")
    assert (folder / "c0.mp4").read_bytes() == (page / "c0.mp4").read_bytes()
    (page / "c0.mp4").unlink()
    assert fetch_footage(one, None, said.append) == folder and len(said) == 2


def test_only_the_cases_that_run_are_fetched(page: Path) -> None:
    folder = fetch_footage(published(page), 1, unheard)
    assert [file.name for file in folder.iterdir()] == ["c0.mp4"]


def test_another_file_under_the_name_is_not_taken(page: Path) -> None:
    one = published(page)
    (page / "c1.mp4").write_bytes((page / "c0.mp4").read_bytes())
    with pytest.raises(CheckpointError, match="it was deleted, check the source"):
        fetch_footage(one, None, unheard)
    assert not (footage_folder(one) / "c1.mp4").exists()


def test_an_address_that_does_not_answer_advises_a_folder(page: Path) -> None:
    one = published(page)
    (page / "c0.mp4").unlink()
    with pytest.raises(CheckpointError, match=r"c0\.mp4 cannot be fetched from file:.*give a folder .* in --data"):
        fetch_footage(one, None, unheard)


def test_footage_that_is_published_nowhere_must_be_given(page: Path) -> None:
    with pytest.raises(
        InputError, match=r"does not say where its footage is published \(c0.mp4\); give .* with --data"
    ):
        fetch_footage(dataclasses.replace(published(page), sources={}), None, unheard)
