"""Write a model folder with the parts of the released model, a few channels wide and untrained: the base for the tiny recipes.

    python examples/tiny_base.py FOLDER

It is the model that the tests of a clone use. The last line of the output is the path of the folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fantasytalking.pipeline.progress import quiet_frameworks

quiet_frameworks()

from tests.pipeline.tiny_pipeline import wan_pipeline  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder to write")
    folder = parser.parse_args(arguments).folder
    wan_pipeline().save_pretrained(folder)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
