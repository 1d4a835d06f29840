"""What is known of the heads of a model from an excerpt, whatever the visitor's own text says: what each is
worth, and which patterns it follows."""

from __future__ import annotations

from typing import Any

from charlm.surgery.atlas import CLEAR, EVEN, MOST_BACK, Atlas
from charlm.surgery.heads import Heads

DETECTORS = {
    "previous": ("one back", "looks one character back", "One character back", "the character before"),
    "back": (
        "{} back",
        "looks {} characters back",
        "Further back",
        f"the one n characters back, for the n from 2 to {MOST_BACK} at which the head puts most weight",
    ),
    "line_start": (
        "line start",
        "looks at the start of the line",
        "Start of the line",
        "the first character of the same line",
    ),
    "separator": (
        "last gap",
        "looks at the last space or line break",
        "Last space or line break",
        "the space or line break before the current word",
    ),
    "same": (
        "same character",
        "looks at earlier ones of the same character",
        "Same character",
        "all earlier characters that are the same",
    ),
    "induction": (
        "what followed",
        "looks at what followed earlier ones of the same character",
        "What followed (induction)",
        "all characters that came after an earlier one that is the same: "
        "what a head looks at that expects a text to repeat itself",
    ),
}
"""The detectors of the atlas that have targets: what a head does that follows one, in short and in words; a
title; and the targets."""
COUNTS = dict(
    zip(range(2, MOST_BACK + 1), ("two", "three", "four", "five", "six", "seven", "eight"), strict=True)
)
SPREAD = "Even spread"
"""The title of the detector that has no targets."""
PATTERNS = (
    "A pattern names targets among the characters that a position can see. The score of a head is the weight "
    "that it puts on them, all together, on average over the positions that have any: at 1 it looks nowhere "
    "else. Chance is the score of a head that spreads evenly. A tile names a pattern from "
    f"{CLEAR:.0%} of the way from chance to 1 on."
)
"""How to read a score."""


def describe(heads: Heads) -> dict[str, Any]:
    """What the page shows of all `heads`; what there is for each is a list, layer by layer."""
    ranking, atlas = heads.ranking, heads.atlas
    places = [(layer, head) for layer, row in enumerate(ranking.silent) for head in range(len(row))]
    return {
        "excerpt": heads.excerpt.description,
        "loss": ranking.loss,
        "all_averaged": ranking.all_averaged,
        "bigram": ranking.bigram,
        "silent": [ranking.silent[layer][head] for layer, head in places],
        "average": [ranking.average[layer][head] for layer, head in places],
        "scores": {
            name: [rows[layer][head] for layer, head in places] for name, rows in atlas.scores.items()
        },
        "chance": atlas.chance,
        "usual": [usual(atlas, layer, head) for layer, head in places],
        "titles": {name: title(name) for name in atlas.scores},
        "reading": PATTERNS,
        "definitions": definitions(),
    }


def usual(atlas: Atlas, layer: int, head: int) -> tuple[str, str]:
    """What a head, numbered from 0, does on the text of the atlas: in words, and in short for its tile."""
    words, short = [], []
    for name, score in atlas.found(layer, head):
        if name == "even":
            words.append(f"spreads evenly: {score:.2f} of the most there can be")
            short.append(f"evenly {score:.2f}")
            continue
        tile, does, *_ = (
            text.format(COUNTS[atlas.back[layer][head]] if atlas.back else "") for text in DETECTORS[name]
        )
        words.append(f"{does}: {score:.2f}, by chance {atlas.chance[name]:.2f}")
        short.append(f"{tile} {score:.2f}, chance {atlas.chance[name]:.2f}")
    if not words:
        return "clearly follows none of the patterns", "no pattern"
    return "; ".join(words), short[0]


def title(name: str) -> str:
    """What a detector is called."""
    return SPREAD if name == "even" else DETECTORS[name][2]


def definitions() -> list[tuple[str, str]]:
    """Each detector and what it measures."""
    reads = ("line_start", "separator", "same", "induction")
    far = " Only those at least two characters back count."
    with_targets = [
        (what, f"Targets: {targets}.{far if name in reads else ''}")
        for name, (_, _, what, targets) in DETECTORS.items()
    ]
    even = (
        "The entropy of a row's weights as a share of the most there can be, on average over all rows but "
        f"the first; from {EVEN} on a head is said to spread evenly."
    )
    return [*with_targets, (SPREAD, even)]
