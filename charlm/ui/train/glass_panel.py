"""One step under the glass: where it stands on the tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.service.limits import MAX_TEXT_CHARS, check_chars
from charlm.ui.parts import SILENT_EVENT, Page, answering, code, intro, share, text_box
from charlm.ui.theme import view
from charlm.ui.train import glass

INTRO = """
## One step under the glass

Training repeats one small calculation thousands of times. Here it is done once, for the bigram table of a few
characters and a [[batch]] of two short chunks, with every number in sight: [[logits]], [[softmax]], [[loss]],
gradient, the two moments that AdamW remembers, the change of each cell. *Try:* point at a cell and read its
formulas, then take *One more step* a few times: which cells go up, and which down?
"""


def build(page: Page, tab: gr.Tab) -> None:
    """Lays the section out at the end of `tab`."""

    def ask(asked: dict[str, Any]) -> dict[str, Any]:
        check_chars("A text", asked["text"], MAX_TEXT_CHARS)
        return glass.explain(asked["text"], asked["step"])

    def one_step(asked: dict[str, Any]) -> dict[str, Any]:
        return page.service.compute(ask, asked)

    intro(INTRO)
    text = text_box(glass.TEXT, label="Text of the batch", lines=1, max_lines=2, elem_id="train-glass-text")
    shown = view(
        "train/glass_view",
        {"text": glass.TEXT},
        elem_id="train-glass",
        server_functions=[answering(one_step)],
    )
    code(glass.code())
    share(tab, text)
    gr.on([tab.select, text.change], None, text, shown, js="(text) => [{ text }]", **SILENT_EVENT)
