"""The ladder: where it stands on the tab."""

from __future__ import annotations

import gradio as gr

from charlm.training.ladder import load_ladder
from charlm.ui.theme import view
from charlm.ui.train import ladder


def build() -> gr.HTML:
    """Lays the ladder out, if there is one. Its script tells `charlm.ladder` which rung is chosen, and then
    triggers "click" to have it trained again, and "select" to have it written with."""
    known = load_ladder()
    shown = {"rungs": ladder.picture(known), "summary": ladder.summary(known)}
    return view("train/ladder_view", shown, elem_id="train-ladder")
