"""Which metrics there are, and which implementation of each is taken: the standard one where its weights are at hand, else the proxy."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fantasytalking.errors import SettingsError
from fantasytalking.evaluation.metrics.metric import Metric
from fantasytalking.evaluation.networks.metric_weights import WEIGHTS, cache_folder, locate

__all__ = ["ALL", "METRICS", "Backend", "Choice", "Entry", "build", "choose", "lacking"]

Backend = Literal["auto", "standard", "proxy"]


@dataclass(frozen=True)
class Entry:
    """A metric family.

    Attributes:
        module: with `standard(device)` and `proxy(device)`.
        summary: for the help.
        needs: keys of `weights.WEIGHTS` that the standard implementation reads; empty: it needs nothing.
        packages: that it imports besides.
    """

    module: str
    summary: str
    needs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


METRICS = {
    "fid": Entry("fid", "FID: pictures against the real ones", ("inception",)),
    "fvd": Entry("fvd", "FVD: short videos against the real ones", ("i3d",)),
    "sync": Entry("sync", "Sync-C and Sync-D: lips and sound in step", ("syncnet",)),
    "es": Entry("expression_similarity", "ES: expression between frames", ("deep3d",)),
    "idc": Entry("identity_consistency", "IDC: face between frames", ("dino",)),
    "dynamics": Entry("dynamics", "SD and BD: motion of person and background", ("raft", "sam"), ("torchvision",)),
    "aesthetic": Entry("aesthetic", "Aesthetic: the LAION predictor", ("clip", "aesthetic")),
    "csim": Entry("csim", "CSIM: face against the real person's", (), ("insightface",)),
    "efid": Entry("efid", "E-FID: expressions against the real ones", ("deep3d",)),
    "qalign": Entry("qalign", "IQA and ASE: Q-Align", ("qalign",), ("pyiqa",)),
    "mouth": Entry("mouth", "correlation of mouth opening with the real clip"),
    "sharpness": Entry("sharpness", "sharpness of the face over the real clip's"),
}
"""Name on the command line -> family; one file each."""
ALL = tuple(METRICS)
_ALWAYS = ("mouth", "sharpness")


@dataclass(frozen=True)
class Choice:
    """One metric family and the implementation taken; cheap to send to another process."""

    name: str
    standard: bool
    device: str


def choose(names: Sequence[str], backend: Backend, device: str) -> tuple[list[Choice], list[str]]:
    """Decide for each metric between standard and proxy; nothing is fetched.

    Args:
        names: of `METRICS`.
        backend: `auto` takes the standard implementation where its weights and packages are there.
        device: for the standard networks.

    Returns:
        Choices, and a sentence about the proxies, if there are any, and what would give the standard numbers.

    Raises:
        SettingsError: an unknown metric.
        CheckpointError, MissingDependencyError: `standard` is asked for and something is not there.
    """
    choices, absent = [], []
    for name in dict.fromkeys(names):
        if name not in METRICS:
            nearest = difflib.get_close_matches(name, METRICS, n=1)
            way_out = f"did you mean '{nearest[0]}'?" if nearest else f"there are {', '.join(METRICS)}."
            raise SettingsError(f"There is no metric '{name}'; {way_out}")
        entry = METRICS[name]
        if name in _ALWAYS or backend == "standard":
            choices.append(Choice(name, True, device))
            continue
        wanting = lacking(name) if backend == "auto" else []
        choices.append(Choice(name, backend == "auto" and not wanting, device))
        if wanting:
            absent.append(f"{entry.summary.partition(':')[0]} ({', '.join(wanting)})")
    notes = [
        f"Measured by labelled proxies, as what the standard implementation reads is not in {cache_folder()} or not installed: "
        f"{'; '.join(absent)}. --fetch gets the weights."
    ]
    return choices, notes if absent else []


def lacking(name: str) -> list[str]:
    """Weights and packages that the standard implementation of a metric would need; looked up, never fetched."""
    entry = METRICS[name]
    absent = [WEIGHTS[key].filename for key in entry.needs if locate(key) is None]
    absent += [f"package {package}" for package in entry.packages if importlib.util.find_spec(package) is None]
    pack = Path("~/.insightface/models/buffalo_l").expanduser()
    if name == "csim" and not absent and not list(pack.glob("*.onnx")):
        absent.append("buffalo_l pack")
    return absent


def build(choice: Choice) -> Metric:
    """The metric of a choice, its networks loaded.

    Raises:
        CheckpointError, MissingDependencyError: what it needs is not there; the message says how to get it.
    """
    module = importlib.import_module(f"fantasytalking.evaluation.{METRICS[choice.name].module}")
    metric: Metric = (module.standard if choice.standard else module.proxy)(choice.device)
    return metric
