"""One person's face in footage that may have cuts, other people, and stretches without the face; frame after frame.

A face that is lost, or a picture that changes at once, is searched for again, and what is found counts only if it is the same person's.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.perception.face_embedding import embed_face
from fantasytalking.perception.face_search import find_faces
from fantasytalking.perception.faces import face_of_mesh
from fantasytalking.perception.mesh_network import MIN_SCORE, FaceMesh, mesh_in_region, region_of_mesh

__all__ = ["FaceFollower"]

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SAME_PERSON = 0.45
"""Cosine with the followed face's embedding from which on a face that is found anywhere is taken for it."""
SAME_PLACE = 0.25
"""The same for a face that is found where the followed one was last: turned heads look less alike."""
CHANGED = 10.0
"""Mean change of a picture of 32 x 32 pixels, 0..255, from which on another shot may have begun."""
THOROUGH_EVERY = 25
"""Frames between two searches for small faces, which are slow."""
_SIDE = 32
_KEEP = 0.9


class FaceFollower:
    """Finds the face of one person in each frame; give the frames in order.

    Args:
        index: Number of the face, 0 for the largest, in the first frame that shows as many.

    Attributes:
        most: Largest number of faces seen at once before the followed one was found.
    """

    def __init__(self, index: int = 0) -> None:
        self.most = 0
        self._index, self._frame = index, -1
        self._last: Array | None = None
        self._lost = True
        self._known: Array | None = None
        self._small: Array | None = None

    def __call__(self, frame: Pixels) -> FaceMesh | None:
        """Mesh of the face in the next frame [H, W, 3]; None where it is not seen."""
        self._frame += 1
        if self._is_changed(frame):
            # in another shot the face is somewhere else, and a face in its place may be another one
            self._last = None
        mesh = None
        if self._last is not None and not self._lost:
            mesh = mesh_in_region(frame, region_of_mesh(self._last))
        if mesh is None or mesh.score < MIN_SCORE or self._has_jumped(mesh):
            mesh = self._search(frame)
        self._lost = mesh is None
        if mesh is not None:
            self._last = mesh.points
            if self._frame % THOROUGH_EVERY == 0:
                self._learn(frame, mesh)
        return mesh

    def _is_changed(self, frame: Pixels) -> bool:
        small = cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._small = self._small, small
        return before is not None and float(np.abs(small - before).mean()) > CHANGED

    def _has_jumped(self, mesh: FaceMesh) -> bool:
        assert self._last is not None
        region, before = region_of_mesh(mesh.points), region_of_mesh(self._last)
        away = math.dist((region.x, region.y), (before.x, before.y))
        return away > 0.4 * before.size or not 0.6 < region.size / before.size < 1.6

    def _search(self, frame: Pixels) -> FaceMesh | None:
        found = find_faces(frame, thorough=self._frame % THOROUGH_EVERY == 0)
        if self._known is None:
            self.most = max(self.most, len(found))
            if len(found) <= self._index:
                return None
            mesh = found[self._index].mesh
            self._known = self._embedding(frame, mesh)
            return mesh
        best, best_cosine = None, 0.0
        for face in found:
            cosine = float(self._embedding(frame, face.mesh) @ self._known)
            needed = SAME_PLACE if self._is_near(face.mesh) else SAME_PERSON
            if cosine >= needed and cosine > best_cosine:
                best, best_cosine = face.mesh, cosine
        return best

    def _is_near(self, mesh: FaceMesh) -> bool:
        return self._last is not None and not self._has_jumped(mesh)

    @staticmethod
    def _embedding(frame: Pixels, mesh: FaceMesh) -> Array:
        return np.asarray(embed_face(frame, face_of_mesh(mesh.points, mesh.score)), np.float32)

    def _learn(self, frame: Pixels, mesh: FaceMesh) -> None:
        """Take how the person looks now into what is known of the face."""
        assert self._known is not None
        mean = _KEEP * self._known + (1 - _KEEP) * self._embedding(frame, mesh)
        self._known = mean / np.linalg.norm(mean)
