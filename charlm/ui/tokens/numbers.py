"""Characters to ids, the split, one chunk unrolled, one random batch, and the text as pieces of words."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import torch

from charlm.corpus import Corpus, get_batch
from charlm.engine.sampling import MAX_SEED
from charlm.errors import check_range
from charlm.tokenizer import CharTokenizer
from charlm.ui.texts import without_unknown

MAX_CHARS = 2000
MAX_SIZE = 256
MERGES = 40
"""How many pairs are merged to show pieces of words: so many that words begin to be whole."""

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
    (batch_size, block_size) ids drawn from the training split, and `starts` says where in the text each
    row of `x` begins. Raises `CharlmError` for a number out of range.
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
    x = y = places = torch.zeros(0, 0, dtype=torch.long)
    if block_size:
        generator = torch.Generator().manual_seed(seed)
        # A batch of places, from which the characters that stand there follow.
        places, following = get_batch(torch.arange(n_train), batch_size, block_size, generator)
        x, y = torch.tensor(ids)[places], torch.tensor(ids)[following]
    pieces = word_pieces(text, MERGES)
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
        "starts": [row[0] for row in places.tolist()],
        "pieces": pieces,
        "distinct_pieces": len(set(pieces)),
    }


def word_pieces(text: str, merges: int) -> list[str]:
    """`text` cut into tokens by byte-pair encoding, which large models use (Sennrich et al., 2016), with at
    most `merges` merges learned from `text` itself.

    Words and what stands between them are cut into characters; then the most frequent pair of neighbours
    becomes one token, again and again. Ties go to the pair that comes first.
    """
    words = [list(word) for word in re.findall(r" ?\w+| ?[^\w\s]+|\s", text)]
    for _ in range(merges):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        if not pairs or max(pairs.values()) < 2:
            break
        pair = max(pairs, key=pairs.__getitem__)
        words = [_merged(word, pair) for word in words]
    return [piece for word in words for piece in word]


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """`word` with every occurrence of `pair` made one."""
    merged: list[str] = []
    for piece in word:
        # What was merged is longer than the pair's first half, so it is merged with nothing more.
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
