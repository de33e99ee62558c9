"""Kills of a run in each of its phases, and the comparison with a run that nobody disturbed.

The runs are forks of this process, which has imported everything but computed nothing: a start costs no import, and a fork has no
threads. Each begins with another random state of torch, NumPy and Python, so that a draw from one of them would show.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.utils.tensorboard  # which each run would import for itself
from safetensors import safe_open
from toy_runs import ToyRun

from fantasytalking.system.json import read_json_lines
from fantasytalking.training.trainer.phases import PHASES
from fantasytalking.training.trainer.run_folder import RunFolder

TIMES = (
    *("steps_per_second", "samples_per_second", "tokens_per_second", "minutes_left", "memory_gib", "mfu"),
    *("peak_flops", "time"),
)
"""Values of the log that depend on the clock."""
OWN_TO_A_START = ("starts.jsonl", PHASES, "tensorboard")
"""Files and folders with times and process numbers, which are not compared."""
_POLL = 0.002  # seconds


def start(work: Callable[[], object], log: Path) -> int:
    """Fork a process that does some work in a session of its own; returns its number."""
    sys.stdout.flush(), sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, 1), os.dup2(target, 2)
        torch.set_num_threads(1), cv2.setNumThreads(1)
        torch.seed(), np.random.seed(), random.seed()
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def train(run: ToyRun, material: Path, output: Path) -> None:
    """Run a recipe to its end.

    Raises:
        RuntimeError: It drew from a global random state.
    """
    before = _global_state()
    run.train(material, output)
    if _global_state() != before:
        raise RuntimeError("the run drew from the global random state of torch, NumPy or Python")


def _global_state() -> tuple[bytes, ...]:
    return (
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()).encode(),
        repr(random.getstate()).encode(),
    )


def ended(process: int, wait: bool, log: Path) -> bool:
    """Whether a process has finished its work.

    Raises:
        RuntimeError: It failed.
    """
    found, status = os.waitpid(process, 0 if wait else os.WNOHANG)
    if found and status:
        raise RuntimeError(f"the run failed ({status}):\n{log.read_text(errors='replace')[-3000:]}")
    return bool(found)


def entered(output: Path) -> list[str]:
    """Phases that the starts of a run have begun so far."""
    return [str(line["phase"]) for line in read_json_lines(output / PHASES)]


def kill_in(run: ToyRun, phase: str, work: Callable[[], object], output: Path, delay: float, log: Path) -> str | None:
    """Start a run and kill it some seconds after it has begun a phase.

    Returns:
        The phase in which it died, which may be a later one, or None if it finished.
    """
    before, process = len(entered(output)), start(work, log)
    later = set(run.phases[run.phases.index(phase) :])
    while not later.intersection(entered(output)[before:]):
        if ended(process, False, log):
            return None
        time.sleep(_POLL)
    time.sleep(delay)
    if ended(process, False, log):
        return None
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return entered(output)[-1]


def seconds_of(output: Path, phases: tuple[str, ...], end: float) -> dict[str, float]:
    """How long each phase of an undisturbed run took."""
    lines = read_json_lines(output / PHASES)
    times = [*(datetime.fromisoformat(str(line["time"])).timestamp() for line in lines), end]
    return {str(line["phase"]): times[i + 1] - times[i] for i, line in enumerate(lines) if line["phase"] in phases}


def measure(name: str, run: ToyRun, material: Path, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill a run so often in every phase, and compare.

    A run goes on in the same folder until it is done. Then it is compared, and another one is begun if kills are missing.
    """
    folder.mkdir(parents=True)
    log, whole = folder / "log", folder / "undisturbed"
    ended(start(partial(train, run, material, whole), log), True, log)
    lengths = seconds_of(whole, run.phases, time.time())
    rng, counts, different, runs = random.Random(seed), Counter[str](), [], 0
    late = Counter[str]()  # kills that came after the end of the run, by the phase that they were meant for
    most = math.ceil(kills / 4)  # in a phase of one folder, so that each is met in several states
    while any(counts[phase] < kills for phase in run.phases):
        output, here, reached, runs = folder / f"killed-{runs}", Counter[str](), 0, runs + 1
        work = partial(train, run, material, output)
        while True:
            missing = [p for p in run.phases[reached:] if counts[p] < kills and here[p] < most]
            if not missing:
                break
            delay = rng.uniform(0, max(0.01, lengths[missing[0]] / 2 ** late[missing[0]]))
            died = kill_in(run, missing[0], work, output, delay, log)
            if died is None:
                late[missing[0]] += 1
                break
            reached = run.phases.index(died)
            counts[died] += 1
            here[died] += 1
            print(f"{name}: kill {counts[died]} in {died}", file=sys.stderr, flush=True)
        ended(start(work, log), True, log)
        different += [f"{output.name}: {row}" for row in differences(whole, output)]
    return {
        "recipe": name,
        "kills": {phase: counts[phase] for phase in run.phases},
        "seconds": {phase: round(value, 2) for phase, value in lengths.items()},
        "runs": runs,
        "files": len(files(whole)),
        "equal": not different,
        "different": different[:20],
    }


def files(folder: Path) -> dict[str, Path]:
    """Files of a run that must not depend on kills, hidden ones included, by their path in the folder."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path for name, path in found.items() if not set(name.parts).intersection(OWN_TO_A_START)}


def differences(one: Path, two: Path) -> list[str]:
    """Files that only one of two runs has, or whose content differs: weights, averages, optimiser state, losses, measurements, results."""
    first, second = files(one), files(two)
    rows = [f"{name} is only in one of the runs" for name in sorted(first.keys() ^ second.keys())]
    return rows + [f"{n} differs" for n in sorted(first.keys() & second.keys()) if not _equal(first[n], second[n])]


def _equal(one: Path, two: Path) -> bool:
    if one.name == "log.jsonl":
        return losses(one.parent) == losses(two.parent)
    if one.suffix == ".npz":  # its directory holds the time of writing
        with np.load(one) as a, np.load(two) as b:
            return set(a) == set(b) and all(np.array_equal(a[key], b[key]) for key in a)
    if one.suffix == ".safetensors":  # its header is in no fixed order
        return _tensors(one) == _tensors(two)
    return one.read_bytes() == two.read_bytes()


def _tensors(path: Path) -> dict[str, Any]:
    """Content of a safetensors file: type, shape and bytes of each tensor, and the texts beside them."""
    with safe_open(path, "pt") as file:
        texts: dict[str, Any] = dict(file.metadata() or {})
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    if "places" in texts:  # of a checkpoint
        texts["places"] = json.loads(texts["places"])
    values = {
        k: (v.dtype, v.shape, v.contiguous().view(torch.uint8).numpy().tobytes() if v.ndim else v.item())
        for k, v in tensors.items()
    }
    return texts | values


def losses(run: Path) -> list[str]:
    """Records without the times, the last of each step."""
    records = RunFolder(run).records()
    return [json.dumps({k: v for k, v in record.items() if k not in TIMES}, sort_keys=True) for record in records]
