"""docs/extending.md, done: each block of the page is put where the page says, and what it adds works."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import fantasytalking
from fantasytalking.errors import SettingsError

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text()
SRC = "src/fantasytalking/"


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def block(heading: str) -> tuple[str, str]:
    """(where, code) of a section's Python block, whose first line names the place."""
    code = section(heading).split("```python\n")[1].split("```")[0]
    first, _, rest = code.partition("\n")
    return first.removeprefix("# "), rest


def line(heading: str) -> str:
    """What a section adds to a table or a function: its block without a language."""
    (text,) = re.findall(r"\n\n```\n(.*?)```", section(heading), re.DOTALL)
    return textwrap.dedent(text)


@pytest.fixture
def new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Adds the file of a section to its package, for the time of the test; returns the imported module."""

    def add(heading: str) -> ModuleType:
        place, code = block(heading)
        folder, _, file = place.removeprefix(SRC).rpartition("/")
        package = importlib.import_module("fantasytalking." + folder.replace("/", "."))
        (tmp_path / "added").mkdir()
        (tmp_path / "added" / file).write_text(code)
        name = f"{package.__name__}.{file.removesuffix('.py')}"
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "added")])
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return add


def test_a_metric_is_a_file_and_a_line(
    new_file: Any, talking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fantasytalking.cli.__main__ import main
    from fantasytalking.evaluation.metrics import registry
    from tests.evaluation.conftest import SMALL

    for name, entry in eval("{" + line("A metric") + "}", vars(registry)).items():
        monkeypatch.setitem(registry.METRICS, name, entry)
    new_file("A metric")
    for folder, clip in (("real", "calm"), ("ours", "lively")):
        (tmp_path / folder).mkdir()
        shutil.copy(talking / f"{clip}.mp4", tmp_path / folder / "anna.mp4")
    (tmp_path / "protocol.json").write_text(json.dumps(SMALL.to_dict()))
    monkeypatch.chdir(tmp_path)
    words = "evaluate --generated ours --reference real --output out --metrics brightness --workers 1 --device cpu --no-media"
    assert main([*words.split(), "--protocol", "protocol.json"]) == 0
    report = (tmp_path / "out" / "report.json").read_text()
    assert "Mean of all pixels" in report
    assert "brightness" in registry.metrics_help()


def test_a_setting_is_a_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fantasytalking.system.records import describe

    place, code = block("A setting")
    assert place == f"{SRC}pipeline/settings.py, in GenerationSettings"
    (tmp_path / "more_settings.py").write_text(
        "from __future__ import annotations\n\nfrom typing import Annotated\n\n"
        "from fantasytalking.pipeline.settings import GenerationSettings\n"
        "from fantasytalking.system.records import field, record\n\n\n"
        '@record\nclass MoreSettings(GenerationSettings):\n    """With one more."""\n\n' + textwrap.indent(code, "    ")
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    more = importlib.import_module("more_settings").MoreSettings
    assert more().film_grain == 0 and more(film_grain=0.5, steps=3).film_grain == 0.5
    (described,) = (one for one in describe(more) if one.name == "film_grain")
    assert described.option == "--film-grain" and described.accepted == "a number from 0 to 1"
    with pytest.raises(SettingsError, match="film_grain"):
        more(film_grain=2)
    with pytest.raises(SettingsError, match="did you mean 'film_grain'"):
        more.create({"film_grian": 0.5})


def test_an_autoencoder_generates_and_is_saved_with_its_model(
    new_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fantasytalking import FantasyTalkingPipeline
    from fantasytalking.autoencoder import Reference
    from fantasytalking.pipeline.model_folder import register_components
    from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, transformer

    vae = new_file("An autoencoder").PooledAutoencoder()
    for name, home in eval("{" + line("An autoencoder") + "}").items():
        monkeypatch.setitem(fantasytalking._HOMES, name, home)
        register_components(name)
    video = torch.linspace(-1, 1, 9).view(1, 1, 9, 1, 1).expand(1, 3, 9, 16, 24)
    latents = vae.encode(video, Reference(video[:, :, 0]))
    assert tuple(latents.shape[1:]) == vae.latent_shape(9, 16, 24)
    torch.testing.assert_close(vae.decode(latents, Reference(video[:, :, 0]))[:, :, ::4], video[:, :, ::4])

    model = transformer(in_channels=10, out_channels=3, image_dim=None, added_kv_proj_dim=None)
    pipeline = embedded_pipeline(vae=vae, transformer=model, defaults={"steps": 2})
    made = pipeline(portrait(), speech(0.4))
    assert made.frames.shape == (10, 192, 192, 3)
    pipeline.save_pretrained(tmp_path / "model")
    again = FantasyTalkingPipeline.from_pretrained(tmp_path / "model")
    assert type(again.vae) is type(vae)
    assert np.array_equal(again(portrait(), speech(0.4)).frames, made.frames)


def test_a_recipe_is_an_entry_that_the_command_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fantasytalking.cli import train
    from fantasytalking.training.adapter import adapter_recipes
    from tests.pipeline.tiny_pipeline import wan_pipeline
    from tests.training.latent_set import made_up, write_set

    place, code = block("A recipe")
    assert place == f"{SRC}training/adapter/adapter_recipes.py, after ADAPTER_RECIPES"
    (listed,) = eval("[{" + line("A recipe") + "}]")
    recipes = dict(adapter_recipes.ADAPTER_RECIPES)
    exec(code, {**vars(adapter_recipes), "ADAPTER_RECIPES": recipes})
    assert recipes.keys() - adapter_recipes.ADAPTER_RECIPES.keys() == listed.keys()
    monkeypatch.setattr(adapter_recipes, "ADAPTER_RECIPES", recipes)
    (name,) = listed
    (family,) = (one for one in train.FAMILIES if "adapter-tiny" in one.names)
    more = replace(family, names={**family.names, **listed})
    monkeypatch.setattr(train, "FAMILIES", tuple(more if one is family else one for one in train.FAMILIES))
    pipeline = wan_pipeline()
    pipeline.save_pretrained(tmp_path / "base")
    data = write_set(tmp_path / "set", pipeline, {f"clip{i}": made_up(13, seed=i) for i in range(2)})
    words = ["--data", str(data), "--base", str(tmp_path / "base"), "--output", str(tmp_path / "run")]
    assert train.main([name, *words]) == 0
    (log,) = (tmp_path / "run").rglob("log.jsonl")
    assert max(json.loads(row)["step"] for row in log.read_text().splitlines()) == 2


def test_a_step_of_preparation_measures_and_refuses(new_file: Any, talking: Path, tmp_path: Path) -> None:
    from fantasytalking.data.preparation.clip_records import Dropped, PreparedClip, StageClock
    from fantasytalking.data.preparation.preparation_settings import PreparationSettings
    from fantasytalking.data.preparation.prepare_clip import ClipPreparer
    from tests.data.preparation.footage import load, whole, write

    check_colour = new_file("A step of preparation").check_colour
    step = compile(line("A step of preparation"), "extending.md", "exec")

    class MorePreparer(ClipPreparer):
        def _read(self, span: Any, row: Any, clock: Any) -> Any:
            clip = super()._read(span, row, clock)
            exec(step, {"check_colour": check_colour, "clip": clip, "row": row, "clock": clock})
            return clip

    prepare, clock = MorePreparer(PreparationSettings()), StageClock()
    kept = prepare(whole(talking / "lively.mp4"), clock)
    assert isinstance(kept, PreparedClip) and kept.row["colour"] > 0.02
    frames, sound = load(talking / "lively.mp4")
    grey = np.repeat(frames.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    dropped = prepare(whole(write(tmp_path / "grey.mp4", grey, sound)), clock)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "no-colour" and dropped.detail.endswith("is needed.") and "colour" in dropped.row
