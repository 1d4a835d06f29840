"""What every language model here can do."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import CharlmError, check_range
from charlm.tokenizer import CharTokenizer

LIMITS = {"vocab_size": 65_536, "block_size": 4096, "n_layer": 64, "n_head": 64, "n_embd": 4096}
"""The largest sizes accepted, so that a file cannot ask for more than a machine has."""


def check_sizes(config: Any) -> None:
    """Raises `CharlmError` unless each size that a configuration has is a whole number within `LIMITS`,
    every head gets an equal, even share of the channels, and dropout leaves something."""
    for name, limit in LIMITS.items():
        size = getattr(config, name, 1)
        if type(size) is not int:
            raise CharlmError(f"{name} must be from 1 to {limit}, not {size!r:.100}.")
        check_range(name, size, 1, limit)
    n_embd, n_head = getattr(config, "n_embd", 2), getattr(config, "n_head", 1)
    if n_embd % (2 * n_head):
        raise CharlmError(
            f"n_embd ({n_embd}) must be an even multiple of n_head ({n_head}): "
            "each head gets an equal, even share of the channels."
        )
    dropout = getattr(config, "dropout", 0.0)
    if not 0 <= dropout < 1:
        raise CharlmError(f"dropout must be at least 0 and below 1, not {dropout}.")


class LanguageModel(nn.Module, ABC):
    """Ids of characters in, logits of the next character out."""

    config_type: ClassVar[type]
    """The dataclass of its sizes."""
    config: Any
    """Its sizes: at least `vocab_size` and `block_size`."""
    tokenizer: CharTokenizer
    """The vocabulary it was made for; set by whoever builds or loads the model."""
    record: dict[str, Any]
    """How it was made, from its checkpoint; set by whoever loads the model."""

    @abstractmethod
    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """idx, targets: (B, T) ids. Returns logits (B, T, vocab_size) and the loss, or None.

        The loss is the mean cross-entropy in nats per character.
        """

    def rounded(self) -> LanguageModel:
        """A copy whose weights are rounded to half precision: what a checkpoint keeps of it."""
        model = copy.deepcopy(self)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.half())
        return model

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def parameter_count(self) -> int:
        """How many numbers training sets."""
        return sum(p.numel() for p in self.parameters())


def cross_entropy(logits: Tensor, targets: Tensor | None) -> Tensor | None:
    """The mean loss in nats per character of logits (B, T, vocab_size) for targets (B, T); None without."""
    if targets is None:
        return None
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def check_length(T: int, block_size: int) -> None:
    """Raises `CharlmError` if a text of T characters is more than a model reads at a time."""
    if block_size < T:
        raise CharlmError(f"This model reads {block_size} characters at a time, not {T}.")
