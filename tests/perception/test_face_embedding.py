"""Face embeddings tell people apart."""

import importlib.util

import numpy as np
import pytest

from fantasytalking.errors import FaceError, MissingDependencyError, SettingsError
from fantasytalking.perception.face_embedding import EMBEDDING_DIMENSIONS, embed_aligned, embed_face
from fantasytalking.perception.faces import align_face, choose_face, detect_faces
from tests.perception.pictures import clip_frames, clips, moved, other_portrait, portrait


def test_an_embedding_is_a_unit_vector_of_the_announced_length() -> None:
    embedding = embed_face(portrait())
    assert embedding.shape == (EMBEDDING_DIMENSIONS["mobilefacenet"],) and embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_the_same_person_darker_tilted_mirrored_or_smaller_stays_the_same() -> None:
    image = portrait()
    reference = embed_face(image)
    variants = {
        "darker": (image * 0.6).astype(np.uint8),
        "mirrored": np.ascontiguousarray(image[:, ::-1]),
        "tilted": moved(image, 1.5, (200, 200), 20, (400, 400)),
        "smaller": moved(image, 0.6, (200, 200), 0, (400, 400)),
        "framed differently": moved(image, 2.0, (150, 180), 0, (300, 300)),
    }
    for name, variant in variants.items():
        assert embed_face(variant) @ reference > 0.8, name
    assert embed_face(other_portrait()) @ reference < 0.4


def test_a_given_face_is_embedded_not_the_largest() -> None:
    both = np.concatenate([portrait(), other_portrait()], axis=1)
    second = detect_faces(both)[1]
    assert embed_face(both, second) @ embed_face(other_portrait()) > 0.9


def test_an_aligned_crop_gives_the_same_embedding() -> None:
    image = portrait()
    face = choose_face(image)
    np.testing.assert_array_equal(embed_aligned(align_face(image, face)), embed_face(image, face))
    with pytest.raises(SettingsError, match=r"uint8 \[112, 112, 3\]"):
        embed_aligned(image)


def test_no_face_and_no_such_backend_are_errors() -> None:
    with pytest.raises(FaceError, match="No face was found"):
        embed_face(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(SettingsError, match="mobilefacenet, insightface"):
        embed_face(portrait(), backend="facenet")  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("insightface") is not None, reason="InsightFace is installed here")
def test_without_insightface_its_embedding_names_the_extra_to_install() -> None:
    with pytest.raises(MissingDependencyError, match=r'pip install "fantasytalking\[perception\]"'):
        embed_face(portrait(), backend="insightface")


def test_two_moments_of_a_person_are_closer_than_two_people() -> None:
    # Footage only: among the generated clips one face has several names.
    footage = [entry for entry in clips("val") + clips("train") if entry["kind"] == "real"]
    by_identity = {entry["identity"]: entry for entry in footage}
    embeddings = []
    for entry in list(by_identity.values())[:14]:
        frames = clip_frames(entry["file"], [2, int(min(2.5, entry["seconds"] - 0.3) * entry["fps"])])
        embeddings.append([embed_face(frame) for frame in frames])
    first, second = np.array(embeddings).transpose(1, 0, 2)
    cosine = first @ second.T
    same, different = np.diag(cosine), cosine[~np.eye(len(cosine), dtype=bool)]
    # Area under the ROC curve: how often a pair of the same person beats a pair of two people.
    assert (same[:, None] > different[None]).mean() > 0.99
    assert same.mean() > 0.75 and different.mean() < 0.3
