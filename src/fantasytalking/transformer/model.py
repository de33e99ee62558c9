"""FantasyTalking's video transformer: Wan's with speech, identity and motion intensity.

Letters: B batch, C channels, f latent frames, h and w latent rows and columns, t speech tokens, d width of a token.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from einops import rearrange
from torch import nn

from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition, replace
from fantasytalking.conditioning.identity_qformer import IdentityQFormer
from fantasytalking.conditioning.motion_network import MotionNetwork
from fantasytalking.conditioning.speech_features import AudioProjector
from fantasytalking.errors import InputError
from fantasytalking.geometry import PATCH
from fantasytalking.transformer.attention import (
    CrossContext,
    FantasyTalkingAttnProcessor,
    IdentityTokens,
    with_share,
)
from fantasytalking.transformer.audio_tokens import AudioTokens, audio_tokens, check_regions, scale_column
from fantasytalking.transformer.constants import Constants, for_blocks
from fantasytalking.transformer.context_parallel import ContextParallel
from fantasytalking.transformer.new_parts import reset_new_parts
from fantasytalking.transformer.step_caches import StepCaching


class FantasyTalkingTransformer3DModel(StepCaching, ContextParallel, WanTransformer3DModel):
    """Wan's transformer with cross-attention to speech and to a face.

    A subclass of diffusers' model with diffusers' own blocks: only the cross-attention processors are ours, so LoRA,
    caches, offload, quantisation and attention back-ends work as they do for Wan. Parts that are not configured do not
    exist, and new parts start at zero, so an untrained model equals plain Wan exactly.

    Args:
        patch_size: Latents per token in (time, height, width).
        num_attention_heads: Heads; the width is heads times `attention_head_dim`.
        attention_head_dim: Width of a head.
        in_channels: C of the input: noisy latents, 4 mask channels and the reference latents.
        out_channels: Latent channels of the velocity.
        text_dim: Width of the text embeddings.
        freq_dim: Width of the sinusoidal time embedding.
        ffn_dim: Width inside the feed-forward networks.
        num_layers: Number of blocks.
        cross_attn_norm: Whether the cross-attention input is normalised with learned weights.
        qk_norm: Normalisation of queries and keys.
        eps: Of all norms.
        image_dim: Width of the image embeddings; None: no image tokens.
        added_kv_proj_dim: Width of the image tokens in the blocks; None: no image attention.
        rope_max_seq_len: Longest side, in tokens, that the rotary embedding covers.
        pos_embed_seq_len: Positions of the image embedding; None in image-to-video models.
        audio_feature_dim: Width of the speech features: 768 for wav2vec2-base, 384 for Whisper tiny.
        audio_dim: Width of the projected speech; None: no audio.
        audio_positions: Number of learned positions of speech tokens in a window; None, as released: a window is a set of
            tokens, in which only the speech features themselves carry the order in time.
        identity_feature_dim: Width of the face embedding; None: no identity.
        identity_dim: Width of the identity tokens; None: no identity.
        identity_tokens: Number of identity tokens.
        identity_layers: Layers of the Q-Former.
        motion: Whether the motion intensity network exists.
    """

    _skip_layerwise_casting_patterns: ClassVar[list[str]] = [
        *WanTransformer3DModel._skip_layerwise_casting_patterns,
        "audio_projector",
        "identity_qformer",
        "motion_network",
    ]
    # Parts that a device map must not cut: their code mixes what their layers return with parameters of their own.
    _no_split_modules: ClassVar[list[str]] = [
        *WanTransformer3DModel._no_split_modules,
        "AudioProjector",
        "IdentityQFormer",
        "MotionNetwork",
    ]

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = PATCH,
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 36,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        audio_feature_dim: int = 768,
        audio_dim: int | None = 2048,
        audio_positions: int | None = None,
        identity_feature_dim: int | None = None,
        identity_dim: int | None = None,
        identity_tokens: int = 16,
        identity_layers: int = 2,
        motion: bool = False,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=added_kv_proj_dim,
            rope_max_seq_len=rope_max_seq_len,
            pos_embed_seq_len=pos_embed_seq_len,
        )
        self._build_parts(num_attention_heads * attention_head_dim)

    def _build_parts(self, inner_dim: int) -> None:
        """Add the configured parts that Wan does not have."""
        config = self.config
        if (config.identity_feature_dim is None) != (config.identity_dim is None):
            raise InputError(
                "Identity needs both `identity_feature_dim` and `identity_dim`, or neither, "
                f"but they are {config.identity_feature_dim} and {config.identity_dim}."
            )
        self.audio_projector: AudioProjector | None = None
        self.window_positions: nn.Parameter | None = None
        if config.audio_dim is not None:
            self.audio_projector = AudioProjector(config.audio_feature_dim, config.audio_dim)
            if config.audio_positions is not None:
                self.window_positions = nn.Parameter(torch.randn(config.audio_positions, config.audio_dim))
        self.identity_qformer: IdentityQFormer | None = None
        if config.identity_dim is not None:
            self.identity_qformer = IdentityQFormer(
                config.identity_feature_dim, config.identity_dim, config.identity_tokens, config.identity_layers
            )
        self.motion_network = MotionNetwork(inner_dim) if config.motion else None
        for block in self.blocks:
            block.attn2.set_processor(FantasyTalkingAttnProcessor(inner_dim, config.audio_dim, config.identity_dim))

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        conditions: Conditions,
        return_dict: bool = True,
        constants: Constants | None = None,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        """Predict the velocity (noise - data) of noisy latents.

        Args:
            hidden_states: [B, C, f, h, w], all input channels; h and w multiples of the patch.
            timestep: [B], 0 (data) to 1000 (noise).
            conditions: Prompt, portrait, speech, face and intensities, in the model's type and on its device.
            return_dict: Whether to return a record with `sample` or a tuple.
            constants: Filled by the first call with what follows from the conditions alone, and used by the next calls, which must have the
                same conditions, weights and number of latent frames; None, or with gradients: nothing is kept.

        Returns:
            Velocity [B, out_channels, f, h, w].

        Raises:
            InputError: The conditions do not fit the latents, or need a part that this model does not have.
        """
        grid = self._token_grid(hidden_states, conditions)
        rotary_emb = self.rope(hidden_states)
        tokens = self.patch_embedding(hidden_states).flatten(2).transpose(1, 2).contiguous()

        kept = None if torch.is_grad_enabled() else constants
        temb, modulation, contexts = self._embed_and_contexts(timestep, conditions, grid[0], tokens.dtype, kept)
        share = self.token_share(grid)
        if share is not None:
            tokens, rotary_emb = share.of(tokens), tuple(map(share.of, rotary_emb))
            contexts = [with_share(context, share.frames) for context in contexts]
        checkpointed = torch.is_grad_enabled() and self.gradient_checkpointing
        for block, context in zip(self.blocks, contexts, strict=True):
            if checkpointed:
                tokens = self._gradient_checkpointing_func(block, tokens, context, modulation, rotary_emb)
            else:
                tokens = block(tokens, context, modulation, rotary_emb)

        shift, scale = (self.scale_shift_table.to(temb.device) + temb[:, None]).chunk(2, dim=1)
        normed = self.norm_out(tokens.float())
        tokens = self.proj_out((normed * (1 + scale.to(normed.device)) + shift.to(normed.device)).type_as(tokens))
        output = self._unpatchify(tokens if share is None else share.gathered(tokens), grid)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def plain_config(self) -> dict[str, Any]:
        """Keyword arguments that build such a model: its configuration without diffusers' own entries."""
        return {key: value for key, value in dict(self.config).items() if not key.startswith("_")}

    @classmethod
    def complete_config(cls, model: str | os.PathLike[str]) -> FrozenDict:
        """Configuration of a model folder's or a hub repository's transformer, defaults included, without its weights."""
        parameters = inspect.signature(cls.__init__).parameters
        defaults = {name: one.default for name, one in parameters.items() if name != "self"}
        return FrozenDict({**defaults, **cls.load_config(model, subfolder="transformer")})

    @classmethod
    def from_single_file(cls, path: str | os.PathLike[str], **options: Any) -> FantasyTalkingTransformer3DModel:
        """Load a file of any layout; `fantasytalking.checkpoints.backbone.load_single_file` explains the options."""
        # The readers of files build on this class, so they are looked up by name once they are needed.
        load = importlib.import_module("fantasytalking.checkpoints.backbone").load_single_file
        return load(path, **options)  # type: ignore[no-any-return]

    def reset_new_parts(self) -> None:
        """Initialise the parts that Wan does not have; afterwards the model equals plain Wan exactly.

        Used for a model that was built on the meta device and filled from a checkpoint of Wan alone.
        """
        reset_new_parts(self)

    def _token_grid(self, hidden_states: torch.Tensor, conditions: Conditions) -> tuple[int, int, int]:
        """Tokens in (time, height, width) after checking that latents and conditions fit."""
        batch, channels, *sides = hidden_states.shape
        patch = self.config.patch_size
        if channels != self.config.in_channels or any(side % size for side, size in zip(sides, patch, strict=True)):
            raise InputError(
                f"The latents must have {self.config.in_channels} channels and sides that are multiples of "
                f"{tuple(patch)}, but are {tuple(hidden_states.shape)} [B, C, f, h, w]."
            )
        if conditions.batch_size != batch:
            raise InputError(
                f"There are {batch} latents but conditions for {conditions.batch_size}; give one for each."
            )
        frames, height, width = (side // size for side, size in zip(sides, patch, strict=True))
        check_regions(conditions.audio, height, width)
        return frames, height, width

    def _embed(
        self, timestep: torch.Tensor, conditions: Conditions, constants: Constants | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Timestep embedding [B, d], the blocks' modulation [B, 6, d], text [B, l, d] and image [B, li, d]."""
        if conditions.image is not None and self.config.image_dim is None:
            raise InputError("This model has no image attention, but an image condition was given; leave it out.")
        embedder = self.condition_embedder
        temb, modulation, text, image = embedder(timestep, conditions.text, conditions.image)
        if conditions.motion is not None:
            if self.motion_network is None:
                raise InputError("This model has no motion network, but motion intensities were given; leave them out.")
            # The paper adds it to the timestep embedding: before Wan's projection to the six modulation vectors, so that
            # all blocks and the output head see it.
            added = None if constants is None else constants.motion
            if added is None:
                added = self.motion_network(conditions.motion.to(temb.dtype)).to(temb.device)
                if constants is not None:
                    constants.motion = added
            temb = temb + added
            modulation = embedder.time_proj(embedder.act_fn(temb))
        return temb, modulation.unflatten(1, (6, -1)), text, image

    def _embed_and_contexts(
        self,
        timestep: torch.Tensor,
        conditions: Conditions,
        frames: int,
        dtype: torch.dtype,
        constants: Constants | None,
    ) -> tuple[torch.Tensor, torch.Tensor, Sequence[CrossContext]]:
        """Timestep embedding, the blocks' modulation, and what each block attends to."""
        if constants is not None and constants.contexts:
            # The embedder does time and text in one call. A single token is the least that every kind of quantised layer takes.
            told = replace(conditions, text=conditions.text[:, :1], image=None)
            temb, modulation, _, _ = self._embed(timestep, told, constants)
            return temb, modulation, constants.contexts
        temb, modulation, text, image = self._embed(timestep, conditions, constants)
        audio = self.audio_tokens(conditions.audio, frames, dtype)
        context = CrossContext(text, image, audio, self._identity_tokens(conditions.identity, dtype))
        if constants is None:
            return temb, modulation, [context] * len(self.blocks)
        constants.contexts = for_blocks(context, self.blocks)
        return temb, modulation, constants.contexts

    def audio_tokens(self, audio: AudioCondition | None, frames: int, dtype: torch.dtype) -> tuple[AudioTokens, ...]:
        """Speech as every block's attention reads it: projected and, in frame mode, with each latent frame's window.

        Args:
            audio: Features, ranges and scale.
            frames: Latent frames f of the video.
            dtype: Type that the model computes in.

        Returns:
            One for each person who speaks; none where there is no audio, or its scale is the number 0.

        Raises:
            InputError: The model has no audio attention, or the windows are of another number of latent frames.
        """
        if audio is None or audio.is_off:
            return ()
        if self.audio_projector is None:
            raise InputError("This model has no audio attention, but an audio condition was given; leave it out.")
        positions = None if self.window_positions is None else self.window_positions.to(dtype)
        found = []
        for voice in audio.voices:
            # Back from where a device map may have put the projector.
            tokens = self.audio_projector(voice.features.to(dtype)).to(voice.features.device)
            found.append(audio_tokens(tokens, voice, frames, positions))
        return tuple(found)

    def _identity_tokens(self, identity: IdentityCondition | None, dtype: torch.dtype) -> IdentityTokens | None:
        if identity is None or (isinstance(identity.scale, int | float) and identity.scale == 0):
            return None
        if self.identity_qformer is None:
            raise InputError("This model has no identity attention, but an identity condition was given; leave it out.")
        tokens = self.identity_qformer(identity.embedding.to(dtype))
        return IdentityTokens(tokens, scale_column(identity.scale, tokens.shape[0], tokens))

    def _unpatchify(self, tokens: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        sizes = dict(zip(("f", "h", "w", "pf", "ph", "pw"), (*grid, *self.config.patch_size), strict=True))
        return rearrange(tokens, "b (f h w) (pf ph pw c) -> b c (f pf) (h ph) (w pw)", **sizes)
