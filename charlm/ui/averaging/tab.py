"""What the tab shows and asks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.ui.averaging import numbers
from charlm.ui.parts import Page, code, intro, live, notes_view
from charlm.ui.theme import view

INTRO = """
To guess the next character, each place in a text should know what stands before it, and must not see what
comes after: that is what it has to guess. The simplest way to know the past is to **average** it. Versions 1,
2 and 3 compute the same average in three ways; in version 4 each position decides for itself whom to listen
to, and that is self-[[attention]]. *Try:* point at a cell of **out** and see what made it; make **T** longer
and see that nothing above changes; then step from version 3 to version 4.
"""
VERSIONS = [
    ("1 · a loop", 1),
    ("2 · the tril matrix", 2),
    ("3 · a masked softmax", 3),
    ("4 · self-attention", 4),
]
FIRST_VERSION = 2


def build(page: Page, tab: gr.Tab) -> None:
    """Lays the tab out and connects it; it needs no model."""
    intro(INTRO)
    with gr.Row():
        version = gr.Radio(
            VERSIONS, value=FIRST_VERSION, label="Version", elem_id="averaging-version", scale=2
        )
        T = gr.Slider(1, numbers.MAX_T, 6, step=1, label="T, positions", min_width=160, elem_id="averaging-T")
        seed = gr.Slider(0, 9999, 1337, step=1, label="seed", min_width=160, elem_id="averaging-seed")
    notes = notes_view()
    shown = view("averaging/averaging_view", elem_id="averaging")
    lines = code(numbers.code(FIRST_VERSION))
    timing = view("averaging/timing_view", elem_id="averaging-timing")

    def compute(version: int, T: int, seed: int) -> tuple[Any, ...]:
        explained = numbers.explain(version, int(T), int(seed))
        return explained, numbers.code(version), []

    def measure() -> dict[str, Any]:
        rows = page.service.compute(numbers.time_versions, numbers.TIMED_LENGTHS)
        return {"rows": rows, "pairs": numbers.PAIRS, "verdict": numbers.verdict(rows[-1])}

    inputs = [version, T, seed]
    live(page, [tab.select, *(c.change for c in inputs)], compute, inputs, [shown, lines], notes)
    timing.click(measure, None, timing, **page.unseen)
