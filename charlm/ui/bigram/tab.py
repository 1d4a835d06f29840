"""What the tab shows and asks."""

from __future__ import annotations

from typing import Any, cast

import gradio as gr

from charlm.models import BigramLanguageModel
from charlm.ui.bigram import numbers
from charlm.ui.parts import Page, code, live, notes_view
from charlm.ui.plots import visible
from charlm.ui.theme import view

MODEL = "bigram"
INTRO = """
The simplest language model: one table, in which the row of a character says how likely each other is to
follow it. Training started from random numbers and was never told to count, yet the **learned** table is
nearly the **counted** one. *Try:* pick `q`, then lower the temperature.
"""


def build(page: Page, tab: gr.Tab) -> None:
    """Lays the tab out and connects it."""
    gr.Markdown(INTRO)
    notes = notes_view()
    losses = view("bigram/losses_view", elem_id="bigram-losses")
    with gr.Row():
        with gr.Column(min_width=300):
            # Its choices come later, and Gradio may forget by then which it has sent.
            char = gr.Dropdown(label="Character before", allow_custom_value=True, elem_id="bigram-char")
            temperature = gr.Slider(0, 3, 1, step=0.05, label="Temperature", elem_id="bigram-temperature")
        with gr.Column(scale=2, min_width=300):
            following = view("bigram/bigram_view", elem_id="bigram-next")
    tables = view("bigram/tables_view", elem_id="bigram-tables")
    code(numbers.LINES)

    def model() -> BigramLanguageModel:
        return cast(BigramLanguageModel, page.service.get(MODEL))

    def show() -> tuple[Any, ...]:
        vocab = model().tokenizer.vocab
        choices = [(visible(c), c) for c in vocab]
        default = "q" if "q" in vocab else vocab[0]
        return numbers.losses(model()), gr.Dropdown(choices, value=default), numbers.tables_value(model()), []

    def follow(char: str | None, temperature: float) -> tuple[Any, ...]:
        return (numbers.next_chars(model(), char, temperature) if char else []), []

    live(page, [tab.select], show, [], [losses, char, tables], notes)
    live(page, [char.change, temperature.change], follow, [char, temperature], [following], notes)
