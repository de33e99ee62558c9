"""The transformer's forward pass and an AdamW step in plain PyTorch, from the formulas: what the trainer is held against.

Letters: B batch, n video tokens, d width, f latent frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from fantasytalking.conditioning.conditions import AudioCondition, Conditions

Weights = dict[str, Tensor]
MARGIN = 4


def plain_velocity(model: Any, w: Weights, x: Tensor, sigma: Tensor, told: Conditions) -> Tensor:
    """Velocity [B, C, f, h, w] of Wan with speech, identity and motion; `model` gives sizes, and runs its Q-Former and motion network."""
    config = model.config
    heads, eps = config.num_attention_heads, config.eps
    batch, _, frames, height, width = x.shape
    grid = (frames, height // 2, width // 2)
    tokens = (
        F.conv3d(x, w["patch_embedding.weight"], w["patch_embedding.bias"], stride=(1, 2, 2)).flatten(2).transpose(1, 2)
    )
    time = w["proj_out.weight"].new_tensor(range(config.freq_dim // 2)) / (config.freq_dim // 2)
    angles = 1000 * sigma[:, None] * torch.exp(-torch.log(torch.tensor(10000.0)) * time)
    embedder = "condition_embedder"
    temb = _mlp(w, f"{embedder}.time_embedder", torch.cat([angles.cos(), angles.sin()], 1), F.silu)
    assert told.motion is not None and told.image is not None and told.identity is not None and told.audio is not None
    assert isinstance(told.audio.scale, Tensor) and isinstance(told.identity.scale, Tensor)
    temb = temb + functional_call(model.motion_network, _under(w, "motion_network."), (told.motion,))
    modulation = _linear(w, f"{embedder}.time_proj", F.silu(temb)).unflatten(1, (6, -1))
    text = _mlp(w, f"{embedder}.text_embedder", told.text, lambda h: F.gelu(h, approximate="tanh"))
    image = _norm(w, f"{embedder}.image_embedder.norm1", told.image, 1e-5)
    image = F.gelu(_linear(w, f"{embedder}.image_embedder.ff.net.0.proj", image))
    image = _norm(w, f"{embedder}.image_embedder.norm2", _linear(w, f"{embedder}.image_embedder.ff.net.2", image), 1e-5)
    speech = _norm(w, "audio_projector.norm", told.audio.features @ w["audio_projector.proj.weight"].T, 1e-5)
    face = functional_call(model.identity_qformer, _under(w, "identity_qformer."), (told.identity.embedding,))

    for number in range(config.num_layers):
        at = f"blocks.{number}"
        shift1, scale1, gate1, shift2, scale2, gate2 = (w[f"{at}.scale_shift_table"] + modulation).chunk(6, 1)
        h = F.layer_norm(tokens, tokens.shape[-1:], eps=eps) * (1 + scale1) + shift1
        q, k = (_rms(w, f"{at}.attn1.norm_{n}", _linear(w, f"{at}.attn1.to_{n}", h), eps) for n in "qk")
        q, k = (_rotate(z.unflatten(2, (heads, -1)), grid).flatten(2) for z in (q, k))
        attended = _attend(q, k, _linear(w, f"{at}.attn1.to_v", h), heads)
        tokens = tokens + gate1 * _linear(w, f"{at}.attn1.to_out.0", attended)

        h = _norm(w, f"{at}.norm2", tokens, eps) if f"{at}.norm2.weight" in w else tokens
        q = _rms(w, f"{at}.attn2.norm_q", _linear(w, f"{at}.attn2.to_q", h), eps)
        k = _rms(w, f"{at}.attn2.norm_k", _linear(w, f"{at}.attn2.to_k", text), eps)
        z = _attend(q, k, _linear(w, f"{at}.attn2.to_v", text), heads)
        k = _rms(w, f"{at}.attn2.norm_added_k", _linear(w, f"{at}.attn2.add_k_proj", image), eps)
        z = z + _attend(q, k, _linear(w, f"{at}.attn2.add_v_proj", image), heads)
        k, v = (speech @ w[f"{at}.attn2.processor.audio_{n}_proj.weight"].T for n in "kv")
        z = z + told.audio.scale[:, None, None] * _listen(q, k, v, told.audio, frames, heads)
        k, v = (face @ w[f"{at}.attn2.processor.identity_{n}_proj.weight"].T for n in "kv")
        z = z + told.identity.scale[:, None, None] * _attend(q, k, v, heads)
        tokens = tokens + _linear(w, f"{at}.attn2.to_out.0", z)

        h = F.layer_norm(tokens, tokens.shape[-1:], eps=eps) * (1 + scale2) + shift2
        h = F.gelu(_linear(w, f"{at}.ffn.net.0.proj", h), approximate="tanh")
        tokens = tokens + gate2 * _linear(w, f"{at}.ffn.net.2", h)

    shift, scale = (w["scale_shift_table"] + temb[:, None]).chunk(2, 1)
    tokens = _linear(w, "proj_out", F.layer_norm(tokens, tokens.shape[-1:], eps=eps) * (1 + scale) + shift)
    pieces = tokens.view(batch, *grid, 1, 2, 2, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
    return pieces.reshape(batch, -1, frames, height, width)


def _listen(q: Tensor, k: Tensor, v: Tensor, audio: AudioCondition, frames: int, heads: int) -> Tensor:
    """Stage 1: all tokens hear the clip. Stage 2: the tokens of a latent frame hear the tokens of its window, sample by sample."""
    assert audio.lengths is not None
    rows = []
    for b, count in enumerate(audio.lengths.tolist()):
        if audio.ranges is None:
            rows.append(_attend(q[b : b + 1], k[b : b + 1, :count], v[b : b + 1, :count], heads))
            continue
        parts = []
        for part, (first, last) in zip(q[b].chunk(frames), audio.ranges[b].tolist(), strict=True):
            heard = slice(max(0, first - MARGIN), min(count - 1, last + MARGIN) + 1)
            parts.append(_attend(part[None], k[b : b + 1, heard], v[b : b + 1, heard], heads))
        rows.append(torch.cat(parts, 1))
    return torch.cat(rows)


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k / sqrt(d)) v, head by head."""
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return ((q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)


def _rotate(x: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """3D rotary embedding of [B, n, heads, d]: neighbouring numbers are turned by their place in time, height and width."""
    side = x.shape[-1]
    across = 2 * (side // 6)
    sides = (side - 2 * across, across, across)
    places = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid))
    angles = [
        places[:, axis, None] / 10000 ** (torch.arange(0, sides[axis], 2, dtype=torch.float64) / sides[axis])
        for axis in range(3)
    ]
    turn = torch.polar(torch.ones(()).double(), torch.cat(angles, 1))[:, None]
    turned = torch.view_as_complex(x.double().unflatten(-1, (-1, 2))) * turn
    return torch.view_as_real(turned).flatten(-2).to(x)


def _linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _mlp(w: Weights, name: str, x: Tensor, act: object) -> Tensor:
    return _linear(w, f"{name}.linear_2", act(_linear(w, f"{name}.linear_1", x)))  # type: ignore[operator]


def _norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def _rms(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * w[f"{name}.weight"]


def _under(w: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}


def clip_factor(gradients: Sequence[Tensor | None], limit: float) -> float:
    """What gradients are multiplied by so that their norm is at most `limit`."""
    norm = sum(float(g.double().square().sum()) for g in gradients if g is not None) ** 0.5
    return min(1.0, limit / (norm + 1e-6))


def adamw_step(value: Tensor, gradient: Tensor, rate: float, decay: float) -> Tensor:
    """The first step of AdamW: betas 0.9 and 0.99, both corrected for their start, epsilon 1e-8."""
    mean, square = 0.1 * gradient / (1 - 0.9), 0.01 * gradient.square() / (1 - 0.99)
    return value * (1 - rate * decay) - rate * mean / (square.sqrt() + 1e-8)
