from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from portraits import GROUPS, Portrait, Source, fetch, gather, measure, read_portraits

from fantasytalking.errors import InputError


def packaged() -> Portrait:
    return next(portrait for portrait in read_portraits() if portrait.source.fetch == "repository")


def test_the_list_has_as_many_portraits_of_each_group_as_the_benchmarks_ask_for() -> None:
    portraits = read_portraits()
    assert len({portrait.id for portrait in portraits}) == len(portraits)
    counts = Counter(group for portrait in portraits for group in portrait.groups)
    assert counts == {"closed-mouth": 6, "open-mouth": 6, "turned": 12, "frontal": 12, "ordinary": 40}


def test_what_was_measured_fits_the_groups() -> None:
    for portrait in read_portraits():
        assert portrait.groups and set(portrait.groups) <= set(GROUPS)
        if "turned" in portrait.groups:
            assert 20 <= abs(portrait.yaw) <= 45, portrait.id
        if "frontal" in portrait.groups:
            assert abs(portrait.yaw) < 10, portrait.id
        if "closed-mouth" in portrait.groups:
            assert portrait.opening <= 0.04, portrait.id
        if "open-mouth" in portrait.groups:
            assert portrait.opening >= 0.08, portrait.id


def test_a_fetched_portrait_is_measured_as_listed(tmp_path: Path) -> None:
    portrait = packaged()
    assert fetch([portrait], tmp_path) == {}
    yaw, opening, _ = measure(portrait.picture(tmp_path))
    assert yaw == pytest.approx(portrait.yaw, abs=0.5)
    assert opening == pytest.approx(portrait.opening, abs=0.01)


def test_a_crop_is_cut_from_the_file(tmp_path: Path) -> None:
    portrait = packaged()
    fetch([portrait], tmp_path)
    cut = replace(portrait, crop=(100, 50, 300, 200)).picture(tmp_path)
    assert np.array_equal(cut, portrait.picture(tmp_path)[50:200, 100:300])


def test_another_picture_than_the_listed_one_is_refused_and_not_kept(tmp_path: Path) -> None:
    changed = replace(packaged(), sha256="0" * 64)
    failed = fetch([changed], tmp_path)
    assert "has another picture" in failed[changed.source.title]
    assert not any(tmp_path.iterdir())


def test_a_source_that_cannot_be_had_is_one_sentence_and_the_others_are_fetched(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm anywhere
    lost = replace(packaged(), id="lost", source=Source("npm", "MIT", "no-such-package", "1.0.0"), sha256="1" * 64)
    failed = fetch([lost, packaged()], tmp_path / "kept")
    assert list(failed) == ["npm package no-such-package 1.0.0"]
    assert "cannot be had (npm: FileNotFoundError), so its portraits are left out" in failed[lost.source.title]
    assert packaged().file(tmp_path / "kept").is_file()


def test_an_unknown_group_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no group of portraits named 'sideways'; choose from closed-mouth"):
        gather(("sideways",), tmp_path)
