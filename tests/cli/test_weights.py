"""`fantasytalking weights`: everything is listed, only what is named is fetched, and errors are one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.evaluation.networks.metric_weights import WEIGHTS


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FANTASYTALKING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FANTASYTALKING_WEIGHTS_MIRROR", str(tmp_path / "mirror"))
    return tmp_path / "cache"


def test_all_networks_are_listed_with_size_licence_and_whether_they_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["weights"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(WEIGHTS) + 1
    line = next(line for line in lines if "inception" in line)
    assert line.startswith("missing") and "95.6 MB" in line and "licence: Apache-2.0" in line
    assert main(["weights", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == dict.fromkeys(WEIGHTS)


def test_a_fetch_that_fails_and_a_name_that_is_none_end_in_one_sentence_and_exit_code_2(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "inceptoin"]) == 2
    assert capsys.readouterr().err.strip() == "error: There are no weights 'inceptoin'; did you mean 'inception'?"
    assert main(["weights", "inception"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "licence" in lines[0] and lines[-1].startswith("error: ") and len(lines) == 2
    assert not list(cache.glob("*.pth"))
