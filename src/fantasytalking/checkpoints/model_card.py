"""The `README.md` of a model folder: a model card that the Hugging Face hub reads, so that the folder is a repository ready to push."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CARD", "write_model_card"]

CARD = "README.md"
_FILL_IN = "TO BE FILLED IN"


def write_model_card(folder: Path, origin: Sequence[str]) -> None:
    """Write the card of a model folder that has none.

    What only its owner can know (licence, training data, limits) is marked to be filled in, and the folder is private until then.

    Args:
        folder: The model folder, complete but for the card.
        origin: What the weights come from, a sentence each.
    """
    card = folder / CARD
    if card.exists():
        return
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    defaults = index.get("defaults") or {}
    parts = [name for name, value in index.items() if isinstance(value, list) and None not in value]
    rows = [f"| `{name}/` | {_megabytes(folder / name)} |" for name in sorted(parts) if (folder / name).is_dir()]
    settings = [f"* `{name}`: {value!r}" for name, value in sorted(defaults.items())]
    card.write_text(
        "\n".join(
            [
                *_HEAD,
                *(f"* {one}" for one in origin),
                f"* Training data: {_FILL_IN} (kinds of footage, hours, people, and their consent).",
                f"* Licence of the weights, and of what they were made from: {_FILL_IN}; name it at the top of this file too.",
                "",
                "| part | size |",
                "|---|---|",
                *rows,
                "",
                "Default settings of this model" + (":" if settings else ": those of the library."),
                "",
                *settings,
                *([""] if settings else []),
                *_USE,
            ]
        ),
        encoding="utf-8",
    )


_HEAD = (
    "---",
    "library_name: fantasytalking",
    "pipeline_tag: image-to-video",
    "tags: [talking-head, audio-driven-animation, diffusers, fantasytalking]",
    "license: other",
    "license_name: to-be-filled-in",
    "---",
    "",
    f"# {_FILL_IN}: the model's name",
    "",
    "A portrait talks: image and speech to video with FantasyTalking (arXiv 2504.04842).",
    "",
    "## What it is",
    "",
)
_USE = (
    "## Use",
    "",
    "```bash",
    "pip install fantasytalking",
    "fantasytalking generate --model OWNER/NAME --image portrait.png --audio speech.wav --output talking.mp4",
    "```",
    "",
    "```python",
    "from fantasytalking import FantasyTalkingPipeline",
    "",
    'pipeline = FantasyTalkingPipeline.from_pretrained("OWNER/NAME")',
    'pipeline("portrait.png", "speech.wav").save("talking.mp4")',
    "```",
    "",
    "## Consent, and what must be said",
    "",
    "Animate only people who agreed to it, and say that the video is synthetic. Files carry a signed C2PA manifest and an invisible",
    "watermark unless they are switched off; `fantasytalking verify FILE` reads both. Neither replaces what the law where you are asks.",
    "",
    "## Limits",
    "",
    f"{_FILL_IN}: for whom and for what it works badly, as measured.",
    "",
)


def _megabytes(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 1e6:,.1f} MB"
