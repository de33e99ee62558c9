"""`fantasytalking batch`: the videos of a manifest, on one or several devices; resumable."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from fantasytalking.cli.batch_cases import WORK, BatchCase, check_batch_folder, read_cases
from fantasytalking.cli.options import SettingOptions, given_settings, parse
from fantasytalking.cli.server_run import BatchServer, check_server_options
from fantasytalking.errors import FantasyTalkingError, OutputError, SettingsError
from fantasytalking.generation.run_options import (
    MemoryOptions,
    ProfileOptions,
    RunOptions,
    check_device_options,
    check_weights_options,
    parse_loras,
    use_signing_options,
)
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.progress import Progress, TerminalProgress, quiet_frameworks
from fantasytalking.system.digests import file_fingerprint
from fantasytalking.system.files import remove_unfinished
from fantasytalking.system.json import append_json_line
from fantasytalking.system.startup import check_threads, importing_frameworks

__all__ = ["Batch", "deciding", "main", "run"]

Results = Callable[[list[BatchCase]], Iterator[dict[str, Any]]]
"""Generates cases; gives a line of the report for each as it ends."""


@dataclass(frozen=True)
class Batch:
    """Generate the videos of a manifest, on one or several devices; run the same command again to resume.

    A line of the manifest is a JSON object with image, audio, an optional name, and settings under their own names. Relative paths are
    relative to the manifest. The path of the report is the last line of the output; the exit status is 2 if a case failed.
    """

    manifest: Annotated[Path, tyro.conf.Positional]
    """File of JSON lines, one case a line."""
    output: Path
    """Folder of the videos, NAME.mp4 for each case, and of report.jsonl."""
    model: str = "embedded"
    """embedded (comes with the package), a model folder, or the name of a repository on the Hugging Face hub."""
    workers: int | None = None
    """Processes that generate, with Ray if more than one: by default one for each CUDA device, and one on other machines. With --server:
    videos that are made at a time."""
    server: str | None = None
    """Address of a service ('fantasytalking serve') that makes the videos, such as http://127.0.0.1:8000; --model is one of its models."""
    token_file: Path | None = None
    """With --server: file with the access token."""
    run: RunOptions = field(default_factory=RunOptions)
    """How and where the command runs."""
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    """How much memory it takes."""
    speed: ProfileOptions = field(default_factory=ProfileOptions)
    """How exact and how fast it is."""
    settings: SettingOptions = field(default_factory=SettingOptions)
    """How the videos are generated, where a line of the manifest does not say it."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking batch --help`."""
    return run(parse(Batch, "batch", arguments))


def run(options: Batch) -> int:
    """Generate the videos that are missing, and print the path of the report.

    Returns:
        The exit status: 0, or 2 if a case failed.

    Raises:
        SettingsError: An option or a setting is not accepted.
        InputError: The manifest cannot be used.
        CheckpointError: The model cannot be used.
        OutputError: The output folder cannot be used, or another process generates a batch into it.
    """
    given = given_settings(options.settings)
    check_threads(options.run.threads)
    use_signing_options(options.run)
    if options.workers is not None and options.workers < 1:
        raise SettingsError(
            f"--workers must be at least 1, but {options.workers} was given; leave it out for the default."
        )
    check_server_options(options.server, options.token_file, options.run, (options.memory, options.speed), {})
    check_weights_options(options.run.transformer, options.run.adapter)
    if options.server is None:
        check_device_options(options.run, options.speed)
    model = _whole_path(options.model) if options.server is None else options.model
    options = dataclasses.replace(options, output=options.output.expanduser().absolute(), model=model)
    cases = read_cases(options.manifest, options.output, given, deciding(options))
    check_batch_folder(options.output, cases, options.run.overwrite)
    progress = TerminalProgress()
    results = _remote(options) if options.server is not None else _local(options, progress)
    from fantasytalking.system.folder_owner import owned

    with owned(options.output, "generating a batch into", tell=progress.note):
        work = options.output / WORK
        work.mkdir(exist_ok=True)
        remove_unfinished(work)
        # The folder is the user's, who may keep half-written files of other programs in it.
        for part in options.output.glob(".report.*.part.jsonl"):
            part.unlink(missing_ok=True)
        rows = _generate(options, cases, results, progress)
    return _print(options, rows, progress)


def _whole_path(model: str) -> str:
    """The name of a model, for workers that may have another current folder."""
    folder = resolve_model(model)
    given = Path(model).expanduser()
    return str(given.absolute()) if isinstance(folder, Path) and given.is_dir() and given == folder else model


def deciding(options: Batch) -> dict[str, Any]:
    """What determines all videos besides the lines: the model's files, and the options that change what it computes."""
    if options.server is not None:
        return {"model": {"server": options.model}, "speed": [options.speed.profile]}
    from fantasytalking.acceleration.few_step_lora import DEFAULTS_FILE

    folder = resolve_model(options.model)
    weights: dict[str, str] = {}
    if isinstance(folder, Path):
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json"))
        weights = {path.relative_to(folder).as_posix(): file_fingerprint(path) for path in files if path.is_file()}
    else:
        weights = {"hub": options.model}
    given, speed = options.run, options.speed
    others = {
        str(path): file_fingerprint(path.expanduser())
        for path in (given.transformer, given.adapter)
        if path is not None
    }
    if given.speech_encoder is not None:
        weights_file = Path(given.speech_encoder).expanduser() / "model.safetensors"
        others[given.speech_encoder] = file_fingerprint(weights_file)
    loras = {
        # its schedule lies beside it
        str(path): [*(file_fingerprint(file.expanduser()) for file in (path, path.parent / DEFAULTS_FILE)), weight]
        for path, weight in parse_loras(speed.lora)
    }
    return {
        "model": weights,
        "weights": others,
        "loras": loras,
        "dtype": given.dtype,
        "quantize": options.memory.quantize,
        "speed": [speed.profile, speed.scheduler],
    }


@dataclass(frozen=True)
class _Places:
    """Where cases are generated.

    Attributes:
        workers: Number of processes; one is this process.
        device: Device of each, as its own process names it.
        gpus: Devices that each takes from Ray.
    """

    workers: int
    device: str
    gpus: float

    @classmethod
    def choose(cls, options: Batch, progress: Progress) -> _Places:
        """One process for each CUDA device, unless one device is named; elsewhere as many as were asked for."""
        import torch

        from fantasytalking.system.machine import choose_device

        asked, place = options.workers, choose_device(options.run.device)
        if place.type == "cpu":
            return cls(asked or 1, "cpu", 0.0)
        room = torch.cuda.device_count() if options.run.device in ("auto", "cuda") and place.type == "cuda" else 1
        if asked is not None and asked > room:
            progress.note(f"{asked} workers were asked for, but a device takes one, so there are {room}.")
        workers = min(asked or room, room)
        # Ray shows each worker a single device, which is called cuda there.
        return cls(workers, options.run.device if workers == 1 else "cuda", 0.0 if workers == 1 else 1.0)


def _local(options: Batch, progress: Progress) -> Results:
    """Generates cases on this machine."""
    with progress.stage("loading"), importing_frameworks():
        quiet_frameworks()
        from fantasytalking.cli.batch_worker import BatchModel, to_job

        places = _Places.choose(options, progress)
    how = dataclasses.replace(options.run, device=places.device)
    model = BatchModel(options.model, how, options.memory, options.speed, secrets.token_hex(8))
    return lambda cases: _results(model, [to_job(case) for case in cases], places)


def _remote(options: Batch) -> Results:
    """Generates cases on a server; `--workers` says how many at a time."""
    assert options.server is not None
    given = {} if options.workers is None else {"at_once": options.workers}
    return BatchServer(options.server, options.token_file, options.model, options.speed.profile, **given).results


def _generate(options: Batch, cases: list[BatchCase], results: Results, progress: Progress) -> list[dict[str, Any]]:
    """Generate what is missing; returns the lines of the report, one a case."""
    kept = {case.name for case in cases if case.is_made()}
    rows = {name: {"name": name, "status": "kept", "output": str(options.output / f"{name}.mp4")} for name in kept}
    if kept:
        progress.note(f"{len(kept)} of {len(cases)} videos exist already.")
    report = options.output / "report.jsonl"
    _write_report(report, list(rows.values()))
    # A case that an earlier run began and did not end goes last: it may be the one that ended that run.
    waiting = sorted((case for case in cases if case.name not in kept), key=lambda case: case.tries.exists())
    try:
        with progress.stage("generating", len(waiting)) as advance:
            for row in results(waiting):
                rows[row["name"]] = row
                append_json_line(report, row)
                if "error" in row:
                    progress.note(f"Failed: {row['name']}: {row['error']['message']}")
                advance()
    finally:
        with contextlib.suppress(OutputError):
            _write_report(report, [rows[case.name] for case in cases if case.name in rows])
    return [rows[case.name] for case in cases]


def _results(model: Any, jobs: list[dict[str, Any]], places: _Places) -> Iterator[dict[str, Any]]:
    """Lines of the report in the order in which cases end."""
    from fantasytalking.cli.batch_worker import BatchWorker

    if not jobs:
        return
    if places.workers == 1:
        worker = BatchWorker(model)
        for job in jobs:
            yield worker(job)
        return
    from fantasytalking.data.preparation.executors import ray_executor

    with ray_executor(places.workers, None, places.gpus, "A batch", "--workers 1") as executor:
        yield from executor.run(BatchWorker, (model,), jobs)


def _write_report(path: Path, rows: list[dict[str, Any]]) -> None:
    from fantasytalking.system.files import atomic_path

    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _print(options: Batch, rows: list[dict[str, Any]], progress: Progress) -> int:
    count = {status: sum(row["status"] == status for row in rows) for status in ("done", "kept", "failed")}
    report = options.output / "report.jsonl"
    if options.run.json:
        failed = [{"name": row["name"], **row["error"]} for row in rows if row["status"] == "failed"]
        found = {"output": str(options.output), "report": str(report), "made": count["done"], "kept": count["kept"]}
        print(json.dumps({**found, "failed": failed}, ensure_ascii=False))
    else:
        progress.note(f"{count['done']} videos generated, {count['kept']} kept, {count['failed']} failed.")
        print(report)
    return FantasyTalkingError.exit_code if count["failed"] else 0
