"""What the list and the chart of a visitor's runs show, what differs between them, and who guessed right."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from charlm.service.limits import MAX_RUN_SECONDS
from charlm.service.run import THIS, Run
from charlm.training import presets
from charlm.training.ladder import load_ladder
from charlm.ui.train import knobs, ladder
from charlm.ui.train.numbers import measured_losses

DRAWN_BATCHES = 150
"""How many batch losses of a run are drawn: more could not be told apart."""


def settings_of(run: Run) -> dict[str, Any]:
    """What the switches of a run were set to: those that it had a use for."""
    settings = run.recipe.settings()
    unused = set() if settings["optimizer"] == "muon" else {"muon_learning_rate"}
    return {name: settings[name] for name in knobs.of_preset(run.recipe.preset) if name not in unused}


def changes_of(run: Run) -> dict[str, Any]:
    """What of that is not as its preset is."""
    usual = knobs.of_preset(run.recipe.preset)
    return {name: value for name, value in settings_of(run).items() if value != usual[name]}


def budget_of(run: Run) -> tuple[str, float]:
    """For how long a run was asked to learn: "seconds" or "steps", and how many."""
    seconds = run.recipe.options.seconds
    if seconds is not None and seconds < MAX_RUN_SECONDS:
        return "seconds", seconds
    return "steps", run.recipe.options.steps


def differences(runs: Sequence[Run]) -> list[str]:
    """What differs between `runs`, said of each; of a single one, what differs from its preset."""
    if len(runs) < 2:
        return [", ".join(knobs.differences(run.recipe.preset, changes_of(run))) for run in runs]
    settings = [settings_of(run) for run in runs]
    names = [knob.name for knob in knobs.KNOBS]
    apart = [name for name in names if len({str(s[name]) for s in settings if name in s}) > 1]
    tables = len({run.recipe.parts is None for run in runs}) > 1
    budgets = len({budget_of(run) for run in runs}) > 1
    return [
        ", ".join(
            [
                *(["a table" if run.recipe.parts is None else "a transformer"] if tables else []),
                *(knobs.BY_NAME[name].phrase(s[name]) for name in apart if name in s),
                *([f"for {amount:,.0f} {unit}"] if budgets else []),
            ]
        )
        for run, s, (unit, amount) in zip(runs, settings, map(budget_of, runs), strict=True)
    ]


def final_loss(run: Run) -> tuple[float | None, bool]:
    """The last validation loss of a run, and whether it was measured, at the end, or is an estimate."""
    measured = None if run.active else measured_losses(run)
    if measured is not None:
        return measured["val_loss"], True
    return (run.evaluations[-1]["val_loss"] if run.evaluations else None), False


def listed(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each run as the page lists and draws it. `points` are (step, seconds, training loss, validation loss),
    `batches` (step, seconds, loss)."""
    return [_listed(run, said) for run, said in zip(runs, differences(runs), strict=True)]


def _listed(run: Run, differs: str) -> dict[str, Any]:
    loss, measured = final_loss(run)
    batches = run.batch_losses[:: max(1, math.ceil(len(run.batch_losses) / DRAWN_BATCHES))]
    return {
        "id": run.id,
        "number": run.number,
        "name": run.name,
        "differs": differs,
        "state": run.state,
        "error": run.error,
        "loss": loss,
        "measured": measured,
        "step": run.progress["step"],
        "seconds": run.progress["seconds"],
        "chars_per_step": run.recipe.options.batch_size * run.recipe.config.block_size,
        "text": run.text_id,
        "baselines": run.baselines,
        "points": [
            [e["step"], round(e["seconds"], 1), round(e["train_loss"], 4), round(e["val_loss"], 4)]
            for e in run.evaluations
        ],
        "batches": [[step, round(seconds, 1), round(loss, 3)] for step, loss, seconds in batches],
    }


def rungs() -> list[dict[str, Any]]:
    """The losses of the ladder, and of the lecture's models on it, with which a run can be compared."""
    keys = ("name", "title", "loss", "lecture")
    return [{key: rung[key] for key in keys} for rung in ladder.picture(load_ladder())]


def rivals(runs: Sequence[Run], text_id: str | None) -> list[dict[str, Any]]:
    """The runs of the same text with which a new one can be compared; `text_id` None is any text of the
    visitor's own."""
    same = [run for run in runs if (run.text_id == text_id if text_id is not None else run.text_id)]
    same = [run for run in same if run.state != "failed"]
    return [
        {"id": run.id, "number": run.number, "name": run.name, "loss": final_loss(run)[0]} for run in same
    ]


def verdict(run: Run, runs: Sequence[Run]) -> tuple[bool | None, str]:
    """Whether the guess before `run` was right, and a sentence with the two losses; (None, "") if nothing was
    guessed or it cannot be told (yet)."""
    if run.guess is None or run.state not in ("done", "diverged"):
        return None, ""
    before = [r for r in runs if r.number < run.number and not r.active and final_loss(r)[0] is not None]
    others = [r for r in before if run.guess in (THIS, r.id)]
    if not others:
        return None, ""
    if all(r.text_id != run.text_id for r in others):
        return None, "The two runs read different texts, so their losses cannot be compared."
    other = min((r for r in others if r.text_id == run.text_id), key=_ending)
    if _ending(run) == _ending(other) == math.inf:
        return None, f"Both “{run.name}” and “{other.name}” diverged: neither ends lower."
    right = (_ending(run) < _ending(other)) == (run.guess == THIS)
    guessed = run if run.guess == THIS else other
    return right, (
        f"{'Right' if right else 'Wrong'}: you guessed that “{guessed.name}” ends lower. "
        f"“{run.name}” ended {_told(run)}, “{other.name}” {_told(other)}."
    )


def _ending(run: Run) -> float:
    """The loss by which a run is compared: one that diverged has lost."""
    loss, _ = final_loss(run)
    return math.inf if run.state == "diverged" or loss is None else loss


def _told(run: Run) -> str:
    return f"at {_ending(run):.3f}" if math.isfinite(_ending(run)) else "nowhere: it diverged"


def guesses(runs: Sequence[Run]) -> dict[str, Any]:
    """How the last guess that can be judged came out, and how many were right."""
    told = [verdict(run, runs) for run in runs]
    judged = [right for right, _ in told if right is not None]
    said = next((said for _, said in reversed(told) if said), "")
    return {"said": said, "right": sum(judged), "of": len(judged)}


def as_json(run: Run) -> str:
    """All that is known of a run, as JSON: its settings and its curve."""
    loss, measured = final_loss(run)
    keys = ("step", "seconds", "train_loss", "val_loss", "sample")
    curve = [{key: e.get(key) for key in keys} for e in run.evaluations]
    told = {
        "name": run.name,
        "state": run.state,
        "preset": run.recipe.preset,
        "settings": run.recipe.settings(),
        "command": ["python", "-m", "charlm", "train", *run.recipe.arguments()],
        "val_loss": loss,
        "measured_on_the_whole_split": measured,
        "baselines": run.baselines,
        "evaluations": curve,
        "batch_losses": [
            {"step": step, "seconds": seconds, "loss": loss} for step, loss, seconds in run.batch_losses
        ],
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def as_csv(run: Run) -> str:
    """The curve of a run, a line for each measurement; what was not measured then is empty."""
    chars = run.recipe.options.batch_size * run.recipe.config.block_size
    columns = ("step", "characters", "seconds", "train_loss", "val_loss", "batch_loss")
    rows: list[tuple[Any, ...]] = [
        (e["step"], e["step"] * chars, e["seconds"], e["train_loss"], e["val_loss"], "")
        for e in run.evaluations
    ]
    rows += [(step, step * chars, seconds, "", "", loss) for step, loss, seconds in run.batch_losses]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    rows.sort(key=lambda row: row[0])
    writer.writerows(rows)
    return file.getvalue()


def default_name(preset: str, changes: dict[str, Any], most: int) -> str:
    """What a run is called that has no name: its preset and what differs, in at most so many characters."""
    return _as_many_as_fit([knobs.title_of(preset), *knobs.differences(preset, changes)], most)


def _as_many_as_fit(phrases: Sequence[str], most: int) -> str:
    for n in range(len(phrases), 1, -1):
        name = ", ".join([*phrases[:n], *(["…"] if n < len(phrases) else [])])
        if len(name) <= most:
            return name
    return phrases[0]


def described(preset: str, changes: dict[str, Any]) -> str:
    """What is set, in a line: the preset and what differs from it."""
    return ", ".join([presets.find(preset).title, *knobs.differences(preset, changes)])
