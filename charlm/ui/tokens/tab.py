"""What the tab shows and asks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.corpus import TINY_SHAKESPEARE_VOCAB
from charlm.tokenizer import CharTokenizer
from charlm.ui.parts import (
    SPEECH,
    Page,
    code,
    intro,
    live,
    model_dropdown,
    notes_view,
    share,
    text_box,
)
from charlm.ui.theme import view
from charlm.ui.tokens import numbers

SHAKESPEARE, OWN = "Tiny Shakespeare's 65 characters", "the characters of this text"
MODELS = "a model's characters"
SHAKESPEARES = CharTokenizer(TINY_SHAKESPEARE_VOCAB)
INTRO = """
What does a model read? Numbers, one for each character.

The number of a character is its **id**: its place in the sorted [[vocabulary]]. The text is
[[split]] into a part to learn from and a part to be tested on; training reads random **chunks** of the
first, a [[batch]] at a time. Larger models read pieces of words instead of characters: both are called
[[token|tokens]]. *Try:* point at a cell of **y** and see what the model may look at to predict it.
"""


def build(page: Page, tab: gr.Tab) -> None:
    """Lays the tab out and connects it."""
    intro(INTRO)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            text = text_box(SPEECH, elem_id="tokens-text")
        with gr.Column(scale=2, min_width=300):
            vocabulary = gr.Radio(
                [SHAKESPEARE, OWN, MODELS], value=SHAKESPEARE, label="Vocabulary", elem_id="tokens-vocabulary"
            )
            model = model_dropdown(page, label="Model", visible=False, elem_id="tokens-model")
    with gr.Row():
        block_size = gr.Slider(1, 32, 8, step=1, label="block_size", min_width=160, elem_id="tokens-block")
        batch_size = gr.Slider(1, 8, 4, step=1, label="batch_size", min_width=160, elem_id="tokens-batch")
        seed = gr.Slider(0, 9999, 1337, step=1, label="seed", min_width=160, elem_id="tokens-seed")
    notes = notes_view(elem_id="tokens-notes")
    shown = view("tokens/tokens_view", elem_id="tokens")
    code(numbers.LINES)

    def tokenizer_of(vocabulary: str, model: str, text: str) -> CharTokenizer:
        if vocabulary == MODELS:
            return page.service.get(model).tokenizer
        return CharTokenizer.from_text(text) if vocabulary == OWN and text else SHAKESPEARES

    def compute(
        text: str, vocabulary: str, model: str, block_size: int, batch_size: int, seed: int
    ) -> tuple[dict[str, Any], list[str]]:
        tokenizer = tokenizer_of(vocabulary, model, text)
        explained = numbers.explain(text, tokenizer, int(batch_size), int(block_size), int(seed))
        return explained, explained["notes"]

    share(tab, text)
    inputs = [text, vocabulary, model, block_size, batch_size, seed]
    live(page, [tab.select, *(c.change for c in inputs)], compute, inputs, [shown], notes)
    vocabulary.change(lambda v: gr.update(visible=v == MODELS), vocabulary, model, **page.unseen)
