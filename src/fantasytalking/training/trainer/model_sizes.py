"""Sizes of the transformer as a checked record, with a sentence for each. Needs no framework, so that a mistake is found at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fantasytalking.errors import SettingsError
from fantasytalking.geometry import PATCH
from fantasytalking.system.records import describe, field, record

__all__ = ["ModelSizes", "check_sizes"]

_Side = Annotated[int, field(minimum=1)]


@record
class ModelSizes:
    """Arguments of `FantasyTalkingTransformer3DModel`, with its defaults."""

    patch_size: Annotated[
        tuple[_Side, _Side, _Side], field("Latents per token in time, height and width; 3 whole numbers.")
    ] = PATCH
    num_attention_heads: Annotated[
        int, field("Attention heads; the model's width is heads times attention-head-dim.", minimum=1)
    ] = 40
    attention_head_dim: Annotated[
        int, field("Width of a head, even for the rotary embedding.", minimum=2, multiple=2)
    ] = 128
    in_channels: Annotated[
        int, field("Channels of the input: noisy latents, mask and reference latents.", minimum=1)
    ] = 36
    out_channels: Annotated[int, field("Latent channels of the velocity.", minimum=1)] = 16
    text_dim: Annotated[int, field("Width of the text embeddings.", minimum=1)] = 4096
    freq_dim: Annotated[int, field("Width of the sinusoidal time embedding.", minimum=2, multiple=2)] = 256
    ffn_dim: Annotated[int, field("Width inside the feed-forward networks.", minimum=1)] = 13824
    num_layers: Annotated[int, field("Number of blocks.", minimum=1)] = 40
    cross_attn_norm: Annotated[bool, field("Whether the cross-attention input is normalised with learned weights.")] = (
        True
    )
    qk_norm: Annotated[
        Literal["rms_norm_across_heads"] | None, field("Normalisation of queries and keys; none leaves it out.")
    ] = "rms_norm_across_heads"
    eps: Annotated[float, field("Small number that all norms add to the variance.", minimum=1e-12, maximum=1)] = 1e-6
    image_dim: Annotated[int | None, field("Width of the image embeddings; none has no image tokens.", minimum=1)] = (
        None
    )
    added_kv_proj_dim: Annotated[
        int | None, field("Width of the image tokens in the blocks; none has no image attention.", minimum=1)
    ] = None
    rope_max_seq_len: Annotated[int, field("Longest side, in tokens, that the rotary embedding covers.", minimum=1)] = (
        1024
    )
    pos_embed_seq_len: Annotated[
        int | None, field("Positions of the image embedding; none in image-to-video models.", minimum=1)
    ] = None
    audio_feature_dim: Annotated[int, field("Width of the speech features, set by the encoder.", minimum=1)] = 768
    audio_dim: Annotated[int | None, field("Width of the projected speech; none has no audio.", minimum=1)] = 2048
    audio_positions: Annotated[
        int | None, field("Learned positions of speech tokens in a window; none has no order in a window.", minimum=1)
    ] = None
    identity_feature_dim: Annotated[
        int | None, field("Width of the face embedding; none has no identity.", minimum=1)
    ] = None
    identity_dim: Annotated[int | None, field("Width of the identity tokens; none has no identity.", minimum=1)] = None
    identity_tokens: Annotated[int, field("Number of identity tokens.", minimum=1)] = 16
    identity_layers: Annotated[int, field("Layers of the Q-Former that makes the identity tokens.", minimum=1)] = 2
    motion: Annotated[bool, field("Whether the motion intensity network exists.")] = False

    def __post_init__(self) -> None:
        if (self.identity_feature_dim is None) != (self.identity_dim is None):
            raise SettingsError(
                "identity_dim and identity_feature_dim must both be given, or neither, but they are "
                f"{self.identity_dim} and {self.identity_feature_dim}."
            )


def check_sizes(sizes: Mapping[str, Any], where: str = "model") -> None:
    """Check names and values of sizes.

    Args:
        sizes: Some of the arguments of the transformer; lists are taken for tuples, as JSON has none.
        where: Name of the field that holds them, which begins the error.

    Raises:
        SettingsError: There is no such size, or a value is not accepted.
    """
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    try:
        ModelSizes(**given)
    except SettingsError as error:
        named = any(str(error).startswith(one.name) for one in describe(ModelSizes))
        raise SettingsError(f"{where}{'.' if named else ': '}{error}") from None
