"""Stage 3, the GPT: blocks of attention and MLP, each normalised and added back to the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from charlm.models.attention import SelfAttention
from charlm.models.base import LanguageModel, check_length, check_sizes, cross_entropy
from charlm.models.parts import Parts
from charlm.models.rotary import angles, rotate


class CausalSelfAttention(SelfAttention):
    """The heads of stage 2, but queries and keys are normalised before they are compared."""

    def __init__(self, n_embd: int, n_head: int):
        super().__init__(n_embd, n_head)
        # QK-norm (Henry et al., 2020) keeps the scores bounded, which allows a higher learning rate.
        # The gain lets a head learn how sharply it chooses.
        self.qk_norm = nn.RMSNorm(n_embd // n_head, elementwise_affine=False)
        self.gain = nn.Parameter(torch.ones(n_head, 1, 1))

    def queries_keys_values(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.split_heads(x)
        q, k = self.gain * self.qk_norm(q), self.qk_norm(k)
        return rotate(q, cos, sin).type_as(v), rotate(k, cos, sin).type_as(v), v


class MLP(nn.Module):
    """What each character does on its own with what attention brought it."""

    def __init__(self, n_embd: int):
        super().__init__()
        self.up = nn.Linear(n_embd, 4 * n_embd, bias=False)
        self.down = nn.Linear(4 * n_embd, n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # ReLU² (So et al., 2021, "Primer"): learns faster than GELU and costs two cheap operations.
        x = self.up(x).relu()
        return self.down(x * x)


@dataclass(frozen=True)
class GPTConfig:
    """`n_layer` blocks, each with `n_head` heads of `n_embd / n_head` channels."""

    vocab_size: int
    block_size: int = 64
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    dropout: float = 0.0

    parts: ClassVar[Parts] = Parts(mlp="relu2", norm="rmsnorm", positions="rotary", qk_norm=True)

    def __post_init__(self) -> None:
        check_sizes(self)

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head


class Block(nn.Module):
    """Attention, then MLP; each reads a normalised copy and adds its answer to the stream."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        # RMSNorm (Zhang & Sennrich, 2019), no gain: the next projection can scale as well.
        self.norm = nn.RMSNorm(config.n_embd, elementwise_affine=False)
        self.attention = CausalSelfAttention(config.n_embd, config.n_head)
        self.projection = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.mlp = MLP(config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        # Both branches start silent (Zhang et al., 2019, "Fixup"): the block is the identity at first.
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.mlp.down.weight)

    def scores(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """q·k/√d of each head, before mask and softmax. (B, T, C) → (B, n_head, T, T)."""
        return self.attention.scores(self.norm(x), cos, sin)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (B, T, C) → (B, T, C)."""
        heads = self.attention(self.norm(x), cos, sin)
        x = x + self.dropout(self.projection(heads))
        return x + self.dropout(self.mlp(self.norm(x)))


class GPT(LanguageModel):
    """Characters → channels → `n_layer` blocks → logits of the next character."""

    config_type = GPTConfig

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd, elementwise_affine=False)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
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
        """The logits (…, vocab_size) that channels x (…, C) stand for, after whichever layer
        (the "logit lens", nostalgebraist, 2020)."""
        return self.lm_head(self.norm(x))
