"""Small pieces that several tabs are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.service.kept import is_kept
from charlm.service.limits import MAX_TEXT_CHARS
from charlm.service.models import ModelInfo, ModelService
from charlm.service.operated import SEPARATOR
from charlm.ui.glossary import with_terms
from charlm.ui.theme import view

SPEECH = """First Citizen:
Before we proceed any further, hear me speak.

All:
Speak, speak.

First Citizen:
You are all resolved rather to die than to famish?
"""
"""How Tiny Shakespeare begins: the text that every tab opens with."""

SILENT_EVENT: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""How to listen to a control: at once, without a spinner, and without a place on the API page."""


@dataclass(frozen=True)
class Page:
    """What every tab is given: who answers, the page itself, who looks at it, and what models are theirs."""

    service: ModelService
    app: gr.Blocks
    visitor: gr.BrowserState
    own_models: gr.JSON
    """The names of the visitor's own models, out of sight: whoever lists models listens to its changes.
    (A `gr.State` would tell of its changes only through Gradio's queue.)"""

    @property
    def unseen(self) -> dict[str, Any]:
        """As `SILENT_EVENT`, for what changes by itself: Gradio hides its stopwatch, but leaves it to be read
        aloud. Here it runs on what is out of sight."""
        return SILENT_EVENT | {"show_progress_on": self.own_models}


def model_dropdown(
    page: Page,
    *,
    wanted: Callable[[ModelInfo], bool] = lambda _: True,
    before: Sequence[tuple[str, str]] = (),
    latest: bool = False,
    **options: Any,
) -> gr.Dropdown:
    """A list of the `wanted` models, which follows what the visitor has. Other choices, as (title, value),
    may stand `before` them. With `latest`, a wanted one that the visitor has just got is chosen. One that is
    chosen and in no list, with changed parts or at a step of a run, has a place of its own."""

    def choices(own: list[str], chosen: str | None = None) -> list[tuple[str, str]]:
        names = dict.fromkeys([*own, *page.service.names()])
        if chosen and _is_listed_nowhere(chosen):
            names[chosen] = None
        models = [(name, page.service.find(name)) for name in names]
        return [*before, *((info.title, name) for name, info in models if info is not None and wanted(info))]

    def follow(own: list[str], chosen: str | None) -> dict[str, Any]:
        offered = choices(own, chosen)
        just_got = latest and own and own[0] in [name for _, name in offered]
        return gr.update(choices=offered, **({"value": own[0]} if just_got else {}))

    def take_in(own: list[str], chosen: str | None) -> dict[str, Any]:
        is_new = chosen and _is_listed_nowhere(chosen)
        return gr.update(choices=choices(own, chosen)) if is_new else gr.skip()

    # Gradio would check a choice against those of the visitor's session, which may be forgotten by now.
    dropdown = gr.Dropdown(choices([]), allow_custom_value=True, **options)
    inputs = [page.own_models, dropdown]
    page.own_models.change(follow, inputs, dropdown, **page.unseen)
    dropdown.change(take_in, inputs, dropdown, **page.unseen)
    return dropdown


def _is_listed_nowhere(name: str) -> bool:
    return SEPARATOR in name or is_kept(name)


def intro(text: str) -> gr.Markdown:
    """What a tab begins with, in Markdown; `with_terms` says how it explains its terms."""
    return gr.Markdown(with_terms(text), sanitize_html=False)  # it is ours, not a visitor's


def text_box(value: str, **options: Any) -> gr.Textbox:
    """A box for the learner's own text."""
    defaults = {"label": "Your text", "lines": 3, "max_lines": 6, "max_length": MAX_TEXT_CHARS}
    return gr.Textbox(value, elem_classes="mono", **(defaults | options))


def share(tab: gr.Tab, text: gr.Textbox) -> None:
    """Has `text` show the learner's own sentence when `tab` is opened, and tells the other tabs of it."""
    tab.select(None, text, text, js="(own) => charlm.thread.read(own)", **SILENT_EVENT)
    text.change(None, text, None, js="(text) => charlm.thread.write(text)", **SILENT_EVENT)


def code(lines: str) -> gr.Code:
    """The PyTorch that computes what a tab shows."""
    with gr.Accordion("The PyTorch behind it", open=False):
        return gr.Code(lines, language="python", interactive=False, show_label=False)


def notes_view(**options: Any) -> gr.HTML:
    """Where a tab says what could not be shown as asked: a list of sentences, shown as text."""
    return view("notes_view", [], **options)


def live(
    page: Page,
    triggers: Sequence[Any],
    compute: Callable[..., Any],
    inputs: Sequence[gr.components.Component],
    outputs: Sequence[gr.components.Component],
    notes: gr.HTML,
    cleared: Sequence[Any] | None = None,
) -> None:
    """Has one of the service's workers run `compute` whenever one of `triggers` fires, the latest state
    winning.

    `compute` returns a value for each of `outputs` and then the notes. A `CharlmError` becomes the
    only note, and the outputs become what `cleared` holds for each, or stay as they were.
    """

    def attempt(*values: Any) -> list[Any]:
        try:
            return list(page.service.compute(compute, *values))
        except CharlmError as error:
            return [*(cleared or [gr.skip() for _ in outputs]), [str(error)]]

    gr.on(triggers, attempt, list(inputs), [*outputs, notes], trigger_mode="always_last", **page.unseen)


def answering(function: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`function`, under its name, for a view that asks the server: with a sentence, the `error`, in place of
    what cannot be answered."""

    @functools.wraps(function)
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        try:
            return function(asked)
        except CharlmError as error:
            return {"error": str(error)}

    return answer
