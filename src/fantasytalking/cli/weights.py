"""`fantasytalking weights`: list and download the networks of the metrics."""

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
    """List the networks of the standard metrics, or download some of them.

    Names, sizes, licences and sources are printed before a download starts. An interrupted download continues where it stopped.
    """

    keys: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of the networks to download; without any, all are listed."""
    json: bool = False
    """Print one JSON object, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking weights --help`."""
    options = parse(Weights, "weights", arguments)
    # Imported here: --help must not wait for it.
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
        print(f"{'there' if path else 'missing':<9}{describe(key)}")
    print(f"Downloads are stored in {cache_folder()}; 'fantasytalking weights NAME ...' downloads the named networks.")
    return 0
