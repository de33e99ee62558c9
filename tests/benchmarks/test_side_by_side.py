from __future__ import annotations

from pathlib import Path

import authors
import numpy as np
import pytest
import side_by_side
import validation
from clips import LEFT_OUT
from side_by_side import Named, compare, read_model, summarise

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import load_footage
from fantasytalking.evaluation.metrics.blinks import find_blinks
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.media.video import write_video
from fantasytalking.perception.face_measures import lip_opening
from tests.media.files import moving_bar


def test_a_model_is_named_with_its_checkout_and_its_folder() -> None:
    assert read_model("new=.") == Named("new", Path("."))
    assert read_model("first=../main:/models/first") == Named("first", Path("../main"), "/models/first")
    assert read_model("new=.").folder == "src/fantasytalking/models/embedded"
    lively = read_model("lively=.:/models/first@w_body=1@w_face=0.9")
    assert lively == Named("lively", Path("."), "/models/first", (("w_body", 1.0), ("w_face", 0.9)))
    for text in ("new", "=.", "new=", "new=.@w_body", "new=.@w_body=much"):
        with pytest.raises(InputError, match="NAME=TREE, NAME=TREE:MODEL"):
            read_model(text)


def described(opening: list[float], yaw: float) -> dict[str, object]:
    return {
        "opening": np.array(opening),
        "head": {"yaw": yaw, "pitch": 1.0, "roll": 1.0, "speed": 2.0, "jerk": 3.0},
    }


def test_figures_are_ratios_to_the_real_clip_over_the_frames_of_both() -> None:
    true = described([0.0, 0.1, 0.0, 0.1, 0.0, 0.1], 4.0)
    found = compare(described([0.0, 0.05, 0.0, 0.05], 2.0), true)
    assert found["opening"] == pytest.approx(0.5)
    assert found["mouth_r"] == pytest.approx(1)
    assert (found["yaw"], found["jerk"]) == (0.5, 1.0)


def test_blinks_of_a_file_are_those_of_the_evaluation(talking: Path) -> None:
    found = side_by_side.describe(talking / "lively.mp4")
    clip = load_footage(talking / "lively.mp4", Protocol(longest_side=256))
    openings, _ = clip.eyes
    assert found["blinks"] == len(find_blinks(openings, 25.0)) == 1
    assert found["full_blinks"] == 1
    np.testing.assert_allclose(found["opening"], lip_opening(clip.track[0]), atol=1e-5)


def test_ratios_are_summarised_by_their_median_and_r_by_its_mean() -> None:
    names = ("opening", "yaw", "pitch", "roll", "speed", "jerk", "mouth_r")
    found = summarise([dict.fromkeys(names, value) for value in (0.1, 0.2, 0.9)])
    assert found["opening"][0] == pytest.approx(0.2)
    assert found["mouth_r"][0] == pytest.approx(0.4)
    assert found["opening"][1:] == pytest.approx([0.1, 0.9])


def test_a_clip_that_is_in_no_figure_is_no_case() -> None:
    names = [case.name for case in validation.choose_cases("real")]
    assert len(names) == 8
    assert not set(names) & set(LEFT_OUT)
    assert len(validation.choose_cases("all")) == 17


def test_each_video_of_a_folder_is_a_case_with_its_own_sound(tmp_path: Path) -> None:
    for name in ("02", "07"):
        write_video(tmp_path / f"{name}.mp4", moving_bar(10), 25, preset="ultrafast")
    cases = authors.find_cases(tmp_path)
    assert [case.name for case in cases] == ["v02", "v07"]
    assert cases[0].speech == cases[0].reference
    assert cases[0].reference.seconds == pytest.approx(0.4, abs=0.05)
    with pytest.raises(InputError, match="holds no mp4 file"):
        authors.find_cases(tmp_path / "nothing")
