"""The attention models: from the lecture's single head to a small GPT, in one class."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import CharlmError
from charlm.models.base import LanguageModel, check_sizes
from charlm.models.decoding import AttentionDecoder


@dataclass(frozen=True)
class AttentionConfig:
    """`decoder=False` is the lecture's first attention: heads alone, between two tables.
    `decoder=True` is the whole block: attention and MLP, each normalised and added back."""

    vocab_size: int
    block_size: int = 64
    n_layer: int = 1
    n_head: int = 1
    n_embd: int = 32
    decoder: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.n_embd % (2 * self.n_head):
            raise CharlmError(
                f"n_embd ({self.n_embd}) must be an even multiple of n_head ({self.n_head}): "
                "each head gets an equal, even share of the channels."
            )
        if not isinstance(self.decoder, bool):
            raise CharlmError(f"decoder must be true or false, not {self.decoder!r}.")
        if not 0 <= self.dropout < 1:
            raise CharlmError(f"dropout must be at least 0 and below 1, not {self.dropout}.")

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head


@dataclass
class Trace:
    """What a forward pass went through, layer by layer, for the pages that explain it."""

    scores: list[Tensor] = field(default_factory=list)
    """q·k/√d before the mask and before the softmax, each (B, n_head, T, T)."""
    weights: list[Tensor] = field(default_factory=list)
    """After mask and softmax: rows sum to one, nothing above the diagonal; (B, n_head, T, T)."""
    residual: list[Tensor] = field(default_factory=list)
    """The channels after the embedding and after each layer, n_layer + 1 times (B, T, C)."""


def rotary(config: AttentionConfig) -> tuple[Tensor, Tensor]:
    """cos and sin, (block_size, head_size / 2), of the angles by which each position turns channels.

    RoPE (Su et al., 2021): no table of positions to learn, and what a head sees depends on the
    distance between two characters alone, so generation may go on for ever.
    """
    half = config.head_size // 2
    frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(config.block_size, dtype=torch.float64)[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (…, T, head_size), each pair of channels turned by its position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class CausalSelfAttention(nn.Module):
    """`n_head` heads side by side; each character looks back at itself and the ones before it."""

    def __init__(self, config: AttentionConfig):
        super().__init__()
        self.n_head = config.n_head
        # One projection for query, key and value of all heads: one large product is faster than 3·n_head.
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        # QK-norm (Henry et al., 2020) keeps the scores bounded, which allows a higher learning rate.
        # The gain lets a head learn how sharply it chooses.
        self.qk_norm = nn.RMSNorm(config.head_size, elementwise_affine=False) if config.decoder else None
        self.gain = nn.Parameter(torch.ones(config.n_head, 1, 1)) if config.decoder else None

    def forward(
        self,
        x: Tensor,
        position: tuple[Tensor, Tensor],
        trace: Trace | None = None,
    ) -> Tensor:
        """x (B, T, C) → the heads' outputs side by side, (B, T, C)."""
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)
        if self.qk_norm is not None:
            q, k = self.gain * self.qk_norm(q), self.qk_norm(k)
        q, k = rotate(q, *position), rotate(k, *position)
        q, k = q.type_as(v), k.type_as(v)
        if trace is None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
            weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
            trace.scores.append(scores)
            trace.weights.append(weights)
            out = weights @ v
        return out.transpose(1, 2).reshape(B, T, C)


class MLP(nn.Module):
    """What each character does on its own with what attention brought it."""

    def __init__(self, config: AttentionConfig):
        super().__init__()
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.down = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # ReLU² (So et al., 2021, "Primer"): learns faster than GELU and costs two cheap operations.
        x = self.up(x).relu()
        return self.down(x * x)


class DecoderBlock(nn.Module):
    """Attention, then MLP; each reads a normalised copy and adds its answer to the stream."""

    def __init__(self, config: AttentionConfig):
        super().__init__()
        # RMSNorm (Zhang & Sennrich, 2019), no gain: the next projection can scale as well.
        self.norm = nn.RMSNorm(config.n_embd, elementwise_affine=False)
        self.attention = CausalSelfAttention(config)
        self.projection = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)
        # Both branches start silent (Zhang et al., 2019, "Fixup"): the block is the identity at first.
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.mlp.down.weight)

    def forward(
        self,
        x: Tensor,
        position: tuple[Tensor, Tensor],
        trace: Trace | None = None,
    ) -> Tensor:
        """x (B, T, C) → (B, T, C)."""
        heads = self.attention(self.norm(x), position, trace)
        x = x + self.dropout(self.projection(heads))
        return x + self.dropout(self.mlp(self.norm(x)))


class AttentionLanguageModel(LanguageModel):
    """Characters → channels → `n_layer` layers of attention → logits of the next character."""

    def __init__(self, config: AttentionConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        layer = DecoderBlock if config.decoder else CausalSelfAttention
        self.layers = nn.ModuleList(layer(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd, elementwise_affine=False) if config.decoder else nn.Identity()
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=not config.decoder)
        cos, sin = rotary(config)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """As `LanguageModel.forward`. Raises `CharlmError` if T exceeds block_size."""
        logits = self.unembed(self.run(idx))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def run(self, idx: Tensor, trace: Trace | None = None) -> Tensor:
        """The channels (B, T, C) after the last layer; a `trace` keeps what happens on the way.

        Raises `CharlmError` if T exceeds block_size.
        """
        T = idx.shape[1]
        if self.config.block_size < T:
            raise CharlmError(f"This model reads {self.config.block_size} characters at a time, not {T}.")
        position = self.cos[:T], self.sin[:T]
        x = self.dropout(self.embedding(idx))
        if trace is not None:
            trace.residual.append(x)
        for layer in self.layers:
            x = layer(x, position, trace)
            if trace is not None:
                trace.residual.append(x)
        return x

    def unembed(self, x: Tensor) -> Tensor:
        """The logits (…, vocab_size) that channels x (…, C) stand for, after whichever layer
        (the "logit lens", nostalgebraist, 2020)."""
        return self.lm_head(self.norm(x))

    def decoder(self, slots: int = 1) -> AttentionDecoder:
        return AttentionDecoder(self, slots)

    @torch.no_grad()
    def attention(self, idx: Tensor) -> tuple[Tensor, Tensor]:
        """The weights and the raw scores of every layer and head, each (n_layer, B, n_head, T, T).

        Scores are q·k/√d before the mask and the softmax. idx: (B, T), T at most block_size.
        """
        trace = Trace()
        self.run(idx, trace=trace)
        return torch.stack(trace.weights), torch.stack(trace.scores)
