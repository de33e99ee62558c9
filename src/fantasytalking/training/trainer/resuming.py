"""Resuming a run: whether the folder holds this run, what may be changed on the way, and how to go on after divergence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fantasytalking.errors import ResourceError, SettingsError
from fantasytalking.pipeline.progress import show_note
from fantasytalking.system.files import replace_folder
from fantasytalking.system.json import read_json, read_json_lines
from fantasytalking.training.trainer.config import MAY_CHANGE, LoopConfig, differences
from fantasytalking.training.trainer.run_folder import PREFIX, RunFolder

__all__ = ["Change", "changes", "check_same_run", "divergence", "note_changes", "note_finished"]

ADJUSTABLE = re.compile(r"weight_decay|clip_norm|stages\.\d+\.(learning_rate|final_fraction|warmup|steps)")
"""Fields that change the result and may differ on resume only with `allow_changes`; the length of a stage only until it is over."""
ALLOW = "--train.allow-changes"
"""Option that gives leave to change these."""
LOWER = 4
"""Factor by which the advice after divergence lowers the learning rate."""
HIGHEST_ADVISED = 1e-3
"""Learning rate that the advice after divergence does not exceed, however high the one was that diverged."""
DIVERGED = "diverged-"
"""Beginning of the name of a checkpoint whose weights diverged; it is never resumed."""


@dataclass(frozen=True)
class Change:
    """A setting that differs from the one that a run was begun with.

    Attributes:
        text: The difference, as `differences` words it.
        name: Dotted path of the setting.
        adjustable: Whether it may change with `allow_changes`.
    """

    text: str
    name: str
    adjustable: bool


def changes(stored: dict[str, Any], now: dict[str, Any], step: int) -> list[Change]:
    """List the settings of a run that would change its result if it were resumed with them.

    Args:
        stored: Configuration that the run was begun with, as JSON values.
        now: Present configuration, as JSON values.
        step: Steps that the run has done.
    """
    found = []
    for text in differences(stored, now):
        name = text.partition(": ")[0]
        if name.split(".")[0] in MAY_CHANGE:
            continue
        adjustable = ADJUSTABLE.fullmatch(name) is not None
        if adjustable and name.endswith(".steps"):
            number = int(name.split(".")[1])
            begun = sum(stage["steps"] for stage in stored["stages"][:number])
            last, end = number == len(stored["stages"]) - 1, begun + stored["stages"][number]["steps"]
            # a stage that is over, or would be shorter than what is done of it, would shift every later step
            adjustable = (step < end or last) and begun + now["stages"][number]["steps"] >= step
        found.append(Change(text, name, adjustable))
    return found


def check_same_run(
    run: RunFolder, config: LoopConfig, method: Mapping[str, Any], fingerprint: str | None
) -> list[Change]:
    """Check that a run folder with a checkpoint belongs to this run.

    Args:
        run: The folder.
        config: Present configuration.
        method: Settings of the objective beyond the configuration.
        fingerprint: Checksum of the data; None if unknown.

    Returns:
        Settings that are changed on purpose.

    Raises:
        SettingsError: It belongs to another run, or something is changed without leave.
    """
    before = _stored(run.method)
    now = json.loads(json.dumps(dict(method)))
    for name in () if before is None else now:
        if before is not None and before.get(name) != now[name]:
            raise SettingsError(
                f"The run in {run.path} was begun with {name} = {before.get(name)}, but now it is {now[name]}; give the same settings to "
                "go on, or another output folder."
            )
    if not run.config.exists():
        return []
    latest = run.latest()
    step = 0 if latest is None else int(latest.name.removeprefix(PREFIX))
    # Through JSON, which has no tuples.
    stored, given = _stored(run.config) or {}, json.loads(json.dumps(asdict(config)))
    found = changes(stored, given, step)
    rows = [one.text for one in found if not (one.adjustable and config.allow_changes)]
    starts = read_json_lines(run.starts)
    data = starts[-1].get("data") if starts else None
    other_data = data is not None and fingerprint not in (None, data)
    if other_data:
        rows.append(f"data: checksum {str(data)[:12]} there, {str(fingerprint)[:12]} now")
    if rows:
        leave = "" if other_data or not all(one.adjustable for one in found) else f"add {ALLOW} to change them, "
        raise SettingsError(
            f"{run.path} holds a run with other settings ({'; '.join(rows)}); give it those settings to go on, {leave}or another run "
            "folder for a new run."
        )
    return found


def _stored(path: Path) -> dict[str, Any] | None:
    """What an earlier start wrote to a file of the run folder; None if there is no such file.

    Raises:
        SettingsError: The file is damaged.
    """
    found = read_json(path)
    if path.exists() and not isinstance(found, dict):
        raise SettingsError(
            f"{path} is damaged, so the run's settings cannot be compared with the present ones; delete it to go on with "
            "the present ones, which must be those that the run was begun with."
        )
    return found if isinstance(found, dict) else None


def note_changes(run: RunFolder, step: int, changed: Sequence[Change]) -> None:
    """Say on stderr what was changed on purpose."""
    if changed:
        rows = "; ".join(one.text for one in changed)
        show_note(f"{run.path} goes on from step {step} with changes ({rows}).")


def note_finished(run: RunFolder, config: LoopConfig) -> None:
    """Say on stderr that a run has done all its steps, and how it is trained on."""
    latest, stored = run.latest(), read_json(run.config)
    given = json.loads(json.dumps(asdict(config)))
    if not isinstance(stored, dict) or any(
        one.name.partition(".")[0] != "model" for one in changes(stored, given, config.total_steps)
    ):
        return  # another configuration, which is refused
    if latest is not None and latest.name == f"{PREFIX}{config.total_steps}":
        show_note(
            f"{run.path} has all its {config.total_steps} steps and is not trained further; to train on, lengthen its last stage "
            f"(--train.stages.{len(config.stages) - 1}.steps) and add {ALLOW}.",
        )


def divergence(run: RunFolder, config: LoopConfig, step: int, error: Exception, is_main: bool = True) -> ResourceError:
    """Set aside a checkpoint of the weights that diverged, and make the error with the options that train on from before.

    Args:
        run: The run folder.
        config: Configuration of the run.
        step: Steps done; with these weights the loss, the gradient or the weights themselves were not finite.
        error: What was found.
        is_main: Whether this process renames the checkpoint.
    """
    latest, aside = run.latest(), ""
    if latest is not None and latest.name == f"{PREFIX}{step}":
        aside = f" The checkpoint of these weights is set aside as {DIVERGED}{latest.name}."
        if is_main:
            replace_folder(latest, latest.with_name(f"{DIVERGED}{latest.name}"))
        earlier = [path for path in run.checkpoints() if path.name != latest.name]
        latest = earlier[-1] if earlier else None
    schedule, _ = config.at(step)
    rate = min(schedule.learning_rate / LOWER, HIGHEST_ADVISED)
    lower = f"a lower learning rate, {config.rate_option(config.stages.index(schedule))} {rate:g}"
    if latest is None:
        way = f"There is no checkpoint from before: give the same command with {lower}."
    else:
        way = f"The newest checkpoint, {latest.name}, is from before: give the same command with {lower} {ALLOW}."
    return ResourceError(f"Training in {run.path} diverged after step {step}: {error}.{aside} {way}")
