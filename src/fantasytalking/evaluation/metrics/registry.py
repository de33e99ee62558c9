"""The table of metrics, and the choice between the standard implementation of each and its proxy.

A new metric is a file in this folder and a line in `METRICS`. Command line, documentation and reports take their names from the table.
Importing this module loads no framework.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fantasytalking.errors import SettingsError
from fantasytalking.evaluation.networks.metric_weights import WEIGHTS, cache_folder, locate
from fantasytalking.system.records import nearest_name

if TYPE_CHECKING:
    from fantasytalking.evaluation.metrics.metric import Metric

__all__ = [
    "ALL",
    "METRICS",
    "Backend",
    "Choice",
    "MetricEntry",
    "build",
    "check_metrics",
    "choose",
    "lacking",
    "metrics_help",
]

Backend = Literal["auto", "standard", "proxy"]


@dataclass(frozen=True)
class MetricEntry:
    """One line of the table: a metric family, whose columns are measured together.

    Attributes:
        module: File in this folder (or dotted name of a module elsewhere) with `standard(device) -> Metric` and, unless the metric
            needs no network of its own, `proxy(device) -> Metric`.
        figures: Column key -> name of the figure as it is published. A proxy fills the same keys under names of its own.
        summary: What it measures, for help and documentation.
        weights: Keys of `metric_weights.WEIGHTS` that the standard implementation reads.
        packages: Packages that it imports beyond those of this project.
        insightface: Model pack of InsightFace that it reads, or "".
    """

    module: str
    figures: Mapping[str, str]
    summary: str
    weights: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    insightface: str = ""

    @property
    def label(self) -> str:
        """The published names, such as `Sync-C and Sync-D`."""
        return " and ".join(self.figures.values())

    @property
    def has_proxy(self) -> bool:
        """Whether a proxy exists: only what depends on weights or packages has one."""
        return bool(self.weights or self.packages)


METRICS: dict[str, MetricEntry] = {
    "fid": MetricEntry("fid", {"fid": "FID"}, "images against the real ones", ("inception",)),
    "fvd": MetricEntry("fvd", {"fvd": "FVD"}, "short videos against the real ones", ("i3d",)),
    "sync": MetricEntry(
        "sync_confidence", {"sync_c": "Sync-C", "sync_d": "Sync-D"}, "lips and sound in step", ("syncnet",)
    ),
    "es": MetricEntry("expression_similarity", {"es": "ES"}, "expression between frames", ("deep3d",)),
    "idc": MetricEntry("identity_consistency", {"idc": "IDC"}, "face between frames", ("dino",)),
    "dynamics": MetricEntry(
        "dynamics", {"sd": "SD", "bd": "BD"}, "motion of person and background", ("raft", "sam"), ("torchvision",)
    ),
    "aesthetic": MetricEntry("aesthetic", {"aesthetic": "Aesthetic"}, "the LAION predictor", ("clip", "aesthetic")),
    "csim": MetricEntry(
        "csim", {"csim": "CSIM"}, "face against the real person's", (), ("insightface",), insightface="buffalo_l"
    ),
    "efid": MetricEntry("efid", {"efid": "E-FID"}, "expressions against the real ones", ("deep3d",)),
    "qalign": MetricEntry("iqa_ase", {"iqa": "IQA", "ase": "ASE"}, "quality by Q-Align", ("qalign",), ("pyiqa",)),
    "mouth": MetricEntry("mouth_correlation", {"mouth": "mouth r"}, "mouth opening against the real clip's"),
    "sharpness": MetricEntry("sharpness", {"sharpness": "sharpness"}, "sharpness of the face over the real clip's"),
    "articulation": MetricEntry(
        "articulation",
        {
            "lips_closed": "lips closed",
            "lip_contrast": "lip contrast",
            "lip_spread": "lip spread",
            "lip_rest": "lips at rest",
        },
        "closing and opening of the lips where speech demands it",
    ),
    "blinks": MetricEntry(
        "blinks",
        {
            "blink_rate": "blinks",
            "blink_depth": "blink depth",
            "blink_length": "blink length",
            "blink_symmetry": "blink symmetry",
        },
        "rate, depth, length and symmetry of blinks",
    ),
    "head": MetricEntry(
        "head_motion",
        {
            "yaw_spread": "yaw spread",
            "pitch_spread": "pitch spread",
            "roll_spread": "roll spread",
            "head_speed": "head speed",
            "head_jerk": "head jerk",
            "head_with_speech": "head with speech",
        },
        "motion of the head over the real clip's, and with the speech",
    ),
    "face": MetricEntry("face_found", {"face_found": "face found"}, "frames in which a face is found"),
    "theval": MetricEntry(
        "theval",
        {
            "theval_lips": "THEval lip dynamics",
            "theval_brows": "THEval eyebrow dynamics",
            "theval_silence": "THEval silent lips",
            "theval_sync": "THEval lip sync",
            "theval_score": "THEval score of four",
        },
        "four measures of THEval and its score",
    ),
}
"""Name on the command line -> metric, in the order of the report's columns."""
ALL = tuple(METRICS)


@dataclass(frozen=True)
class Choice:
    """A metric and the implementation that measures it; small enough to be sent to another process."""

    name: str
    standard: bool
    device: str


def choose(names: Sequence[str], backend: Backend, device: str) -> tuple[list[Choice], list[str]]:
    """Decide for each metric between standard implementation and proxy; nothing is downloaded.

    Args:
        names: Keys of `METRICS`; repetitions are dropped.
        backend: `auto` takes the standard implementation where its weights and packages are installed.
        device: Where the standard networks run.

    Returns:
        The choices, and at most one sentence that names the proxies and what the standard figures need.

    Raises:
        SettingsError: Unknown metric.
        CheckpointError: A file of weights differs from the listed one.
    """
    choices, absent = [], []
    check_metrics(names)
    for name in dict.fromkeys(names):
        entry = METRICS[name]
        if not entry.has_proxy or backend == "standard":
            choices.append(Choice(name, True, device))
            continue
        wanting = lacking(name) if backend == "auto" else []
        choices.append(Choice(name, backend == "auto" and not wanting, device))
        if wanting:
            absent.append(f"{entry.label} ({', '.join(wanting)})")
    notes = [
        f"Measured by labelled proxies, as what the standard implementation reads is not in {cache_folder()} or not installed: "
        f"{'; '.join(absent)}. --fetch gets the weights."
    ]
    return choices, notes if absent else []


def check_metrics(names: Sequence[str]) -> None:
    """Check that metrics exist.

    Raises:
        SettingsError: There is no such metric, or none at all; the message offers the nearest one.
    """
    if not names:
        raise SettingsError(f"No metric was given; give some of {', '.join(METRICS)}.")
    for name in names:
        if name not in METRICS:
            raise SettingsError(f"There is no metric '{name}'; {nearest_name(name, METRICS, 'metrics')}")


def metrics_help() -> str:
    """Help text of an option that takes names of metrics."""
    names = ", ".join(f"{name} ({entry.label})" for name, entry in METRICS.items())
    return f"Metrics to measure: {names}; none given means all of them."


def lacking(name: str) -> list[str]:
    """Weights and packages that the standard implementation of a metric needs and that are not installed."""
    entry = METRICS[name]
    absent = [WEIGHTS[key].filename for key in entry.weights if locate(key) is None]
    absent += [f"package {package}" for package in entry.packages if importlib.util.find_spec(package) is None]
    if entry.insightface and not absent:
        pack = Path("~/.insightface/models").expanduser() / entry.insightface
        absent += [] if list(pack.glob("*.onnx")) else [f"{entry.insightface} pack"]
    return absent


def build(choice: Choice) -> Metric:
    """Make the metric of a choice and load its networks.

    Raises:
        CheckpointError: Weights are missing or differ from the listed ones; the message says how to get them.
        MissingDependencyError: A package is missing.
    """
    entry = METRICS[choice.name]
    module = importlib.import_module(entry.module if "." in entry.module else f"{__package__}.{entry.module}")
    metric: Metric = (module.standard if choice.standard or not entry.has_proxy else module.proxy)(choice.device)
    return metric
