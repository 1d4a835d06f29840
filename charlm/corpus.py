"""A text to learn from: found or downloaded, split 90/10, and cut into random batches."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import charset_normalizer
import torch
from platformdirs import user_cache_dir
from torch import Tensor

from charlm.errors import CharlmError
from charlm.files import write_atomically
from charlm.tokenizer import CharTokenizer

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
        """The ids of the two splits, each a 1-D int64 tensor."""
        return (
            torch.tensor(tokenizer.encode(self.train_text)),
            torch.tensor(tokenizer.encode(self.val_text)),
        )


def load_corpus(path: str | os.PathLike[str] | None = None) -> Corpus:
    """The text file at `path`, else at `$CHARLM_DATA`, else Tiny Shakespeare (downloaded once).

    Raises `CharlmError` if the file cannot be read as UTF-8 text, or not be downloaded whole.
    """
    path = path or os.environ.get("CHARLM_DATA")
    if not path:
        return Corpus(_read(_tiny_shakespeare()), TINY_SHAKESPEARE)
    text = _read(Path(path))
    corpus = Corpus(text, Path(path).name)
    if corpus.sha256 == TINY_SHAKESPEARE_SHA256:
        return Corpus(text, TINY_SHAKESPEARE)
    return corpus


def decode_text(data: bytes) -> tuple[str, str]:
    """Any text file's bytes as text, and the name of the encoding they were found to be in.

    Raises `CharlmError` if they are no text.
    """
    try:
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        guess = charset_normalizer.from_bytes(data).best()
    if guess is None:
        raise CharlmError("This file is not text: no encoding fits it.")
    return str(guess), guess.encoding


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CharlmError(f"Cannot read {path.name[:200]}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CharlmError(f"{path.name} is not UTF-8 text (byte {error.start}).") from error
    except ValueError as error:
        raise CharlmError(f"Cannot read {path.name[:200]!r}: that is no path.") from error
    return text


def _tiny_shakespeare() -> Path:
    path = Path(user_cache_dir("charlm", appauthor=False)) / "tinyshakespeare.txt"
    if path.exists() and _sha256(path.read_bytes()) == TINY_SHAKESPEARE_SHA256:
        return path
    try:
        with urllib.request.urlopen(TINY_SHAKESPEARE_URL, timeout=30) as response:
            data = response.read()
    except (OSError, urllib.error.URLError) as error:
        raise CharlmError(
            f"Tiny Shakespeare could not be downloaded from {TINY_SHAKESPEARE_URL} ({error}). "
            "Give a text file with --data or CHARLM_DATA instead."
        ) from error
    if _sha256(data) != TINY_SHAKESPEARE_SHA256:
        raise CharlmError(f"What {TINY_SHAKESPEARE_URL} sent is not Tiny Shakespeare: its sha256 differs.")
    write_atomically(path, data)
    return path


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def get_batch(
    data: Tensor, batch_size: int, block_size: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Random chunks `x` of `data` (1-D) and the same shifted by one, `y`: both `(B, T)`.

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
    chunks = data[index]
    return chunks[:, :-1], chunks[:, 1:]
