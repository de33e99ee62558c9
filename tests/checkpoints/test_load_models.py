"""Models are built without values, filled from mapped files, and equal those that diffusers loads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fantasytalking.checkpoints import load_image_encoder, load_text_encoder, load_transformer, load_vae, save_adapter
from fantasytalking.checkpoints.detect_layout import detect_layout
from fantasytalking.checkpoints.wan_layouts import TRANSFORMER_ORIGINAL, VAE_ORIGINAL
from fantasytalking.errors import CheckpointError
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.checkpoints import tiny

HEADS = {"num_attention_heads": 2}


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A plain Wan transformer in one file, under its original names."""
    save_file(tiny.originals(tiny.transformer(audio_dim=None), TRANSFORMER_ORIGINAL), tmp_path / "wan.safetensors")
    return tmp_path / "wan.safetensors"


def is_mapped(value: torch.Tensor, name: str) -> bool:
    """Whether a tensor's memory is a mapping of the file of this name."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(number, 16) for number in line.split()[0].split("-"))
        if first <= value.data_ptr() < last:
            return line.endswith(name)
    raise AssertionError("the tensor lies in no mapping")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_types_and_values_equal_those_of_from_pretrained(tmp_path: Path, dtype: torch.dtype) -> None:
    tiny.transformer(**tiny.AUDIO, **tiny.EXTENDED).save_pretrained(tmp_path / "transformer")
    theirs = FantasyTalkingTransformer3DModel.from_pretrained(tmp_path / "transformer", torch_dtype=dtype)
    for path in (tmp_path / "transformer", tmp_path):
        ours = load_transformer(path, dtype=dtype)
        assert {k: v.dtype for k, v in ours.state_dict().items()} == {
            k: v.dtype for k, v in theirs.state_dict().items()
        }
        assert tiny.same_weights(ours, theirs)
        assert not ours.training
    public = [{k: v for k, v in model.config.items() if not k.startswith("_")} for model in (ours, theirs)]
    assert public[0] == public[1]


def test_buffers_that_no_file_holds_are_computed(original: Path) -> None:
    model = load_transformer(original, config=HEADS)
    expected = tiny.transformer(audio_dim=None).rope
    assert torch.equal(model.rope.freqs_cos, expected.freqs_cos) and model.rope.freqs_cos.abs().sum() > 0
    assert not any(value.is_meta for value in [*model.parameters(), *model.buffers()])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the memory map of Linux")
def test_a_tensor_of_the_final_type_stays_mapped_and_others_are_cast(tmp_path: Path) -> None:
    model = tiny.transformer(ffn_dim=12000, num_layers=1, audio_dim=None)
    weights = tiny.originals(model, TRANSFORMER_ORIGINAL)
    save_file(weights, tmp_path / "wan.safetensors")
    name = "blocks.0.ffn.net.0.proj.weight"
    mapped = load_transformer(tmp_path / "wan.safetensors", torch.float32, config=HEADS).get_parameter(name)
    cast = load_transformer(tmp_path / "wan.safetensors", torch.bfloat16, config=HEADS).get_parameter(name)
    assert is_mapped(mapped, "wan.safetensors") and not is_mapped(cast, "wan.safetensors")
    assert torch.equal(mapped.bfloat16(), cast)
    with torch.no_grad():
        mapped.add_(1)
    assert torch.equal(
        load_file(tmp_path / "wan.safetensors")["blocks.0.ffn.0.weight"], weights["blocks.0.ffn.0.weight"]
    )


def test_parts_that_only_the_config_asks_for_start_without_effect(original: Path) -> None:
    torch.manual_seed(0)
    model = load_transformer(original, torch.float32, config={**HEADS, **tiny.AUDIO, **tiny.EXTENDED})
    state = model.state_dict()
    assert not state["blocks.0.attn2.processor.audio_v_proj.weight"].any()
    assert state["blocks.0.attn2.processor.audio_k_proj.weight"].any()
    assert not state["motion_network.out.weight"].any() and state["identity_qformer.queries"].any()
    assert all(value.isfinite().all() for value in state.values())


def test_an_adapter_and_fresh_parts_go_together(original: Path, tmp_path: Path) -> None:
    adapted = tiny.transformer(**tiny.AUDIO)
    file = save_adapter(adapted, tmp_path / "adapter.ckpt", "released")
    model = load_transformer(original, torch.float32, adapter=file, config={**HEADS, **tiny.EXTENDED})
    key = "blocks.2.attn2.processor.audio_v_proj.weight"
    assert torch.equal(model.state_dict()[key], adapted.state_dict()[key])
    assert model.config.motion and model.config.audio_dim == tiny.AUDIO["audio_dim"]


def test_the_prefix_of_comfyui_checkpoints_is_accepted(original: Path, tmp_path: Path) -> None:
    weights = {f"model.diffusion_model.{key}": value for key, value in load_file(original).items()}
    save_file(weights, tmp_path / "prefixed.safetensors")
    prefixed = load_transformer(tmp_path / "prefixed.safetensors", config=HEADS)
    assert tiny.same_weights(prefixed, load_transformer(original, config=HEADS))


def test_the_config_beside_original_weights_knows_the_heads(tmp_path: Path) -> None:
    models = tiny.write_original_wan(tmp_path / "wan")
    model = load_transformer(tmp_path / "wan", torch.float32)
    assert model.config.num_attention_heads == 2 and tiny.same_weights(model, models["transformer"])


def test_missing_surplus_and_misshapen_keys_are_named(original: Path) -> None:
    weights = load_file(original)
    weights["blocks.1.self_attn.q.bias"] = torch.zeros(3)
    weights["blocks.1.self_attn.qq.bias"] = torch.zeros(3)
    del weights["head.head.bias"]
    save_file(weights, original)
    with pytest.raises(CheckpointError) as raised:
        load_transformer(original, config=HEADS)
    message = str(raised.value)
    assert "1 missing (proj_out.bias)" in message and "1 unexpected (blocks.1.self_attn.qq.bias" in message
    assert "blocks.1.attn1.to_q.bias is [3] and must be [24]" in message


def test_a_missing_shard_and_an_unsafe_adapter_stop_the_loading(original: Path, tmp_path: Path) -> None:
    tiny.write_original_wan(tmp_path / "wan")
    (tmp_path / "wan" / "diffusion_pytorch_model-00003-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="00003-of-00003"):
        load_transformer(tmp_path / "wan")
    torch.save({"proj_model": print}, tmp_path / "adapter.ckpt")
    with pytest.raises(CheckpointError, match="print, which could run code"):
        load_transformer(original, adapter=tmp_path / "adapter.ckpt", config=HEADS)


def test_an_unknown_name_in_the_config_is_refused_with_the_nearest(original: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'num_heads'.*did you mean 'num_attention_heads'"):
        load_transformer(original, config={"num_heads": 2})


def test_a_folder_without_a_part_names_what_was_looked_for(tmp_path: Path) -> None:
    for load, name in ((load_vae, "Wan2.1_VAE.pth"), (load_text_encoder, "umt5"), (load_image_encoder, "open-clip")):
        with pytest.raises(CheckpointError, match=f"has neither .*{name}"):
            load(tmp_path)


def test_the_diffusers_layout_of_each_part_loads(tmp_path: Path) -> None:
    vae, text, image = tiny.vae(), tiny.text_encoder(), tiny.image_encoder()
    vae.save_pretrained(tmp_path / "vae")
    text.save_pretrained(tmp_path / "text_encoder")
    image.save_pretrained(tmp_path / "image_encoder")
    for path in (tmp_path, tmp_path / "vae"):
        assert tiny.same_weights(load_vae(path), vae)
    for path in (tmp_path, tmp_path / "text_encoder"):
        assert tiny.same_weights(load_text_encoder(path, torch.float32), text)
    for path in (tmp_path, tmp_path / "image_encoder"):
        assert tiny.same_weights(load_image_encoder(path), image)


def test_tied_embeddings_stay_one_tensor(tmp_path: Path) -> None:
    tiny.write_original_wan(tmp_path / "wan")
    model = load_text_encoder(tmp_path / "wan")
    assert model.shared.weight is model.encoder.embed_tokens.weight


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    tiny.vae().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not valid JSON"):
        load_vae(tmp_path)


def test_layouts_are_told_apart(original: Path, tmp_path: Path) -> None:
    tiny.write_original_wan(tmp_path / "wan")
    tiny.transformer(**tiny.AUDIO).save_pretrained(tmp_path / "own")
    tiny.transformer(audio_dim=None).save_pretrained(tmp_path / "plain")
    tiny.vae().save_pretrained(tmp_path / "vae")
    tiny.text_encoder().save_pretrained(tmp_path / "text")
    save_file(tiny.originals(tiny.vae(), VAE_ORIGINAL), tmp_path / "vae.safetensors")
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text(json.dumps({}))
    assert detect_layout(original) == detect_layout(tmp_path / "wan") == "wan-original"
    assert detect_layout(tmp_path / "own") == "fantasytalking"
    assert detect_layout(tmp_path / "plain") == "wan-diffusers"
    assert detect_layout(tmp_path / "vae") == "vae-diffusers"
    assert detect_layout(tmp_path / "vae.safetensors") == "vae-original"
    assert detect_layout(tmp_path / "text") == "text-encoder-transformers"
    assert detect_layout(tmp_path / "wan" / "models_t5_umt5-xxl-enc-bf16.pth") == "text-encoder-original"
    assert detect_layout(tmp_path / "pipeline") == "pipeline"
    save_file({"lora": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match="has an unknown layout"):
        detect_layout(tmp_path / "lora.safetensors")


@pytest.mark.slow
def test_the_benchmark_of_loading_stays_within_its_bound() -> None:
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "loading.py"
    command = [sys.executable, str(script), "--gigabytes", "0.01", "--width", "256"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["within_bound"] and report["peak_gb"] < report["weights_gb"] + 2
