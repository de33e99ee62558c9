"""SD and BD: motion of subject and background (paper, section 4.1).

The paper splits each frame into foreground and background with SAM and averages the magnitude of RAFT's optical flow over each. The
unit is pixels per frame, so the numbers depend on size and frame rate: both are in the protocol. Neither direction is better in itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.evaluation.footage import Footage, Frames
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.evaluation.results import Column, Curve

__all__ = ["Dynamics", "dis_flows", "proxy", "region_speeds", "standard"]

_REGION = {"SD": "person", "BD": "background"}
_SMALLEST_REGION = 0.005
"""Share of the picture below which a region counts as absent."""


class Dynamics(Metric):
    """Mean speed of subject and background.

    Args:
        flows: uint8 [F, H, W, 3] -> F - 1 flows float32 [H, W, 2], in pixels from one frame to the next.
        masks: Footage -> bool [F, H, W], the subject.
        columns: SD and BD.
    """

    name = "dynamics"

    def __init__(
        self,
        flows: Callable[[Frames], Iterator[NDArray[np.float32]]],
        masks: Callable[[Footage], NDArray[np.bool_]],
        columns: tuple[Column, Column],
    ) -> None:
        self.flows, self.masks, self.columns = flows, masks, columns

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Average over frames; a clip without background (or without a subject) has only the other number."""
        speeds = region_speeds(self.flows(clip.frames), self.masks(clip)[:-1])
        found = {
            c.key: float(np.nanmean(s)) for c, s in zip(self.columns, speeds.T, strict=True) if np.isfinite(s).any()
        }
        seconds = tuple(float(t) for t in np.arange(len(speeds)) / clip.protocol.fps)
        motion = Curve(seconds, tuple(float(v) for v in np.nan_to_num(speeds[:, 0])))
        missing = [c.label for c in self.columns if c.key not in found]
        notes = tuple(
            f"{label} has no value: no frame shows a {_REGION[label[:2]]} of at least 0.5 % of the picture"
            for label in missing
        )
        return Measurement(found, curves={"motion": motion}, notes=notes)


def region_speeds(flows: Iterator[NDArray[np.float32]], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean length of the flow inside and outside the masks.

    Args:
        flows: n flows [H, W, 2] in pixels per frame.
        masks: bool [n, H, W].

    Returns:
        [n, 2] inside and outside, in pixels per frame; NaN where a region covers less than 0.5 % of the picture.
    """
    rows = []
    for flow, mask in zip(flows, masks, strict=True):
        length = np.linalg.norm(flow, axis=-1)
        share = float(mask.mean())
        rows.append(
            (
                float(length[mask].mean()) if share >= _SMALLEST_REGION else np.nan,
                float(length[~mask].mean()) if 1 - share >= _SMALLEST_REGION else np.nan,
            )
        )
    return np.array(rows, np.float64)


def dis_flows(frames: Frames) -> Iterator[NDArray[np.float32]]:
    """Dense inverse search (Kroeger et al. 2016) between neighbouring frames, medium preset, on grey images."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
    for frame in frames[1:]:
        after = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        yield np.asarray(search.calc(before, after, None), np.float32)
        before = after


def _columns(how: str, weights: dict[str, str], proxy_labels: tuple[str, str] = ("", "")) -> tuple[Column, Column]:
    first, second = (
        metric_column(
            "dynamics",
            key,
            "neither",
            3,
            f"Mean length of the optical flow over the {region}, in pixels of the protocol's size from frame to frame: {how}.",
            weights,
            proxy_label=label,
            unit="px/frame",
        )
        for (key, region), label in zip((("sd", "person"), ("bd", "background")), proxy_labels, strict=True)
    )
    return first, second


def proxy(device: str = "cpu") -> Dynamics:
    """SD-dis and BD-dis, with OpenCV's DIS flow and the bundled person segmentation."""
    how = "flow by dense inverse search, person by MediaPipe's selfie segmentation. Not the paper's RAFT and SAM"
    columns = _columns(how, bundled_digest("selfie_segmentation.tflite"), ("SD-dis", "BD-dis"))
    return Dynamics(dis_flows, lambda clip: clip.persons, columns)


def standard(device: str = "cpu") -> Dynamics:
    """SD and BD, with RAFT and SAM."""
    from fantasytalking.evaluation.networks import raft, sam
    from fantasytalking.evaluation.networks.metric_weights import digest

    flow, segment = raft.load(device=device), sam.load(device=device)

    def masks(footage: Footage) -> NDArray[np.bool_]:
        return segment.masks(footage.frames, list(footage.face_boxes()))

    how = "flow by RAFT large, person by SAM ViT-B prompted with the face's box"
    columns = _columns(how, {key: digest(key) for key in ("raft", "sam")})
    return Dynamics(flow.flows, masks, columns)
