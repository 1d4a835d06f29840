"""What the picture of the ladder shows: the rungs, what was added, and what that was worth."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from charlm import checkpoints
from charlm.service.limits import TRAINABLE
from charlm.training.ladder import CLIMBED, FIRST, TOP, Entry
from charlm.training.presets import PRESETS
from charlm.training.rungs import RUNGS

ADDED = {
    FIRST: "The last character alone predicts the next.",
    TOP: "Six blocks, twice as wide, that read 256 characters, and twice as many steps.",
} | {rung.name: rung.added for rung in RUNGS}
TITLES = {name: PRESETS[name].title for name in ADDED}
LECTURE = {
    "bigram": 2.49,
    "one-head": 2.40,
    "four-heads": 2.28,
    "mlp": 2.27,
    "residual": 2.09,
    "layernorm": 2.08,
    "gpt": 1.48,
}
"""About the validation losses of the lecture's models at the same stage, in nats per character. The last has
10.8 million parameters."""


def picture(ladder: list[Entry]) -> list[dict[str, Any]]:
    """What is shown of each rung of a ladder, from the lowest up; nothing of an empty one."""
    return [_rung(entry, below) for entry, below in _with_belows(ladder)]


def _with_belows(ladder: list[Entry]) -> list[tuple[Entry, Entry | None]]:
    """Each rung with the one right below it, if that is known."""
    known = {entry.name: entry for entry in ladder}
    belows = dict(pairwise((*CLIMBED, TOP)))
    below_of = {name: known.get(below) for below, name in belows.items()}
    return [(entry, below_of.get(entry.name)) for entry in ladder]


def _rung(entry: Entry, below: Entry | None) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": TITLES[entry.name],
        "added": ADDED[entry.name],
        "found": found(entry, below),
        "loss": entry.mean,
        "spread": entry.spread,
        "fall": below.mean - entry.mean if below else None,
        "lecture": LECTURE.get(entry.name),
        "parameters": entry.parameters,
        "seconds": sum(climb.seconds for climb in entry.climbs) / len(entry.climbs),
        "seeds": [climb.seed for climb in entry.climbs],
        "command": entry.command,
        "changes": changes(entry, below) if below else [],
        "sample": entry.climbs[0].sample,
        "curves": [[point[:3] for point in climb.curve] for climb in entry.climbs],
        "trainable": entry.name in TRAINABLE,
        "playable": entry.name in checkpoints.names(),
    }


def changes(entry: Entry, below: Entry) -> list[str]:
    """The settings that are not those of the rung below, as "n_layer 1 → 3", but `eval_interval`."""

    def told(value: Any) -> str:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)

    return [
        f"{name} {told(below.settings[name])} → {told(value)}"
        if name in below.settings
        else f"{name} {told(value)}"
        for name, value in entry.settings.items()
        if name != "eval_interval" and value is not None and below.settings.get(name) != value
    ]


def found(entry: Entry, below: Entry | None) -> str:
    """A sentence on what was measured: whether a rung is better than the one `below`, or no more different
    than trainings of one rung are among themselves."""
    if below is None:
        return f"As unsure as among e^{entry.mean:.2f} = {math.exp(entry.mean):.1f} characters, all alike."
    fall = below.mean - entry.mean
    spreads = [e.spread for e in (entry, below) if e.spread is not None]
    noise = math.hypot(*spreads)
    by = f"{abs(fall):.3f} nats"
    if abs(fall) <= noise:
        return f"The difference, {by}, is no larger than what the seed alone makes ({noise:.3f})."
    if fall < 0:
        return f"The loss is {by} higher than on the rung below: here, what was added does harm."
    return f"The loss falls by {by}."


def summary(ladder: list[Entry]) -> str:
    """What the whole picture shows, in a sentence."""
    falls = {entry.name: below.mean - entry.mean for entry, below in _with_belows(ladder) if below}
    if not falls:
        return ""
    largest = max(falls, key=lambda name: falls[name])
    return (
        f"{len(ladder)} rungs, from {ladder[0].mean:.2f} down to {ladder[-1].mean:.2f} nats per character. "
        f"The largest fall, {falls[largest]:.2f}, is that of “{TITLES[largest]}”."
    )
