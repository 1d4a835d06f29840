"""Between stages 2 and 3: a transformer put together from parts, so that each can be tried without.

With all of a GPT's parts it is the GPT of `gpt.py`, with those of the heads alone the model of
`attention.py`, but for the bias of its last layer. The rungs of the ladder between the two, and what the
laboratory makes, are models of this file. A part is chosen once, when the model is built; no forward pass
asks for its configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charlm.models.attention import SelfAttention
from charlm.models.base import LanguageModel, check_length, check_sizes, cross_entropy
from charlm.models.gpt import MLP, CausalSelfAttention
from charlm.models.parts import Parts
from charlm.models.rotary import angles


class ReLUMLP(MLP):
    """The lecture's MLP: a plain ReLU between its two matrices."""

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())


class LearnedPositions(nn.Module):
    """The lecture's embedding: a row for the character, and one for where it stands in the block."""

    def __init__(self, vocab_size: int, block_size: int, n_embd: int):
        super().__init__()
        self.characters = nn.Embedding(vocab_size, n_embd)
        self.positions = nn.Embedding(block_size, n_embd)

    def forward(self, idx: Tensor) -> Tensor:
        """idx (B, T) → (B, T, C)."""
        return self.characters(idx) + self.positions.weight[: idx.shape[1]]


def add(x: Tensor, answer: Tensor) -> Tensor:
    """A residual connection (He et al., 2015): the stream goes on, and the answer is added to it."""
    return x + answer


def replace(x: Tensor, answer: Tensor) -> Tensor:
    """Without one, the answer is all that goes on."""
    return answer


MLPS: dict[str, type[MLP]] = {"relu": ReLUMLP, "relu2": MLP}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda n_embd: nn.Identity(),
    "layernorm": nn.LayerNorm,
    "rmsnorm": lambda n_embd: nn.RMSNorm(n_embd, elementwise_affine=False),
}


@dataclass(frozen=True)
class TransformerConfig(Parts):
    """The sizes of `GPTConfig`, and the parts."""

    vocab_size: int
    block_size: int = 8
    n_layer: int = 1
    n_head: int = 4
    n_embd: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self)

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    @property
    def parts(self) -> Parts:
        return Parts.of(self)


class Block(nn.Module):
    """Heads, then an MLP if there is one: each reads its input normalised, and its answer is added to that
    input or replaces it."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        C = config.n_embd
        self.join = add if config.residual else replace
        self.attention_norm = NORMS[config.norm](C)
        self.attention = (CausalSelfAttention if config.qk_norm else SelfAttention)(C, config.n_head)
        self.attention.causal = config.causal
        self.attention.scale = config.head_size**-0.5 if config.scaled else 1.0
        self.projection = nn.Linear(C, C, bias=False) if config.projection else nn.Identity()
        self.mlp = MLPS[config.mlp](C) if config.mlp in MLPS else None
        self.mlp_norm = NORMS[config.norm if self.mlp else "none"](C)
        self.dropout = nn.Dropout(config.dropout)
        if config.residual:
            self._silence()

    def _silence(self) -> None:
        """Both branches start silent, as in the GPT. Without a stream beside them nothing would get past."""
        if isinstance(self.projection, nn.Linear):
            nn.init.zeros_(self.projection.weight)
        if self.mlp is not None:
            nn.init.zeros_(self.mlp.down.weight)

    def scores(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """q·k of each head, before mask and softmax. (B, T, C) → (B, n_head, T, T)."""
        return self.attention.scores(self.attention_norm(x), cos, sin)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (B, T, C) → (B, T, C)."""
        heads = self.attention(self.attention_norm(x), cos, sin)
        x = self.join(x, self.dropout(self.projection(heads)))
        if self.mlp is None:
            return x
        return self.join(x, self.dropout(self.mlp(self.mlp_norm(x))))


class Transformer(LanguageModel):
    """Characters → channels → `n_layer` blocks → logits of the next character."""

    config_type = TransformerConfig

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        V, T, C = config.vocab_size, config.block_size, config.n_embd
        learned = config.positions == "learned"
        self.embedding = LearnedPositions(V, T, C) if learned else nn.Embedding(V, C)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = NORMS[config.norm](C)
        self.lm_head = nn.Linear(C, V, bias=False)
        # Where positions are not rotary, queries and keys are turned by nothing.
        turns = torch.arange(T) if config.positions == "rotary" else torch.zeros(T)
        cos, sin = angles(turns, config.head_size)
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
        """The logits (…, vocab_size) that channels x (…, C) stand for, after whichever layer."""
        return self.lm_head(self.norm(x))
