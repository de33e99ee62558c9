"""`--server`: the same command, made by a service; progress is shown here, and the video lands here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.cli.batch_cases import BatchCase
from fantasytalking.errors import FantasyTalkingError, OutputError, SettingsError
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.media.video_formats import ENDINGS
from fantasytalking.pipeline.progress import TerminalProgress
from fantasytalking.system.digests import file_fingerprint
from fantasytalking.system.files import check_output
from fantasytalking.system.json import write_json

if TYPE_CHECKING:
    from fantasytalking.pipeline.progress import Progress
    from fantasytalking.serving.client import Client
    from fantasytalking.serving.client_protocol import Media, RemoteJob

__all__ = ["BatchServer", "check_server_options", "generate_on_server", "model_of_server"]

DEFAULT_MODEL = "embedded"
_OWN = ("overwrite", "json", "profile")
_AT_ONCE = 4


def check_server_options(
    server: str | None,
    token_file: Path | None,
    run: RunOptions,
    plan: tuple[MemoryOptions, ProfileOptions],
    others: Mapping[str, Any],
) -> None:
    """Refuse options that have no effect with a server, or none without one.

    Args:
        server: Address, or None.
        token_file: File with the token, or None.
        run: Options of which the server has its own.
        plan: Likewise.
        others: Further options of which it has its own: name -> whether it was given.

    Raises:
        SettingsError: Such an option was given.
    """
    if server is None:
        if token_file is not None:
            raise SettingsError("--token-file was given without --server; give the server's address.")
        return
    names = [name for name, given in others.items() if given]
    for options in (run, *plan):
        names += [
            one.name
            for one in dataclasses.fields(options)
            if one.name not in _OWN and getattr(options, one.name) != one.default
        ]
    if names:
        option = "--" + names[0].replace("_", "-")
        raise SettingsError(f"{option} is the server's own choice; leave it out with --server.")


def model_of_server(model: str) -> str | None:
    """The model that a request names: none for the default, which is the server's."""
    return None if model == DEFAULT_MODEL else model


def generate_on_server(
    server: str,
    token_file: Path | None,
    inputs: tuple[Media | None, Media | None, Media | Mapping[int, Media]],
    output: Path,
    model: str,
    run: RunOptions,
    profile: str,
    settings: Mapping[str, Any],
) -> int:
    """Make one video on a server and print its path, as `generate` does.

    Args:
        server: Its address.
        token_file: File with the token, or None.
        inputs: Portrait or None, footage or None, and the speech or one for each face.
        output: The video to write.
        model: Name of a model of the server.
        run: Uses `overwrite` and `json`.
        profile: How exact and how fast.
        settings: Settings that were given, by name.

    Raises:
        FantasyTalkingError: As without a server, or the server cannot be reached.
    """
    from fantasytalking.serving.client import Client

    target = check_output(output, run.overwrite, ENDINGS)
    image, video, audio = inputs
    progress, begin = TerminalProgress(), time.monotonic()
    with Client(server, token_file=token_file) as client, _shown(progress) as follow:
        job = client.generate(
            image,
            audio,
            target,
            video=video,
            model=model_of_server(model),
            profile=profile,
            overwrite=run.overwrite,
            on_update=follow,
            **settings,
        )
    for note in job.notes:
        progress.note(note)
    facts = job.video or {}
    if run.json:
        told = {"output": str(target), "model": job.values.get("model"), "job": job.id, **facts}
        print(json.dumps({**told, "notes": job.notes, "settings": job.settings}, ensure_ascii=False))
        return 0
    seconds = time.monotonic() - begin
    made = f"{facts.get('duration', 0.0):.2f} s of video in {seconds:.1f} s, seed {job.settings.get('seed')}"
    print(made, file=sys.stderr)
    print(target)
    return 0


@contextlib.contextmanager
def _shown(progress: Progress) -> Iterator[Any]:
    """Show a job's way as one stage of a hundred steps, and its place in the queue as a note."""
    with progress.stage("on the server", 100) as advance:
        done = 0

        def follow(job: RemoteJob) -> None:
            nonlocal done
            if job.position is not None and job.position > 1:
                progress.note(f"The job waits at place {job.position} of the server's queue.")
            reached = int(job.progress)
            if reached > done:
                advance(reached - done)
                done = reached

        yield follow


@dataclasses.dataclass(frozen=True)
class BatchServer:
    """Makes the cases of a batch on a server, some at a time, so that a queue of one client stays short.

    Attributes:
        server: Its address.
        token_file: File with the token, or None.
        model: Name of a model of the server.
        profile: How exact and how fast.
        at_once: Jobs that are followed at the same time.
    """

    server: str
    token_file: Path | None
    model: str
    profile: str
    at_once: int = _AT_ONCE

    def results(self, cases: list[BatchCase]) -> Iterator[dict[str, Any]]:
        """Lines of the report, as `BatchWorker` gives them.

        Raises:
            ServerError: The server cannot be reached.
            OutputError: The output folder takes no more.
        """
        from fantasytalking.serving.client import Client

        with Client(self.server, token_file=self.token_file) as client:
            # a server that is not there fails the batch and not each case
            client.limits()
            with ThreadPoolExecutor(self.at_once, thread_name_prefix="batch") as pool:
                waiting = [pool.submit(self._row, client, case) for case in cases]
                try:
                    for done in as_completed(waiting):
                        yield done.result()
                finally:
                    pool.shutdown(wait=False, cancel_futures=True)

    def _row(self, client: Client, case: BatchCase) -> dict[str, Any]:
        begin = time.monotonic()
        row: dict[str, Any] = {"name": case.name, "status": "failed"}
        try:
            row |= {**self._generate(client, case), "status": "done", "output": str(case.video)}
        except OutputError:
            raise
        except FantasyTalkingError as error:
            row["error"] = {"kind": type(error).__name__, "message": str(error)}
        row["seconds"] = round(time.monotonic() - begin, 2)
        return row

    def _generate(self, client: Client, case: BatchCase) -> dict[str, Any]:
        job = client.generate(
            case.image,
            case.audio,
            case.staged,
            model=model_of_server(self.model),
            profile=self.profile,
            overwrite=True,
            **case.settings,
        )
        # as in `BatchWorker`: the record vouches for the video, and comes first
        write_json(case.record, {"key": case.key, "fingerprint": file_fingerprint(case.staged)})
        os.replace(case.staged, case.video)
        return {"duration": (job.video or {}).get("duration"), "seed": job.settings.get("seed"), "notes": job.notes}
