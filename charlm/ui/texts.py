"""What of a learner's text can be shown, and a note on what cannot; and what a model's parts are called."""

from __future__ import annotations

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.tokenizer import CharTokenizer, named

PART_NAMES = {"relu": "ReLU", "relu2": "ReLU²", "layernorm": "LayerNorm", "rmsnorm": "RMSNorm"}
"""What each choice of an MLP and a norm is called."""


def visible(char: str) -> str:
    """A character as it can be seen in a list: spaces and line breaks get a sign."""
    return {" ": "␣", "\n": "↵", "\t": "⇥"}.get(char, char)


def without_unknown(tokenizer: CharTokenizer, text: str, whose: str) -> tuple[str, list[str]]:
    """`text` without the characters that the vocabulary lacks, and a note on them. `whose` is who does
    not know them, in words."""
    unknown = tokenizer.unknown(text)
    if not unknown:
        return text, []
    return tokenizer.replace_unknown(text), [f"Left out, because {whose}: {named(unknown)}."]


def readable(model: LanguageModel, text: str) -> tuple[str, list[str]]:
    """The end of `text` that `model` can read at once, and notes on what was left out.

    Raises `CharlmError` if nothing is left.
    """
    text, notes = without_unknown(model.tokenizer, text, "the model does not know them")
    limit = model.config.block_size
    if len(text) > limit:
        notes.append(f"The text has {len(text):,} characters: the model reads the last {limit}.")
        text = text[-limit:]
    if not text:
        raise CharlmError(
            "There is nothing to look at yet: type at least one character that the model knows."
        )
    return text, notes
