"""Before anything is measured, the model of a recipe runs a made-up step without values: what cannot be trained is one sentence."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.errors import FantasyTalkingError, InputError, MissingDependencyError, SettingsError
from fantasytalking.training.adapter.adapter_recipes import ADAPTER_14B, ADAPTER_TINY, LORA_14B
from fantasytalking.training.check_recipe import SampleSizes, check_means, check_transformer, note_schedules
from fantasytalking.training.embedded.embedded_recipes import RECIPES
from fantasytalking.training.embedded.train_embedded import embedded_samples, train_embedded
from fantasytalking.training.lip_sync.lip_sync_objective import check_network
from fantasytalking.training.lip_sync.lip_sync_recipes import LIP_SYNC_RECIPES
from fantasytalking.training.lora import LoraSettings
from fantasytalking.training.trainer.config import TrainConfig

TINY = RECIPES["tiny"].train
RELEASED = {"image_dim": 1280, "added_kv_proj_dim": 5120, "identity_feature_dim": 512, **ADAPTER_14B.parts}
RELEASED_SAMPLES = SampleSizes((16, 64, 64), 20, (512, 4096), 768, (257, 1280), 512, True)


def embedded(config: TrainConfig) -> None:
    check_transformer(config, embedded_samples(config.model, MeshCodec()))


@pytest.mark.parametrize("name", RECIPES)
def test_ready_made_recipes_pass(name: str) -> None:
    state = torch.get_rng_state()
    embedded(RECIPES[name].train)
    assert torch.equal(torch.get_rng_state(), state)


def test_blocks_of_the_released_size_pass() -> None:
    for recipe in (ADAPTER_14B, LORA_14B):
        sizes = replace(recipe.train, model=RELEASED | {"num_layers": 4}, gradient_checkpointing=False)
        check_transformer(sizes, RELEASED_SAMPLES, lora=recipe.lora)


def test_the_network_of_lip_sync_passes() -> None:
    recipe = LIP_SYNC_RECIPES["lip-sync"]
    check_network(recipe)
    check_network(replace(recipe, train=replace(recipe.train, window=1)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"patch_size": (1, 3, 3)},
            r"train\.model\.patch_size must divide the latents of 8 x 8, but it is \(1, 3, 3\)",
        ),
        ({"patch_size": (2, 2, 2)}, r"A model of these sizes cannot be trained|multiples of \(2, 2, 2\)"),
        ({"audio_feature_dim": 300}, r"train\.model\.audio_feature_dim must be 384, the width of the speech features"),
        ({"identity_feature_dim": 512}, r"train\.model\.identity_feature_dim must be 192"),
        ({"out_channels": 15}, r"train\.model\.out_channels must be 16"),
        ({"in_channels": 35}, r"train\.model\.in_channels must be 36"),
        ({"rope_max_seq_len": 2}, "A model of these sizes cannot be trained .*rope_max_seq_len 2"),
    ],
)
def test_a_model_that_does_not_fit_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FantasyTalkingError, match=sentence) as caught:
        embedded(replace(TINY, model=TINY.model | change))
    advised = re.search(r"train\.model\.(\w+) must be (\d+),", str(caught.value))
    if advised is not None:
        embedded(replace(TINY, model=TINY.model | change | {advised[1]: int(advised[2])}))


def test_a_size_that_only_the_data_set_needs_is_asked_for() -> None:
    with pytest.raises(SettingsError, match=r"train\.model lacks text_dim; give it, such as 16"):
        embedded(replace(TINY, model={name: value for name, value in TINY.model.items() if name != "text_dim"}))
    embedded(replace(TINY, model=TINY.model | {"text_dim": 16}))


def test_lora_without_a_layer_is_one_sentence() -> None:
    samples = embedded_samples(TINY.model, MeshCodec())
    with pytest.raises(SettingsError, match=r"no layer whose name ends in one of nothing; name layers that it has"):
        check_transformer(TINY, samples, lora=LoraSettings(targets=("nothing",)))
    with pytest.raises(SettingsError, match=r"targets is empty; name one, such as to_q"):
        LoraSettings(targets=())
    check_transformer(TINY, samples, lora=LoraSettings(targets=("to_q",)))


def test_sizes_of_parts_are_known_names() -> None:
    with pytest.raises(SettingsError, match="parts: There is no part size 'audio'; did you mean 'audio_dim'"):
        replace(ADAPTER_TINY, parts={"audio": 3})
    with pytest.raises(SettingsError, match=r"parts\.identity_layers must be a whole number of at least 1, but 0"):
        replace(ADAPTER_TINY, parts={"identity_layers": 0})


def test_a_warm_up_longer_than_its_stage_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    note_schedules(replace(TINY, stages=(replace(TINY.stages[0], warmup=9), TINY.stages[1])))
    assert capsys.readouterr().err == (
        "note: stages.0 warms up over 9 steps but has 4, so its learning rate stays below 0.001.\n"
    )


def test_ways_of_computing_that_a_run_lacks_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    network = LIP_SYNC_RECIPES["lip-sync"].train
    with pytest.raises(SettingsError, match=r"train\.gradient_checkpointing must be False for this recipe"):
        check_means(replace(network, gradient_checkpointing=True), recomputes=False)
    check_means(network, recomputes=False)
    sharded = replace(network, fsdp=True)
    check_means(sharded, shards=False)  # no effect in a single process
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match=r"train\.fsdp must be False for this recipe"):
        check_means(sharded, shards=False)
    check_means(network, shards=False)
    # an empty module stands for bitsandbytes, which is not on every machine
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(SettingsError, match=r"use --train\.optimizer adamw or --train\.no-fsdp"):
        check_means(replace(sharded, optimizer="adamw-8bit"))
    check_means(replace(sharded, optimizer="adamw"))
    check_means(replace(network, optimizer="adamw-8bit"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"needs bitsandbytes.*or use --train\.optimizer adamw"):
        check_means(replace(network, optimizer="adamw-8bit"))
    check_means(replace(network, optimizer="adamw"))


def test_the_check_comes_before_the_data_and_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "videos"
    data.mkdir()
    (data / "catalogue.jsonl").write_text('{"file": "gone.mp4", "identity": "a", "kind": "real", "split": "train"}\n')
    wrong = replace(RECIPES["tiny"], train=replace(TINY, model=TINY.model | {"patch_size": (1, 3, 3)}))
    with pytest.raises(SettingsError, match="patch_size"):
        train_embedded(wrong, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError):
        train_embedded(RECIPES["tiny"], data, tmp_path / "run")
