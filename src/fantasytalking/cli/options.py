"""Parts that commands share: parsing options, and the options made from settings."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import tyro

from fantasytalking.cli.option_help import help_in_one_line
from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.settings import GenerationSettings, settings_list
from fantasytalking.system.files import check_name
from fantasytalking.system.records import FieldDescription, closest_name

__all__ = [
    "SettingOptions",
    "given_settings",
    "parse",
    "parse_words",
    "refuse_unknown",
]

T = TypeVar("T")
_HEADINGS = ("Value error", "Invalid choice", "Parsing error", "Required options", "Unrecognized options")
_NO_VALUE = re.compile(r"Missing value for argument '([^']+)'")
_METAVAR = {int: "INT", float: "NUMBER", str: "TEXT", bool: "BOOL"}


def _help(setting: FieldDescription) -> str:
    shown = {None: "", "": " (default: empty)"}.get(setting.default, f" (default: {setting.default})")
    if isinstance(setting.default, str) and len(setting.default) > 20:
        shown = ""
    unit = f" ({setting.unit})" if setting.unit else ""
    accepted = "" if setting.accepted == "text" else f" Accepts {setting.accepted}{unit}."
    return f"{setting.help}{accepted}{shown}"


def _option(setting: FieldDescription) -> tuple[str, Any, Any]:
    # Every value is text here: the settings know what they accept, and their messages are one sentence.
    metavar = "|".join(setting.choices) or _METAVAR[setting.kind]
    argument = tyro.conf.arg(help=_help(setting), metavar=metavar, help_behavior_hint="")
    return setting.name, Annotated[str | None, argument], dataclasses.field(default=None)


if TYPE_CHECKING:

    class SettingOptions:
        """Every setting as text; None where it was not given."""

        def __init__(self, **texts: str | None) -> None: ...

else:
    SettingOptions = dataclasses.make_dataclass("SettingOptions", map(_option, settings_list()), frozen=True)


def parse(kind: type[T], command: str, arguments: Sequence[str]) -> T:
    """Parse the options of a command.

    Raises:
        SettingsError: An option does not exist, and the nearest one is offered; or one is missing or malformed.
        SystemExit: Help was asked for (0).
    """
    return parse_words(kind, command, arguments, _option_names(kind), tyro.conf.OmitArgPrefixes)


def parse_words(kind: type[T], command: str, words: Sequence[str], names: Sequence[str], *markers: Any) -> T:
    """Parse the options of a command.

    A switch has two spellings, `--name` and `--no-name`, so that no help text is read as a double negative.

    Args:
        kind: Dataclass of the options.
        command: Name of the command, for messages.
        words: Words of the command line.
        names: Options of the command, with their dashes, of which the nearest is offered for one that does not exist.
        markers: Further markers of `tyro`.

    Raises:
        SettingsError: An option does not exist, one that must be given is missing, a value is malformed, or the name of a file is too long.
        SystemExit: Help was asked for (0).
    """
    shown = io.StringIO()
    is_help = any(word in ("-h", "--help") for word in words)
    try:
        with contextlib.redirect_stderr(shown), help_in_one_line(kind) if is_help else contextlib.nullcontext():
            options, unknown = tyro.cli(
                kind, prog=f"fantasytalking {command}", args=list(words), return_unknown_args=True, config=markers
            )
    except SystemExit as stop:
        if stop.code == 0:
            raise
        # a misspelt option explains why the right one is missing
        refuse_unknown(_unknown(words, names), names, command)
        missing = _missing(kind, words)
        _refuse_short(words, [*(option for option, _ in missing), *names], command)
        if missing and words and not words[0].startswith("-") and not _takes_words(kind):
            refuse_unknown(words[:1], names, command)
        raise SettingsError(_lacks(command, missing) if missing else _plain(shown.getvalue(), command)) from None
    refuse_unknown(unknown, names, command)
    for path in _paths(options):
        check_name(path, SettingsError)
    return options


def _paths(value: Any) -> Iterator[Path]:
    """All paths among parsed options."""
    if isinstance(value, Path):
        yield value
    elif dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from _paths(getattr(value, one.name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _paths(one)


def _unknown(words: Sequence[str], names: Iterable[str]) -> list[str]:
    """Words that look like options and are none, in either spelling of a switch."""
    known = {*names, "--help"}
    given = [(word, word.partition("=")[0].replace("_", "-")) for word in words if word.startswith("--")]
    return [word for word, option in given if option not in known and option.replace("no-", "", 1) not in known]


def _refuse_short(words: Sequence[str], names: Iterable[str], command: str) -> None:
    """Refuse an option of one letter, as other programs have; there is none but -h."""
    for word in words:
        if re.fullmatch("-[a-zA-Z]", word) and word != "-h":
            meant = next((name for name in names if name.startswith(f"-{word.lower()}")), None)
            way_out = f"did you mean {meant}?" if meant else f"'fantasytalking {command} --help' lists them."
            raise SettingsError(f"There is no option {word}; {way_out}")


def _takes_words(kind: Any) -> bool:
    """Whether a command takes words without an option."""
    hints = get_type_hints(kind, include_extras=True)
    return any(tyro.conf.Positional in getattr(hint, "__metadata__", ()) for hint in hints.values())


def _missing(kind: Any, words: Sequence[str]) -> list[tuple[str, str]]:
    """Options that must be given and are not, with their help text where their annotation has one."""
    given = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    hints, found = get_type_hints(kind, include_extras=True), []
    for one in dataclasses.fields(kind):
        required = one.default in (dataclasses.MISSING, tyro.MISSING) and one.default_factory is dataclasses.MISSING
        markers, option = getattr(hints[one.name], "__metadata__", ()), "--" + one.name.replace("_", "-")
        if required and tyro.conf.Positional not in markers and option not in given:
            found.append((option, next((text for marker in markers if (text := getattr(marker, "help", None))), "")))
    return found


def _lacks(command: str, missing: list[tuple[str, str]]) -> str:
    options = " and ".join(option for option, _ in missing)
    texts = "".join(f" {option} is {text[0].lower()}{text[1:]}" for option, text in missing if text)
    return f"'fantasytalking {command}' needs {options}.{texts} 'fantasytalking {command} --help' lists all options."


def _plain(box: str, command: str) -> str:
    """One sentence of what `tyro` draws in a box about words that it cannot read."""
    lines = [line.strip(" │╭╮╰╯─\n") for line in box.splitlines()]
    told = itertools.takewhile(lambda line: not line.startswith(("Argument helptext", "For full helptext")), lines)
    text = " ".join(line for line in told if line.strip("-") and line not in _HEADINGS)
    if lacking := _NO_VALUE.search(text):
        # Shown by its first name, as help does: positional arguments have no dashes.
        option = lacking[1] if lacking[1].startswith("-") else lacking[1].upper()
        way = f"{option}=-FILE" if option.startswith("-") else "./-FILE"
        return f"{option} needs a value; where one begins with a dash, write {way}. 'fantasytalking {command} --help' lists the options."
    text = text[:1].upper() + text[1:]
    return f"{text.rstrip('.')}; 'fantasytalking {command} --help' lists the options."


def refuse_unknown(words: Sequence[str], names: Iterable[str], command: str) -> None:
    """Refuse words that belong to no option.

    Args:
        words: Words that the parser could not use.
        names: Options of the command, with their dashes.
        command: Name of the command, for the message.

    Raises:
        SettingsError: There is such a word; the nearest option is offered.
    """
    for word in words:
        if not word.startswith("--"):
            raise SettingsError(f"{word!r} does not belong to an option; 'fantasytalking {command} --help' lists them.")
        given = word.partition("=")[0]
        # Two dashes, which all options share, say nothing about likeness.
        nearest = closest_name(given.removeprefix("--"), [name.removeprefix("--") for name in names], 0.6)
        way_out = f"did you mean --{nearest}?" if nearest else f"'fantasytalking {command} --help' lists them."
        raise SettingsError(f"There is no option {given}; {way_out}")


def _option_names(kind: Any) -> list[str]:
    names, hints = [], get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        names += _option_names(inner) if dataclasses.is_dataclass(inner) else ["--" + field.name.replace("_", "-")]
    return names


def given_settings(options: Any) -> dict[str, Any]:
    """The settings that were given, parsed and checked: name -> value.

    Raises:
        SettingsError: A text is not a value of its setting.
    """
    given = ((setting, getattr(options, setting.name)) for setting in settings_list())
    values = {setting.name: setting.parse(text) for setting, text in given if text is not None}
    # Checked here too, although the model may have other defaults, so that a mistake does not wait for it to load.
    GenerationSettings.create(values)
    return values
