"""What the tab shows and asks. Its script, `stage_view.js`, asks `routes.py` for texts and plays them."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr

from charlm.service.limits import MAX_NEW_CHARS, MAX_PROMPT_CHARS, MAX_SAMPLES
from charlm.ui.generate.numbers import MAX_TOP_K, asked_by_link
from charlm.ui.parts import Page, model_dropdown, notes_view
from charlm.ui.theme import view

EXAMPLES = [
    "ROMEO:",
    "To be, or not to be",
    "KING RICHARD III:\nNow is the winter of",
    "First Citizen:\nBefore we proceed",
]
NOBODY = "nobody"
WRITE = "(...asked) => { charlm.stage.write(...asked) }"
SCORE = "(...asked) => { charlm.stage.score(...asked) }"
LEAVE = "(rival) => { charlm.stage.leave(rival) }"
SET = "(...settings) => { charlm.stage.set(...settings) }"
OPEN = "(notes, ...asked) => { if (!notes.length) charlm.stage.open(...asked) }"


class GenerateTab:
    """The tab's components and what they do. Another tab may use `show_attention`, the button that asks how
    a text was written."""

    def __init__(self, page: Page):
        self.page, self.service = page, page.service
        with gr.Row(elem_id="generate"):
            with gr.Column(elem_id="generate-ask"):
                self._lay_out_prompt()
            with gr.Column(elem_id="generate-settings"):
                self._lay_out_settings(page)
            with gr.Column(elem_id="generate-read"):
                self._lay_out_result()
        self.asked = [self.prompt, self.model, self.rival, self.temperature, self.top_k, self.top_p]
        self.asked += [self.length, self.seed, self.samples]
        self._follow_links()
        self._write_when_asked()

    def _lay_out_prompt(self) -> None:
        self.prompt = gr.Textbox(
            EXAMPLES[0],
            label="Prompt",
            lines=3,
            max_lines=8,
            max_length=MAX_PROMPT_CHARS,
            placeholder="The model goes on from here",
            elem_id="prompt",
            elem_classes="mono",
        )
        gr.Examples([[e] for e in EXAMPLES], [self.prompt], label="Try", elem_id="prompt-examples")
        self.notes = notes_view(elem_id="generate-notes")
        with gr.Row():
            self.start = gr.Button("Generate", variant="primary", min_width=100, elem_id="start")
            self.score = gr.Button("Score it", min_width=100, elem_id="score")

    def _lay_out_settings(self, page: Page) -> None:
        self.temperature = gr.Slider(
            0,
            2,
            0.8,
            step=0.05,
            label="Temperature",
            info="0 repeats itself, 2 goes wild.",
            elem_id="temperature",
        )
        first = page.service.names()[0]
        self.model = model_dropdown(page, label="Model", info=self._description(first), elem_id="model")
        self.model.change(
            lambda name: gr.update(info=self._description(name)), self.model, self.model, **page.unseen
        )
        with gr.Accordion("More settings", open=False):
            self._lay_out_more(page)

    def _lay_out_more(self, page: Page) -> None:
        self.rival = model_dropdown(
            page,
            before=[("Nobody", NOBODY)],
            value=NOBODY,
            label="Side by side with",
            info="A second model continues the same prompt.",
            elem_id="rival",
        )
        self.samples = gr.Slider(
            1, MAX_SAMPLES, 1, step=1, label="Samples", info="How many texts at once.", elem_id="samples"
        )
        self.length = gr.Slider(1, MAX_NEW_CHARS, 500, step=1, label="Characters to write", elem_id="length")
        self.top_k = gr.Slider(
            0,
            MAX_TOP_K,
            0,
            step=1,
            label="Top-k",
            info="Draw from the k likeliest; 0 for all.",
            elem_id="top-k",
        )
        self.top_p = gr.Slider(
            0.05,
            1,
            1,
            step=0.05,
            label="Top-p",
            info="Draw from the likeliest that sum to p.",
            elem_id="top-p",
        )
        # No number: Gradio would make 0 of an empty one when the folded part is opened.
        self.seed = gr.Textbox(
            "",
            label="Seed",
            max_lines=1,
            info="The same seed writes the same text. Empty: a new one each time.",
            elem_id="seed",
        )

    def _description(self, name: str) -> str:
        info = self.service.find(name)
        if info is None:
            return "There is no such model here."
        told = f"{info.description} {info.parameters:,} parameters"
        if info.val_loss is None:
            return f"{told}."
        unsure = f"as unsure as among {math.exp(info.val_loss):.1f}"
        return f"{told}, loss {info.val_loss:.2f} nats per character: {unsure}."

    def _lay_out_result(self) -> None:
        view("generate/stage_view", elem_id="written", min_width=320)
        self.show_attention = gr.Button("Look at its attention →", size="sm", elem_id="show-attention")

    def _follow_links(self) -> None:
        def settings_of(request: gr.Request) -> list[Any]:
            asked, notes = asked_by_link(dict(request.query_params), self.service.shared_name)
            order = ("prompt", "model", "rival", "temperature", "top_k", "top_p", "length", "seed", "samples")
            return [notes, *(asked.get(name, gr.skip()) for name in order)]

        outputs = [self.notes, *self.asked]
        followed = self.page.app.load(settings_of, None, outputs, **self.page.unseen)
        followed.then(None, outputs, js=OPEN)

    def _write_when_asked(self) -> None:
        self.start.click(lambda: [], None, self.notes, **self.page.unseen)
        self.start.click(None, self.asked, js=WRITE)
        self.score.click(None, self.asked, js=SCORE)
        self.rival.change(None, self.rival, js=LEAVE)
        settings = [self.temperature, self.top_k, self.top_p]
        gr.on([c.change for c in settings], None, settings, js=SET)
