"""What the tab shows and asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.service.limits import MAX_TEXT_CHARS, check_chars
from charlm.ui.attention import numbers
from charlm.ui.attention.numbers import AttentionMaps
from charlm.ui.parts import Page, code, live, model_dropdown, notes_view, text_box
from charlm.ui.theme import view

INTRO = """
Each **head** of each layer lets every character look back: row *i* of a map says how much character *i*
takes from each character before it. Rows sum to one, and nothing lies above the diagonal, because nobody
may look into the future. *Try:* open a head that draws a clear line, then point at a character of the text.
"""


@dataclass(frozen=True)
class AttentionTab:
    """The controls that other tabs may fill in."""

    text: gr.Textbox
    model: gr.Dropdown


def build(page: Page, tab: gr.Tab) -> AttentionTab:
    """Lays the tab out and connects it."""
    gr.Markdown(INTRO)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            text = text_box("ROMEO:\nBut, soft! what light", elem_id="attention-text")
        with gr.Column(scale=1, min_width=200):
            model = model_dropdown(
                page, wanted=lambda info: info.has_attention, label="Model", elem_id="attention-model"
            )
    notes = notes_view(elem_id="attention-notes")

    def explain(name: str, text: str) -> AttentionMaps:
        check_chars("A text", text, MAX_TEXT_CHARS)
        return numbers.explain(page.service.get(name), text)

    def head_maps(asked: dict[str, Any]) -> dict[str, str | None]:
        """One head's maps for the view, which asks with model, text, layer and head."""
        try:
            maps = page.service.compute(explain, asked["model"], asked["text"])
            return numbers.one_head(maps, asked["layer"], asked["head"])
        except CharlmError as error:
            return {"error": str(error)}

    def compute(name: str, text: str) -> tuple[dict[str, Any], list[str]]:
        maps = explain(name, text)
        return numbers.overview(name, maps), maps.notes

    shown = view("attention/attention_view", elem_id="attention", server_functions=[head_maps])
    code(numbers.LINES)
    live(page, [tab.select, text.change, model.change], compute, [model, text], [shown], notes)
    return AttentionTab(text, model)
