"""Blocks of a GGUF file mean what the package gguf says that they mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.checkpoints.weights_reader import open_weights

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
KINDS = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "IQ4_XS", "BF16"]


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_expanded_as_the_package_gguf_does(tmp_path: Path, kind: str) -> None:
    quantised = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[quantised]
    # Any bytes are blocks; those of the scales are kept small, so that they are finite numbers.
    data = np.random.default_rng(0).integers(0, 60, (3, 512 // block * size), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "wan.gguf", "wan")
    writer.add_tensor("blocks.0.ffn.0.weight", data, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    weights = open_weights(tmp_path / "wan.gguf")
    info = weights.infos["blocks.0.ffn.0.weight"]
    assert info.shape == (3, 512) and info.quantised == (None if kind == "BF16" else kind)
    expected = torch.from_numpy(gguf.quants.dequantize(data, quantised))
    # diffusers expands in half precision
    assert (weights.get("blocks.0.ffn.0.weight") - expected).abs().max() < 1e-3 * expected.abs().max()
