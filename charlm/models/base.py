"""What every language model here can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from charlm.tokenizer import CharTokenizer


class LanguageModel(nn.Module, ABC):
    """Ids of characters in, logits of the next character out."""

    config: Any
    """Its sizes: at least `vocab_size` and `block_size`."""
    tokenizer: CharTokenizer
    """The vocabulary it was made for; set by whoever builds or loads the model."""

    @abstractmethod
    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """idx, targets: (B, T) ids. Returns logits (B, T, vocab_size) and the loss, or None.

        The loss is the mean cross-entropy in nats per character.
        """

    @abstractmethod
    def new_cache(self, batch_size: int = 1) -> Any:
        """What `decode` remembers of the text so far, empty; None if it remembers nothing."""

    @abstractmethod
    def decode(self, idx: Tensor, cache: Any) -> Tensor:
        """Reads on: idx (B, T) is first the prompt, then one character a call. Returns the logits
        of the next character, (B, vocab_size). The model must be in eval mode."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def parameter_count(self) -> int:
        """How many numbers training sets."""
        return sum(p.numel() for p in self.parameters())
