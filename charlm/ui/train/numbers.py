"""What the tab shows of a run, and what may be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from charlm.errors import CharlmError
from charlm.service import estimate
from charlm.service.limits import MAX_FILE_BYTES, SIZE_LIMITS
from charlm.service.runs import Run
from charlm.textfile import decode_text
from charlm.training import presets

STEPS, SECONDS = "steps", "seconds"
DEFAULT_SECONDS = 60


def adjustable_sizes(preset: str) -> list[str]:
    """The sizes that make sense to change: a single head has but one layer and one head."""
    return {
        "bigram": ["block_size"],
        "attention": ["block_size", "n_embd"],
        "multi-head": ["block_size", "n_head", "n_embd"],
    }.get(preset, list(SIZE_LIMITS))


def default_amount(preset: str, unit: str) -> int:
    """How many steps or seconds a preset is offered with."""
    return DEFAULT_SECONDS if unit == SECONDS else presets.find(preset).options.steps


def sizes_of(preset: str, values: tuple[int, ...]) -> dict[str, int]:
    """The sizes that `values`, one for each of `SIZE_LIMITS`, set for a preset."""
    given = dict(zip(SIZE_LIMITS, map(int, values), strict=True))
    return {size: given[size] for size in adjustable_sizes(preset)}


def forecast(preset: str, unit: str, amount: float | None, sizes: dict[str, int]) -> dict[str, Any]:
    """How large the model will be, and about how long `amount` steps or seconds of training take.

    Raises `CharlmError` if the sizes do not fit together.
    """
    recipe = presets.recipe(preset, sizes)
    step = estimate.seconds_per_step(recipe)
    seconds = step * (amount or 0) if unit == STEPS else amount or 0
    return {"parameters": recipe.parameter_count(), "seconds": seconds, "steps": seconds / step}


def text_of(path: str | None) -> tuple[str, list[str]]:
    """The text of an uploaded file, and notes on how it was read. Raises `CharlmError`."""
    if path is None:
        raise CharlmError("Choose a text file first.")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CharlmError("The file is not here any more: choose it again.") from error
    if len(data) > MAX_FILE_BYTES:
        raise CharlmError(f"A file may have {MAX_FILE_BYTES:,} bytes: this one has {len(data):,}.")
    text, note = decode_text(data)
    return text, [note] if note else []


def progress(run: Run, place: int) -> dict[str, Any]:
    """Where a run stands, `place` being its place in the line."""
    return {
        "name": run.name,
        "state": run.state,
        "place": place,
        "error": run.error,
        **{key: run.progress[key] for key in ("step", "done", "seconds", "chars_per_second")},
    }


def history(run: Run) -> dict[str, Any]:
    """What a run could do at each of its evaluations."""
    keys = ("step", "train_loss", "val_loss", "sample", "attention", "watched")
    return {"id": run.id, "evaluations": [{key: e.get(key) for key in keys} for e in run.evaluations]}
