"""Where lips have to meet and to open: from files of onsets beside the clips, and from syllables."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import InputError
from fantasytalking.evaluation.evaluate import EvaluationOptions, evaluate
from fantasytalking.evaluation.speech_targets import read_onsets, syllable_targets
from fantasytalking.pipeline.progress import Progress
from tests.evaluation.conftest import SMALL


def test_a_vowel_ends_before_the_next_consonant() -> None:
    targets = syllable_targets([(0.9, "ba"), (0.6, "pa")])
    np.testing.assert_allclose(targets.vowels, [(0.72, 0.78), (1.02, 1.22)])
    np.testing.assert_allclose(targets.closures[:, 0], (0.6, 0.9))


def test_a_file_of_onsets_is_read(tmp_path: Path) -> None:
    file = tmp_path / "onsets.json"
    file.write_text('[[0.5, "pa"], [1, "ba"]]')
    assert read_onsets(file) == [(0.5, "pa"), (1.0, "ba")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "are not JSON"),
        ("[]", "are no list of syllables"),
        ('{"pa": 1}', "are no list of syllables"),
        ('[["pa", 1]]', r'have the entry \["pa", 1\]'),
        ('[[-1, "pa"]]', r'have the entry \[-1, "pa"\]'),
    ],
)
def test_a_file_that_holds_no_onsets_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "onsets.json"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_onsets(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_onsets(tmp_path / "none.json")


def test_onsets_beside_the_real_clip_serve_every_row_and_a_change_is_measured_again(
    talking: Path, tmp_path: Path
) -> None:
    for folder, clip in (("real", "calm"), ("made", "lively")):
        (tmp_path / folder).mkdir()
        shutil.copy(talking / f"{clip}.mp4", tmp_path / folder / "a.mp4")
    onsets = tmp_path / "real" / "a.onsets.json"
    options = EvaluationOptions(
        dataclasses.replace(SMALL, max_seconds=2.0), ("articulation",), "auto", ("still",), 1, "cpu", media=False
    )

    def contrast(syllables: list[tuple[float, str]]) -> list[float | None]:
        onsets.write_text(json.dumps(syllables))
        found = evaluate({"ours": tmp_path / "made"}, tmp_path / "real", tmp_path / "report", options, Progress())
        assert [method.encoding[:4] for method in found.methods] == ["h264", "h264", ""]
        return [method.summary["lip_contrast"].value for method in found.methods]

    first = contrast([(0.4, "ba"), (1.0, "pa")])
    assert all(value is not None for value in first) and first[2] == pytest.approx(0, abs=1e-6)
    second = contrast([(0.7, "ba"), (1.3, "pa")])
    assert second[:2] != first[:2]
    onsets.write_text("{")
    with pytest.raises(InputError, match="are not JSON"):
        evaluate({}, tmp_path / "real", tmp_path / "report", options, Progress())
