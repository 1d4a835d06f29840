"""The Generate tab: a prompt, a model or two, and text that appears character by character."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.sampling import Step
from charlm.service import MAX_NEW_CHARS, MAX_PROMPT_CHARS, ModelService
from charlm.tokenizer import UnknownCharacterError
from charlm.ui.parts import HELPER
from charlm.ui.theme import view

EXAMPLES = [
    "ROMEO:",
    "To be, or not to be",
    "KING RICHARD III:\nNow is the winter of",
    "First Citizen:\nBefore we proceed",
]
NOBODY = "nobody"
NO_RIVAL = ("Nobody", NOBODY)
SHOWN_ALTERNATIVES = 10
SECONDS_BETWEEN_UPDATES = 0.04
RANDOM_SEEDS = 2**31


@dataclass(frozen=True)
class GenerateTab:
    """What other tabs need of this one: the written text, the button that asks for its attention,
    and the lists of models."""

    written: gr.HTML
    carry: gr.Button
    model: gr.Dropdown
    rival: gr.Dropdown


def build(service: ModelService) -> GenerateTab:
    """Lays the tab out and connects it to `service`."""
    names = service.names()
    with gr.Row(elem_id="generate"):
        with gr.Column(elem_id="generate-ask"):
            prompt = gr.Textbox(
                EXAMPLES[0],
                label="Prompt",
                lines=3,
                max_lines=8,
                max_length=MAX_PROMPT_CHARS,
                placeholder="The model goes on from here",
                elem_id="prompt",
            )
            gr.Examples([[e] for e in EXAMPLES], [prompt], label="Try", elem_id="prompt-examples")
            with gr.Column(visible=False, elem_id="unknown") as unknown:
                complaint = gr.Markdown()
                with gr.Row():
                    drop = gr.Button("Drop them", size="sm")
                    replace = gr.Button("Replace each by a space", size="sm")
            with gr.Row():
                start = gr.Button("Generate", variant="primary", min_width=120, elem_id="start")
                stop = gr.Button("Stop", min_width=120, elem_id="stop")
        with gr.Column(elem_id="generate-settings"):
            model = gr.Dropdown(names, label="Model", info=_describe(service, names[0]), elem_id="model")
            rival = gr.Dropdown(
                [NO_RIVAL, *names],
                value=NOBODY,
                label="Side by side with",
                info="A second model continues the same prompt.",
                elem_id="rival",
            )
            temperature = gr.Slider(
                0,
                2,
                0.8,
                step=0.05,
                label="Temperature",
                info="0 plays safe, 2 goes wild.",
                elem_id="temperature",
            )
            length = gr.Slider(1, MAX_NEW_CHARS, 500, step=1, label="Characters to write", elem_id="length")
            with gr.Accordion("More settings", open=False):
                top_k = gr.Slider(
                    0, 65, 0, step=1, label="Top-k", info="Draw from the k likeliest; 0 for all."
                )
                top_p = gr.Slider(
                    0.05, 1, 1, step=0.05, label="Top-p", info="Draw from the likeliest that sum to p."
                )
                seed = gr.Number(
                    None,
                    label="Seed",
                    precision=0,
                    minimum=0,
                    info="The same seed writes the same text. Empty: a new one each time.",
                    elem_id="seed",
                )
        with gr.Column(elem_id="generate-read"):
            with gr.Row():
                written = view("text_view", elem_id="written", min_width=320)
                rival_written = view("text_view", elem_id="rival-written", min_width=320, visible=False)
            carry = gr.Button("Look at its attention →", size="sm", elem_id="carry")

    def describe(name: str) -> dict[str, Any]:
        return gr.update(info=_describe(service, name))

    def generate(
        prompt: str,
        model: str,
        rival: str,
        temperature: float,
        top_k: int,
        top_p: float,
        length: int,
        seed: int | None,
    ) -> Iterator[dict[gr.blocks.Block, Any]]:
        seed = secrets.randbelow(RANDOM_SEEDS) if seed is None else seed
        options = {
            "max_new_chars": length,
            "temperature": temperature,
            "top_k": top_k or None,
            "top_p": top_p,
            "seed": seed,
        }
        views = {written: model} | ({rival_written: rival} if rival != NOBODY else {})
        try:
            streams = {v: service.stream(name, prompt, **options) for v, name in views.items()}
        except UnknownCharacterError as error:
            yield {unknown: gr.update(visible=True), complaint: f"⚠️ {error}"}
            return
        except CharlmError as error:
            raise gr.Error(str(error), print_exception=False) from error
        texts = {v: Continuation(name, service.info(name).title, prompt, seed) for v, name in views.items()}
        visible = {unknown: gr.update(visible=False), rival_written: gr.update(visible=rival != NOBODY)}
        for shown in _updates(streams, texts):
            yield visible | {v: gr.update(value=text, visible=True) for v, text in shown.items()}
            visible = {}

    def clean(prompt: str, model: str, rival: str, replacement: str) -> str:
        for name in (model, rival):
            if name != NOBODY:
                prompt = service.get(name).tokenizer.replace_unknown(prompt, replacement)
        return prompt

    settings = [prompt, model, rival, temperature, top_k, top_p, length, seed]
    results = [written, rival_written, unknown, complaint]
    run = {"fn": generate, "inputs": settings, "outputs": results, "show_progress": "hidden"}

    model.change(describe, model, model, **HELPER)
    writing = [start.click(**run, api_name="generate")]
    for button, replacement in ((drop, ""), (replace, " ")):
        cleaned = button.click(
            lambda *args, replacement=replacement: clean(*args, replacement),
            [prompt, model, rival],
            prompt,
            **HELPER,
        )
        writing.append(cleaned.then(**run, api_visibility="private"))
    stop.click(
        None, cancels=writing, js="() => { document.dispatchEvent(new Event('charlm-stop')) }", **HELPER
    )
    return GenerateTab(written, carry, model, rival)


class Continuation:
    """What the text view shows of one model's work, growing at its end only.

    `steps` has a line of JSON for each character: itself, its probability, the likeliest
    alternatives and how many more there were. Gradio sends only what a string has grown by.
    """

    def __init__(self, model: str, title: str, prompt: str, seed: int):
        self.began = time.perf_counter()
        self.value = {
            "id": secrets.token_hex(8),
            "model": model,
            "title": title,
            "prompt": prompt,
            "seed": seed,
            "steps": "",
            "done": False,
            "seconds": 0.0,
        }

    def add(self, step: Step) -> None:
        alternatives = [[char, round(p, 4)] for char, p in step.alternatives[:SHOWN_ALTERNATIVES]]
        more = len(step.alternatives) - len(alternatives)
        line = json.dumps([step.char, round(step.prob, 4), alternatives, more])
        self.value["steps"] += line + "\n"
        self.value["seconds"] = round(time.perf_counter() - self.began, 2)

    def finish(self) -> None:
        self.value["done"] = True


def text_of(written: dict[str, Any] | None) -> str:
    """The prompt and all that was written, from the value of a text view."""
    if not written:
        return ""
    return written["prompt"] + "".join(json.loads(line)[0] for line in written["steps"].splitlines())


def _updates(
    streams: dict[gr.HTML, Iterator[Step]], texts: dict[gr.HTML, Continuation]
) -> Iterator[dict[gr.HTML, dict[str, Any]]]:
    """Advances all streams in turn; shows the first characters at once, then a few at a time."""
    shown_at = 0.0
    running = dict(streams)
    while running:
        for v, steps in list(running.items()):
            step = next(steps, None)
            if step is None:
                texts[v].finish()
                del running[v]
            else:
                texts[v].add(step)
        now = time.perf_counter()
        if now - shown_at >= SECONDS_BETWEEN_UPDATES or not running:
            shown_at = now
            yield {v: dict(text.value) for v, text in texts.items()}


def _describe(service: ModelService, name: str) -> str:
    info = service.info(name)
    return f"{info.description} {info.parameters:,} parameters, loss {info.val_loss:.2f}."
