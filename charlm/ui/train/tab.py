"""What the tab shows and asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.service.limits import MAX_CALL_BYTES, MAX_NAME_CHARS, SIZE_LIMITS, TRAINABLE
from charlm.training.excerpt import MAX_CHARS
from charlm.training.presets import PRESETS
from charlm.ui.parts import Page, intro, notes_view
from charlm.ui.theme import view
from charlm.ui.train import glass_panel, healthy, numbers
from charlm.ui.train.numbers import SECONDS, STEPS

INTRO = """
How does a model learn? It guesses the next character, is told what came, and adjusts every number a little,
thousands of times.

How badly it guesses is the [[loss]], in [[nats]]: a model that knows nothing is as unsure as there are
characters, and each [[step]] makes it a little surer. *Try:* train the small GPT for a minute and watch
gibberish turn into words; then paste a text of your own.
"""
SHAKESPEARE, FILE, PASTED = "Tiny Shakespeare", "A text file", "Pasted text"
FIRST_PRESET = "small"
NOTHING_DRAWN = ("", "", 0)


class TrainTab:
    """The tab's components and what they do."""

    def __init__(self, page: Page, tab: gr.Tab, timer: gr.Timer):
        """`timer` ticks while a run of the visitor is watched."""
        self.page, self.service, self.timer = page, page.service, timer
        self.drawn = gr.State(NOTHING_DRAWN)
        """The run, its state and how many of its evaluations are on the screen."""
        intro(INTRO)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._lay_out_corpus()
                self._lay_out_model()
                self._lay_out_budget()
                self.forecast = view("train/forecast_view", elem_id="train-forecast")
                self._lay_out_start()
                self.notes = notes_view(elem_id="train-notes")
                with gr.Accordion("Keep it, or bring one back", open=False):
                    self._lay_out_download()
                    self._lay_out_upload()
            with gr.Column(scale=3, min_width=320):
                self.progress = view("train/progress_view", elem_id="train-progress")
                self.history = view("train/history_view", elem_id="train-history")
                self.measures = view("train/measures_view", elem_id="train-measures")
        self._foresee_when_changed(tab)
        self._begin_and_watch(tab)
        glass_panel.build(page, tab)

    def _lay_out_corpus(self) -> None:
        self.corpus = gr.Radio(
            [SHAKESPEARE, FILE, PASTED], value=SHAKESPEARE, label="Corpus", elem_id="train-corpus"
        )
        self.file = gr.File(
            label="A .txt file", file_types=[".txt"], visible=False, height=120, elem_id="train-file"
        )
        self.pasted = gr.Textbox(
            label="Your text",
            info=f"A text of more than {MAX_CALL_BYTES / 1e6:.1f} MB comes as a file.",
            lines=5,
            max_lines=10,
            visible=False,
            elem_id="train-text",
            elem_classes="mono",
        )

        def show(corpus: str) -> tuple[Any, Any]:
            return gr.update(visible=corpus == FILE), gr.update(visible=corpus == PASTED)

        self.corpus.change(show, self.corpus, [self.file, self.pasted], **self.page.unseen)

    def _lay_out_model(self) -> None:
        first = PRESETS[FIRST_PRESET]
        self.preset = gr.Radio(
            [(PRESETS[name].title, name) for name in TRAINABLE],
            value=FIRST_PRESET,
            label="Model",
            info=first.description,
            elem_id="train-preset",
        )
        with gr.Accordion("Sizes", open=False, elem_id="train-sizes"):
            self.sizes = [
                gr.Slider(
                    1 if size != "n_embd" else 8,
                    limit,
                    first.sizes[size],
                    step=1 if size != "n_embd" else 8,
                    label=size,
                    elem_id=f"train-{size}",
                )
                for size, limit in SIZE_LIMITS.items()
            ]

    def _lay_out_budget(self) -> None:
        with gr.Row():
            self.unit = gr.Radio(
                [STEPS, SECONDS], value=STEPS, label="Stop after", elem_id="train-unit", min_width=120
            )
            self.amount = gr.Number(
                PRESETS[FIRST_PRESET].options.steps,
                label="How many",
                precision=0,
                min_width=120,
                elem_id="train-amount",
            )
        self.unit.input(numbers.default_amount, [self.preset, self.unit], self.amount, **self.page.unseen)
        chosen = [self.preset, self.amount, self.unit, *self.sizes]
        self.preset.input(self.choose, self.preset, chosen, **self.page.unseen)

    def choose(self, preset: str) -> list[Any]:
        """Sets everything to what a preset is offered with."""
        sizes = PRESETS[preset].sizes
        adjustable = numbers.adjustable_sizes(preset)
        updates = [
            gr.update(value=sizes[size], visible=True) if size in adjustable else gr.update(visible=False)
            for size in SIZE_LIMITS
        ]
        info = gr.update(info=PRESETS[preset].description)
        return [info, numbers.default_amount(preset, STEPS), STEPS, *updates]

    def _foresee_when_changed(self, tab: gr.Tab) -> None:
        inputs = [self.name, self.corpus, self.file, self.preset, self.unit, self.amount, *self.sizes]
        triggers = [tab.select, *(control.change for control in inputs)]
        gr.on(triggers, self.foresee, inputs, self.forecast, trigger_mode="always_last", **self.page.unseen)

    def foresee(
        self,
        name: str,
        corpus: str,
        file: str | None,
        preset: str,
        unit: str,
        amount: float | None,
        *values: int,
    ) -> dict[str, Any]:
        """How large the model will be, and about how long its training will take; or why it cannot be
        trained, but for what is wrong with its text."""
        try:
            sizes = numbers.sizes_of(preset, values)
            # A pasted text, which would be sent whole with every change, is short and soon measured.
            chars = 0 if corpus == PASTED else numbers.chars_of(file if corpus == FILE else None)
            return self.service.compute(numbers.forecast, name, preset, unit, amount, sizes, chars)
        except CharlmError as error:
            return {"error": str(error)}

    def _lay_out_start(self) -> None:
        self.name = gr.Textbox(
            "my model", label="Name of the model", max_length=MAX_NAME_CHARS, elem_id="train-name"
        )
        with gr.Row():
            self.start = gr.Button("Train", variant="primary", min_width=120, elem_id="train-start")
            stop = gr.Button("Stop", min_width=120, elem_id="train-stop")
        stop.click(self.service.runs.stop, self.page.visitor, None, **self.page.unseen)

    def _begin_and_watch(self, tab: gr.Tab) -> None:
        visitor, timer = self.page.visitor, self.timer
        asked = [visitor, self.corpus, self.file, self.pasted, self.preset, self.unit, self.amount]
        asked += [self.name, *self.sizes]
        watched = [timer, self.drawn, self.progress, self.history, self.measures, self.page.own_models]
        begun = self.start.click(self.begin, asked, [timer, self.notes], **self.page.unseen)
        begun.then(self.watch, [visitor, self.drawn], watched, **self.page.unseen)
        # The last two show a run that another window of the visitor has started.
        looks = [timer.tick, self.page.app.load, tab.select, self.progress.click]
        gr.on(looks, self.watch, [visitor, self.drawn], watched, **self.page.unseen)

    def begin(
        self,
        visitor: str,
        corpus: str,
        file: str | None,
        pasted: str,
        preset: str,
        unit: str,
        amount: float | None,
        name: str,
        *values: int,
    ) -> tuple[Any, ...]:
        """Starts a run, and the timer that watches it."""

        def start() -> list[str]:
            budget = numbers.budget(unit, amount)
            text, said = self._text(corpus, file, pasted)
            sizes = numbers.sizes_of(preset, values)
            self.service.runs.start(visitor, name, preset, sizes, text=text, **budget)
            return said

        try:
            return gr.Timer(active=True), self.service.compute(start)
        except CharlmError as error:
            return gr.skip(), [str(error)]

    def _text(self, corpus: str, file: str | None, pasted: str) -> tuple[str | None, list[str]]:
        """What to train on, None for Tiny Shakespeare, and what to say of it."""
        if corpus == SHAKESPEARE:
            return None, []
        if corpus == FILE:
            return numbers.text_of(file)
        if not pasted:
            raise CharlmError("Paste a text first.")
        return pasted, []

    def watch(self, visitor: str, drawn: tuple[str, str, int]) -> list[Any]:
        """Shows where the visitor's run stands; what is on the screen already is not drawn anew."""
        run = self.service.runs.of(visitor) if visitor else None
        if run is None:
            return [gr.Timer(active=False), drawn, *(gr.skip() for _ in range(4))]
        now = (run.id, run.state, len(run.evaluations))
        history, measures = (
            (gr.skip(), gr.skip()) if now == drawn else (numbers.history(run), healthy.panel(run))
        )
        ended = not run.active and now[:2] != drawn[:2]
        models = self.service.own_names(visitor) if ended else gr.skip()
        progress = numbers.progress(run, self.service.runs.place(run))
        return [gr.Timer(active=run.active), now, progress, history, measures, models]

    def _lay_out_download(self) -> None:
        gr.Markdown(
            f"A model's zip holds up to {MAX_CHARS:,} characters of its text, by which changes are measured."
        )
        pack = gr.Button("Prepare the download", size="sm", elem_id="train-pack")
        download = gr.DownloadButton("Download the zip", visible=False, size="sm", elem_id="train-download")

        def prepare(visitor: str) -> Any:
            own = self.service.own_names(visitor)
            if not own:
                gr.Info("Train a model first.")
                return gr.skip()
            try:
                packed = self.service.compute(self.service.pack, own[0])
                return gr.DownloadButton(value=str(packed), visible=True)
            except CharlmError as error:
                raise gr.Error(str(error), print_exception=False) from error

        pack.click(prepare, self.page.visitor, download, **self.page.unseen)

    def _lay_out_upload(self) -> None:
        visitor, outputs = self.page.visitor, [self.notes, self.page.own_models]
        bring = gr.File(
            label="A model's zip, from here", file_types=[".zip"], height=120, elem_id="train-bring"
        )
        address = gr.Textbox(
            label="A model on the Hugging Face Hub",
            placeholder="USER/MODEL, or the address of its page",
            max_length=300,
            elem_id="train-hub",
        )
        fetch = gr.Button("Bring it here", size="sm", elem_id="train-fetch")
        bring.upload(self.bring_back, [visitor, bring], outputs, **self.page.unseen)
        fetch.click(self.bring_from_hub, [visitor, address], outputs, **self.page.unseen)

    def bring_back(self, visitor: str, path: str | None) -> list[Any]:
        """Makes an uploaded model the visitor's own; the upload is deleted."""
        if path is None:
            return [gr.skip(), gr.skip()]
        try:
            title = Path(path).stem[:MAX_NAME_CHARS]
            return self._add(visitor, lambda: self.service.add_zip(visitor, title, Path(path)))
        finally:
            Path(path).unlink(missing_ok=True)

    def bring_from_hub(self, visitor: str, address: str) -> list[Any]:
        """Makes a public model on the Hub the visitor's own."""
        return self._add(visitor, lambda: self.service.add_from_hub(visitor, address))

    def _add(self, visitor: str, add: Callable[[], str]) -> list[Any]:
        try:
            add()
        except CharlmError as error:
            return [[str(error)], gr.skip()]
        return [
            ["The model is here: find it in the model lists of the other tabs."],
            self.service.own_names(visitor),
        ]
