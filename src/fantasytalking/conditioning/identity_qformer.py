"""Identity tokens from a face embedding (paper section 3.3, facial-focused cross-attention).

The paper names a Q-Former without its sizes; learned queries, a few layers of self-attention, cross-attention to the
projected embedding and a feed-forward network are our choice. Letters: B batch, e face embedding, n tokens, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

FACE_TOKENS = 4
HEAD_WIDTH = 64


class IdentityQFormer(nn.Module):
    """Turns a face embedding into tokens that every block of the transformer attends to.

    Args:
        feature_dim: Width e of the face embedding (ArcFace 512, MobileFaceNet 192).
        dim: Width d of the identity tokens.
        num_tokens: Number n of learned queries.
        num_layers: Number of layers.
    """

    def __init__(self, feature_dim: int, dim: int, num_tokens: int = 16, num_layers: int = 2) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, num_tokens, dim) * dim**-0.5)
        # With a single key the softmax of the cross-attention would be constant, so the embedding becomes several tokens.
        self.face_proj = nn.Linear(feature_dim, FACE_TOKENS * dim)
        self.face_norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList([QFormerLayer(dim) for _ in range(num_layers)])
        self.out_norm = nn.LayerNorm(dim)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Map a unit-length face embedding [B, e] to identity tokens [B, n, d]."""
        face = self.face_norm(rearrange(self.face_proj(embedding), "b (k d) -> b k d", k=FACE_TOKENS))
        tokens = self.queries.expand(embedding.shape[0], -1, -1).to(face.dtype)
        for layer in self.layers:
            tokens = layer(tokens, face)
        result: torch.Tensor = self.out_norm(tokens)
        return result


class QFormerLayer(nn.Module):
    """Self-attention among the queries, cross-attention to the face, feed-forward; pre-norm, with residuals.

    Args:
        dim: Width d of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(dim)
        self.self_attention = QFormerAttention(dim)
        self.cross_norm = nn.LayerNorm(dim)
        self.cross_attention = QFormerAttention(dim)
        self.feed_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
        """Refine tokens [B, n, d] by the face [B, k, d]."""
        normed = self.self_norm(tokens)
        tokens = tokens + self.self_attention(normed, normed)
        tokens = tokens + self.cross_attention(self.cross_norm(tokens), face)
        result: torch.Tensor = tokens + self.feed_forward(self.feed_norm(tokens))
        return result


class QFormerAttention(nn.Module):
    """Multi-head attention.

    Args:
        dim: Width d of queries, keys and output.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        wanted = max(1, dim // HEAD_WIDTH)
        self.heads = max(heads for heads in range(1, wanted + 1) if dim % heads == 0)
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, tokens: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Attend from tokens [B, n, d] to source [B, k, d]."""
        query, key, value = (
            rearrange(states, "b n (heads d) -> b heads n d", heads=self.heads)
            for states in (self.to_q(tokens), self.to_k(source), self.to_v(source))
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        result: torch.Tensor = self.to_out(rearrange(attended, "b heads n d -> b n (heads d)"))
        return result
