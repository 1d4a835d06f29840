"""What the tab shows and asks: what is to be trained, and how the visitor's runs go."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.service.limits import MAX_NAME_CHARS
from charlm.service.naming import told_apart
from charlm.training import presets
from charlm.ui.parts import SILENT_EVENT, Page, code, intro, notes_view
from charlm.ui.theme import view
from charlm.ui.train import comparison, glass_panel, knobs, ladder_panel, numbers, source, text_choice
from charlm.ui.train.controls import FIRST_PRESET, Controls, base_of
from charlm.ui.train.keeping import Keeping
from charlm.ui.train.runs_panel import RunsPanel
from charlm.ui.train.text_choice import TextChoice

INTRO = """
How does a model learn? It guesses the next character, is told what came, and adjusts every number a little,
thousands of times.

How badly it guesses is the [[loss]], in [[nats]]: a model that knows nothing picks blindly among
all characters, and each [[step]] makes it a little surer. *Try:* train the small GPT for a minute and watch
gibberish turn into words. Then take one of its parts away, guess what that does, train again, and compare.
"""


class TrainTab:
    """The tab's components and what they do. `history` triggers "apply" when another tab is to play a step of
    a run: `charlm.learning` says which."""

    def __init__(self, page: Page, tab: gr.Tab, timer: gr.Timer):
        """`timer` ticks while a run of the visitor is watched."""
        self.page, self.service = page, page.service
        intro(INTRO)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._lay_out_start()
                self.text = TextChoice(page)
                self.controls = Controls(page)
                self.notes = notes_view(elem_id="train-notes")
                self.keeping = Keeping(page, self.notes)
            with gr.Column(scale=3, min_width=320):
                self.runs = RunsPanel(page, tab, timer, self.controls, self.notes)
                self.history = self.runs.history
                self.ladder = ladder_panel.build()
        self.controls.follow(self.ladder)
        self.code = code(source.code(presets.recipe(FIRST_PRESET)))
        self._begin()
        self._foresee_when_changed(tab)
        glass_panel.build(page, tab)

    def _lay_out_start(self) -> None:
        with gr.Column(elem_id="train-bar"):
            self.guess = view("train/guess_view", elem_id="train-guess")
            with gr.Row():
                self.start = gr.Button("Train", variant="primary", min_width=120, elem_id="train-start")
                stop = gr.Button("Stop", min_width=80, scale=0, elem_id="train-stop")
            self.forecast = view("train/forecast_view", elem_id="train-forecast")
        stop.click(self.service.runs.stop, self.page.visitor, None, **self.page.unseen)

    def _foresee_when_changed(self, tab: gr.Tab) -> None:
        changing = [self.controls.name, self.text.corpus, self.text.file, *self.controls.inputs]
        triggers = [tab.select, *(control.change for control in changing)]
        inputs = [self.page.visitor, *changing]
        outputs = [self.forecast, self.start, self.controls.name, self.guess, self.code]
        unseen = self.page.unseen
        gr.on(triggers, self.foresee, inputs, outputs, trigger_mode="always_last", **unseen)
        # With another run in the list there is another name to give, and another guess to make.
        for event in (self.begun, self.runs.removed):
            event.then(self.foresee, inputs, outputs, **unseen)
        self.guess.select(None, None, self.runs.guess, js="() => [charlm.runs.guessed()]", **SILENT_EVENT)

    def foresee(
        self,
        visitor: str,
        name: str,
        corpus: str,
        file: str | None,
        preset: str | None,
        rung: str | None,
        unit: str,
        amount: float | None,
        *values: Any,
    ) -> list[Any]:
        """What is set, how large the model will be, and about how long its training will take; or why it
        cannot be trained, but for what is wrong with its text."""
        base = base_of(preset, rung)
        runs = self.service.runs.all_of(visitor) if visitor else []
        text_id = "" if corpus == text_choice.SHAKESPEARE else None
        guess = {"rivals": comparison.rivals(runs, text_id)}

        def look() -> list[Any]:
            changes = knobs.read(base, values)
            usual_name = comparison.default_name(base, changes, MAX_NAME_CHARS)
            chars = text_choice.chars_of(corpus, file)
            forecast = numbers.forecast(name or usual_name, base, unit, amount, changes, chars)
            told = forecast | {"set": comparison.described(base, changes)}
            button = f"Train for {numbers.amount_of(unit, amount or 0)}"
            lines = source.code(presets.recipe(base, changes))
            placeholder = told_apart(usual_name, {run.name for run in runs})
            return [told, button, gr.update(placeholder=placeholder), guess, lines]

        try:
            return self.service.compute(look)
        except CharlmError as error:
            return [{"error": str(error)}, "Train", gr.skip(), guess, gr.skip()]

    def _begin(self) -> None:
        controls = self.controls
        asked = [self.page.visitor, self.runs.guess, controls.name, *self.text.inputs, *controls.inputs]
        outputs = [self.runs.timer, self.runs.chosen, self.runs.guess, self.notes]
        self.begun = self.start.click(self.begin, asked, outputs, **self.page.unseen)
        self.runs.watch_after(self.begun)
        self.begun.success(None, None, None, js="() => charlm.runs.follow()", **SILENT_EVENT)

    def begin(
        self,
        visitor: str,
        guess: str,
        name: str,
        corpus: str,
        file: str | None,
        pasted: str,
        preset: str | None,
        rung: str | None,
        unit: str,
        amount: float | None,
        *values: Any,
    ) -> tuple[Any, ...]:
        """Starts a run, which is the chosen one then, and the timer that watches it."""
        base = base_of(preset, rung)

        def start() -> list[str]:
            budget = numbers.budget(unit, amount)
            text, said = text_choice.text_of(corpus, file, pasted)
            changes = knobs.read(base, values)
            called = name or comparison.default_name(base, changes, MAX_NAME_CHARS)
            self.service.runs.start(visitor, called, base, changes, text=text, guess=guess or None, **budget)
            return said

        try:
            return gr.Timer(active=True), "", "", self.service.compute(start)
        except CharlmError as error:
            return gr.skip(), gr.skip(), gr.skip(), [str(error)]
