"""Small pieces that several tabs are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.explain.attention import MAX_TEXT_CHARS
from charlm.ui.theme import view

SPEECH = """First Citizen:
Before we proceed any further, hear me speak.

All:
Speak, speak.

First Citizen:
You are all resolved rather to die than to famish?
"""
"""How Tiny Shakespeare begins: the text that every tab opens with."""

HELPER: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""How to listen to a control: at once, without a spinner, and without a place on the API page."""


def text_box(value: str, **options: Any) -> gr.Textbox:
    """A box for the learner's own text."""
    defaults = {"label": "Your text", "lines": 3, "max_lines": 6, "max_length": MAX_TEXT_CHARS}
    return gr.Textbox(value, elem_classes="mono", **(defaults | options))


def code(lines: str) -> gr.Code:
    """The PyTorch that computes what a tab shows."""
    with gr.Accordion("The PyTorch behind it", open=False):
        return gr.Code(lines, language="python", interactive=False, show_label=False)


def notes_view(**options: Any) -> gr.HTML:
    """Where a tab says what could not be shown as asked: a list of sentences, shown as text."""
    return view("notes_view", [], **options)


def live(
    triggers: Sequence[Any],
    compute: Callable[..., Any],
    inputs: Sequence[gr.components.Component],
    outputs: Sequence[gr.components.Component],
    notes: gr.HTML,
) -> None:
    """Runs `compute` whenever one of `triggers` fires, the latest state winning.

    `compute` returns a value for each of `outputs` and then the notes. A `CharlmError` becomes the
    only note, and the outputs stay as they were.
    """

    def attempt(*values: Any) -> list[Any]:
        try:
            return list(compute(*values))
        except CharlmError as error:
            return [gr.skip() for _ in outputs] + [[str(error)]]

    gr.on(triggers, attempt, list(inputs), [*outputs, notes], trigger_mode="always_last", **HELPER)
