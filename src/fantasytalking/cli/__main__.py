"""`fantasytalking COMMAND [OPTIONS]`: the table of commands; a command's module is imported when it is called.

Exit status: 0 on success, 2 on bad input (one sentence on stderr says what is wrong), 130 when interrupted, 141 when
the reader of a pipe has gone away; `verify` exits with 1 where a mark is missing or does not hold.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fantasytalking.errors import FantasyTalkingError, InputError
from fantasytalking.system.native_output import fill_closed_descriptors

__all__ = ["COMMANDS", "Command", "main"]

INTERRUPTED = 130
BROKEN_PIPE = 141


@dataclass(frozen=True)
class Command:
    """One row of the table of commands.

    Attributes:
        module: Dotted name of a module with a function `main(arguments: Sequence[str]) -> int | None`.
        summary: One line for the list that `--help` prints.
        resumable: Whether the same command goes on where it was interrupted.
    """

    module: str
    summary: str
    resumable: bool = False


COMMANDS = {
    "demo": Command("fantasytalking.cli.demo", "Animate the example portrait with the example speech."),
    "generate": Command("fantasytalking.cli.generate", "Animate a portrait with speech: image and sound to a video."),
    "batch": Command("fantasytalking.cli.batch", "Generate the videos of a manifest on all devices; resumable.", True),
    "verify": Command(
        "fantasytalking.cli.verify", "Tell whether a video is marked as made by a model, and whether its marks hold."
    ),
    "serve": Command("fantasytalking.cli.serve", "Offer all this as a service: REST API and page on one port."),
    "info": Command("fantasytalking.cli.info", "Show versions, devices, optional packages and what they enable."),
    "download": Command("fantasytalking.cli.download", "Download the released weights from the hub; resumable.", True),
    "convert": Command(
        "fantasytalking.cli.convert", "Convert checkpoints between layouts, or make a model folder of them."
    ),
    "prepare": Command(
        "fantasytalking.cli.prepare", "Turn raw videos into a prepared set for training; resumable.", True
    ),
    "train": Command("fantasytalking.cli.train", "Train a model, or resume a training run.", True),
    "export": Command("fantasytalking.cli.export", "Export the weights of a training run in any layout."),
    "evaluate": Command(
        "fantasytalking.cli.evaluate", "Score generated videos as the paper does, and write a report.", True
    ),
    "compare": Command("fantasytalking.cli.compare", "Put several reports into one table, with their differences."),
    "weights": Command("fantasytalking.cli.weights", "List or download the networks of the standard metrics."),
    "benchmark": Command(
        "fantasytalking.cli.benchmark", "Generate the cases of a manifest and score them; resumable.", True
    ),
    "manifest": Command("fantasytalking.cli.manifest", "Make a benchmark manifest from a folder of real videos."),
    "comfyui": Command("fantasytalking.cli.comfyui", "Let a ComfyUI find the nodes of this package."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after the program's name; None takes those of this process.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    fill_closed_descriptors()
    try:
        try:
            return _answer(words)
        finally:
            # What the output still holds is written here, where a failure can be told, not when the process ends.
            _flush()
    except BrokenPipeError:
        # The program that read our output (head, less) has exited.
        sys.stderr.close()
        return BROKEN_PIPE
    except OSError as error:
        return _os_error(error, as_json="--json" in words)


def _answer(words: list[str]) -> int:
    if len(words) > 1 and words[0] == "help":
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        from fantasytalking import __version__

        print(__version__)
        return 0
    try:
        return _run(words[0], words[1:])
    except FantasyTalkingError as error:
        _report(error, as_json="--json" in words)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        # Imported here, as most commands end without it.
        from fantasytalking.system.files import remove_own_unfinished

        remove_own_unfinished()
        resumable = words[0] in COMMANDS and COMMANDS[words[0]].resumable
        more = "The same command goes on from here." if resumable else "No half-written file remains."
        # Who keeps something of what was made says so on the exception.
        told = getattr(interrupt, "__notes__", [more])[-1]
        print(f"Interrupted. {told}", file=sys.stderr)
        return INTERRUPTED


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _os_error(error: OSError, as_json: bool) -> int:
    """Answer an error of the system that no command expects: a full standard output, or a path that cannot be used."""
    try:
        if error.filename is None:
            # A write that failed leaves nothing to flush, so only another one tells whether it was this output that failed.
            print(flush=True)
    except OSError as full:
        # Python would try once more at its end, and complain with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        text = f"The standard output takes no more ({full.strerror}), so the result is not shown; what was written to files is complete."
        print(f"error: {text}", file=sys.stderr)
        return FantasyTalkingError.exit_code
    if error.errno != errno.ENAMETOOLONG:
        raise error
    # Most commands look at their paths first; this is for the others.
    _report(
        InputError(f"The path '{error.filename}' is longer than the file system takes; use shorter names."), as_json
    )
    return InputError.exit_code


def _run(name: str, arguments: Sequence[str]) -> int:
    if name not in COMMANDS:
        # Imported here, as it loads pydantic, which no other part of this module needs.
        from fantasytalking.system.records import nearest_name

        what, known = ("option", ("--help", "--version")) if name.startswith("-") else ("command", COMMANDS)
        print(f"error: There is no {what} '{name}'; {nearest_name(name, known, f'{what}s')}", file=sys.stderr)
        return FantasyTalkingError.exit_code
    return int(importlib.import_module(COMMANDS[name].module).main(arguments) or 0)


def _report(error: FantasyTalkingError, as_json: bool) -> None:
    print(f"error: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"kind": type(error).__name__, "message": str(error)}}))


def _help() -> str:
    rows = "\n".join(f"  {name:<10}{command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: fantasytalking COMMAND [OPTIONS]\n\nA portrait talks: image and speech to video.\n\n"
        f"commands:\n{rows}\n\n'fantasytalking COMMAND --help' lists the options of a command; "
        "--version prints the version."
    )


if __name__ == "__main__":
    sys.exit(main())
