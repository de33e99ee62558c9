"""`fantasytalking COMMAND [OPTIONS]`: the table of commands; a command is imported when it is called.

Exit status: 0 done, 2 something given cannot be used (one sentence says what), 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fantasytalking.errors import FantasyTalkingError

__all__ = ["COMMANDS", "Command", "main"]

INTERRUPTED = 130
BROKEN_PIPE = 141


@dataclass(frozen=True)
class Command:
    """One row of the table.

    Attributes:
        module: Module with a function `main(arguments: Sequence[str]) -> int | None`.
        summary: What it does, in a line.
    """

    module: str
    summary: str


COMMANDS = {
    "demo": Command("fantasytalking.cli.demo", "Animate the example portrait with the example speech."),
    "generate": Command("fantasytalking.cli.generate", "Make a portrait speak: image and speech to a video."),
    "info": Command("fantasytalking.cli.info", "Versions, devices, what is installed and what that enables."),
    "download": Command("fantasytalking.cli.download", "Fetch released weights from the hub into a folder, resumable."),
    "convert": Command("fantasytalking.cli.convert", "Turn checkpoint layouts into one another."),
    "prepare": Command("fantasytalking.cli.prepare", "Turn raw videos into a prepared set for training, resumable."),
    "train": Command("fantasytalking.cli.train", "Train or continue training a model."),
    "export": Command("fantasytalking.cli.export", "Write the weights of a training run in any layout."),
    "evaluate": Command("fantasytalking.cli.evaluate", "Score generated videos as the paper does, and write a report."),
    "compare": Command("fantasytalking.cli.compare", "Put several reports into one table, warning where they differ."),
    "weights": Command("fantasytalking.cli.weights", "List or fetch the networks of the standard metrics."),
    "benchmark": Command("fantasytalking.cli.benchmark", "Generate the cases of a manifest and score them, resumable."),
    "manifest": Command("fantasytalking.cli.manifest", "Make a benchmark's manifest from a folder of real videos."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Words after the program's name; None takes those of the process.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        from fantasytalking import __version__

        print(__version__)
        return 0
    # it says at every import what it would need on a processor, to people who never asked for it
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        return _run(words[0], words[1:])
    except FantasyTalkingError as error:
        _report(error, as_json="--json" in words)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; no half-written file remains.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) went away.
        sys.stderr.close()
        return BROKEN_PIPE


def _run(name: str, arguments: Sequence[str]) -> int:
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1)
        way_out = f"did you mean '{nearest[0]}'?" if nearest else f"the commands are {', '.join(COMMANDS)}."
        print(f"error: There is no command '{name}'; {way_out}", file=sys.stderr)
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
