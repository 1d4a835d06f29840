"""Which text a run learns: Tiny Shakespeare, a file, or one that is pasted."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.service.limits import MAX_CALL_BYTES
from charlm.ui.parts import Page
from charlm.ui.train import numbers

SHAKESPEARE, FILE, PASTED = "Tiny Shakespeare", "A text file", "Pasted text"


class TextChoice:
    """The controls; `inputs` are those of `text_of`."""

    def __init__(self, page: Page):
        self.corpus = gr.Radio(
            [SHAKESPEARE, FILE, PASTED], value=SHAKESPEARE, label="Corpus", elem_id="train-corpus"
        )
        self.file = gr.File(
            label="A .txt file", file_types=[".txt"], visible=False, height=120, elem_id="train-file"
        )
        self.pasted = gr.Textbox(
            label="Your text",
            info=f"A text of more than {MAX_CALL_BYTES / 1e6:.1f} MB comes as a file.",
            lines=5,
            max_lines=10,
            visible=False,
            elem_id="train-text",
            elem_classes="mono",
        )
        self.inputs = [self.corpus, self.file, self.pasted]

        def show(corpus: str) -> tuple[Any, Any]:
            return gr.update(visible=corpus == FILE), gr.update(visible=corpus == PASTED)

        self.corpus.change(show, self.corpus, [self.file, self.pasted], **page.unseen)


def chars_of(corpus: str, file: str | None) -> int:
    """About how many characters the chosen text has. A pasted one, which would be sent whole with every
    change, counts as none: it is short and soon measured."""
    return 0 if corpus == PASTED else numbers.chars_of(file if corpus == FILE else None)


def text_of(corpus: str, file: str | None, pasted: str) -> tuple[str | None, list[str]]:
    """What to train on, None for Tiny Shakespeare, and what to say of it. Raises `CharlmError`."""
    if corpus == SHAKESPEARE:
        return None, []
    if corpus == FILE:
        return numbers.text_of(file)
    if not pasted:
        raise CharlmError("Paste a text first.")
    return pasted, []
