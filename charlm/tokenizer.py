"""A character tokenizer: the vocabulary is the sorted set of characters of a text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from charlm.errors import CharlmError

MAX_NAMED = 20
"""How many characters a sentence names."""
WORDS = {" ": "a space", "\n": "a line break", "\r": "a carriage return", "\t": "a tab"}


def named(chars: str) -> str:
    """Characters as a sentence names them: each as itself, or by its code point and its Unicode name if it
    cannot be seen alone."""
    names = [_name(char) for char in chars[:MAX_NAMED]]
    if len(chars) > MAX_NAMED:
        names.append(f"{len(chars) - MAX_NAMED} more")
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _name(char: str) -> str:
    if char in WORDS:
        return WORDS[char]
    if char.isprintable() and not unicodedata.category(char).startswith("M"):
        return f"“{char}”"
    return f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip()


class UnknownCharacterError(CharlmError):
    """A text has characters that the vocabulary lacks: `chars`, each once. The first of them, `char`, is at
    `position`."""

    def __init__(self, chars: str, position: int):
        self.chars, self.char, self.position = chars, chars[0], position
        super().__init__(
            f"This model's vocabulary lacks {named(chars)}: the first is at position {position}."
        )


class CharTokenizer:
    """Maps characters to ids 0 … vocab_size-1, in code point order, and back."""

    def __init__(self, vocab: str):
        """`vocab`: the characters by id. Raises `CharlmError` if it is empty or repeats one."""
        if not vocab or len(set(vocab)) != len(vocab):
            raise CharlmError("A vocabulary needs at least one character, and each only once.")
        self.vocab = vocab
        self._id = {char: i for i, char in enumerate(vocab)}

    @classmethod
    def from_text(cls, text: str) -> CharTokenizer:
        """The tokenizer whose vocabulary is the sorted distinct characters of `text`."""
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    def encode(self, text: str) -> list[int]:
        """The id of each character. Raises `UnknownCharacterError` if there are unknown ones."""
        try:
            return [self._id[char] for char in text]
        except KeyError:
            unknown = self.unknown(text)
            raise UnknownCharacterError(unknown, text.index(unknown[0])) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`. Raises `CharlmError` for an id outside 0 … vocab_size-1."""
        chars = []
        for i in ids:
            if not 0 <= i < len(self.vocab):
                raise CharlmError(f"There is no character with id {i}: ids end at {len(self.vocab) - 1}.")
            chars.append(self.vocab[i])
        return "".join(chars)

    def unknown(self, text: str) -> str:
        """The distinct characters of `text` that the vocabulary lacks, in order of appearance."""
        return "".join(dict.fromkeys(char for char in text if char not in self._id))

    def replace_unknown(self, text: str, replacement: str = "") -> str:
        """`text` with every unknown character dropped, or replaced by `replacement`."""
        return "".join(char if char in self._id else replacement for char in text)
