"""The transformer: equal to Wan when new, speech by clip and by frame, batches, training, saving."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel

from fantasytalking.conditioning.audio_windows import window_index
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition, replace
from fantasytalking.errors import InputError
from fantasytalking.transformer.attention import KeysValues
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.tiny import (
    AUDIO_FEATURE_DIM,
    AUDIO_TOKENS,
    LATENT_FRAMES,
    LATENT_SIZE,
    NUM_FRAMES,
    PARTS,
    WAN_CONFIG,
    tiny_conditions,
    tiny_latents,
    tiny_transformer,
)

TIMESTEP = torch.tensor([637.0])


def run(model: FantasyTalkingTransformer3DModel, conditions: Conditions, seed: int = 0) -> torch.Tensor:
    """Velocity of one batch of random latents."""
    batch = conditions.batch_size
    with torch.no_grad():
        return model(tiny_latents(batch, seed), TIMESTEP.expand(batch), conditions).sample


def scaled(
    conditions: Conditions, audio: float | torch.Tensor | None = None, identity: float | torch.Tensor | None = None
) -> Conditions:
    """The same with other scales."""
    speech, face = conditions.audio, conditions.identity
    assert speech is not None and face is not None
    if audio is not None:
        conditions = replace(conditions, audio=dataclasses.replace(speech, scale=audio))
    if identity is not None:
        conditions = replace(conditions, identity=dataclasses.replace(face, scale=identity))
    return conditions


@pytest.mark.parametrize("clip_mode", [False, True])
@pytest.mark.parametrize("positions", [None, 15])
def test_a_new_model_with_all_parts_equals_plain_wan_exactly(clip_mode: bool, positions: int | None) -> None:
    ours = tiny_transformer(trained=False, audio_positions=positions)
    wan = WanTransformer3DModel(**WAN_CONFIG).eval()
    wan.load_state_dict(ours.state_dict(), strict=False)
    conditions = tiny_conditions(2, clip_mode=clip_mode)
    # diffusers' own processor finds the image tokens by assuming that 512 follow them.
    conditions = replace(conditions, text=torch.nn.functional.pad(conditions.text, (0, 0, 0, 505)))
    with torch.no_grad():
        expected = wan(tiny_latents(2), TIMESTEP.expand(2), conditions.text, conditions.image).sample
    assert torch.equal(run(ours, conditions), expected)


def test_parts_that_are_not_configured_do_not_exist() -> None:
    bare = FantasyTalkingTransformer3DModel(**WAN_CONFIG, audio_dim=None)
    assert set(bare.state_dict()) == set(WanTransformer3DModel(**WAN_CONFIG).state_dict())
    full = set(tiny_transformer().state_dict()) - set(bare.state_dict())
    assert {name.split(".")[0] for name in full} == {"audio_projector", "identity_qformer", "motion_network", "blocks"}
    assert {name for name in full if name.startswith("blocks.0")} == {
        f"blocks.0.attn2.processor.{part}_{kind}_proj.weight" for part in ("audio", "identity") for kind in "kv"
    }


@pytest.mark.parametrize("part", ["audio", "identity", "motion", "image", "text"])
def test_each_condition_has_an_effect(part: str) -> None:
    model, conditions = tiny_transformer(), tiny_conditions()
    other = replace(conditions, **{part: getattr(tiny_conditions(seed=1), part)})
    assert (run(model, conditions) - run(model, other)).abs().max() > 1e-4


@pytest.mark.parametrize("clip_mode", [False, True])
def test_a_scale_of_0_is_exactly_absence_as_a_number_and_as_a_tensor(clip_mode: bool) -> None:
    model, conditions = tiny_transformer(), tiny_conditions(clip_mode=clip_mode)
    silent = run(model, replace(conditions, audio=None))
    faceless = run(model, replace(conditions, identity=None))
    for zero in (0.0, 0, torch.zeros(1), torch.tensor(0.0)):
        assert torch.equal(run(model, scaled(conditions, audio=zero)), silent)
        assert torch.equal(run(model, scaled(conditions, identity=zero)), faceless)


def test_scales_for_each_clip_equal_numbers() -> None:
    model, conditions = tiny_transformer(), tiny_conditions(2)
    both = run(model, scaled(conditions, audio=torch.tensor([0.5, 2.0]), identity=torch.tensor([1.0, 0.25])))
    for row, (audio, identity) in enumerate(((0.5, 1.0), (2.0, 0.25))):
        alone = run(model, scaled(conditions, audio=audio, identity=identity))
        torch.testing.assert_close(both[row], alone[row], atol=1e-5, rtol=1e-5)


def test_in_frame_mode_speech_outside_a_window_is_not_heard_by_its_frame() -> None:
    # One block without self-attention across frames: what is heard late stays late.
    model = tiny_transformer(num_layers=1)
    torch.nn.init.zeros_(model.blocks[0].attn1.to_out[0].weight)
    conditions = tiny_conditions()
    assert conditions.audio is not None and conditions.audio.ranges is not None
    features = conditions.audio.features.clone()
    changed_from = AUDIO_TOKENS - 5
    features[:, changed_from:] += 1
    other = replace(conditions, audio=dataclasses.replace(conditions.audio, features=features))
    difference = (run(model, conditions) - run(model, other)).abs().amax(dim=(0, 1, 3, 4))
    hears = conditions.audio.ranges[0, :, 1] + 4 >= changed_from
    assert 0 < hears.sum() < LATENT_FRAMES
    assert torch.equal(difference > 0, hears)
    in_clip_mode = replace(conditions, audio=AudioCondition(conditions.audio.features))
    other = replace(conditions, audio=AudioCondition(features))
    assert ((run(model, in_clip_mode) - run(model, other)).abs().amax(dim=(0, 1, 3, 4)) > 0).all()


def test_frame_mode_equals_attention_frame_by_frame_over_the_cut_windows() -> None:
    model, conditions = tiny_transformer(num_layers=1), tiny_conditions()
    assert conditions.audio is not None and conditions.audio.ranges is not None and model.audio_projector is not None
    attn, states = model.blocks[0].attn2, torch.randn(1, LATENT_FRAMES * 6, 24)
    context = model.audio_tokens(conditions.audio, LATENT_FRAMES, torch.float32)
    query = attn.norm_q(attn.to_q(states)).unflatten(2, (attn.heads, -1))
    assert context is not None
    heard = (attn.processor.audio_k_proj(context.tokens), attn.processor.audio_v_proj(context.tokens))
    known = KeysValues(heard, audio=heard)
    ours = attn.processor._attend_to_audio(attn, query, context, known)
    tokens = model.audio_projector(conditions.audio.features)
    for frame, (first, last) in enumerate(conditions.audio.ranges[0].tolist()):
        window = tokens[:, max(0, first - 4) : last + 4 + 1]
        heads = [
            states.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for states in (attn.processor.audio_k_proj(window), attn.processor.audio_v_proj(window))
        ]
        rows = slice(frame * 6, frame * 6 + 6)
        expected = torch.nn.functional.scaled_dot_product_attention(query[:, rows].transpose(1, 2), *heads)
        torch.testing.assert_close(ours[:, rows], expected.transpose(1, 2).flatten(2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("clip_mode", [False, True])
@pytest.mark.parametrize("positions", [None, 15])
def test_padding_is_masked_in_both_modes(clip_mode: bool, positions: int | None) -> None:
    model, conditions = tiny_transformer(audio_positions=positions), tiny_conditions(clip_mode=clip_mode)
    assert conditions.audio is not None
    features = torch.cat([conditions.audio.features, 9 * torch.ones(1, 11, AUDIO_FEATURE_DIM)], dim=1)
    padded = dataclasses.replace(conditions.audio, features=features, lengths=torch.tensor([AUDIO_TOKENS]))
    torch.testing.assert_close(run(model, replace(conditions, audio=padded)), run(model, conditions), atol=1e-6, rtol=0)


@pytest.mark.parametrize("clip_mode", [False, True])
@pytest.mark.parametrize("positions", [None, 15])
def test_a_clip_without_any_token_is_silent_and_finite(clip_mode: bool, positions: int | None) -> None:
    model, conditions = tiny_transformer(audio_positions=positions), tiny_conditions(clip_mode=clip_mode)
    assert conditions.audio is not None
    empty = dataclasses.replace(conditions.audio, lengths=torch.tensor([0]))
    silent = run(model, replace(conditions, audio=None))
    torch.testing.assert_close(run(model, replace(conditions, audio=empty)), silent, atol=1e-6, rtol=0)


@pytest.mark.parametrize("positions", [None, 15])
def test_different_clips_in_one_batch_equal_the_clips_alone(positions: int | None) -> None:
    model = tiny_transformer(audio_positions=positions)
    parts = [tiny_conditions(seed=1, tokens=29), tiny_conditions(seed=2, tokens=44), tiny_conditions(seed=3)]
    parts[2] = replace(parts[2], audio=None, identity=None)
    latents, timesteps = tiny_latents(3), torch.tensor([10.0, 500.0, 990.0])
    with torch.no_grad():
        together = model(latents, timesteps, Conditions.cat(parts)).sample
        for row, part in enumerate(parts):
            alone = model(latents[row : row + 1], timesteps[row : row + 1], part).sample
            torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-5)


def test_learned_positions_tell_the_order_of_the_tokens_in_a_window() -> None:
    conditions = tiny_conditions(frames=1)
    assert conditions.audio is not None
    turned = dataclasses.replace(conditions.audio, features=conditions.audio.features.flip(1))
    one_window = torch.tensor([[[4, AUDIO_TOKENS - 5]]])
    both = [
        replace(conditions, audio=dataclasses.replace(audio, ranges=one_window)) for audio in (conditions.audio, turned)
    ]
    for positions, differs in ((None, False), (40, True)):
        model = tiny_transformer(audio_positions=positions)
        with torch.no_grad():
            outputs = [model(tiny_latents(frames=1), TIMESTEP, each).sample for each in both]
        assert bool((outputs[0] - outputs[1]).abs().max() > 1e-4) is differs


@pytest.mark.parametrize("clip_mode", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(clip_mode: bool) -> None:
    model = tiny_transformer(audio_positions=15).train()
    conditions = scaled(tiny_conditions(2, clip_mode=clip_mode), audio=torch.tensor([1.0, 0.5]))
    gradients = []
    for checkpointed in (False, True):
        model.zero_grad()
        model.enable_gradient_checkpointing() if checkpointed else model.disable_gradient_checkpointing()
        model(tiny_latents(2), TIMESTEP.expand(2), conditions).sample.pow(2).mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    unheard = {"window_positions"} if clip_mode else set()
    assert {name for name, _ in model.named_parameters()} - set(gradients[0]) == unheard
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_a_new_model_learns_from_the_first_step() -> None:
    model = tiny_transformer(trained=False).train()
    model(tiny_latents(), TIMESTEP, tiny_conditions()).sample.pow(2).mean().backward()
    for name in (
        "blocks.0.attn2.processor.audio_v_proj",
        "blocks.1.attn2.processor.identity_v_proj",
        "motion_network.out",
    ):
        assert model.get_submodule(name).weight.grad.abs().max() > 0


def test_a_model_is_saved_and_loaded_with_its_parts(tmp_path: Path) -> None:
    model, conditions = tiny_transformer(audio_positions=15), tiny_conditions()
    model.save_pretrained(tmp_path)
    loaded = FantasyTalkingTransformer3DModel.from_pretrained(tmp_path).eval()
    assert loaded.config.motion is True and loaded.config.audio_dim == PARTS["audio_dim"]
    assert torch.equal(run(loaded, conditions), run(model, conditions))
    half = FantasyTalkingTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()
    assert half.blocks[0].attn2.processor.audio_k_proj.weight.dtype == torch.bfloat16
    with torch.no_grad():
        output = half(tiny_latents().bfloat16(), TIMESTEP, conditions.to(dtype=torch.bfloat16)).sample
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), run(model, conditions), atol=0.1, rtol=0.1)


def test_new_parts_can_be_reset_to_plain_wan() -> None:
    model, conditions = tiny_transformer(audio_positions=15), tiny_conditions()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_new_parts()
    wan = tiny_transformer(trained=False, audio_dim=None, identity_dim=None, identity_feature_dim=None, motion=False)
    wan.load_state_dict(model.state_dict(), strict=False)
    plain = replace(conditions, audio=None, identity=None, motion=None)
    assert torch.equal(run(model, conditions), run(wan, plain))
    theirs = set(wan.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in theirs)


def test_a_model_without_text_and_image_encoder_runs_on_one_zero_token() -> None:
    model = tiny_transformer(image_dim=None, added_kv_proj_dim=None)
    conditions = replace(tiny_conditions(2), text=torch.zeros(2, 1, WAN_CONFIG["text_dim"]), image=None)
    output = run(model, conditions)
    assert output.shape == (2, WAN_CONFIG["out_channels"], LATENT_FRAMES, *LATENT_SIZE)
    assert torch.isfinite(output).all()


def test_the_output_is_a_record_or_a_tuple() -> None:
    model, conditions = tiny_transformer(), tiny_conditions()
    with torch.no_grad():
        (plain,) = model(tiny_latents(), TIMESTEP, conditions, return_dict=False)
    assert torch.equal(plain, run(model, conditions))


def test_motion_reaches_the_blocks_and_the_head_through_the_timestep_embedding() -> None:
    model, conditions = tiny_transformer(), tiny_conditions()
    plain = model._embed(TIMESTEP, replace(conditions, motion=None))
    moved = model._embed(TIMESTEP, conditions)
    assert model.motion_network is not None and conditions.motion is not None
    torch.testing.assert_close(moved[0] - plain[0], model.motion_network(conditions.motion), atol=1e-5, rtol=1e-4)
    embedder = model.condition_embedder
    torch.testing.assert_close(moved[1], embedder.time_proj(torch.nn.functional.silu(moved[0])).unflatten(1, (6, -1)))


def test_conditions_that_the_model_has_no_part_for_are_refused() -> None:
    conditions = tiny_conditions()
    for config, said in (
        ({"audio_dim": None}, "no audio attention"),
        ({"identity_dim": None, "identity_feature_dim": None}, "no identity attention"),
        ({"motion": False}, "no motion network"),
        ({"image_dim": None, "added_kv_proj_dim": None}, "no image attention"),
    ):
        with pytest.raises(InputError, match=said):
            run(tiny_transformer(**config), conditions)
    with pytest.raises(InputError, match="identity_feature_dim"):
        tiny_transformer(identity_dim=None)


def test_latents_that_do_not_fit_the_conditions_are_refused() -> None:
    model, conditions = tiny_transformer(), tiny_conditions()
    with pytest.raises(InputError, match=f"{LATENT_FRAMES - 1} frames but the audio has windows for {LATENT_FRAMES}"):
        model(tiny_latents()[:, :, 1:], TIMESTEP, conditions)
    with pytest.raises(InputError, match="channels"):
        model(tiny_latents()[:, 1:], TIMESTEP, conditions)
    with pytest.raises(InputError, match="multiples"):
        model(tiny_latents()[..., :5], TIMESTEP, conditions)
    with pytest.raises(InputError, match="2 latents but conditions for 1"):
        model(tiny_latents(2), TIMESTEP.expand(2), conditions)
    with pytest.raises(TypeError):
        model(tiny_latents(), TIMESTEP, conditions, audio_scale=2.0)


def test_the_tiny_windows_include_padded_ones() -> None:
    conditions = tiny_conditions()
    assert conditions.audio is not None and conditions.audio.ranges is not None
    _, lengths = window_index(conditions.audio.ranges, AUDIO_TOKENS)
    assert lengths.min() < lengths.max() and NUM_FRAMES == 17
    assert isinstance(conditions.identity, IdentityCondition)
