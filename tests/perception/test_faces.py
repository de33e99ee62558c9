"""Faces: found at every size, counted, chosen, refused and cropped."""

import warnings

import numpy as np
import pytest

from fantasytalking.errors import FaceError, ImageError, SettingsError
from fantasytalking.perception.faces import (
    ARCFACE_POINTS,
    align_face,
    choose_face,
    crop_square,
    detect_faces,
    face_length,
)
from tests.perception.pictures import moved, movement, other_portrait, placed, portrait


def side_by_side() -> np.ndarray:
    return np.concatenate([portrait(), other_portrait()], axis=1)


def test_the_five_points_lie_on_eyes_nose_and_mouth_image_left_first() -> None:
    (face,) = detect_faces(portrait())
    expected = [[203, 101], [247, 104], [223, 127], [201, 139], [246, 142]]
    assert np.abs(face.points - expected).max() < 4
    assert face.score > 0.9
    x0, y0, x1, y1 = face.box
    assert 150 < x0 < 190 and 60 < y0 < 90 and 260 < x1 < 300 and 165 < y1 < 195


@pytest.mark.parametrize(
    ("face_height", "width", "height"),
    [
        (20, 640, 480),
        (25, 320, 640),
        (40, 640, 480),
        (60, 1920, 1080),
        (30, 1600, 400),
        (100, 300, 300),
        (400, 512, 512),
    ],
)
def test_faces_from_20_px_to_most_of_the_frame_are_found_in_place(face_height: int, width: int, height: int) -> None:
    y = 0.45 if face_height >= 100 else 0.6
    faces = detect_faces(placed(face_height, width, height, y=y))
    assert faces
    nose = np.array([0.35 * width, y * height])
    assert np.abs(faces[0].points[2] - nose).max() < 0.15 * face_height + 2
    assert 0.6 * face_height < faces[0].size < 1.6 * face_height


@pytest.mark.parametrize("margin", [1.3, 1.0, 0.8])
def test_a_face_that_fills_or_exceeds_the_frame_is_found(margin: float) -> None:
    (face,) = detect_faces(moved(portrait(), 256 / (105 * margin), (128, 130), 0, (256, 256)))
    assert np.abs(face.points[2] - (128, 132)).max() < 16


@pytest.mark.parametrize("degrees", [-40, 25])
def test_a_tilted_face_has_tilted_points(degrees: float) -> None:
    (upright,) = detect_faces(portrait())
    (tilted,) = detect_faces(moved(portrait(), 1.5, (200, 200), degrees, (400, 400)))
    matrix = movement(1.5, (200, 200), degrees)
    assert np.abs(tilted.points - (upright.points @ matrix[:, :2].T + matrix[:, 2])).max() < 8


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (900, 2), (64, 64), (300, 500)])
def test_pictures_without_a_face_have_none(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert detect_faces(noise) == []
    with pytest.raises(FaceError, match="No face was found"):
        choose_face(noise)


def test_textures_and_animals_are_not_faces() -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the test pictures")
    for name in ("coffee", "chelsea", "coins"):
        picture = getattr(data, name)()
        picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        assert detect_faces(np.ascontiguousarray(picture)) == [], name


def test_of_several_faces_the_largest_is_taken_with_a_warning() -> None:
    image = side_by_side()
    with pytest.warns(UserWarning, match="2 faces were found"):
        face = choose_face(image)
    assert face.points[2, 0] < 512
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_face(image, index=1).points[2, 0] > 512


def test_a_face_that_does_not_exist_cannot_be_chosen() -> None:
    one = detect_faces(placed(120, 320, 240))[:1]
    with pytest.raises(FaceError, match=r"no face 3 in the image: 1 found, so leave it out\.$"):
        choose_face(np.zeros((240, 320, 3), np.uint8), index=3, faces=one)
    with pytest.raises(FaceError, match=r"no face 2.*2 found.*0 \(the largest\) to 1"):
        choose_face(side_by_side(), index=2)


def test_a_face_that_is_too_small_is_refused_with_both_sizes() -> None:
    with pytest.raises(FaceError, match=r"\d\d px large.*at least 48 px"):
        choose_face(placed(30, 640, 480))
    assert choose_face(placed(30, 640, 480), min_size=20).size < 48


@pytest.mark.parametrize("tilt", [0, 30, 45, 60, -45])
def test_a_tilted_face_is_measured_along_its_own_axis(tilt: float) -> None:
    """The detector's box of the same face is 51 px upright and 44 px at 45 degrees."""
    side, upright = 320, moved(portrait(), 0.5, (160, 160), 0, (320, 320))
    size = detect_faces(upright)[0].size
    factor = 51 / size
    (face,) = detect_faces(image := moved(portrait(), 0.5 * factor, (160, 160), tilt, (side, side)))
    assert face_length(image, face) == pytest.approx(51, rel=0.04)
    assert choose_face(image, faces=[face]) is face
    smaller = moved(portrait(), 0.42 * factor, (160, 160), tilt, (side, side))
    with pytest.raises(FaceError, match=r"The face is 4[1-4] px large"):
        choose_face(smaller)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), "picture"]
)
def test_what_is_not_an_rgb_image_is_refused(image: object) -> None:
    with pytest.raises(ImageError, match=r"uint8 array|no pixels"):
        detect_faces(image)  # type: ignore[arg-type]


@pytest.mark.parametrize("score", [0.0, 1.0, -1.0])
def test_a_confidence_outside_its_range_is_refused(score: float) -> None:
    with pytest.raises(SettingsError, match="between 0 and 1"):
        detect_faces(portrait(), min_score=score)


def test_an_aligned_face_has_its_points_where_arcface_wants_them() -> None:
    image = portrait()
    crop = align_face(image, choose_face(image))
    assert crop.shape == (112, 112, 3)
    (again,) = detect_faces(crop)
    assert np.abs(again.points - ARCFACE_POINTS).max() < 8


def test_a_square_crop_is_exact_inside_and_repeats_the_edge_outside() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    crop, (x0, y0, x1, y1) = crop_square(image, (10, 12, 20, 18), scale=2)
    assert crop.shape == (20, 20, 3) and (x1 - x0, y1 - y0) == (20, 20)
    np.testing.assert_array_equal(crop, image[y0:y1, x0:x1])
    crop, (x0, y0, _, _) = crop_square(image, (-10, -10, 10, 10))
    assert (x0, y0) == (-10, -10)
    assert (crop[:10, :10] == image[0, 0]).all()


def test_an_empty_box_cannot_be_cropped() -> None:
    with pytest.raises(SettingsError, match="x0 < x1"):
        crop_square(portrait(), (10, 10, 10, 20))
