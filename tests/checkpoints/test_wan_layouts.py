"""Our tables of Wan's original names agree with diffusers' own converters, and every original file loads."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from safetensors.torch import load_file
from torch import nn

from fantasytalking.checkpoints import load_image_encoder, load_text_encoder, load_transformer, load_vae
from fantasytalking.checkpoints.wan_layouts import TRANSFORMER_ORIGINAL, VAE_ORIGINAL, transformer_config
from fantasytalking.errors import CheckpointError
from tests.checkpoints import tiny

PARITY = Path(__file__).resolve().parents[1] / "parity" / "released"


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, nn.Module]]:
    folder = tmp_path_factory.mktemp("weights") / "wan"
    return folder, tiny.write_original_wan(folder)


def test_transformer_names_are_those_of_the_converter_of_diffusers() -> None:
    original = tiny.originals(tiny.transformer(audio_dim=None), TRANSFORMER_ORIGINAL)
    plan, unknown = TRANSFORMER_ORIGINAL.plan(original)
    theirs = convert_wan_transformer_to_diffusers(dict(original))
    assert not unknown and plan.keys() == theirs.keys()
    assert all(torch.equal(original[plan[key].source], theirs[key]) for key in plan)


def test_vae_names_are_those_of_the_converter_of_diffusers() -> None:
    original = tiny.originals(tiny.vae(), VAE_ORIGINAL)
    plan, unknown = VAE_ORIGINAL.plan(original)
    theirs = convert_wan_vae_to_diffusers(dict(original))
    assert not unknown and plan.keys() == theirs.keys()
    assert all(torch.equal(original[plan[key].source], theirs[key]) for key in plan)


def test_tables_cover_every_tensor_of_the_models_of_diffusers() -> None:
    with torch.device("meta"):
        transformer = WanTransformer3DModel(**{**tiny.TRANSFORMER, "pos_embed_seq_len": 6})
        vae = AutoencoderKLWan()
    assert not [key for key in transformer.state_dict() if TRANSFORMER_ORIGINAL.backward(key) is None]
    assert not [key for key in vae.state_dict() if VAE_ORIGINAL.backward(key) is None]


@pytest.mark.parametrize(
    ("name", "load"),
    [("vae", load_vae), ("text_encoder", load_text_encoder), ("transformer", load_transformer)],
)
def test_each_original_part_loads_with_sizes_from_its_shapes(wan, name, load) -> None:  # type: ignore[no-untyped-def]
    folder, models = wan
    assert tiny.same_weights(load(folder, dtype=torch.float32), models[name])


def test_the_original_clip_file_loads_its_image_half(wan: tuple[Path, dict[str, nn.Module]]) -> None:
    folder, models = wan
    loaded = load_image_encoder(folder, config=tiny.CLIP_SIZES)
    assert tiny.same_weights(loaded, models["image_encoder"])
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = models["image_encoder"](pixels, output_hidden_states=True).hidden_states[-2]
        assert torch.equal(loaded(pixels, output_hidden_states=True).hidden_states[-2], expected)


def test_the_text_encoder_computes_what_it_did_before(wan: tuple[Path, dict[str, nn.Module]]) -> None:
    folder, models = wan
    tokens = torch.tensor([[3, 4, 5, 1]])
    with torch.no_grad():
        expected = models["text_encoder"](tokens).last_hidden_state
        assert torch.equal(load_text_encoder(folder, dtype=torch.float32)(tokens).last_hidden_state, expected)


def test_published_sizes_follow_from_shapes() -> None:
    with torch.device("meta"):
        shapes = {
            key: tuple(value.shape)
            for key, value in WanTransformer3DModel(
                in_channels=36, image_dim=1280, added_kv_proj_dim=5120, num_layers=2
            )
            .state_dict()
            .items()
        }
    config = transformer_config(shapes, "wan")
    assert config["num_attention_heads"] == 40 and config["attention_head_dim"] == 128
    assert config["in_channels"] == 36 and config["out_channels"] == 16 and config["patch_size"] == (1, 2, 2)
    assert (config["ffn_dim"], config["text_dim"], config["freq_dim"]) == (13824, 4096, 256)
    assert (config["image_dim"], config["added_kv_proj_dim"], config["num_layers"]) == (1280, 5120, 2)


def test_a_file_of_another_model_is_named_as_such(wan: tuple[Path, dict[str, nn.Module]]) -> None:
    folder, _ = wan
    with pytest.raises(CheckpointError, match=r"Wan2\.1_VAE\.pth is not a Wan transformer"):
        load_transformer(folder / "Wan2.1_VAE.pth")
    with pytest.raises(CheckpointError, match="is not a Wan VAE"):
        load_vae(folder / "models_t5_umt5-xxl-enc-bf16.pth")


def test_the_parity_weights_equal_what_diffusers_makes_of_them() -> None:
    file = PARITY / "wan_i2v_original.safetensors"
    model = load_transformer(file, dtype=torch.float32, config={"num_attention_heads": 4})
    expected = convert_wan_transformer_to_diffusers(load_file(file))
    assert expected.keys() == model.state_dict().keys()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
