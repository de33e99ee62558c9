"""Entry point for ComfyUI where this repository is cloned into its folder `custom_nodes`; the package itself is in `src`."""

import sys
from pathlib import Path

# A clone is what its owner keeps up to date, so it goes before an installed package.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from fantasytalking.integrations.comfyui import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
