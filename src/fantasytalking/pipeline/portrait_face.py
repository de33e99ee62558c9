"""The face of the portrait: found, chosen, looked at closely, and what follows from a doubtful one."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import FaceError
from fantasytalking.perception.face_confidence import FaceCheck, check_face
from fantasytalking.perception.faces import MIN_FACE_SIZE, Face, choose_face, detect_faces, face_length
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["choose_portrait_face", "held_back"]

_ALL_THE_SAME = "or pass --face-check warn (in Python face_check='warn') to animate it all the same"
CALM = 0.25  # intensity of a doubtful face: the calmest quarter of people, whose lips still say what is said
_AS_USUAL = "pass --face-check off (in Python face_check='off') to animate it as any other"


def choose_portrait_face(
    image: NDArray[np.uint8], settings: GenerationSettings, faces: list[Face] | None = None
) -> tuple[Face, FaceCheck | None]:
    """Find the face that talks.

    Args:
        image: The portrait, [H, W, 3] uint8 RGB.
        settings: Uses `face` and `face_check`.
        faces: Faces of the image as `detect_faces` gives them; None: they are looked for.

    Returns:
        The face, and what a closer look says about it (None where `face_check` is off).

    Raises:
        FaceError: There is no face, no face of that number, it is too small, or it is hardly a human one and `face_check` is strict.
    """
    faces = detect_faces(image) if faces is None else faces
    checks: dict[int, FaceCheck] = {}
    index = settings.face
    if settings.face_check == "strict" and index is None and len(faces) > 1:
        index = _first_human(image, faces, checks)
    face = choose_face(image, index, faces=faces)
    if settings.face_check == "off":
        return face, None
    check = checks.get(index or 0) or check_face(image, face)
    if check.is_no_face and settings.face_check == "strict":
        height, width = image.shape[:2]
        raise FaceError(
            f"What was found in the {width} x {height} image is hardly a human face (confidence {check.confidence:.2f} of 1; it may be "
            "an animal, a drawing, a thing, or a face behind a mask or a hand); use a portrait in which a whole face is seen from "
            f"the front, {_ALL_THE_SAME}."
        )
    return face, check


def _first_human(image: NDArray[np.uint8], faces: list[Face], checks: dict[int, FaceCheck]) -> int | None:
    """Index of the largest face that may be a human one, where it is not the largest of all."""
    for index, face in enumerate(faces):
        if face_length(image, face) < MIN_FACE_SIZE:
            break
        checks[index] = check_face(image, face)
        if not checks[index].is_no_face:
            if index == 0:
                return None
            passed = "face 0 is" if index == 1 else f"faces 0 to {index - 1} are"
            warnings.warn(
                f"{len(faces)} faces were found, of which {passed} hardly human; the next largest, face {index}, is taken.",
                stacklevel=2,
            )
            return index
    return None


def held_back(
    settings: GenerationSettings, usual: GenerationSettings, check: FaceCheck | None, has_motion: bool
) -> tuple[GenerationSettings, list[str]]:
    """The settings for a doubtful face: one that is cut, hidden or hardly human moves less.

    Args:
        settings: The settings of the call.
        usual: The model's defaults; intensities that the caller changed are kept.
        check: The closer look at the face, or None.
        has_motion: Whether the model has a motion network, which w_face and w_body control.

    Returns:
        The settings, and a sentence about each doubt.
    """
    if check is None:
        return settings, []
    reason, fields = _doubt(check)
    if not reason:
        return settings, []
    changed = [name for name in fields if has_motion and getattr(settings, name) == getattr(usual, name)]
    changed = [name for name in changed if getattr(settings, name) > CALM]
    if changed:
        settings = settings.replace(**dict.fromkeys(changed, CALM))
        less = " and ".join(f"{name} {CALM:g}" for name in changed)
        return settings, [f"{reason}, so it moves less ({less}); {_AS_USUAL}."]
    return settings, [
        f"{reason}, so the video may look wrong; use a photo or a painting in which a whole face is seen."
    ]


def _doubt(check: FaceCheck) -> tuple[str, tuple[str, ...]]:
    """What is wrong with a face, and the intensities to hold back for it."""
    if check.is_cut:
        return f"The edge of the picture cuts off part of the face ({check.outside:.0%} of its points lie outside)", (
            "w_body",
        )
    if check.hides_mouth:
        return "The mouth can hardly be seen, as behind a mask, a hand or a beard", ("w_face", "w_body")
    if check.is_no_face or check.is_unsure:
        return (
            f"The face may not be a human one, or is hard to make out (confidence {check.confidence:.2f} of 1)",
            ("w_face", "w_body"),
        )
    if check.is_drawn:
        return "The face looks drawn, of flat colours", ()
    return "", ()
