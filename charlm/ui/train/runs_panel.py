"""The visitor's runs: their list and chart, and how the chosen one learned."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.service.run import Run
from charlm.ui.parts import SILENT_EVENT, Page
from charlm.ui.theme import view
from charlm.ui.train import comparison, healthy, numbers
from charlm.ui.train.controls import Controls

REPEATED = "All is set as for “{}”: change one thing, say what you expect, and train."
WANTED = "(visitor, _) => [visitor, charlm.runs.wanted()]"
SAVE = "(file) => charlm.runs.save(file)"
TO_START = "() => document.querySelector('#train-start').scrollIntoView({ block: 'center' })"


class RunsPanel:
    """The components and what they do.

    `shown` is the list with the chart; its script says to `charlm.runs` which run it wants something of, and
    triggers "select", "delete", "edit" (to repeat it) or "download". `chosen` is the id of the run whose
    history is shown, "" for the latest; `guess` what the visitor expects of the next.
    """

    def __init__(self, page: Page, tab: gr.Tab, timer: gr.Timer, controls: Controls, notes: gr.HTML):
        self.page, self.runs, self.timer, self.controls = page, page.service.runs, timer, controls
        self.rungs = comparison.rungs()
        self.drawn = gr.State(None)
        """What is on the screen, as `_state` tells it."""
        self.progress = view("train/progress_view", elem_id="train-progress")
        self.shown = view("train/runs_view", elem_id="train-runs")
        self.history = view("train/history_view", elem_id="train-history")
        self.measures = view("train/measures_view", elem_id="train-measures")
        self.chosen = gr.Textbox("", visible="hidden", elem_id="train-chosen")
        self.guess = gr.Textbox("", visible="hidden", elem_id="train-guessed")
        self.file = gr.JSON(None, visible="hidden")
        self._watch(tab)
        self._act(notes)

    def _watch(self, tab: gr.Tab) -> None:
        self._watched = [self.page.visitor, self.chosen, self.drawn]
        self._outputs = [self.timer, self.drawn, self.progress, self.shown, self.history]
        self._outputs += [self.measures, self.page.own_models]
        # All but the timer show a run that another window of the visitor has started.
        looks = [self.timer.tick, self.page.app.load, tab.select, self.progress.click]
        gr.on(looks, self.watch, self._watched, self._outputs, **self.page.unseen)

    def watch_after(self, event: Any) -> None:
        """Looks once more when an event has had its effect."""
        event.then(self.watch, self._watched, self._outputs, **self.page.unseen)

    def watch(self, visitor: str, chosen: str, drawn: Any) -> list[Any]:
        """Shows where the visitor's runs stand; what is on the screen already is not drawn anew."""
        runs = self.runs.all_of(visitor) if visitor else []
        if not runs:
            nothing = [gr.skip()] * 5 if drawn is None else [None, None, None, None, gr.skip()]
            return [gr.Timer(active=False), None, *nothing]
        latest = runs[-1]
        run = next((run for run in runs if run.id == chosen), latest)
        now: dict[str, Any] = {
            "chosen": run.id,
            "kept": len(run.kept_steps),
            "runs": [_state(run) for run in runs],
        }
        before = drawn or {"chosen": "", "kept": 0, "runs": []}
        progress = numbers.progress(latest, self.runs.place(latest), self.runs.outlook(latest))
        shown = _list(runs, run, self.rungs) if now != before else gr.skip()
        history, measures = gr.skip(), gr.skip()
        if _part(now) != _part(before):
            history, measures = numbers.history(run), healthy.panel(run)
        ended = not latest.active and now["runs"][-1][:2] not in [s[:2] for s in before["runs"]]
        models = self.page.service.own_names(visitor) if ended else gr.skip()
        return [gr.Timer(active=latest.active), now, progress, shown, history, measures, models]

    def _act(self, notes: gr.HTML) -> None:
        visitor, chosen, unseen = self.page.visitor, self.chosen, self.page.unseen
        asked = [visitor, chosen]
        chose = self.shown.select(None, asked, [visitor, chosen], js=WANTED, **SILENT_EVENT)
        self.watch_after(chose)
        self.removed = self.shown.delete(self.remove, asked, chosen, js=WANTED, **unseen)
        self.watch_after(self.removed)
        outputs = [*self.controls.outputs, self.controls.name, notes]
        repeated = self.shown.edit(self.repeat, asked, outputs, js=WANTED, **unseen)
        repeated.then(None, None, None, js=TO_START, **SILENT_EVENT)
        packed = self.shown.download(self.export, asked, self.file, js=WANTED, **unseen)
        packed.then(None, self.file, None, js=SAVE, **SILENT_EVENT)

    def remove(self, visitor: str, id: str) -> str:
        """Takes a run off the list; the latest is the chosen one then."""
        self.page.service.compute(self.runs.remove, visitor, id)
        return ""

    def repeat(self, visitor: str, id: str) -> list[Any]:
        """Sets all controls as they were for a run."""
        run = self.runs.find(visitor, id)
        if run is None:
            return [gr.skip() for _ in range(len(self.controls.outputs) + 2)]
        unit, amount = comparison.budget_of(run)
        changes = comparison.changes_of(run)
        shown = self.controls.show(run.recipe.preset, changes, unit, amount)
        return [*shown, "", [REPEATED.format(run.name)]]

    def export(self, visitor: str, wanted: str) -> Any:
        """A run as a file: its name and its text. `wanted` is the run's id, a space, and csv or json."""
        id, _, kind = wanted.partition(" ")
        run = self.runs.find(visitor, id)
        if run is None:
            return gr.skip()
        write = comparison.as_csv if kind == "csv" else comparison.as_json
        return {"name": f"{run.name}.{kind}", "text": self.page.service.compute(write, run)}


def _state(run: Run) -> list[Any]:
    """What changes of a run when it has to be drawn anew."""
    return [run.id, run.state, len(run.evaluations), len(run.batch_losses)]


def _part(drawn: dict[str, Any]) -> list[Any]:
    """What of that concerns the history of the chosen run: not the losses of its batches."""
    return [drawn["kept"], *(state[:3] for state in drawn["runs"] if state[0] == drawn["chosen"])]


def _list(runs: list[Run], chosen: Run, rungs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "chosen": chosen.id,
        "runs": comparison.listed(runs),
        "guesses": comparison.guesses(runs),
        "rungs": rungs,
    }
