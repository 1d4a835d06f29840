"""What the tab shows and asks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from charlm.service.limits import MAX_TEXT_CHARS, check_chars
from charlm.service.operated import operated_name, split_name
from charlm.ui.inside import comparing, neurons, numbers
from charlm.ui.parts import (
    SILENT_EVENT,
    Page,
    answering,
    code,
    intro,
    live,
    model_dropdown,
    notes_view,
    share,
    text_box,
)
from charlm.ui.surgery.numbers import settings
from charlm.ui.surgery.panel import SurgeryPanel, edits_of, operate_from, surgery_panel
from charlm.ui.theme import view

INTRO = """
This is the way from your text to a guess at its next character. Only one character's way is shown, the
last one's or that of the one you click: through each part of the model, until there is a score for every
character that might come next. [[softmax|Softmax]] makes probabilities of these scores, the [[logits]].
Top-k and top-p cut some off, and one character is drawn from the rest. *Try:* click a character in the
middle of a word, then one at its beginning: where is the model surer? Then lower the [[temperature]].
"""


def build(page: Page, tab: gr.Tab) -> SurgeryPanel:
    """Lays the tab out and connects it."""
    intro(INTRO)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            text = text_box("My noble lord, I would not spea", elem_id="inside-text")
        with gr.Column(scale=1, min_width=200):
            model = model_dropdown(page, label="Model", elem_id="inside-model")
    edits = edits_of(model, "inside-edits")
    notes = notes_view(elem_id="inside-notes")
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            network = view("inside/network_view", elem_id="inside-network")
        with gr.Column(scale=2, min_width=320, elem_id="inside-sampler"):
            gr.Markdown("## What remains to draw from")
            temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature", elem_id="inside-temperature")
            top_k = gr.Slider(0, 65, 0, step=1, label="Top-k (0: all)", elem_id="inside-k")
            top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", elem_id="inside-p")
            drawn = view("inside/candidates_view", elem_id="inside-candidates")
    panel = surgery_panel(page, tab, text, model, edits, "inside-surgery")
    neurons_shown = _neurons(page)
    compared = _comparison(page)
    lines = code("")
    # How many characters of the text stand behind the one whose way is shown.
    behind = gr.Number(0, precision=0, visible="hidden", elem_id="inside-behind")
    share(tab, text)
    moved = [tab.select, text.change, network.input]
    gr.on(moved, None, None, behind, js="() => [charlm.thread.behind()]", **SILENT_EVENT)
    operate_from(network, edits)
    operate_from(neurons_shown, edits)

    def compute(
        name: str, edits: str, text: str, behind: int, temperature: float, top_k: int, top_p: float
    ) -> tuple[Any, ...]:
        check_chars("A text", text, MAX_TEXT_CHARS)
        made = settings(page.service.get(name))
        name, edits = split_name(operated_name(name, edits))
        m = page.service.get(operated_name(name, edits))
        read, logits, notes = numbers.lens(m, text, behind)
        before = numbers.lens(page.service.get(name), text, behind)[1] if edits else None
        path = {
            "read": read,
            "place": numbers.place_of(read, behind),
            "came": numbers.came(m, read, behind, logits[-1]),
            "story": numbers.story(m),
            "parts": numbers.path(m, len(read), logits, before, edits),
            "changed": bool(edits),
            "made": made,
            "total": m.parameter_count(),
            "vocab_size": m.config.vocab_size,
        }
        candidates = numbers.candidates(m, logits[-1], temperature, int(top_k) or None, top_p)
        which = {"model": name, "edits": edits, "made": made}
        at_neurons = neurons.section(m) | which | {"text": read, "behind": behind}
        return path, candidates, at_neurons, comparing.section(m) | which, numbers.code(m), notes

    inputs = [model, edits, text, behind, temperature, top_k, top_p]
    triggers = [tab.select, *(c.change for c in inputs)]
    outputs = [network, drawn, neurons_shown, compared, lines]
    live(page, triggers, compute, inputs, outputs, notes, cleared=[{}, [], {}, {}, ""])
    return panel


def _neurons(page: Page) -> gr.HTML:
    """The neurons of a block; the view asks for them with model, edits, text, behind, layer, neuron, held."""

    def ask(asked: dict[str, Any]) -> dict[str, Any]:
        edits, layer = asked["edits"], asked["layer"]
        check_chars("A text", asked["text"], MAX_TEXT_CHARS)

        def explain(edits: str, neuron: int | None, held: float | None) -> dict[str, Any]:
            model = page.service.get(operated_name(asked["model"], edits))
            return neurons.explain(model, asked["text"], asked["behind"], layer, neuron, held)

        found = explain(edits, asked["neuron"], asked["held"])
        off, chosen = neurons.switched_off(edits, layer), found["chosen"]["neuron"]
        if chosen in off:
            # What it did is known of the model in which it is on.
            found = explain(neurons.without(edits, layer, chosen), chosen, 0)
        return found | {"off": off, "mlp_off": neurons.is_mlp_off(edits, layer)}

    def neurons_of(asked: dict[str, Any]) -> dict[str, Any]:
        return page.service.compute(ask, asked)

    return view("inside/neurons_view", {}, elem_id="inside-neurons", server_functions=[answering(neurons_of)])


def _comparison(page: Page) -> gr.HTML:
    """Two texts; the view asks for them with model, edits, first and second, and maybe layer and position."""

    def ask(asked: dict[str, Any]) -> dict[str, Any]:
        model = page.service.get(operated_name(asked["model"], asked["edits"]))
        if "layer" not in asked:
            return comparing.compare(model, asked["first"], asked["second"])
        return comparing.compare_cell(
            model, asked["first"], asked["second"], asked["layer"], asked["position"]
        )

    def compare(asked: dict[str, Any]) -> dict[str, Any]:
        return page.service.compute(ask, asked)

    return view("inside/patching_view", {}, elem_id="inside-patching", server_functions=[answering(compare)])
