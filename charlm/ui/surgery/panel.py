"""What the tabs that operate on a model have in common."""

from __future__ import annotations

import gradio as gr

from charlm.ui.parts import SILENT_EVENT


def edits_of(model: gr.Dropdown, elem_id: str) -> gr.Textbox:
    """The edits that a tab makes of the chosen `model`, as text and out of sight: none of another one."""
    edits = gr.Textbox("", visible="hidden", elem_id=elem_id)
    model.change(None, None, edits, js="() => ['']", **SILENT_EVENT)
    return edits


def operate_from(view: gr.HTML, edits: gr.Textbox) -> None:
    """Has the script of `view` change `edits`: it says what it wants to `charlm.surgery` and triggers
    "select"."""
    view.select(None, edits, edits, js="(edits) => [charlm.surgery.wanted(edits)]", **SILENT_EVENT)
