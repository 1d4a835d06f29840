"""What the tab shows and asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from charlm.service.limits import MAX_TEXT_CHARS, check_chars
from charlm.service.operated import operated_name, split_name
from charlm.ui.attention import known, numbers
from charlm.ui.attention.numbers import AttentionMaps
from charlm.ui.parts import Page, answering, code, intro, live, model_dropdown, notes_view, share, text_box
from charlm.ui.surgery.numbers import settings
from charlm.ui.surgery.panel import SurgeryPanel, edits_of, operate_from, surgery_panel
from charlm.ui.theme import view

INTRO = """
To guess what comes next, the model looks back at what came before, and for each character it decides anew
where to look. What decides is called a [[head]]; each layer has one or several. Row *i* of a head's map says
how much character *i* takes from each character: a row sums to one, and nothing lies above the diagonal,
because nobody may look into the future. *Try:* click a character of the text, then open layer 5, head 4, and
make it a plain average.
"""

STOPPED = "The heads were not measured to the end: please try again."


@dataclass(frozen=True)
class AttentionTab:
    """The controls that other tabs may fill in."""

    text: gr.Textbox
    model: gr.Dropdown
    panel: SurgeryPanel


def build(page: Page, tab: gr.Tab) -> AttentionTab:
    """Lays the tab out and connects it."""
    intro(INTRO)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            text = text_box("ROMEO:\nBut, soft! what light", elem_id="attention-text")
        with gr.Column(scale=1, min_width=200):
            model = model_dropdown(
                page, wanted=lambda info: info.has_attention, label="Model", elem_id="attention-model"
            )
    edits = edits_of(model, "attention-edits")
    notes = notes_view(elem_id="attention-notes")

    def explain(name: str, text: str) -> AttentionMaps:
        check_chars("A text", text, MAX_TEXT_CHARS)
        return numbers.explain(page.service.get(name), text)

    def head_maps(asked: dict[str, Any]) -> dict[str, Any]:
        """One head's maps for the view, which asks with model, text, layer and head."""
        maps = page.service.compute(explain, asked["model"], asked["text"])
        return numbers.one_head(maps, asked["layer"], asked["head"])

    def without(asked: dict[str, Any]) -> dict[str, Any]:
        """What becomes of a text without one of its characters, for the view: model, text and i."""
        return answer(numbers.without, asked, "i")

    def with_weight(asked: dict[str, Any]) -> dict[str, Any]:
        """What becomes of a text if one weight is set, for the view: model, text, layer, head, row, column
        and weight."""
        return answer(numbers.with_weight, asked, "layer", "head", "row", "column", "weight")

    def answer(function: Callable[..., dict[str, Any]], asked: dict[str, Any], *names: str) -> dict[str, Any]:
        check_chars("A text", asked["text"], MAX_TEXT_CHARS)
        model = page.service.get(asked["model"])
        return page.service.compute(function, model, asked["text"], *(asked[name] for name in names))

    def measure(asked: dict[str, Any]) -> dict[str, Any]:
        """Begins to measure each head of a model, for the view."""
        page.service.excerpt(asked["model"])  # What is wrong with it is told at once.
        page.service.measure_heads(asked["model"])
        return progress(asked["model"])

    def measured(asked: dict[str, Any]) -> dict[str, Any]:
        """How far that is, for the view."""
        found = progress(asked["model"])
        return found if found["known"] or found["done"] is not None else {"error": STOPPED}

    def progress(name: str) -> dict[str, Any]:
        heads = page.service.heads(name)
        return {"known": heads and known.describe(heads), "done": page.service.heads_progress(name)}

    def compute(name: str, edits: str, text: str) -> tuple[dict[str, Any], str, list[str]]:
        base, _ = split_name(name)
        changed = operated_name(name, edits)
        learned = explain(base, text)
        maps = learned if changed == base else explain(changed, text)
        model = page.service.get(changed)
        value = numbers.overview(model, learned) | {
            "base": base,
            "made": settings(page.service.get(name)),
            "settings": settings(model),
            "learned": {"model": base, **numbers.tiles(learned)},
            "changed": {"model": changed, **numbers.tiles(maps)},
            **progress(base),
        }
        return value, numbers.code(model), learned.notes

    shown = view(
        "attention/attention_view",
        elem_id="attention",
        server_functions=[answering(f) for f in (head_maps, without, with_weight, measure, measured)],
    )
    operate_from(shown, edits)
    panel = surgery_panel(page, tab, text, model, edits, "attention-surgery")
    lines = code("")
    share(tab, text)
    triggers = [tab.select, text.change, model.change, edits.change]
    live(page, triggers, compute, [model, edits, text], [shown, lines], notes, cleared=[{}, ""])
    return AttentionTab(text, model, panel)
