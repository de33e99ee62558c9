"""An adapter survives every layout in both directions, and the error for a wrong one names what is wrong."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from fantasytalking.checkpoints import AdapterLayout, convert_adapter, load_adapter, load_transformer, save_adapter
from fantasytalking.checkpoints.detect_layout import detect_layout
from fantasytalking.errors import CheckpointError, OutputError
from tests.checkpoints import tiny

PARITY = Path(__file__).resolve().parents[1] / "parity" / "released"
LAYOUTS = get_args(AdapterLayout)
NAMES = {"released": "adapter.ckpt"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("extended", [{}, {**tiny.EXTENDED, "audio_positions": 5}], ids=["audio", "all parts"])
def test_what_is_saved_in_a_layout_is_what_is_loaded(tmp_path: Path, layout: AdapterLayout, extended: dict) -> None:
    model = tiny.transformer(**tiny.AUDIO, **extended)
    file = save_adapter(model, tmp_path / NAMES.get(layout, "adapter.safetensors"), layout)
    assert detect_layout(file) == f"adapter-{layout}"
    other = tiny.transformer(**tiny.AUDIO, **extended)
    for value in other.parameters():
        value.data.zero_()
    load_adapter(other, file)
    expected = {key: value for key, value in model.state_dict().items() if other.state_dict()[key].any()}
    assert any("audio_v_proj" in key for key in expected) and "patch_embedding.weight" not in expected
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in expected.items())
    assert any("identity_qformer" in key for key in expected) == bool(extended)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_released_adapter_survives_every_layout(tmp_path: Path, layout: AdapterLayout) -> None:
    there = (
        convert_adapter(PARITY / "fantasytalking_model.ckpt", tmp_path / "there.safetensors", layout)
        if layout != "released"
        else convert_adapter(PARITY / "fantasytalking_model.safetensors", tmp_path / "a.ckpt", layout)
    )
    back = convert_adapter(there, tmp_path / "back.safetensors", "safetensors")
    published, ours = load_file(PARITY / "fantasytalking_model.safetensors"), load_file(back)
    assert published.keys() == ours.keys() and all(torch.equal(published[key], ours[key]) for key in ours)


def test_our_released_file_has_the_structure_of_the_published_one(tmp_path: Path) -> None:
    file = convert_adapter(PARITY / "fantasytalking_model.safetensors", tmp_path / "adapter.ckpt", "released")
    published = torch.load(PARITY / "fantasytalking_model.ckpt", weights_only=True)
    ours = torch.load(file, weights_only=True)
    assert ours.keys() == published.keys() == {"proj_model", "audio_processor"}
    for part in published:
        assert ours[part].keys() == published[part].keys()
        assert all(torch.equal(ours[part][key], published[part][key]) for key in ours[part])


def test_the_comfyui_names_have_no_processor(tmp_path: Path) -> None:
    file = convert_adapter(PARITY / "fantasytalking_model.ckpt", tmp_path / "comfyui.safetensors", "comfyui")
    assert "blocks.0.cross_attn.k_proj.weight" in load_file(file)
    assert "proj_model.proj.weight" in load_file(file)


def test_all_layouts_make_the_same_model(tmp_path: Path) -> None:
    base = PARITY / "wan_i2v_original.safetensors"
    files = [PARITY / "fantasytalking_model.ckpt", PARITY / "fantasytalking_model.safetensors"]
    files.append(convert_adapter(files[0], tmp_path / "comfyui.safetensors", "comfyui"))
    models = [
        load_transformer(base, dtype=torch.float32, adapter=file, config={"num_attention_heads": 4}) for file in files
    ]
    assert models[0].config.audio_dim == 28 and models[0].config.audio_feature_dim == 20
    assert all(tiny.same_weights(models[0], model) for model in models[1:])


def test_an_audio_only_adapter_leaves_identity_and_motion_alone(tmp_path: Path) -> None:
    file = save_adapter(tiny.transformer(**tiny.AUDIO), tmp_path / "adapter.safetensors")
    model = tiny.transformer(**tiny.AUDIO, **tiny.EXTENDED)
    before = {key: value.clone() for key, value in model.state_dict().items() if "identity" in key or "motion" in key}
    load_adapter(model, file)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


def test_a_file_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    save_file({"lora.weight": torch.zeros(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match=r"is not a FantasyTalking adapter.*lora.weight"):
        load_adapter(tiny.transformer(**tiny.AUDIO), tmp_path / "lora.safetensors")


def test_a_missing_a_surplus_and_a_misshapen_key_are_named(tmp_path: Path) -> None:
    file = save_adapter(tiny.transformer(**tiny.AUDIO), tmp_path / "adapter.safetensors")
    weights = load_file(file)
    prefix = "audio_processor.blocks"
    del weights[f"{prefix}.1.cross_attn.processor.v_proj.weight"]
    weights[f"{prefix}.9.cross_attn.processor.v_proj.weight"] = torch.zeros(24, 14)
    weights["proj_model.norm.bias"] = torch.zeros(15)
    weights["proj_model.extra"] = torch.zeros(1)
    save_file(weights, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError) as raised:
        load_adapter(tiny.transformer(**tiny.AUDIO), tmp_path / "bad.safetensors")
    message = str(raised.value)
    assert "1 missing (blocks.1.attn2.processor.audio_v_proj.weight)" in message
    assert "blocks.9.attn2.processor.audio_v_proj.weight" in message and "proj_model.extra" in message
    assert "audio_projector.norm.bias is [15] and must be [14]" in message


def test_an_incomplete_adapter_is_not_converted(tmp_path: Path) -> None:
    weights = load_file(save_adapter(tiny.transformer(**tiny.AUDIO), tmp_path / "adapter.safetensors"))
    del weights["audio_processor.blocks.1.cross_attn.processor.k_proj.weight"]
    save_file(weights, tmp_path / "half.safetensors")
    with pytest.raises(CheckpointError, match=r"incomplete.*blocks\.1\.attn2\.processor\.audio_k_proj\.weight"):
        convert_adapter(tmp_path / "half.safetensors", tmp_path / "out.ckpt", "released")
    assert not (tmp_path / "out.ckpt").exists()


def test_a_model_without_audio_has_no_place_for_an_adapter(tmp_path: Path) -> None:
    file = save_adapter(tiny.transformer(**tiny.AUDIO), tmp_path / "adapter.safetensors")
    plain = tiny.transformer(audio_dim=None)
    with pytest.raises(CheckpointError, match="built without audio"):
        load_adapter(plain, file)
    with pytest.raises(CheckpointError, match="no adapter to save"):
        save_adapter(plain, tmp_path / "none.safetensors")


def test_an_unknown_layout_and_an_unwritable_place_are_refused(tmp_path: Path) -> None:
    model = tiny.transformer(**tiny.AUDIO)
    with pytest.raises(CheckpointError, match="no adapter layout 'onnx'"):
        save_adapter(model, tmp_path / "a.onnx", "onnx")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save_adapter(model, tmp_path / "file" / "adapter.safetensors")


def test_an_adapter_can_replace_the_file_it_was_read_from(tmp_path: Path) -> None:
    file = save_adapter(tiny.transformer(**tiny.AUDIO), tmp_path / "adapter.safetensors")
    before = load_file(file)
    convert_adapter(file, file, "safetensors")
    assert all(torch.equal(value, before[key]) for key, value in load_file(file).items())
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter.safetensors"]
