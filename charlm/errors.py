"""The one exception that charlm raises for a mistake a person can correct, and the sentences of others."""

from __future__ import annotations


class CharlmError(ValueError):
    """A request that cannot be carried out; its message is one sentence written for the user."""


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Raises `CharlmError` unless `value` is from `least` to `most`."""
    if not least <= value <= most:
        raise CharlmError(f"{name} must be from {least} to {most}, not {value}.")


def sentence_of(error: Exception) -> str | None:
    """What to tell a person of an error: its own sentence, or that there is not enough memory. None for one
    that nobody foresaw."""
    if isinstance(error, CharlmError):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate" in str(error)):
        return "There is not enough memory for this."
    return None
