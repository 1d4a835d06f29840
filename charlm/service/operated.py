"""Models with some of their parts changed, by a name that says how: “gpt/5.4:silent” has this edit of gpt."""

from __future__ import annotations

SEPARATOR = "/"


def operated_name(name: str, edits: str) -> str:
    """The name of the model called `name` with `edits`, as `surgery.edits.parse` reads them, after those that
    it has already."""
    name, before = split_name(name)
    edits = " ".join((*before.split(), *edits.split()))
    return f"{name}{SEPARATOR}{edits}" if edits else name


def split_name(name: str) -> tuple[str, str]:
    """A name without its edits, and these."""
    name, _, edits = name.partition(SEPARATOR)
    return name, edits
