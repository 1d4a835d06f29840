"""What a runner is: it writes on, in many texts at once, and remembers what it has read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np


class Saved(NamedTuple):
    """What an attention model's runner remembers of a text."""

    keys: np.ndarray
    """(n_layer, n_head, block_size, head_size): of the latest characters, the one at position t in place
    t % block_size."""
    values: np.ndarray
    """Of the same shape."""
    length: int
    """How many characters the text has."""


class Runner(ABC):
    """Texts in numbered slots, the ones in use side by side from slot 0 on. Computes on the CPU, with a
    copy of the weights as they were when it was made."""

    @abstractmethod
    def prefill(self, slot: int, ids: np.ndarray) -> np.ndarray:
        """Begins the text of `slot` anew with ids (T,): logits (vocab_size,) of what comes next."""

    @abstractmethod
    def step(self, ids: np.ndarray) -> np.ndarray:
        """Reads ids (n,), the next character of each text in slots 0 … n-1: logits (n, vocab_size)."""

    @abstractmethod
    def move(self, source: int, target: int) -> None:
        """Puts the text of slot `source` into slot `target`, to fill a gap."""

    @abstractmethod
    def save(self, slot: int) -> Any:
        """What `restore` needs, of this runner or another of the same model, to go on with the text of `slot`
        later: this one to the bit."""

    @abstractmethod
    def restore(self, slot: int, saved: Any) -> None:
        """Puts a text that was saved into `slot`."""

    @abstractmethod
    def resize(self, slots: int) -> None:
        """Makes room for more texts, or gives room back; the texts in slots 0 … slots-1 stay."""
