"""A doubtful face is told or refused before anything is computed, and moves less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fantasytalking.errors import FaceError
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.portrait_face import CALM, choose_portrait_face, held_back
from fantasytalking.pipeline.settings import GenerationSettings
from tests.perception.pictures import cartoon, case, with_mask
from tests.perception.pictures import portrait as photo
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech

USUAL = GenerationSettings()


@pytest.fixture(scope="module")
def pipeline() -> FantasyTalkingPipeline:
    return embedded_pipeline()


def notes_of(image: np.ndarray, **settings: Any) -> tuple[list[str], GenerationSettings]:
    """The notes about doubts, and the settings that a model with a motion network is called with."""
    given = GenerationSettings(**settings)
    _, check = choose_portrait_face(image, given)
    held, notes = held_back(given, USUAL, check, has_motion=True)
    return notes, held


@pytest.mark.parametrize("name", ["cat.jpg", "dog.jpg"])
def test_an_animal_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(FaceError, match=r"hardly a human face|No face was found") as caught:
        choose_portrait_face(case(name), USUAL)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_the_offered_way_out_animates_an_animal_with_a_note_or_without_a_look() -> None:
    with pytest.raises(FaceError, match=r"--face-check warn \(in Python face_check='warn'\)"):
        choose_portrait_face(case("dog.jpg"), USUAL)
    (note,), held = notes_of(case("dog.jpg"), face_check="warn")
    assert "may not be a human one" in note and "moves less (w_face 0.25 and w_body 0.25)" in note
    assert (held.w_face, held.w_body) == (CALM, CALM)
    assert notes_of(case("dog.jpg"), face_check="off") == ([], GenerationSettings(face_check="off"))


def test_a_face_that_the_picture_cuts_is_told_and_its_head_held_still() -> None:
    (note,), held = notes_of(case("cut_face.jpg"))
    assert "edge of the picture cuts off part of the face" in note and "(w_body 0.25)" in note
    assert (held.w_face, held.w_body) == (USUAL.w_face, CALM)


def test_a_masked_mouth_is_told_or_refused() -> None:
    image = with_mask(photo(), (235, 235, 235))
    (note,), held = notes_of(image)
    assert "The mouth can hardly be seen" in note and (held.w_face, held.w_body) == (CALM, CALM)
    # the way out of the note
    assert "--face-check off" in note and notes_of(image, face_check="off")[0] == []


def test_what_the_caller_chose_is_kept_and_told_all_the_same() -> None:
    (note,), held = notes_of(with_mask(photo(), (235, 235, 235)), w_face=0.8, w_body=0.3)
    assert (held.w_face, held.w_body) == (0.8, 0.3) and "may look wrong" in note


def test_a_drawing_is_told() -> None:
    (note,), held = notes_of(cartoon())
    assert "looks drawn" in note and held == USUAL


def test_of_several_faces_an_animal_is_passed_over() -> None:
    both = np.concatenate([case("dog.jpg"), photo()[:256, 100:356]], axis=1)
    with pytest.warns(
        UserWarning, match="2 faces were found, of which face 0 is hardly human; the next largest, face 1, is taken"
    ):
        face, _ = choose_portrait_face(both, USUAL)
    assert face.points[2, 0] > 256
    with pytest.raises(FaceError, match="hardly a human face"):
        choose_portrait_face(both, GenerationSettings(face=0))


def test_the_video_carries_the_notes_and_the_settings_that_made_it(pipeline: FantasyTalkingPipeline) -> None:
    image = with_mask(portrait(256), (235, 235, 235))
    with pytest.warns(UserWarning, match="mouth can hardly be seen"):
        video = pipeline(image, speech())
    assert [note for note in video.notes if "mouth" in note] and (video.settings.w_face, video.settings.w_body) == (
        CALM,
        CALM,
    )
    plain = pipeline(portrait(256), speech())
    assert plain.notes == () and plain.settings == pipeline.settings()
