"""The Attention tab: every layer and head of a trained model, on the learner's own text."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.explain import attention
from charlm.explain.attention import MAX_TEXT_CHARS
from charlm.service import ModelService
from charlm.ui.parts import code, live, notes_view, text_box
from charlm.ui.theme import view

TILE_SIZE = 48
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


def build(service: ModelService, tab: gr.Tab) -> AttentionTab:
    """Lays the tab out and connects it to `service`."""
    gr.Markdown(INTRO)
    names = [name for name in service.names() if service.info(name).has_attention]
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            text = text_box("ROMEO:\nBut, soft! what light", elem_id="attention-text")
        with gr.Column(scale=1, min_width=200):
            model = gr.Dropdown(names, label="Model", elem_id="attention-model")
    notes = notes_view(elem_id="attention-notes")

    def head_maps(asked: dict[str, Any]) -> dict[str, str | None]:
        """One head's maps for the page, which asks with model, text, layer and head."""
        try:
            maps = explain(asked["model"], asked["text"])
            return one_head(maps, asked["layer"], asked["head"])
        except CharlmError as error:
            return {"error": str(error)}

    shown = view("attention_view", elem_id="attention", server_functions=[head_maps])
    code(attention.LINES)

    def explain(name: str, text: str) -> attention.AttentionMaps:
        if len(text) > MAX_TEXT_CHARS:
            raise CharlmError(f"A text may have {MAX_TEXT_CHARS:,} characters: this one has {len(text):,}.")
        return service.compute(attention.explain, service.get(name), text)

    def compute(name: str, text: str) -> tuple[dict[str, Any], list[str]]:
        maps = explain(name, text)
        return overview(name, maps), maps.notes

    live([tab.select, text.change, model.change], compute, [model, text], [shown], notes)
    return AttentionTab(text, model)


def overview(name: str, maps: attention.AttentionMaps) -> dict[str, Any]:
    """What the page draws at first: a small picture of every head, as bytes from 0 to 255."""
    n_layer, n_head, T, _ = maps.weights.shape
    everything = torch.cat((maps.weights.mean((0, 1))[None], maps.weights.flatten(0, 1)))
    if T > TILE_SIZE:
        # A tile shows the largest weight of each patch: an average would hide a thin line.
        everything = torch.nn.functional.adaptive_max_pool2d(everything, TILE_SIZE)
    return {
        "id": secrets.token_hex(8),
        "model": name,
        "text": maps.text,
        "n_layer": n_layer,
        "n_head": n_head,
        "tile_size": everything.shape[-1],
        "tiles": [_base64((255 * tile).round().to(torch.uint8)) for tile in everything],
    }


def one_head(maps: attention.AttentionMaps, layer: int, head: int) -> dict[str, str | None]:
    """The (T, T) float32 weights and raw scores of a head. Layer −1 is the average of all heads,
    which has no scores.

    Raises `CharlmError` for a head that the model lacks.
    """
    n_layer, n_head = maps.weights.shape[:2]
    if layer == -1:
        return {"weights": _base64(maps.weights.mean((0, 1))), "scores": None}
    if not (0 <= layer < n_layer and 0 <= head < n_head):
        raise CharlmError(f"There is no head {head} in layer {layer}.")
    return {"weights": _base64(maps.weights[layer, head]), "scores": _base64(maps.scores[layer, head])}


def _base64(tensor: Tensor) -> str:
    return base64.b64encode(tensor.contiguous().numpy().tobytes()).decode()
