"""Names that tell a visitor's runs, and his models, apart."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from charlm.service.limits import MAX_NAME_CHARS


def told_apart(name: str, taken: Collection[str]) -> str:
    """`name`, with the first number from 2 on that tells it apart from those `taken`."""
    numbered = name
    for n in itertools.count(2):
        if numbered not in taken:
            break
        mark = f" ({n})"
        numbered = name[: MAX_NAME_CHARS - len(mark)] + mark
    return numbered
