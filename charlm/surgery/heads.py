"""What is known of the heads of a checkpoint: one file, `heads.json`, beside its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from charlm import checkpoints
from charlm.corpus import Corpus
from charlm.models import LanguageModel
from charlm.surgery.atlas import Atlas, survey
from charlm.surgery.edits import attentive
from charlm.surgery.ranking import Ranking, excerpt, rank

HEADS = "heads.json"
FORMAT = "charlm heads 1"
DIGITS = 4
"""How many decimal places of a number are kept: the next one depends on the machine."""


@dataclass(frozen=True)
class Heads:
    """What each head of a model looks at and is worth, on one excerpt of a text."""

    command: str
    """What measured it."""
    weights_sha256: str
    """Of the model, as its checkpoint names them."""
    data: str
    """The text, of whose validation split `blocks` blocks of `block_size` characters were read."""
    data_sha256: str
    blocks: int
    block_size: int
    ranking: Ranking
    atlas: Atlas


def measure(model: LanguageModel, corpus: Corpus, command: str, progress: Callable[[float], None]) -> Heads:
    """The heads of `model`, in eval mode, on the `excerpt` of the validation split of `corpus`.

    `progress` as in `rank`. Raises `CharlmError` for a model without heads, or a corpus that is too short or
    has characters that the model does not know.
    """
    model = attentive(model)
    ranking = rank(model, corpus, progress)
    x, _ = excerpt(corpus.split(model.tokenizer)[1], model.config.block_size)
    blocks, block_size = x.shape
    digest = checkpoints.weights_sha256(model)
    return Heads(command, digest, corpus.name, corpus.sha256, blocks, block_size, ranking, survey(model, x))


def to_json(heads: Heads) -> dict[str, Any]:
    """What `heads.json` holds, its numbers rounded to `DIGITS` decimal places."""
    return {"format": FORMAT} | _rounded(asdict(heads))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
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
    ranking, atlas = Ranking(**value.pop("ranking")), Atlas(**value.pop("atlas"))
    return Heads(**value, ranking=ranking, atlas=atlas)


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
    lines = [
        f"{heads.blocks} blocks of {heads.block_size} characters of {heads.data}, validation split",
        f"intact {ranking.loss:.4f}, all heads averaged {ranking.all_averaged:.4f}, "
        f"bigram {ranking.bigram:.4f} nats per character",
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
