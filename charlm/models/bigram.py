"""Stage 1, the bigram model: each character alone predicts the next, through one table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charlm.models.base import LanguageModel, check_sizes, cross_entropy


@dataclass(frozen=True)
class BigramConfig:
    """`block_size` is only how many characters are scored together: the model looks at one."""

    vocab_size: int
    block_size: int = 8

    def __post_init__(self) -> None:
        check_sizes(self)


class BigramLanguageModel(LanguageModel):
    """Row i of the table holds the logits of whatever follows character i (lecture: "bigram")."""

    config_type = BigramConfig

    def __init__(self, config: BigramConfig):
        super().__init__()
        self.config = config
        self.token_embedding_table = nn.Embedding(config.vocab_size, config.vocab_size)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.token_embedding_table(idx)
        return logits, cross_entropy(logits, targets)

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """The table as probabilities, (vocab_size, vocab_size): row i sums to one."""
        return self.token_embedding_table.weight.softmax(dim=-1)
