"""`fantasytalking weights`: the networks of the metrics, listed and fetched."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from fantasytalking.cli.options import parse

__all__ = ["main"]


@dataclass(frozen=True)
class Weights:
    """List the networks of the standard metrics, or fetch some of them.

    Names, sizes, licences and sources are printed before anything is fetched. An interrupted fetch goes on where it stopped.
    """

    keys: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Which to fetch, by name; nothing lists all of them."""
    json: bool = False
    """Print one JSON object, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking weights --help`."""
    options = parse(Weights, "weights", arguments)
    # Here and not above: --help must not wait for the frameworks.
    from fantasytalking.evaluation.networks.metric_weights import WEIGHTS, cache_folder, describe, fetch, locate

    if options.keys:
        found = {k: str(path) for k, path in fetch(options.keys, say=lambda text: print(text, file=sys.stderr)).items()}
        print(json.dumps(found) if options.json else "\n".join(found.values()))
        return 0
    there = {key: locate(key) for key in WEIGHTS}
    if options.json:
        print(json.dumps({key: None if path is None else str(path) for key, path in there.items()}))
        return 0
    for key, path in there.items():
        print(f"{'there' if path else '-':<7}{describe(key)}")
    print(f"They lie in {cache_folder()}; 'fantasytalking weights NAME ...' fetches what is named.")
    return 0
