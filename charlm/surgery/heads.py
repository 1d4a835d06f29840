"""What is known of the heads of a checkpoint: one file, `heads.json`, beside its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from charlm import checkpoints
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.surgery.atlas import Atlas, survey
from charlm.surgery.edits import attentive
from charlm.surgery.ranking import Ranking, rank
from charlm.training.excerpt import Excerpt

HEADS = "heads.json"
FORMAT = "charlm heads 2"
DIGITS = 4
"""How many decimal places of a number are kept: the next one depends on the machine."""


@dataclass(frozen=True)
class Heads:
    """What each head of a model looks at and is worth, on one excerpt of a text."""

    command: str
    """What measured it; empty for the app."""
    weights_sha256: str
    """Of the model, as its checkpoint names them."""
    excerpt: Excerpt
    """What was read."""
    ranking: Ranking
    atlas: Atlas


def measure(model: LanguageModel, excerpt: Excerpt, command: str, progress: Callable[[float], None]) -> Heads:
    """The heads of `model`, in eval mode, on `excerpt`.

    `progress` as in `rank`. Raises `CharlmError` as `rank`, and for a model without a mask.
    """
    if not attentive(model).config.parts.causal:
        raise CharlmError("Heads are measured by where in the past they look: this model has no mask.")
    ranking = rank(model, excerpt, progress)
    x, _ = excerpt.ids(model.tokenizer)
    return Heads(command, checkpoints.weights_sha256(model), excerpt, ranking, survey(model, x))


def to_json(heads: Heads) -> dict[str, Any]:
    """What `heads.json` holds, its numbers rounded to `DIGITS` decimal places."""
    return {"format": FORMAT} | _rounded(asdict(heads))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def load_heads(name: str) -> Heads | None:
    """What is known of the heads of the checkpoint `name` that comes with charlm; None if nothing is, or it
    was measured with other weights."""
    if name not in checkpoints.names():
        return None
    folder = checkpoints.CHECKPOINTS / name
    try:
        description = checkpoints.read_description(folder)
        heads = _from_json(json.loads((folder / HEADS).read_bytes()))
        _check_shapes(heads, checkpoints.read_config(folder))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return heads if heads.weights_sha256 == description["weights_sha256"] else None


def _from_json(value: dict[str, Any]) -> Heads:
    if value.pop("format") != FORMAT:
        raise ValueError("another format")
    excerpt = Excerpt.from_json(value.pop("excerpt"))
    if excerpt is None:
        raise ValueError("no excerpt")
    ranking, atlas = Ranking(**value.pop("ranking")), Atlas(**value.pop("atlas"))
    return Heads(**value, excerpt=excerpt, ranking=ranking, atlas=atlas)


def _check_shapes(heads: Heads, config: Any) -> None:
    """Raises `ValueError` unless there is a number for each head."""
    tables: list[Any] = [heads.ranking.silent, heads.ranking.average, heads.atlas.back]
    for table in (*tables, *heads.atlas.scores.values()):
        if [len(row) for row in table] != [config.n_head] * config.n_layer:
            raise ValueError("another model")
        if not all(isinstance(number, float | int) for row in table for number in row):
            raise ValueError("no numbers")


def table(heads: Heads) -> str:
    """The heads as lines of text, the most valuable first."""
    ranking, atlas = heads.ranking, heads.atlas
    losses = {"intact": ranking.loss, "all heads averaged": ranking.all_averaged, "bigram": ranking.bigram}
    told = ", ".join(f"{what} {loss:.4f}" for what, loss in losses.items() if loss is not None)
    lines = [
        heads.excerpt.description,
        f"{told} nats per character",
        "head  silent   average  looks at (score; chance)",
    ]
    places = [(layer, head) for layer, row in enumerate(ranking.silent) for head in range(len(row))]
    for layer, head in sorted(places, key=lambda place: -ranking.silent[place[0]][place[1]]):
        found = ", ".join(
            f"{_named(atlas, name, layer, head)} ({score:.2f}; {atlas.chance[name]:.2f})"
            for name, score in atlas.found(layer, head)
        )
        silent, average = ranking.silent[layer][head], ranking.average[layer][head]
        lines.append(f"{layer + 1}·{head + 1:<3} {silent:+.4f}  {average:+.4f}  {found}".rstrip())
    return "\n".join(lines)


def _named(atlas: Atlas, detector: str, layer: int, head: int) -> str:
    return f"{atlas.back[layer][head]} back" if detector == "back" else detector.replace("_", " ")
