"""A model folder with the layout and the file formats of the released model, and its proportions, at a smaller width; random weights.

As `fantasytalking convert` writes it: transformer and text encoder in one type, norms and time embedding in float32, VAE and image encoder
in float32. Tensors are made one by one, so that writing takes no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLWan
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from fantasytalking.checkpoints.assemble_folder import AUDIO_PROCESSOR, IMAGE_PROCESSOR, INDEX, SCHEDULER
from fantasytalking.checkpoints.fill_model import build_empty, final_dtype
from fantasytalking.checkpoints.weights_writer import Entry, write_checkpoint
from fantasytalking.system.json import write_json
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["factories", "write_released_like"]

HEAD = 128
RELEASED_HEADS = 40


def factories(heads: int) -> dict[str, Callable[[], Any]]:
    """Component -> function that builds it; 40 heads would be close to the released sizes.

    Args:
        heads: Heads of the transformer, of 128 channels each.
    """
    share, width = heads / RELEASED_HEADS, heads * HEAD
    text, image, audio = (HEAD // 2 * max(1, round(count * share)) for count in (64, 20, 12))
    # The depth of the encoders stays, so their weights shrink like the transformer's.
    return {
        "transformer": lambda: FantasyTalkingTransformer3DModel(
            num_attention_heads=heads,
            ffn_dim=HEAD * round(108 * share),
            text_dim=text,
            image_dim=image,
            added_kv_proj_dim=width,
            audio_feature_dim=audio,
            audio_dim=HEAD // 2 * round(32 * share),
        ),
        "vae": lambda: AutoencoderKLWan(base_dim=4 * max(1, round(24 * share))),
        "text_encoder": lambda: UMT5EncoderModel(
            UMT5Config(
                vocab_size=round(256384 * share),
                d_model=text,
                d_kv=64,
                d_ff=text * 5 // 2,
                num_layers=24,
                num_heads=text // 64,
            )
        ),
        "image_encoder": lambda: CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=image,
                intermediate_size=4 * image,
                num_hidden_layers=32,
                num_attention_heads=image // 64,
                patch_size=14,
            )
        ),
        "audio_encoder": lambda: Wav2Vec2Model(
            Wav2Vec2Config(
                hidden_size=audio,
                intermediate_size=4 * audio,
                num_attention_heads=audio // 64,
                conv_dim=(HEAD * max(1, round(4 * share)),) * 7,
            )
        ),
    }


def write_released_like(folder: Path, heads: int, dtype: torch.dtype, shard_bytes: int = 10**9) -> int:
    """Write such a folder.

    Args:
        folder: The folder, which does not exist yet.
        heads: Heads of the transformer; 11 make a folder of 4 GB in bfloat16, 8 one in float32.
        dtype: Type of the transformer and the text encoder.
        shard_bytes: Largest size of one file.

    Returns:
        Bytes of all files.
    """
    large = {"transformer", "text_encoder"}
    for name, factory in factories(heads).items():
        model = build_empty(factory)
        if hasattr(model, "save_config"):
            stem = "diffusion_pytorch_model"
            model.save_config(folder / name)
        else:
            stem = "model"
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(folder / name)
        kind = dtype if name in large else torch.float32
        write_checkpoint(folder / name, stem, _entries(model, kind), shard_bytes)
    _tokenizer().save_pretrained(folder / "tokenizer")
    version = {"_diffusers_version": diffusers.__version__}
    index = {**INDEX, "tokenizer": ["transformers", "PreTrainedTokenizerFast"], **version}
    configs = {
        "image_processor/preprocessor_config.json": IMAGE_PROCESSOR,
        "audio_processor/preprocessor_config.json": AUDIO_PROCESSOR,
        "scheduler/scheduler_config.json": SCHEDULER | version,
        "model_index.json": index,
    }
    for file, content in configs.items():
        (folder / file).parent.mkdir(exist_ok=True)
        write_json(folder / file, content, indent=2)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _entries(model: nn.Module, dtype: torch.dtype) -> Iterator[Entry]:
    tied: Any = getattr(model, "all_tied_weights_keys", None) or ()
    for seed, (key, value) in enumerate(model.state_dict().items()):
        if key in tied:
            continue
        shape = tuple(value.shape)
        kind = final_dtype(model, key, value.dtype, dtype)
        yield Entry(key, shape, kind, partial(_values, shape, seed))


def _values(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Random matrices, such that activations neither vanish nor grow; a vector is ones."""
    if len(shape) < 2:
        return torch.ones(shape)
    generator = torch.Generator().manual_seed(seed)
    fan_in = max(1, torch.Size(shape[1:]).numel())
    return torch.empty(shape).uniform_(-1, 1, generator=generator).mul_(fan_in**-0.5)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    core = Tokenizer(WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
