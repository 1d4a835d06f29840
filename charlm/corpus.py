"""A text to learn from: found or downloaded, split 90/10, and cut into random batches."""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path

import torch
from platformdirs import user_cache_dir
from torch import Tensor

from charlm.errors import CharlmError
from charlm.files import write_atomically
from charlm.textfile import decode_text
from charlm.tokenizer import CharTokenizer

log = logging.getLogger(__name__)

TINY_SHAKESPEARE = "Tiny Shakespeare"
TINY_SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINY_SHAKESPEARE_VOCAB = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TRAIN_FRACTION = 0.9


@dataclass(frozen=True)
class Corpus:
    """A text and its name. `train_text` is the first 90 %, `val_text` the rest."""

    text: str
    name: str

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def train_text(self) -> str:
        return self.text[: int(TRAIN_FRACTION * len(self.text))]

    @property
    def val_text(self) -> str:
        return self.text[int(TRAIN_FRACTION * len(self.text)) :]

    def split(self, tokenizer: CharTokenizer) -> tuple[Tensor, Tensor]:
        """The ids of the two splits, each a 1-D int32 tensor: half as large as what a model is given."""
        return (
            torch.tensor(tokenizer.encode(self.train_text), dtype=torch.int32),
            torch.tensor(tokenizer.encode(self.val_text), dtype=torch.int32),
        )


def load_corpus(path: str | os.PathLike[str] | None = None) -> Corpus:
    """The text file at `path`, else at `$CHARLM_DATA`, else Tiny Shakespeare (downloaded once).

    What was assumed of a file that is not UTF-8 is logged. Raises `CharlmError` if the file cannot be read or
    is no text, or if Tiny Shakespeare cannot be downloaded whole.
    """
    path = path or os.environ.get("CHARLM_DATA")
    if not path:
        return Corpus(_tiny_shakespeare(), TINY_SHAKESPEARE)
    corpus = _read(Path(path))
    if corpus.sha256 == TINY_SHAKESPEARE_SHA256:
        return Corpus(corpus.text, TINY_SHAKESPEARE)
    return corpus


def _read(path: Path) -> Corpus:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CharlmError(f"Cannot read {path.name[:200]}: {error.strerror}.") from error
    except ValueError as error:
        raise CharlmError(f"Cannot read {path.name[:200]!r}: that is no path.") from error
    try:
        text, note = decode_text(data)
    except CharlmError as error:
        raise CharlmError(f"Cannot read {path.name}: {error}") from error
    if note:
        log.warning("%s: %s", path.name, note)
    return Corpus(text, path.name)


def _tiny_shakespeare() -> str:
    cached = Path(user_cache_dir("charlm", appauthor=False)) / "tinyshakespeare.txt"
    with suppress(OSError):
        data = cached.read_bytes()
        if _sha256(data) == TINY_SHAKESPEARE_SHA256:
            return data.decode()
    data = _download()
    try:
        if not cached.is_absolute():
            raise CharlmError("There is no home folder.")
        write_atomically(cached, data)
    except CharlmError as error:
        log.warning("Tiny Shakespeare is not kept for the next time: %s", error)
    return data.decode()


def _download() -> bytes:
    try:
        with urllib.request.urlopen(TINY_SHAKESPEARE_URL, timeout=30) as response:
            data = response.read()
    except (OSError, HTTPException) as error:
        raise CharlmError(
            f"Tiny Shakespeare could not be downloaded from {TINY_SHAKESPEARE_URL} ({error}). "
            "Give a text file with --data or CHARLM_DATA instead."
        ) from error
    if _sha256(data) != TINY_SHAKESPEARE_SHA256:
        raise CharlmError(f"What {TINY_SHAKESPEARE_URL} sent is not Tiny Shakespeare: its sha256 differs.")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def get_batch(
    data: Tensor, batch_size: int, block_size: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Random chunks `x` of `data` (1-D) and the same shifted by one, `y`: both `(B, T)`, int64.

    Every chunk is equally likely, the last included. Raises `CharlmError` if `data` is shorter than
    one chunk and its target.
    """
    if len(data) <= block_size:
        raise CharlmError(
            f"A chunk of {block_size} characters and its target need {block_size + 1} characters: "
            f"this text has {len(data)}."
        )
    starts = torch.randint(len(data) - block_size, (batch_size,), generator=generator)
    index = starts[:, None] + torch.arange(block_size + 1)
    chunks = data[index].long()
    return chunks[:, :-1], chunks[:, 1:]
