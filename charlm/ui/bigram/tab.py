"""What the tab shows and asks."""

from __future__ import annotations

from typing import Any, cast

import gradio as gr
import plotly.graph_objects as go
from torch import Tensor

from charlm.models import BigramLanguageModel
from charlm.ui.bigram import numbers
from charlm.ui.parts import Page, code, live, notes_view
from charlm.ui.plots import figure, visible
from charlm.ui.theme import view

MODEL = "bigram"
TABLES = {
    "learned": "Learned by AdamW",
    "counted": "Counted in the corpus",
    "difference": "Learned minus counted",
}
"""The heat maps by what they show, and their titles."""
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
            char = gr.Dropdown(label="Character before", elem_id="bigram-char")
            temperature = gr.Slider(0, 3, 1, step=0.05, label="Temperature", elem_id="bigram-temperature")
        with gr.Column(scale=2, min_width=300):
            following = view("bigram/bigram_view", elem_id="bigram-next")
    with gr.Row():
        plots = [gr.Plot(show_label=False, min_width=320, elem_id=f"bigram-{name}") for name in TABLES]
    code(numbers.LINES)

    def model() -> BigramLanguageModel:
        return cast(BigramLanguageModel, page.service.get(MODEL))

    def show() -> tuple[Any, ...]:
        learned, counted = numbers.tables(model())
        vocab = model().tokenizer.vocab
        tables = (learned, counted, learned - counted)
        figures = [heatmap(t, vocab, title) for t, title in zip(tables, TABLES.values(), strict=True)]
        choices = [(visible(c), c) for c in vocab]
        default = "q" if "q" in vocab else vocab[0]
        return numbers.losses(model()), gr.Dropdown(choices, value=default), *figures, []

    def follow(char: str | None, temperature: float) -> tuple[Any, ...]:
        return (numbers.next_chars(model(), char, temperature) if char else []), []

    live(page, [tab.select], show, [], [losses, char, *plots], notes)
    live(page, [char.change, temperature.change], follow, [char, temperature], [following], notes)


def heatmap(table: Tensor, vocab: str, title: str) -> go.Figure:
    """A table (vocab_size, vocab_size) of probabilities, or of differences of them."""
    labels = [visible(c) for c in vocab]
    signed = bool((table < 0).any())
    limit = table.abs().max().item()
    plot = go.Heatmap(
        z=[[round(p, 4) for p in row] for row in table.tolist()],
        colorscale=_colours(signed),
        zmin=-limit if signed else 0,
        zmax=limit,
        hovertemplate="after %{customdata[0]} comes %{customdata[1]}: %{z:.1%}<extra></extra>",
        customdata=[[[a, b] for b in labels] for a in labels],
        colorbar={"tickformat": ".0%", "thickness": 10},
    )
    ticks = {"tickvals": list(range(0, len(labels), 4)), "ticktext": labels[::4]}
    return figure(
        [plot],
        title,
        height=420,
        xaxis={"title": "after", **ticks},
        yaxis={"title": "before", "autorange": "reversed", **ticks},
    )


def _colours(signed: bool) -> list[list[Any]]:
    if signed:
        return [[0, "rgb(230,115,20)"], [0.5, "rgba(128,128,128,0)"], [1, "rgb(79,70,229)"]]
    return [[0, "rgba(79,70,229,0)"], [0.15, "rgba(99,90,235,.5)"], [1, "rgb(79,70,229)"]]
