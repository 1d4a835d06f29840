"""What the tabs that operate on a model have in common: its switches, what they do to its loss and its texts,
and the way to a model of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.service.limits import MAX_TEXT_CHARS, check_chars
from charlm.service.operated import operated_name, split_name
from charlm.ui.parts import SILENT_EVENT, Page, answering, notes_view
from charlm.ui.surgery import numbers
from charlm.ui.theme import view


@dataclass(frozen=True)
class SurgeryPanel:
    """What another tab needs to write with the changed model: `view` triggers "apply" when it should."""

    view: gr.HTML
    text: gr.Textbox
    model: gr.Dropdown
    edits: gr.Textbox


def edits_of(model: gr.Dropdown, elem_id: str) -> gr.Textbox:
    """The edits that a tab makes of the chosen `model`, as text and out of sight: none of another one."""
    edits = gr.Textbox("", visible="hidden", elem_id=elem_id)
    owner = f"(model) => {{ charlm.surgery.belong({json.dumps(elem_id)}, model) }}"
    kept = f"(model, edits) => [charlm.surgery.keptFor({json.dumps(elem_id)}, model, edits)]"
    edits.change(None, model, None, js=owner, **SILENT_EVENT)
    model.change(None, [model, edits], edits, js=kept, **SILENT_EVENT)
    return edits


def operate_from(view: gr.HTML, edits: gr.Textbox) -> None:
    """Has the script of `view` change `edits`: it says what it wants to `charlm.surgery` and triggers
    "select"."""
    view.select(None, edits, edits, js="(edits) => [charlm.surgery.wanted(edits)]", **SILENT_EVENT)


def surgery_panel(
    page: Page, tab: gr.Tab, text: gr.Textbox, model: gr.Dropdown, edits: gr.Textbox, elem_id: str
) -> SurgeryPanel:
    """Lays out the panel of a `tab` and connects it with the tab's text, its model and the `edits` of it."""
    service = page.service

    def describe(asked: dict[str, Any]) -> dict[str, Any]:
        """What the switches show, for the view."""
        base, before = split_name(asked["model"])
        described = service.compute(numbers.describe, service.get(base), before, asked["edits"])
        if not described:
            return {}
        changed = operated_name(asked["model"], asked["edits"])
        service.compute(service.get, changed)
        return described | {"original": base, "changed": changed}

    def effect(asked: dict[str, Any]) -> dict[str, Any]:
        """What becomes of a text, for the view."""
        check_chars("A text", asked["text"], MAX_TEXT_CHARS)
        models = service.get(asked["original"]), service.get(asked["changed"])
        return service.compute(numbers.effect, *models, asked["text"])

    def loss(asked: dict[str, Any]) -> dict[str, Any]:
        """What becomes of the loss, for the view."""
        name = asked["original"]
        return {
            "before": service.compute(service.loss, name),
            "after": service.compute(service.loss, asked["changed"]),
            "bigram": service.compute(service.bigram_loss, name),
            "excerpt": service.excerpt(name).description,
        }

    functions = [answering(function) for function in (describe, effect, loss)]
    panel = view("surgery/surgery_view", {}, elem_id=elem_id, server_functions=functions)
    notes = notes_view(elem_id=f"{elem_id}-notes")
    shown = [tab.select, text.change, model.change, edits.change]
    state = "(text, model, edits) => [{ text, model, edits }]"
    gr.on(shown, None, [text, model, edits], panel, js=state, **SILENT_EVENT)
    operate_from(panel, edits)

    def keep(visitor: str, name: str, edits: str) -> tuple[list[str], Any]:
        try:
            kept = service.keep_operated(visitor, operated_name(name, edits))
            title = service.info(kept).title
        except CharlmError as error:
            return [str(error)], gr.skip()
        return [f"Kept: it is in the list of models of every tab, as “{title}”."], service.own_names(visitor)

    panel.submit(keep, [page.visitor, model, edits], [notes, page.own_models], **SILENT_EVENT)
    gr.on([model.change, edits.change], None, None, notes, js="() => [[]]", **SILENT_EVENT)
    return SurgeryPanel(panel, text, model, edits)
