"""Characters to ids, the split, one chunk unrolled and one random batch."""

from __future__ import annotations

from typing import Any

import torch

from charlm.corpus import Corpus, get_batch
from charlm.engine.sampling import MAX_SEED
from charlm.errors import check_range
from charlm.tokenizer import CharTokenizer
from charlm.ui.texts import without_unknown

MAX_CHARS = 2000
MAX_SIZE = 256

LINES = """\
stoi = {char: i for i, char in enumerate(vocab)}
ids = torch.tensor([stoi[char] for char in text])
n = int(0.9 * len(ids))
train, val = ids[:n], ids[n:]

torch.manual_seed(seed)
ix = torch.randint(len(train) - block_size, (batch_size,))
x = torch.stack([train[i : i + block_size] for i in ix])
y = torch.stack([train[i + 1 : i + block_size + 1] for i in ix])
"""


def explain(
    text: str, tokenizer: CharTokenizer, batch_size: int, block_size: int, seed: int
) -> dict[str, Any]:
    """What the lecture's first cells give for `text`, and `notes` on what had to be changed to show it.

    `chunk` holds (context ids, target id) for each position of the first chunk; `x` and `y` are
    (batch_size, block_size) ids drawn from the training split. Raises `CharlmError` for a number out
    of range.
    """
    check_range("batch_size", batch_size, 1, MAX_SIZE)
    check_range("block_size", block_size, 1, MAX_SIZE)
    check_range("seed", seed, 0, MAX_SEED)
    text, notes = without_unknown(tokenizer, text, "the vocabulary lacks them")
    if len(text) > MAX_CHARS:
        notes.append(f"The text has {len(text):,} characters: the first {MAX_CHARS:,} are shown.")
        text = text[:MAX_CHARS]
    corpus = Corpus(text, "your text")
    ids = tokenizer.encode(text)
    n_train = len(corpus.train_text)
    if n_train < 2:
        notes.append("A chunk needs at least two characters in the training split: type a few more.")
        block_size = 0
    elif n_train <= block_size:
        notes.append(
            f"The training split has {n_train} characters: block_size is {n_train - 1}, not {block_size}."
        )
        block_size = n_train - 1
    x = y = torch.zeros(0, 0, dtype=torch.long)
    if block_size:
        generator = torch.Generator().manual_seed(seed)
        x, y = get_batch(torch.tensor(ids[:n_train]), batch_size, block_size, generator)
    return {
        "notes": notes,
        "vocab": list(tokenizer.vocab),
        "chars": list(text),
        "ids": ids,
        "decoded": tokenizer.decode(ids),
        "n_train": n_train,
        "block_size": block_size,
        "chunk": [[ids[: t + 1], ids[t + 1]] for t in range(block_size)],
        "x": x.tolist(),
        "y": y.tolist(),
    }
