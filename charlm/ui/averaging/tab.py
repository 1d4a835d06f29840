"""What the tab shows and asks."""

from __future__ import annotations

from typing import Any

import gradio as gr
import plotly.graph_objects as go

from charlm.ui.averaging import numbers
from charlm.ui.parts import SILENT_EVENT, Page, code, live, notes_view
from charlm.ui.plots import figure
from charlm.ui.theme import view

INTRO = """
How can every position know of the positions before it, and never of those after? By **averaging the
past**. The first three versions compute the same average; in the fourth each position decides for itself
whom to listen to, and that is self-attention. *Try:* point at a cell of **out** and follow the row and the
column that made it; then step from version 3 to version 4.
"""
VERSIONS = [
    ("1 · a loop", 1),
    ("2 · the tril matrix", 2),
    ("3 · a masked softmax", 3),
    ("4 · self-attention", 4),
]
FIRST_VERSION = 2
TIMED_LENGTHS = [2, 4, 8, 16, 32, 64, 128, 256]


def build(page: Page, tab: gr.Tab) -> None:
    """Lays the tab out and connects it; it needs no model."""
    gr.Markdown(INTRO)
    with gr.Row():
        version = gr.Radio(
            VERSIONS, value=FIRST_VERSION, label="Version", elem_id="averaging-version", scale=2
        )
        T = gr.Slider(1, 16, 6, step=1, label="T", min_width=160, elem_id="averaging-T")
        seed = gr.Slider(0, 9999, 1337, step=1, label="seed", min_width=160, elem_id="averaging-seed")
    notes = notes_view()
    shown = view("averaging/averaging_view", elem_id="averaging")
    lines = code(numbers.code(FIRST_VERSION))
    with gr.Row():
        clock = gr.Button("Time the loop against the matrix", elem_id="averaging-clock")
    timing = gr.Plot(show_label=False, visible=False, elem_id="averaging-timing")

    def compute(version: int, T: int, seed: int) -> tuple[Any, ...]:
        explained = numbers.explain(version, int(T), int(seed))
        return explained, numbers.code(version), []

    def measure() -> gr.Plot:
        rows = page.service.compute(numbers.time_versions, TIMED_LENGTHS)
        return gr.Plot(_timing_plot(rows), visible=True)

    inputs = [version, T, seed]
    live(page, [tab.select, *(c.change for c in inputs)], compute, inputs, [shown, lines], notes)
    clock.click(measure, None, timing, **SILENT_EVENT | {"show_progress": "full"})


def _timing_plot(rows: list[dict[str, float]]) -> go.Figure:
    T = [row["T"] for row in rows]
    traces = [
        go.Scatter(x=T, y=[row[name] for row in rows], name=label, mode="lines+markers")
        for name, label in (("loop", "version 1, the loop"), ("tril", "version 2, the matrix"))
    ]
    ratio = rows[-1]["loop"] / rows[-1]["tril"]
    return figure(
        traces,
        f"At T = {T[-1]} the matrix is {ratio:.0f} times as fast",
        height=340,
        xaxis={"type": "log", "title": "T", "tickvals": T},
        yaxis={"type": "log", "title": "milliseconds"},
        legend={"orientation": "h", "y": 1.12},
    )
