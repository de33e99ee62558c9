"""What is a human face with a visible mouth, and what only looks like one; none of these pictures chose the coefficients."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from fantasytalking.perception.face_confidence import FaceCheck, check_face
from fantasytalking.perception.faces import detect_faces
from tests.perception.pictures import (
    cartoon,
    case,
    clip_frames,
    clips,
    moved,
    other_portrait,
    portrait,
    with_hand,
    with_mask,
)


def checked(image: np.ndarray) -> FaceCheck:
    return check_face(image, detect_faces(image)[0])


def is_ordinary(check: FaceCheck) -> bool:
    return not (check.is_cut or check.hides_mouth or check.is_no_face or check.is_unsure or check.is_drawn)


def grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


ORDINARY: dict[str, Callable[[], np.ndarray]] = {
    "photo": portrait,
    "other": other_portrait,
    "grey": lambda: grey(portrait()),
    "dark": lambda: (portrait() * 0.45).astype(np.uint8),
    "tilted": lambda: moved(portrait(), 1.5, (200, 200), 22, (400, 400)),
    "soft": lambda: cv2.GaussianBlur(portrait(), (0, 0), 1.2),
    "small": lambda: moved(portrait(), 0.6, (150, 120), 0, (300, 300)),
    "large": lambda: moved(portrait(), 3.0, (256, 270), 0, (512, 512)),
    "painted": lambda: cv2.edgePreservingFilter(portrait(), flags=1, sigma_s=15, sigma_r=0.3),
    "mirrored": lambda: np.ascontiguousarray(portrait()[:, ::-1]),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_portrait_is_nothing_to_speak_of(kind: str) -> None:
    check = checked(ORDINARY[kind]())
    assert is_ordinary(check) and check.confidence > 0.8, check


@pytest.mark.parametrize("name", ["mona_lisa.jpg", "turned_painting.jpg", "portrait_181.png"])
def test_paintings_of_people_are_ordinary_portraits(name: str) -> None:
    check = checked(case(name))
    assert is_ordinary(check) and check.confidence > 0.9, check


def test_people_of_clips_that_chose_nothing_are_ordinary() -> None:
    seen = [(entry["file"], checked(clip_frames(entry["file"], [0])[0])) for entry in clips("val")]
    assert len(seen) >= 18 and [pair for pair in seen if not is_ordinary(pair[1])] == []


@pytest.mark.parametrize("colour", [(140, 190, 220), (235, 235, 235), (40, 40, 45), (190, 70, 90)])
def test_a_mask_hides_the_mouth(colour: tuple[int, int, int]) -> None:
    check = checked(with_mask(portrait(), colour))
    assert check.hides_mouth or check.is_no_face, check


@pytest.mark.parametrize("picture", [portrait, other_portrait])
def test_a_hand_hides_the_mouth(picture: Callable[[], np.ndarray]) -> None:
    image = with_hand(picture())
    found = detect_faces(image)
    assert not found or checked(image).hides_mouth or checked(image).is_no_face


@pytest.mark.parametrize("name", ["cat.jpg", "dog.jpg"])
def test_animals_are_no_faces(name: str) -> None:
    image = case(name)
    assert all(check_face(image, face).is_no_face for face in detect_faces(image))


def test_a_drawing_is_told_by_its_flat_colours() -> None:
    assert checked(cartoon()).is_drawn
    assert not checked(ORDINARY["soft"]()).is_drawn


def test_a_face_that_the_frame_cuts_is_told_from_one_that_fills_it() -> None:
    large = ORDINARY["large"]()
    halved = np.ascontiguousarray(large[:, 220:])
    assert checked(halved).is_cut and not checked(halved).is_no_face
    assert not checked(np.ascontiguousarray(large[60:])).is_cut
    assert checked(case("cut_face.jpg")).is_cut
