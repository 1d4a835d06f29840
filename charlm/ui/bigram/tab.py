"""What the tab shows and asks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.models import BigramLanguageModel
from charlm.ui.bigram import numbers
from charlm.ui.parts import SILENT_EVENT, Page, code, intro, live, model_dropdown, notes_view
from charlm.ui.texts import visible
from charlm.ui.theme import view

INTRO = """
How far does one character get you? The simplest [[language model]] looks at one character and guesses the
next.

It is one table: the row of a character says how likely each character is to come next. Training started from
random numbers and never counted anything. Compare what it **learned** with what can be **counted**. *Try:*
click a row of the grid, then lower the [[temperature]].
"""
OUTRO = """
**It cannot look back.** Whatever stands further back than one character, the same row decides. To do better,
a position has to know its past.
"""


def build(page: Page, tab: gr.Tab) -> None:
    """Lays the tab out and connects it."""
    intro(INTRO)
    notes = notes_view(elem_id="bigram-notes")
    with gr.Row():
        with gr.Column(scale=6, min_width=320):
            tables = view("bigram/tables_view", elem_id="bigram-tables")
        with gr.Column(scale=5, min_width=320):
            model = model_dropdown(
                page,
                wanted=lambda info: not info.has_attention,
                latest=True,
                label="Model",
                elem_id="bigram-model",
            )
            with gr.Row():
                # Its choices come later, and Gradio may forget by then which it has sent.
                char = gr.Dropdown(
                    label="Character before", allow_custom_value=True, min_width=140, elem_id="bigram-char"
                )
                temperature = gr.Slider(
                    0, 3, 1, step=0.05, label="Temperature", min_width=140, elem_id="bigram-temperature"
                )
            following = view("bigram/bigram_view", elem_id="bigram-next")
            write = gr.Button(f"Write {numbers.WRITTEN_CHARS} characters", elem_id="bigram-write")
            written = view("bigram/written_view", elem_id="bigram-written")
    losses = view("bigram/losses_view", elem_id="bigram-losses")
    code(numbers.LINES)
    gr.Markdown(OUTRO)

    def get(name: str) -> BigramLanguageModel:
        model = page.service.get(name)
        if not isinstance(model, BigramLanguageModel):
            raise CharlmError("This tab shows bigram models alone.")
        return model

    def show(name: str, asked: str | None, temperature: float) -> tuple[Any, ...]:
        model = get(name)
        choices = [(visible(c), c) for c in model.tokenizer.vocab]
        char = numbers.first_char(model, asked)
        bars = numbers.following_value(model, char, temperature)
        # Sent only if it is another, lest a late answer undo what was chosen meanwhile.
        menu = gr.update(choices=choices, **({} if char == asked else {"value": char}))
        return numbers.losses_value(model), menu, numbers.tables_value(model), bars, []

    def follow(name: str, char: str | None, temperature: float) -> tuple[Any, ...]:
        return (numbers.following_value(get(name), char, temperature) if char else None), []

    def walk(name: str, char: str | None, temperature: float) -> tuple[Any, ...]:
        return numbers.write(get(name), char or "", temperature), []

    # The tab begins with the character that is pinned in another.
    tab.select(None, char, char, js="(char) => charlm.thread.char(char)", **SILENT_EVENT)
    asked = [model, char, temperature]
    shown = [losses, char, tables, following]
    live(page, [tab.select, model.change], show, asked, shown, notes, [None, gr.skip(), None, None])
    live(page, [char.change, temperature.change], follow, asked, [following], notes, [None])
    live(page, [write.click], walk, asked, [written], notes)
    model.change(None, None, written, js="() => [null]", **SILENT_EVENT)
    tables.select(None, None, char, js="() => [charlm.bigram.chosen()]", **SILENT_EVENT)
