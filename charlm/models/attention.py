"""Stage 2, the lecture's first attention: heads alone, between two tables. They look back, but cannot
think."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from charlm.models.base import LanguageModel, check_length, check_sizes, cross_entropy
from charlm.models.parts import Parts
from charlm.models.rotary import angles, rotate


def mask_future(scores: Tensor) -> Tensor:
    """Scores (…, T, T) with the future set to −∞, so that softmax gives it no weight."""
    T = scores.shape[-1]
    tril = torch.tril(torch.ones(T, T, device=scores.device))
    return scores.masked_fill(tril == 0, float("-inf"))


class SelfAttention(nn.Module):
    """`n_head` heads side by side; each character looks back at itself and the ones before it."""

    def __init__(self, n_embd: int, n_head: int):
        super().__init__()
        self.n_head = n_head
        self.causal, self.scale = True, (n_embd // n_head) ** -0.5
        # One projection for query, key and value of all heads: one large product is faster than 3·n_head.
        self.qkv = nn.Linear(n_embd, 3 * n_embd, bias=False)

    def split_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, C) → query, key and value of each head, (B, n_head, T, head_size) each."""
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)
        return q, k, v

    def queries_keys_values(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `split_heads`, queries and keys turned by their positions."""
        q, k, v = self.split_heads(x)
        return rotate(q, cos, sin).type_as(v), rotate(k, cos, sin).type_as(v), v

    def compare(self, q: Tensor, k: Tensor) -> Tensor:
        """q·k/√d of each query with each key: 2 × (…, T, head_size) → (…, T, T)."""
        return q @ k.transpose(-2, -1) * self.scale

    def scores(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """What each head compares, before mask and softmax. (B, T, C) → (B, n_head, T, T)."""
        q, k, _ = self.queries_keys_values(x, cos, sin)
        return self.compare(q, k)

    def weights(self, scores: Tensor) -> Tensor:
        """Scores (…, T, T) after mask, if there is one, and softmax: each row sums to one."""
        return (mask_future(scores) if self.causal else scores).softmax(-1)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (B, T, C) → the heads' outputs side by side, (B, T, C)."""
        q, k, v = self.queries_keys_values(x, cos, sin)
        # F.scaled_dot_product_attention is the same without keeping anything of shape (T, T), but learns more
        # slowly on a CPU as long as T is small.
        out = self.weights(self.compare(q, k)) @ v
        return out.transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class AttentionConfig:
    """`n_head` heads of `n_embd / n_head` channels in each of `n_layer` layers."""

    vocab_size: int
    block_size: int = 64
    n_layer: int = 1
    n_head: int = 1
    n_embd: int = 32
    dropout: float = 0.0

    parts: ClassVar[Parts] = Parts(
        projection=False, mlp="none", residual=False, norm="none", positions="rotary"
    )

    def __post_init__(self) -> None:
        check_sizes(self)

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head


class AttentionLanguageModel(LanguageModel):
    """Characters → channels → heads of attention → logits of the next character."""

    config_type = AttentionConfig

    def __init__(self, config: AttentionConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            SelfAttention(config.n_embd, config.n_head) for _ in range(config.n_layer)
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size)
        cos, sin = angles(torch.arange(config.block_size), config.head_size)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """As `LanguageModel.forward`. Raises `CharlmError` if T exceeds block_size."""
        T = idx.shape[1]
        check_length(T, self.config.block_size)
        x = self.dropout(self.embedding(idx))
        for layer in self.layers:
            x = layer(x, self.cos[:T], self.sin[:T])
        logits = self.unembed(x)
        return logits, cross_entropy(logits, targets)

    def unembed(self, x: Tensor) -> Tensor:
        """The logits (…, vocab_size) that channels x (…, C) stand for."""
        return self.lm_head(x)
