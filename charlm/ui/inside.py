"""The Inside tab: the path of one character through the network, up to the next one."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.explain import inside
from charlm.explain.attention import MAX_TEXT_CHARS
from charlm.service import ModelService
from charlm.ui.parts import code, live, notes_view, text_box
from charlm.ui.theme import view

INTRO = """
Follow the last character of your text: it becomes a row of channels, every block adds to that row, and at
the end the row is turned into a score for each possible next character. Reading the row **after each
layer** as if it were the last one shows the guess taking shape. *Try:* end your text in the middle of a word.
"""


def build(service: ModelService, tab: gr.Tab) -> gr.Dropdown:
    """Lays the tab out, connects it to `service` and returns its list of models."""
    gr.Markdown(INTRO)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            text = text_box("My noble lord, I would not spea", elem_id="inside-text")
        with gr.Column(scale=1, min_width=200):
            model = gr.Dropdown(service.names(), label="Model", elem_id="inside-model")
    notes = notes_view(elem_id="inside-notes")
    with gr.Row():
        with gr.Column(min_width=320):
            network = view("network_view", elem_id="inside-network")
        with gr.Column(min_width=320):
            gr.Markdown("### What remains to draw from")
            temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature", elem_id="inside-temperature")
            top_k = gr.Slider(0, 65, 0, step=1, label="Top-k (0: all)", elem_id="inside-k")
            top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", elem_id="inside-p")
            drawn = view("candidates_view", elem_id="inside-candidates")
    code(inside.LINES)

    def compute(
        name: str, text: str, temperature: float, top_k: int, top_p: float
    ) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
        if len(text) > MAX_TEXT_CHARS:
            raise CharlmError(f"A text may have {MAX_TEXT_CHARS:,} characters: this one has {len(text):,}.")
        m = service.get(name)
        read, logits, notes = service.compute(inside.lens, m, text)
        path = {
            "read": read,
            "parts": inside.parts(m, len(read)),
            "guesses": inside.guesses(m, logits),
            "total": m.parameter_count(),
        }
        return path, inside.candidates(m, logits[-1], temperature, int(top_k) or None, top_p), notes

    inputs = [model, text, temperature, top_k, top_p]
    live([tab.select, *(c.change for c in inputs)], compute, inputs, [network, drawn], notes)
    return model
