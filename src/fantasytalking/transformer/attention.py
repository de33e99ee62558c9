"""Cross-attention to text, image, speech and identity (paper sections 3.2 and 3.3).

Z = Attn(Q, text) + Attn(Q, image) + s_audio * Attn(Q, speech) + s_identity * Attn(Q, identity), then the shared output
projection. Q is the block's own query. Audio and identity keys and values have no bias and no RMS norm, as released.
Where several people speak, the term of speech is a sum over them of m_k * s_audio * Attn(Q, speech_k), with the share m_k of each token
that person k has.
Letters: B batch, f latent frames, n video tokens of one latent frame, t speech tokens, w tokens of a window.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import nn

from fantasytalking.conditioning.audio_windows import select_tokens, window_width
from fantasytalking.conditioning.conditions import AudioCondition
from fantasytalking.system.execution_device import move_tensors
from fantasytalking.transformer.audio_tokens import AudioTokens
from fantasytalking.transformer.context_parallel import FrameShare

MASKING_BACKENDS = frozenset(
    {
        AttentionBackendName.NATIVE,
        AttentionBackendName._NATIVE_CUDNN,
        AttentionBackendName._NATIVE_EFFICIENT,
        AttentionBackendName._NATIVE_MATH,
        AttentionBackendName.FLEX,
        AttentionBackendName.XFORMERS,
        AttentionBackendName.FLASH_VARLEN,
        AttentionBackendName.FLASH_VARLEN_HUB,
        AttentionBackendName._FLASH_VARLEN_3,
        AttentionBackendName._FLASH_3_VARLEN_HUB,
    }
)
"""Attention back-ends of diffusers that honour a boolean mask; with any other, masked attention uses PyTorch's own."""


@dataclass(frozen=True)
class IdentityTokens:
    """Identity tokens [B, n, d] and their scale, a number or [B, 1, 1]."""

    tokens: torch.Tensor
    scale: float | torch.Tensor

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> IdentityTokens:
        """Copy on a device."""
        return dataclasses.replace(self, **move_tensors(self, device, non_blocking))


WINDOWS_KEPT = 2**18
"""Numbers up to which a block gathers its keys of all windows once for all steps; beyond, as at the released size, on every step."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values."""


@dataclass(frozen=True)
class KeysValues:
    """What one block's cross-attention computes from a context alone: the same for each step of a sampling.

    Attributes:
        text: [B, l, heads, d / heads] each, like image and identity.
        image: of the image tokens, or None.
        audio: for each person who speaks, [B, t, heads, d / heads] in clip mode; [B, t, d] in frame mode, in which windows are gathered
            from them, or [B, f, w, heads, d / heads], gathered once, where they are small.
        positions: [p + 1, d] of the learned positions in a window, or None.
        identity: of the identity tokens, or None.
    """

    text: Pair
    image: Pair | None = None
    audio: tuple[Pair, ...] = ()
    positions: Pair | None = None
    identity: Pair | None = None


@dataclass(eq=False)
class Kept:
    """A place for the keys and values of one block and one context, filled by the first call that needs them."""

    keys_values: KeysValues | None = None


@dataclass(frozen=True)
class CrossContext:
    """Everything that the video tokens attend to besides each other.

    It is passed as `encoder_hidden_states` of diffusers' own Wan block, which hands that argument to the
    cross-attention untouched; so the blocks, and with them offload, caches and compilation, remain those of diffusers.

    Attributes:
        text: [B, l, d] embedded text.
        image: [B, li, d] embedded image tokens, or None.
        audio: projected speech of each person who speaks.
        identity: identity tokens, or None.
        kept: where one block keeps its keys and values for the next steps; None: it computes them each time.
    """

    text: torch.Tensor
    image: torch.Tensor | None = None
    audio: tuple[AudioTokens, ...] = ()
    identity: IdentityTokens | None = None
    kept: Kept | None = None

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> CrossContext:
        """Copy on a device; the hooks of accelerate and diffusers call it for a block that computes elsewhere than the one before."""
        return dataclasses.replace(self, **move_tensors(self, device, non_blocking))


class FantasyTalkingAttnProcessor(nn.Module):
    """Cross-attention processor of one block, with its audio and identity projections, whose values are zero at first.

    Args:
        inner_dim: Width of the block.
        audio_dim: Width of the projected speech; None: no audio.
        identity_dim: Width of the identity tokens; None: no identity.
    """

    # Names that diffusers sets on processors in `set_attention_backend` and `enable_parallelism`.
    _attention_backend: AttentionBackendName | None = None
    _parallel_config: object | None = None

    def __init__(self, inner_dim: int, audio_dim: int | None = None, identity_dim: int | None = None) -> None:
        super().__init__()
        self.has_audio = audio_dim is not None
        self.has_identity = identity_dim is not None
        if audio_dim is not None:
            self.audio_k_proj = nn.Linear(audio_dim, inner_dim, bias=False)
            self.audio_v_proj = nn.Linear(audio_dim, inner_dim, bias=False)
        if identity_dim is not None:
            self.identity_k_proj = nn.Linear(identity_dim, inner_dim, bias=False)
            self.identity_v_proj = nn.Linear(identity_dim, inner_dim, bias=False)
        self.reset_values()

    def reset_values(self) -> None:
        """Zero the value projections, so that the block equals plain Wan's.

        Only the values: if the keys were zero too, they would get no gradient until the values have moved.
        """
        if self.has_audio:
            nn.init.zeros_(self.audio_v_proj.weight)
        if self.has_identity:
            nn.init.zeros_(self.identity_v_proj.weight)

    # Not `forward`: hooks wrap that, and bring its arguments to a device, `attn` with its weights among them.
    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: CrossContext,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Attend from video tokens [B, f * n, d], or a rank's share of them, to everything in the context.

        The last two arguments are unused; they belong to the signature by which diffusers' blocks call a processor.
        """
        context = encoder_hidden_states
        query = _heads(attn, attn.norm_q(attn.to_q(hidden_states)))
        known = self._keys_values(attn, context)

        attended = self._attend(query, *known.text)
        if known.image is not None:
            attended = attended + self._attend(query, *known.image)
        for audio, pair in zip(context.audio, known.audio, strict=True):
            heard = self._attend_to_audio(attn, query, audio, pair, known.positions)
            if audio.region is not None:
                heard = heard * audio.token_shares(heard.shape[1])
            attended = attended + audio.scale * heard
        if context.identity is not None and known.identity is not None:
            attended = attended + context.identity.scale * self._attend(query, *known.identity)

        result: torch.Tensor = attn.to_out[1](attn.to_out[0](attended))
        return result

    def _keys_values(self, attn: WanAttention, context: CrossContext) -> KeysValues:
        """Those that are kept, else new ones, which are kept where the context has a place for them."""
        if context.kept is None:
            return self._new_keys_values(attn, context)
        if context.kept.keys_values is None:
            context.kept.keys_values = self._new_keys_values(attn, context)
        return context.kept.keys_values

    def _new_keys_values(self, attn: WanAttention, context: CrossContext) -> KeysValues:
        key, value = _text_keys_values(attn, context.text)
        text = (_heads(attn, attn.norm_k(key)), _heads(attn, value))
        image = positions = identity = None
        if context.image is not None:
            key, value = _image_keys_values(attn, context.image)
            image = (_heads(attn, attn.norm_added_k(key)), _heads(attn, value))
        if context.audio and context.audio[0].positions is not None:
            learned = context.audio[0].positions
            positions = (self.audio_k_proj(learned), self.audio_v_proj(learned))
        # Computed once per token and gathered later, because neighbouring windows share most tokens.
        audio = tuple((self.audio_k_proj(one.tokens), self.audio_v_proj(one.tokens)) for one in context.audio)
        if context.audio and context.audio[0].index is None:
            audio = tuple((_heads(attn, key), _heads(attn, value)) for key, value in audio)
        elif context.kept is not None and all(
            keeps_windows(one, self.audio_k_proj.out_features) for one in context.audio
        ):
            audio = tuple(_gathered(attn, one, pair, positions) for one, pair in zip(context.audio, audio, strict=True))
            positions = None
        if context.identity is not None:
            tokens = context.identity.tokens
            identity = (_heads(attn, self.identity_k_proj(tokens)), _heads(attn, self.identity_v_proj(tokens)))
        return KeysValues(text, image, audio, positions, identity)

    def _attend_to_audio(
        self, attn: WanAttention, query: torch.Tensor, audio: AudioTokens, known: Pair, positions: Pair | None
    ) -> torch.Tensor:
        if audio.index is None:
            return self._attend(query, *known, audio.mask)
        batch, tokens, share, is_gathered = audio.index.shape[0], query.shape[1], audio.share, known[0].ndim == 5
        if share is not None:
            # Frames that this rank shares with others are filled up with tokens whose result is dropped.
            query, audio = F.pad(query, (0, 0, 0, 0, share.before, share.after)), _of_frames(audio, share)
            if is_gathered:
                known = known[0][:, share.first : share.end], known[1][:, share.first : share.end]
        assert audio.index is not None
        windows = known if is_gathered else _gathered(attn, audio, known, positions)
        query = query.unflatten(1, (audio.index.shape[1], -1)).flatten(0, 1)
        key, value = (states.flatten(0, 1) for states in windows)
        heard: torch.Tensor = self._attend(query, key, value, audio.mask).unflatten(0, (batch, -1)).flatten(1, 2)
        return heard if share is None else heard[:, share.before : share.before + tokens]

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        backend = self._attention_backend
        if mask is not None and backend not in MASKING_BACKENDS:
            backend = AttentionBackendName.NATIVE
        # No parallel_config: every rank has all keys and values, only the queries are split.
        attended = dispatch_attention_fn(query, key, value, attn_mask=mask, backend=backend)
        result: torch.Tensor = attended.flatten(2, 3).type_as(query)
        return result


def with_share(context: CrossContext, share: FrameShare) -> CrossContext:
    """The context for a rank's share of the video tokens; it keeps its keys and values where the given one does."""
    return dataclasses.replace(context, audio=tuple(dataclasses.replace(one, share=share) for one in context.audio))


def _of_frames(audio: AudioTokens, share: FrameShare) -> AudioTokens:
    """The windows of some latent frames."""
    assert audio.index is not None
    batch, frames, _ = audio.index.shape
    index, mask, places = (
        None if x is None else x[:, share.first : share.end]
        for x in (audio.index, None if audio.mask is None else audio.mask.unflatten(0, (batch, frames)), audio.places)
    )
    mask = None if mask is None else mask.flatten(0, 1)
    return dataclasses.replace(audio, index=index, mask=mask, places=places)


def keeps_windows(audio: AudioTokens | AudioCondition, width: int) -> bool:
    """Whether a block of a width gathers the keys and values of all windows once for all steps."""
    windows = window_tokens(audio)
    return windows is not None and windows * width <= WINDOWS_KEPT


def window_tokens(audio: AudioTokens | AudioCondition) -> int | None:
    """Tokens of all windows, padding included; None in clip mode."""
    if isinstance(audio, AudioTokens):
        return None if audio.index is None else audio.index.numel()
    if audio.ranges is None:
        return None
    return audio.ranges[..., 0].numel() * (audio.width or window_width(audio.ranges))


def _gathered(attn: WanAttention, audio: AudioTokens, known: Pair, positions: Pair | None) -> Pair:
    """Keys and values of the windows of all frames, [B, f, w, heads, d / heads] each."""
    assert audio.index is not None
    key, value = (select_tokens(states, audio.index) for states in known)
    if positions is not None and audio.places is not None:
        key, value = key + F.embedding(audio.places, positions[0]), value + F.embedding(audio.places, positions[1])
    return key.unflatten(3, (attn.heads, -1)), value.unflatten(3, (attn.heads, -1))


def _heads(attn: WanAttention, states: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = states.unflatten(2, (attn.heads, -1))
    return result


def _text_keys_values(attn: WanAttention, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if attn.fused_projections:
        key, value = attn.to_kv(text).chunk(2, dim=-1)
        return key, value
    return attn.to_k(text), attn.to_v(text)


def _image_keys_values(attn: WanAttention, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if attn.fused_projections:
        key, value = attn.to_added_kv(image).chunk(2, dim=-1)
        return key, value
    return attn.add_k_proj(image), attn.add_v_proj(image)
