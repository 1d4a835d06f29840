"""What the tab shows of a run, and what may be asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from charlm import checkpoints
from charlm.errors import CharlmError
from charlm.service import estimate
from charlm.service.kept import kept_name
from charlm.service.limits import MAX_FILE_BYTES, MAX_RUN_SECONDS, SECONDS_A_LOSS, check_run
from charlm.service.outlook import Outlook
from charlm.service.run import Run
from charlm.service.runs import EVALUATIONS
from charlm.textfile import decode_text
from charlm.training import presets

STEPS, SECONDS = "steps", "seconds"
DEFAULT_SECONDS = 60
LOSSES = ("train_loss", "val_loss")
LEAST_OF_ENGLISH = 0.6 * math.log(2)
"""In nats a character: the least that Shannon's readers were left with (1951: 0.6 to 1.3 bits)."""
RISE = 0.05
"""Nats. The chunks are the same each time, so less than this is the model's own up and down."""
MUCH_SURER = 1.5
UNMASKED = (
    "Without the mask this model sees the characters that it has to predict, so its loss says nothing of how "
    "well it writes: look at the samples."
)


def default_amount(preset: str, unit: str) -> int:
    """How many steps or seconds a preset is offered with."""
    return DEFAULT_SECONDS if unit == SECONDS else presets.find(preset).options.steps


def amount_of(unit: str, amount: float) -> str:
    """An amount in words: "60 seconds", "1 step"."""
    return f"{amount:,.0f} {unit.removesuffix('s') if amount == 1 else unit}"


def budget(unit: str, amount: float | None) -> dict[str, Any]:
    """How long a run is to take, as `TrainingRuns.start` and `check_run` are told. Raises `CharlmError` if
    nothing is asked for."""
    if amount is None or not math.isfinite(amount):
        raise CharlmError(f"How many {unit}?")
    return {"steps": int(amount), "seconds": None} if unit == STEPS else {"steps": None, "seconds": amount}


def forecast(
    name: str, preset: str, unit: str, amount: float | None, settings: dict[str, Any], chars: int
) -> dict[str, Any]:
    """How large the model of a preset with these `settings` will be, and about how long `amount` steps or
    seconds of training take on a text of so many `chars`, from the start to the last measured loss.

    Raises `CharlmError`, as the start would, for what cannot be trained.
    """
    asked = budget(unit, amount)
    check_run(name, preset, settings, **asked)
    recipe = presets.recipe(preset, settings)
    evaluations = 1 + min(asked["steps"] or EVALUATIONS, EVALUATIONS)
    expected = estimate.forecast(recipe, **asked, evaluations=evaluations, chars=chars)
    return {"parameters": recipe.parameter_count(), "longest": MAX_RUN_SECONDS, **asdict(expected)}


def chars_of(corpus: str | None) -> int:
    """About how many characters are in the uploaded file at `corpus` (None: Tiny Shakespeare)."""
    if corpus is None:
        return estimate.TINY_SHAKESPEARE_CHARS
    path = Path(corpus)
    return path.stat().st_size if path.is_file() else 0


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


def progress(run: Run, place: int, outlook: Outlook) -> dict[str, Any]:
    """Where a run stands, `place` being its place in the line."""
    return {
        "name": run.name,
        "state": run.state,
        "stopping": run.stopping,
        "place": place,
        "error": run.error,
        **outlook._asdict(),
        **{key: run.progress[key] for key in ("step", "done", "seconds", "chars_per_second")},
    }


def history(run: Run) -> dict[str, Any]:
    """What a run could do at each of its evaluations, what it ought to beat, and what that tells. `model` is
    the name of the model that was evaluated, None if it is not kept."""
    keys = ("step", "train_loss", "val_loss", "sample", "attention", "watched")
    models = {step: kept_name(run.id, step) for step in run.kept_steps}
    evaluations = [
        {key: e.get(key) for key in keys} | {"model": models.get(e["step"])} for e in run.evaluations
    ]
    measured = None if run.active else measured_losses(run)
    return {
        "id": run.id,
        "seed": run.recipe.options.seed,
        "evaluations": evaluations,
        "baselines": run.baselines,
        "crossing": _crossing_of(run),
        "said": sentences(run, measured),
    }


def measured_losses(run: Run) -> dict[str, float] | None:
    """The losses that were measured at the end of a run, which the lists of models show. None if there are
    none: it failed or diverged, or its model made way for another."""
    if run.state in ("failed", "diverged"):
        return None
    try:
        record = checkpoints.read_description(run.model)["record"]
        return {key: float(record[key]) for key in LOSSES}
    except (CharlmError, KeyError, TypeError, ValueError):
        return None


def crossing(evaluations: Sequence[Mapping[str, Any]], bigram: float | None) -> float | None:
    """The step at which the validation loss fell below that of the counted `bigram`, between the first
    evaluation below it and the one before. None if it did not."""
    if bigram is None:
        return None
    for before, after in pairwise(evaluations):
        high, low = before["val_loss"], after["val_loss"]
        if low <= bigram < high:
            return before["step"] + (after["step"] - before["step"]) * (high - bigram) / (high - low)
    return None


def by_heart(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Whether the losses say that a model learns its text by heart, in a sentence or two; "" if they do not.

    Three signs: a validation loss below `LEAST_OF_ENGLISH`; one that rises while the training loss falls;
    a training loss so far below that the text that was seen is guessed `MUCH_SURER` times as surely.
    """
    if len(evaluations) < 2:
        return ""
    last, best = evaluations[-1], min(evaluations, key=lambda e: e["val_loss"])
    train, val = last["train_loss"], last["val_loss"]
    if val < LEAST_OF_ENGLISH:
        return (
            f"A validation loss of {val:.3f} is less than ordinary text allows: in English, even people are "
            f"left with {LEAST_OF_ENGLISH:.2f} nats a character or more (Shannon, 1951). So this text "
            "repeats itself: its validation split is like its training split, and whoever has learned one by "
            "heart knows the other."
        )
    if val - best["val_loss"] > RISE and train < best["train_loss"]:
        return (
            f"Since step {best['step']:,} the validation loss has risen from {best['val_loss']:.3f} to "
            f"{val:.3f}, while the training loss fell to {train:.3f}: the model learns the training split by "
            "heart. More text, fewer steps or a smaller model help."
        )
    surer = math.exp(val - train)
    if surer >= MUCH_SURER:
        return (
            f"The training loss, {train:.3f}, is far below the validation loss, {val:.3f}: what was "
            f"seen is guessed e^{val - train:.3f} = {surer:.1f} times as surely as what was not. Part of the "
            "training split is known by heart. More text, fewer steps or a smaller model help."
        )
    return ""


def _is_cheating(run: Run) -> bool:
    """Whether a run's model sees what it is to predict."""
    parts = run.recipe.parts
    return parts is not None and not parts.causal


def _crossing_of(run: Run) -> float | None:
    """`crossing`; None for a loss that says nothing."""
    return None if _is_cheating(run) else crossing(run.evaluations, run.baselines.get("bigram"))


def sentences(run: Run, measured: Mapping[str, float] | None) -> list[str]:
    """What the curve of a run tells, and where its numbers come from."""
    is_cheating = _is_cheating(run)
    said = [UNMASKED] if is_cheating else []
    step = _crossing_of(run)
    if step is not None:
        bigram = run.baselines["bigram"]
        back = run.recipe.architecture != "bigram"
        said.append(
            f"At about step {step:,.0f} the validation loss falls below {bigram:.2f}, that of the counted "
            + (
                "bigram: from there on it pays to look back further than one character."
                if back
                else "bigram."
            )
        )
    if not is_cheating and (heart := by_heart(run.evaluations)):
        said.append(heart)
    estimated = f"the mean over {run.recipe.options.eval_blocks} chunks of each split, the same every time"
    said.append(f"Each point is an estimate: {estimated}.")
    if measured:
        said[-1] += (
            f" At the end the loss was measured on the whole validation split, or on as much of it as "
            f"{SECONDS_A_LOSS} s allow: {measured['val_loss']:.3f}, which the lists of models tell."
        )
    return said
