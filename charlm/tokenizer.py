"""A character tokenizer: the vocabulary is the sorted set of characters of a text."""

from __future__ import annotations

from collections.abc import Iterable

from charlm.errors import CharlmError


class UnknownCharacterError(CharlmError):
    """A text has a character that the vocabulary lacks."""

    def __init__(self, char: str, position: int):
        self.char, self.position = char, position
        super().__init__(f"The character {char!a} at position {position} is not in this model's vocabulary.")


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
        """The id of each character. Raises `UnknownCharacterError` at the first unknown one."""
        try:
            return [self._id[char] for char in text]
        except KeyError:
            position, char = next((i, c) for i, c in enumerate(text) if c not in self._id)
            raise UnknownCharacterError(char, position) from None

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
