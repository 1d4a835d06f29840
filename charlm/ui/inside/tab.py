"""What the tab shows and asks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.service.limits import MAX_TEXT_CHARS, check_chars
from charlm.ui.inside import numbers
from charlm.ui.parts import Page, code, live, model_dropdown, notes_view, text_box
from charlm.ui.theme import view

INTRO = """
Follow the last character of your text: it becomes a row of channels, every block adds to that row, and at
the end the row is turned into a score for each possible next character. Reading the row **after each
layer** as if it were the last one shows the guess taking shape. *Try:* end your text in the middle of a word.
"""


def build(page: Page, tab: gr.Tab) -> None:
    """Lays the tab out and connects it."""
    gr.Markdown(INTRO)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            text = text_box("My noble lord, I would not spea", elem_id="inside-text")
        with gr.Column(scale=1, min_width=200):
            model = model_dropdown(page, label="Model", elem_id="inside-model")
    notes = notes_view(elem_id="inside-notes")
    with gr.Row():
        with gr.Column(min_width=320):
            network = view("inside/network_view", elem_id="inside-network")
        with gr.Column(min_width=320):
            gr.Markdown("### What remains to draw from")
            temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature", elem_id="inside-temperature")
            top_k = gr.Slider(0, 65, 0, step=1, label="Top-k (0: all)", elem_id="inside-k")
            top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", elem_id="inside-p")
            drawn = view("inside/candidates_view", elem_id="inside-candidates")
    code(numbers.LINES)

    def compute(
        name: str, text: str, temperature: float, top_k: int, top_p: float
    ) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
        check_chars("A text", text, MAX_TEXT_CHARS)
        m = page.service.get(name)
        read, logits, notes = numbers.lens(m, text)
        path = {"read": read, "parts": numbers.path(m, len(read), logits), "total": m.parameter_count()}
        return path, numbers.candidates(m, logits[-1], temperature, int(top_k) or None, top_p), notes

    inputs = [model, text, temperature, top_k, top_p]
    live(page, [tab.select, *(c.change for c in inputs)], compute, inputs, [network, drawn], notes)
