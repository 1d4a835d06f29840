"""The text that travels with a model: blocks of the validation split, by which it is compared with what is
made of it, wherever its corpus is not at hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from charlm.corpus import Corpus
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.tokenizer import CharTokenizer
from charlm.training.evaluation import bigram_counts

BLOCKS = 24
"""How many blocks are read at most."""
MAX_CHARS = BLOCKS * 257
"""How many characters they have together at most."""
MAX_PRODUCTS = 30e9
"""How many products a model takes to read them at most, about: a second's work for one core."""
CHARS_AT_ONCE = 4096
"""How many characters are computed together, which bounds the memory."""
MAX_LOSS = 100.0
"""Nats per character: no model is as bad, and no number that is told of one should be."""
MAX_NAME_CHARS = 200
EXCERPT = "excerpt"
"""Where the record of a model has it."""


@dataclass(frozen=True)
class Excerpt:
    """Blocks of the validation split of a text."""

    data: str
    """The name of the text."""
    blocks: tuple[str, ...]
    """Of one length: block_size characters, and the one after them."""
    bigram: float | None
    """The loss on them, in nats per character, of the pairs of characters counted in the training split, one
    added to each; None if it is not known."""

    @property
    def block_size(self) -> int:
        return len(self.blocks[0]) - 1

    @property
    def description(self) -> str:
        """What is read, as in “24 × 256 characters of the validation split of Tiny Shakespeare”."""
        return f"{len(self.blocks)} × {self.block_size} characters of the validation split of {self.data}"

    def ids(self, tokenizer: CharTokenizer) -> tuple[Tensor, Tensor]:
        """The blocks and the same shifted by one: ids (B, T) each. Raises `UnknownCharacterError`."""
        ids = torch.tensor([tokenizer.encode(block) for block in self.blocks])
        return ids[:, :-1], ids[:, 1:]

    def batches(self, model: LanguageModel) -> list[tuple[Tensor, Tensor]]:
        """The same in pieces of at most `CHARS_AT_ONCE` characters, where `model` is."""
        rows = max(1, CHARS_AT_ONCE // self.block_size)
        x, y = (ids.to(model.device).split(rows) for ids in self.ids(model.tokenizer))
        return list(zip(x, y, strict=True))

    @torch.no_grad()
    def loss(self, model: LanguageModel) -> float:
        """The mean loss in nats per character of `model`, in eval mode. Raises `UnknownCharacterError`, or
        `CharlmError` if the blocks are longer than what it reads."""
        total = sum(model(x, y)[1].double().item() * len(x) for x, y in self.batches(model))
        return total / len(self.blocks)

    def fitted(self, model: LanguageModel) -> Excerpt:
        """As much of it as `model` can read, in time: shorter blocks or fewer, spread evenly."""
        block_size = min(self.block_size, model.config.block_size)
        count = min(len(self.blocks), _most_blocks(block_size, model))
        if (block_size, count) == (self.block_size, len(self.blocks)):
            return self
        chosen = (self.blocks[i * len(self.blocks) // count] for i in range(count))
        return replace(self, blocks=tuple(block[: block_size + 1] for block in chosen), bigram=None)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Excerpt | None:
        """The excerpt that somebody's file has; None if it is none, or a larger one than is made here."""
        if not isinstance(value, dict) or value.keys() != {"data", "blocks", "bigram"}:
            return None
        data, blocks, bigram = value["data"], value["blocks"], value["bigram"]
        if not isinstance(data, str) or len(data) > MAX_NAME_CHARS:
            return None
        if not isinstance(blocks, list | tuple) or not 1 <= len(blocks) <= BLOCKS:
            return None
        if not all(isinstance(b, str) and len(b) >= 2 and len(b) == len(blocks[0]) for b in blocks):
            return None
        if len(blocks) > 1 and len(blocks) * len(blocks[0]) > MAX_CHARS:
            return None
        if bigram is not None and not (isinstance(bigram, float) and 0 <= bigram <= MAX_LOSS):
            return None
        return cls(data, tuple(blocks), bigram)


def make_excerpt(corpus: Corpus, model: LanguageModel, train: Tensor) -> Excerpt:
    """The beginnings of equal parts of the validation split, as many as `model` reads in time: `BLOCKS`, or
    fewer where they would overlap. `train` are the ids of the training split, 1-D.

    Raises `CharlmError` if the split is shorter than a block and its target, or has characters that the model
    does not know.
    """
    text, block_size = corpus.val_text, model.config.block_size
    count = min(_most_blocks(block_size, model), (len(text) - 1) // block_size)
    if count < 1:
        raise CharlmError(
            f"A block and its target need {block_size + 1} characters: this text has {len(text)}."
        )
    starts = (i * ((len(text) - 1) // count) for i in range(count))
    blocks = tuple(text[start : start + block_size + 1] for start in starts)
    excerpt = Excerpt(corpus.name[:MAX_NAME_CHARS], blocks, None)
    x, y = excerpt.ids(model.tokenizer)
    counts = bigram_counts(train, model.config.vocab_size) + 1
    loss = -(counts / counts.sum(1, keepdim=True)).log()[x, y].mean().item()
    return replace(excerpt, bigram=loss)


def _most_blocks(block_size: int, model: LanguageModel) -> int:
    in_time = MAX_PRODUCTS / (block_size * model.parameter_count())
    return max(1, min(BLOCKS, MAX_CHARS // (block_size + 1), int(in_time)))
