"""The card of a model folder: read by the hub's own library, complete, and never written over somebody's own."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from fantasytalking.checkpoints.model_card import CARD, write_model_card
from fantasytalking.system.json import write_json
from tests.command_help import help_text

ORIGIN = ("backbone: Wan2.1-I2V-14B-720P", "adapter: FantasyTalking")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "weights.safetensors").write_bytes(bytes(1_500_000))
    index = {
        "_class_name": "FantasyTalkingPipeline",
        "defaults": {"w_face": 0.6, "steps": 4},
        "vae": ["fantasytalking", "MeshAutoencoder"],
        "text_encoder": [None, None],
    }
    write_json(tmp_path / "model_index.json", index)
    return tmp_path


def test_the_hubs_library_reads_the_card(folder: Path) -> None:
    write_model_card(folder, ORIGIN)
    card = ModelCard.load(folder / CARD)
    assert (card.data.library_name, card.data.pipeline_tag, card.data.license) == (
        "fantasytalking",
        "image-to-video",
        "other",
    )
    assert "talking-head" in (card.data.tags or [])
    assert all(f"* {one}" in card.text for one in ORIGIN)
    assert card.text.count("TO BE FILLED IN") >= 4  # name, training data, licence, limits


def test_parts_have_their_sizes_and_settings_their_values(folder: Path) -> None:
    write_model_card(folder, ORIGIN)
    text = (folder / CARD).read_text(encoding="utf-8")
    assert "| `vae/` | 1.5 MB |" in text and "text_encoder" not in text
    assert text.index("* `steps`: 4") < text.index("* `w_face`: 0.6")


def test_the_commands_of_the_card_are_real(folder: Path) -> None:
    write_model_card(folder, ORIGIN)
    text = (folder / CARD).read_text(encoding="utf-8")
    python = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    shell = re.search(r"^fantasytalking (generate .*)$", text, re.MULTILINE)
    assert python is not None and shell is not None
    ast.parse(python[1])
    told = help_text("generate")
    assert all(f"{word} " in told for word in shlex.split(shell[1]) if word.startswith("--"))


def test_a_card_that_is_there_stays(folder: Path) -> None:
    (folder / CARD).write_text("mine", encoding="utf-8")
    write_model_card(folder, ORIGIN)
    assert (folder / CARD).read_text(encoding="utf-8") == "mine"


def test_the_head_of_the_card_is_plain_yaml(folder: Path) -> None:
    write_model_card(folder, ())
    head = (folder / CARD).read_text(encoding="utf-8").split("---\n")[1]
    assert yaml.safe_load(head)["license_name"] == "to-be-filled-in"
