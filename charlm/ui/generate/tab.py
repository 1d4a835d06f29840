"""What the tab shows and asks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import gradio as gr

from charlm.engine.sampling import SamplingOptions
from charlm.errors import CharlmError
from charlm.service.batching import Stream, follow
from charlm.service.limits import MAX_NEW_CHARS, MAX_PROMPT_CHARS
from charlm.tokenizer import UnknownCharacterError
from charlm.ui.generate.numbers import MAX_TOP_K, Continuation, asked_by_link
from charlm.ui.parts import SILENT_EVENT, Page, model_dropdown, notes_view
from charlm.ui.requests import client_of
from charlm.ui.theme import view

EXAMPLES = [
    "ROMEO:",
    "To be, or not to be",
    "KING RICHARD III:\nNow is the winter of",
    "First Citizen:\nBefore we proceed",
]
NOBODY = "nobody"
SECONDS_BETWEEN_UPDATES = 0.05
RANDOM_SEEDS = 2**31
START_IF_LINKED = """(notes) => {
    if (location.search.includes("prompt=") && !notes.length) document.querySelector("#start").click();
}"""
SAY_STOPPED = "() => { document.dispatchEvent(new Event('charlm-stop')) }"


class GenerateTab:
    """The tab's components and what they do. Another tab may use `written`, what the model wrote, and
    `show_attention`, the button that asks to see how."""

    def __init__(self, page: Page):
        self.service = page.service
        with gr.Row(elem_id="generate"):
            with gr.Column(elem_id="generate-ask"):
                self._lay_out_prompt()
            with gr.Column(elem_id="generate-settings"):
                self._lay_out_settings(page)
            with gr.Column(elem_id="generate-read"):
                self._lay_out_result()
        self.settings = [self.model, self.temperature, self.top_k, self.top_p, self.length, self.seed]
        self._follow_links(page.app)
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
        with gr.Column(visible=False, elem_id="unknown") as self.unknown:
            self.complaint = notes_view()
            with gr.Row():
                self.drop = gr.Button("Drop them", size="sm")
                self.replace = gr.Button("Replace each by a space", size="sm")
        with gr.Row():
            self.start = gr.Button("Generate", variant="primary", min_width=120, elem_id="start")
            self.stop = gr.Button("Stop", min_width=120, elem_id="stop")

    def _lay_out_settings(self, page: Page) -> None:
        first = page.service.names()[0]
        self.model = model_dropdown(page, label="Model", info=self._description(first), elem_id="model")
        self.model.change(
            lambda name: gr.update(info=self._description(name)), self.model, self.model, **SILENT_EVENT
        )
        self.rival = model_dropdown(
            page,
            before=[("Nobody", NOBODY)],
            value=NOBODY,
            label="Side by side with",
            info="A second model continues the same prompt.",
            elem_id="rival",
        )
        self.temperature = gr.Slider(
            0,
            2,
            0.8,
            step=0.05,
            label="Temperature",
            info="0 plays safe, 2 goes wild.",
            elem_id="temperature",
        )
        self.length = gr.Slider(1, MAX_NEW_CHARS, 500, step=1, label="Characters to write", elem_id="length")
        with gr.Accordion("More settings", open=False):
            self.top_k = gr.Slider(
                0, MAX_TOP_K, 0, step=1, label="Top-k", info="Draw from the k likeliest; 0 for all."
            )
            self.top_p = gr.Slider(
                0.05, 1, 1, step=0.05, label="Top-p", info="Draw from the likeliest that sum to p."
            )
            self.seed = gr.Number(
                None,
                label="Seed",
                precision=0,
                minimum=0,
                info="The same seed writes the same text. Empty: a new one each time.",
                elem_id="seed",
            )

    def _description(self, name: str) -> str:
        info = self.service.find(name)
        if info is None:
            return "There is no such model here."
        return f"{info.description} {info.parameters:,} parameters, loss {info.val_loss:.2f}."

    def _lay_out_result(self) -> None:
        with gr.Row():
            self.written = view("generate/text_view", elem_id="written", min_width=320)
            self.rival_written = view(
                "generate/text_view", elem_id="rival-written", min_width=320, visible=False
            )
        self.show_attention = gr.Button("Look at its attention →", size="sm", elem_id="show-attention")

    def _follow_links(self, app: gr.Blocks) -> None:
        def settings_of(request: gr.Request) -> list[Any]:
            asked, notes = asked_by_link(dict(request.query_params), self.service.names())
            order = ("prompt", "model", "temperature", "top_k", "top_p", "length", "seed")
            return [notes, *(asked.get(name, gr.skip()) for name in order)]

        followed = app.load(settings_of, None, [self.notes, self.prompt, *self.settings], **SILENT_EVENT)
        followed.then(None, self.notes, js=START_IF_LINKED)

    def _write_when_asked(self) -> None:
        # Not Gradio's queue but the model service decides who writes at once and who waits.
        run: dict[str, Any] = {
            "fn": self.write,
            "inputs": [self.prompt, self.rival, *self.settings],
            "outputs": [self.written, self.rival_written, self.notes, self.unknown, self.complaint],
            "show_progress": "hidden",
            "concurrency_limit": None,
            "api_visibility": "private",
        }
        writing = [self.start.click(**run)]
        for button, replacement in ((self.drop, ""), (self.replace, " ")):
            cleaned = button.click(
                partial(self.clean, replacement),
                [self.prompt, self.model, self.rival],
                self.prompt,
                **SILENT_EVENT,
            )
            writing.append(cleaned.then(**run))
        self.stop.click(None, cancels=writing, js=SAY_STOPPED, **SILENT_EVENT)

    def clean(self, replacement: str, prompt: str, *names: str) -> str:
        """`prompt`, with each character that one of the models does not know replaced."""
        for name in names:
            if name != NOBODY:
                model = self.service.compute(self.service.get, name)
                prompt = model.tokenizer.replace_unknown(prompt, replacement)
        return prompt

    async def write(
        self,
        prompt: str,
        rival: str,
        model: str,
        temperature: float,
        top_k: int,
        top_p: float,
        length: int,
        seed: int | None,
        request: gr.Request,
    ) -> AsyncIterator[dict[gr.blocks.Block, Any]]:
        """Has the model, and its rival if there is one, continue the prompt."""
        views = {self.written: model} | ({self.rival_written: rival} if rival != NOBODY else {})
        asked: dict[str, float] = {
            "temperature": temperature,
            "top_k": int(top_k),
            "top_p": top_p,
            "length": int(length),
            "seed": secrets.randbelow(RANDOM_SEEDS) if seed is None else seed,
        }
        client = client_of(request.client.host)
        streams: list[Stream] = []
        try:
            options = SamplingOptions(int(length), temperature, int(top_k) or None, top_p, int(asked["seed"]))
            for name in views.values():
                begun = self.service.submit(self.service.stream, name, prompt, options, client)
                streams.append(await asyncio.wrap_future(begun))
            shared = self.service.names()
            texts = [
                Continuation(name, self.service.info(name).title, name in shared, prompt, asked)
                for name in views.values()
            ]
            yield {
                self.notes: [],
                self.unknown: gr.update(visible=False),
                self.rival_written: gr.update(visible=rival != NOBODY),
            }
            async for news in follow(streams, SECONDS_BETWEEN_UPDATES):
                for text, fresh in zip(texts, news, strict=True):
                    text.add(fresh)
                yield {v: dict(text.value) for v, text in zip(views, texts, strict=True)}
        except UnknownCharacterError as error:
            yield {self.unknown: gr.update(visible=True), self.complaint: [str(error)]}
        except CharlmError as error:
            raise gr.Error(str(error), print_exception=False) from error
        finally:
            for stream in streams:
                stream.close()
