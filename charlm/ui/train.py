"""The Train tab: a model of one's own, watched while it learns."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from charlm import estimate
from charlm.corpus import decode_text
from charlm.errors import CharlmError
from charlm.presets import PRESETS
from charlm.runs import MAX_NAME_CHARS, MAX_SECONDS, MAX_TEXT_CHARS, SIZE_LIMITS, Run
from charlm.service import ModelService
from charlm.ui.parts import HELPER, notes_view
from charlm.ui.plots import PALETTE, figure
from charlm.ui.theme import view

INTRO = """
Learning is guessing the next character, being told, and adjusting every number a little, thousands of
times. *Try:* train the small GPT for a minute and watch gibberish turn into words; then paste a text of
your own.
"""
SHAKESPEARE, FILE, PASTED = "Tiny Shakespeare", "A text file", "Pasted text"
TRAINABLE = {"small": "small GPT", "multi-head": "multi-head", "attention": "single head", "bigram": "bigram"}
STEPS, SECONDS = "steps", "seconds"
ASSUMED_VOCAB_SIZE = 65


def build(
    service: ModelService,
    app: gr.Blocks,
    tab: gr.Tab,
    visitor: gr.BrowserState,
    timer: gr.Timer,
    lists: Callable[[str], list[Any]],
    fed: list[Any],
) -> None:
    """Lays the tab out. `timer` ticks while a run of the `visitor` is watched; `lists(visitor)` gives
    an update for each of the model lists in `fed`."""
    drawn = gr.State(("", "", 0))
    gr.Markdown(INTRO)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            corpus = gr.Radio(
                [SHAKESPEARE, FILE, PASTED], value=SHAKESPEARE, label="Corpus", elem_id="train-corpus"
            )
            file = gr.File(
                label="A .txt file", file_types=[".txt"], visible=False, height=120, elem_id="train-file"
            )
            pasted = gr.Textbox(
                label="Your text",
                lines=5,
                max_lines=10,
                visible=False,
                elem_id="train-text",
                elem_classes="mono",
            )
            preset = gr.Radio(
                [(title, name) for name, title in TRAINABLE.items()],
                value="small",
                label="Model",
                info=PRESETS["small"].description,
                elem_id="train-preset",
            )
            with gr.Accordion("Sizes", open=False):
                sizes = {
                    size: gr.Slider(
                        1 if size != "n_embd" else 8,
                        limit,
                        PRESETS["small"].sizes[size],
                        step=1 if size != "n_embd" else 8,
                        label=size,
                        elem_id=f"train-{size}",
                    )
                    for size, limit in SIZE_LIMITS.items()
                }
            with gr.Row():
                unit = gr.Radio(
                    [STEPS, SECONDS], value=STEPS, label="Stop after", elem_id="train-unit", min_width=120
                )
                amount = gr.Number(
                    PRESETS["small"].options.steps,
                    label="How many",
                    precision=0,
                    min_width=120,
                    elem_id="train-amount",
                )
            forecast = view("forecast_view", elem_id="train-forecast")
            name = gr.Textbox(
                "my model", label="Name of the model", max_length=MAX_NAME_CHARS, elem_id="train-name"
            )
            with gr.Row():
                start = gr.Button("Train", variant="primary", min_width=120, elem_id="train-start")
                stop = gr.Button("Stop", min_width=120, elem_id="train-stop")
            notes = notes_view(elem_id="train-notes")
            with gr.Accordion("Keep it, or bring one back", open=False):
                pack = gr.Button("Prepare the download", size="sm", elem_id="train-pack")
                download = gr.DownloadButton(
                    "Download the zip", visible=False, size="sm", elem_id="train-download"
                )
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
        with gr.Column(scale=3, min_width=320):
            progress = view("progress_view", elem_id="train-progress")
            plot = gr.Plot(show_label=False, elem_id="train-plot")
            history = view("history_view", elem_id="train-history")

    def sources(corpus: str) -> tuple[Any, Any]:
        return gr.update(visible=corpus == FILE), gr.update(visible=corpus == PASTED)

    def choose(preset: str) -> list[Any]:
        chosen = PRESETS[preset]
        adjustable = _adjustable(preset)
        updates = [
            gr.update(value=chosen.sizes[size], visible=True)
            if size in adjustable
            else gr.update(visible=False)
            for size in sizes
        ]
        return [gr.update(info=chosen.description), chosen.options.steps, STEPS, *updates]

    def foresee(preset: str, unit: str, amount: float | None, *values: int) -> dict[str, Any]:
        chosen = _sizes(preset, values)
        try:
            count = estimate.parameter_count(preset, chosen, ASSUMED_VOCAB_SIZE)
            step = service.compute(estimate.seconds_per_step, preset, chosen, ASSUMED_VOCAB_SIZE)
        except CharlmError as error:
            return {"error": str(error)}
        seconds = step * (amount or 0) if unit == STEPS else amount or 0
        return {"parameters": count, "seconds": seconds, "steps": seconds / step}

    def begin(
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
        try:
            if preset not in TRAINABLE:
                raise CharlmError(f"There is no preset called {preset!r}.")
            if amount is None:
                raise CharlmError(f"How many {unit}?")
            text, said = _text(corpus, file, pasted)
            budget = {"steps": int(amount)} if unit == STEPS else {"seconds": float(amount)}
            chosen = _sizes(preset, values)
            service.compute(partial(service.runs.start, visitor, name, preset, chosen, text=text, **budget))
        except CharlmError as error:
            return gr.skip(), [str(error)]
        return gr.Timer(active=True), said

    def poll(visitor: str, drawn: tuple[str, str, int]) -> list[Any]:
        run = service.runs.of(visitor) if visitor else None
        if run is None:
            return [gr.Timer(active=False), drawn, *(gr.skip() for _ in [progress, plot, history, *fed])]
        now = (run.id, run.state, len(run.evaluations))
        pictures = [_loss_plot(run), _history(run)] if now != drawn else [gr.skip(), gr.skip()]
        finished = not run.active and now[:2] != drawn[:2]
        updates = lists(visitor) if finished else [gr.skip() for _ in fed]
        return [gr.Timer(active=run.active), now, _progress(service, run), *pictures, *updates]

    def arrive(visitor: str) -> list[Any]:
        visitor = visitor or secrets.token_urlsafe(24)
        return [visitor, *poll(visitor, ("", "", 0))[: -len(fed)], *lists(visitor)]

    def make_zip(visitor: str) -> Any:
        own = [n for n in service.names(visitor) if service.is_own(n)]
        if not own:
            gr.Info("Train a model first.")
            return gr.skip()
        try:
            return gr.DownloadButton(value=str(service.pack(own[0])), visible=True)
        except CharlmError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def bring_back(visitor: str, path: str | None) -> list[Any]:
        if path is None:
            return [gr.skip(), *(gr.skip() for _ in fed)]
        try:
            title = Path(path).stem[:MAX_NAME_CHARS]
            return add(visitor, lambda: service.add_zip(visitor, title, Path(path)))
        finally:
            Path(path).unlink(missing_ok=True)

    def bring_from_hub(visitor: str, address: str) -> list[Any]:
        return add(visitor, lambda: service.add_from_hub(visitor, address))

    def add(visitor: str, model: Callable[[], str]) -> list[Any]:
        try:
            model()
        except CharlmError as error:
            return [[str(error)], *(gr.skip() for _ in fed)]
        return [["The model is here: find it in the model list of every tab."], *lists(visitor)]

    sliders = list(sizes.values())
    seen = [timer, drawn, progress, plot, history, *fed]
    corpus.change(sources, corpus, [file, pasted], **HELPER)
    preset.input(choose, preset, [preset, amount, unit, *sliders], **HELPER)
    unit.input(lambda u: 60 if u == SECONDS else 600, unit, amount, **HELPER)
    forecast_inputs = [preset, unit, amount, *sliders]
    gr.on(
        [tab.select, *(c.change for c in forecast_inputs)],
        foresee,
        forecast_inputs,
        forecast,
        trigger_mode="always_last",
        **HELPER,
    )
    given = [visitor, corpus, file, pasted, preset, unit, amount, name, *sliders]
    start.click(begin, given, [timer, notes], **HELPER).then(poll, [visitor, drawn], seen, **HELPER)
    stop.click(service.runs.stop, visitor, None, **HELPER)
    timer.tick(poll, [visitor, drawn], seen, **HELPER)
    app.load(arrive, visitor, [visitor, *seen], **HELPER)
    pack.click(make_zip, visitor, download, **HELPER)
    bring.upload(bring_back, [visitor, bring], [notes, *fed], **HELPER)
    fetch.click(bring_from_hub, [visitor, address], [notes, *fed], **HELPER)


def _adjustable(preset: str) -> list[str]:
    """The sizes that make sense to change: a single head has but one layer and one head."""
    return {
        "bigram": ["block_size"],
        "attention": ["block_size", "n_embd"],
        "multi-head": ["block_size", "n_head", "n_embd"],
    }.get(preset, list(SIZE_LIMITS))


def _sizes(preset: str, values: tuple[int, ...]) -> dict[str, int]:
    given = dict(zip(SIZE_LIMITS, map(int, values), strict=True))
    return {size: given[size] for size in _adjustable(preset)}


def _text(corpus: str, file: str | None, pasted: str) -> tuple[str | None, list[str]]:
    """What to train on, None for Tiny Shakespeare, and what to tell of it."""
    if corpus == SHAKESPEARE:
        return None, []
    if corpus == PASTED:
        if not pasted:
            raise CharlmError("Paste a text first.")
        return pasted, []
    if file is None:
        raise CharlmError("Choose a text file first.")
    path = Path(file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CharlmError("The file is not here any more: choose it again.") from error
    if len(data) > 4 * MAX_TEXT_CHARS:
        raise CharlmError(f"A file may have {4 * MAX_TEXT_CHARS:,} bytes: this one has {len(data):,}.")
    text, encoding = decode_text(data)
    return text, [] if encoding == "utf-8" else [f"The file is not UTF-8: it was read as {encoding}."]


def _progress(service: ModelService, run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "state": run.state,
        "place": service.runs.place(run),
        "error": run.error,
        "limit": MAX_SECONDS,
        **{key: run.progress.get(key, 0) for key in ("step", "done", "seconds", "chars_per_second")},
    }


def _history(run: Run) -> dict[str, Any]:
    keys = ("step", "train_loss", "val_loss", "sample", "attention", "watched")
    return {"id": run.id, "evaluations": [{key: e.get(key) for key in keys} for e in run.evaluations]}


def _loss_plot(run: Run) -> go.Figure:
    steps = [e["step"] for e in run.evaluations]
    traces = [
        go.Scatter(x=steps, y=[e[key] for e in run.evaluations], name=name, mode="lines+markers")
        for key, name in (("train_loss", "train"), ("val_loss", "validation"))
    ]
    plot = figure(
        traces,
        "Loss, nats per character",
        height=330,
        xaxis={"title": {"text": "step", "standoff": 5}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
    for name, loss in run.baselines.items():
        label = {"uniform": "uniform guess", "bigram": "counted bigram"}[name]
        plot.add_hline(loss, line={"dash": "dot", "color": PALETTE[2]}, annotation_text=f"{label} {loss:.2f}")
    return plot
