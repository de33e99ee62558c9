"""Face embeddings: unit vectors whose cosine says whether two faces are the same person (paper, section 3.3).

The bundled MobileFaceNet gives 192 numbers; InsightFace, if installed, the 512 of the paper's ArcFace.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from fantasytalking.errors import CheckpointError, FaceError, MissingDependencyError, SettingsError
from fantasytalking.perception.faces import ARCFACE_SIDE, Face, align_face, detect_faces
from fantasytalking.perception.networks.network_runner import Network

Backend = Literal["mobilefacenet", "insightface"]
EMBEDDING_DIMENSIONS: dict[str, int] = {"mobilefacenet": 192, "insightface": 512}


def embed_face(image: np.ndarray, face: Face | None = None, backend: Backend = "mobilefacenet") -> np.ndarray:
    """Embed one face.

    Args:
        image: uint8 [H, W, 3], RGB.
        face: a face of this image; None takes the largest.
        backend: "mobilefacenet" (bundled) or "insightface" (ArcFace of its buffalo_l pack, which InsightFace downloads
            on first use; its terms allow non-commercial research only).

    Returns:
        float32 [EMBEDDING_DIMENSIONS[backend]] of unit length.

    Raises:
        ImageError: when ``image`` is not such an array.
        FaceError: when no face is given and none is found.
        SettingsError: for an unknown backend.
        MissingDependencyError: when InsightFace is asked for and not installed.
        CheckpointError: when InsightFace cannot load or download its networks.
    """
    embed = _backend(backend)
    if face is None:
        faces = detect_faces(image)
        if not faces:
            raise FaceError(
                f"No face was found in the {image.shape[1]} x {image.shape[0]} image; "
                "use one with a face of at least 20 px."
            )
        face = faces[0]
    return embed(align_face(image, face))


def embed_aligned(crop: np.ndarray, backend: Backend = "mobilefacenet") -> np.ndarray:
    """Embed a crop made by ``align_face``.

    Args:
        crop: uint8 [112, 112, 3], RGB.
        backend: as in ``embed_face``.

    Returns:
        float32 [EMBEDDING_DIMENSIONS[backend]] of unit length.

    Raises:
        SettingsError: for another shape or an unknown backend.
        MissingDependencyError: when InsightFace is asked for and not installed.
        CheckpointError: when InsightFace cannot load or download its networks.
    """
    fits = isinstance(crop, np.ndarray) and crop.shape == (ARCFACE_SIDE, ARCFACE_SIDE, 3) and crop.dtype == np.uint8
    if not fits:
        given = f"{crop.dtype} {crop.shape}" if isinstance(crop, np.ndarray) else type(crop).__name__
        raise SettingsError(
            f"An aligned face is uint8 [{ARCFACE_SIDE}, {ARCFACE_SIDE}, 3], not {given}; use align_face()."
        )
    return _backend(backend)(crop)


def embedding_response(crop: np.ndarray) -> tuple[float, float]:
    """Measure how strongly the bundled network responds to a crop: weakly to what is no face.

    Args:
        crop: uint8 [112, 112, 3], RGB, made by ``align_face``.

    Returns:
        Length of the embedding before it is made a unit vector (40 to 100 for faces), and the cosine between the embeddings of
        the crop and of the mirrored crop, -1 to 1.
    """
    both = _crop_and_mirrored(crop)
    lengths = np.maximum(np.linalg.norm(both, axis=1), 1e-12)
    return float(lengths[0]), float(both[0] @ both[1] / lengths.prod())


def _backend(name: str) -> Callable[[np.ndarray], np.ndarray]:
    if name == "mobilefacenet":
        return _mobilefacenet
    if name == "insightface":
        return functools.partial(_insightface, _insightface_model())
    raise SettingsError(f"There is no face embedding {name!r}; choose one of {', '.join(EMBEDDING_DIMENSIONS)}.")


def _mobilefacenet(crop: np.ndarray) -> np.ndarray:
    # The mirrored crop makes the embedding independent of the side that the light comes from.
    return _unit(_crop_and_mirrored(crop).sum(axis=0))


def _crop_and_mirrored(crop: np.ndarray) -> np.ndarray:
    """Embeddings [2, 192], not of unit length; the network takes exactly two crops."""
    pair = np.stack([crop, crop[:, ::-1]]).astype(np.float32)
    (both,) = Network("MobileFaceNet")((pair - 127.5) / 128)
    return both


def _insightface(model: Any, crop: np.ndarray) -> np.ndarray:
    # InsightFace swaps the channels itself: it takes BGR.
    return _unit(np.asarray(model.get_feat(np.ascontiguousarray(crop[..., ::-1]))).reshape(-1))


@functools.cache
def _insightface_model() -> Any:
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise MissingDependencyError(
            f"The face embedding 'insightface' needs a package that cannot be imported ({error}); install it with: "
            "pip install \"fantasytalking[perception]\", or use the bundled embedding 'mobilefacenet'."
        ) from error
    try:
        analysis = FaceAnalysis(
            name="buffalo_l", allowed_modules=["detection", "recognition"], providers=["CPUExecutionProvider"]
        )
        return analysis.models["recognition"]
    except (OSError, RuntimeError, AssertionError, KeyError, ValueError) as error:
        # It downloads 280 MB on first use, and says with any of these that there is no network or that a file is
        # broken.
        raise CheckpointError(
            f"InsightFace could not load its buffalo_l pack ({error}); put the pack's .onnx files into "
            "~/.insightface/models/buffalo_l, or use the bundled embedding 'mobilefacenet'."
        ) from error


def _unit(vector: np.ndarray) -> np.ndarray:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
