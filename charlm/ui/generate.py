"""The Generate tab: a prompt, a model or two, and text that appears character by character."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from charlm.batching import Stream
from charlm.errors import CharlmError
from charlm.sampling import MAX_SEED, SamplingOptions, Step
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
MAX_TOP_K = 65
LINKED: dict[str, tuple[Callable[[str], float], float, float]] = {
    "temperature": (float, 0, 2),
    "top_k": (int, 0, MAX_TOP_K),
    "top_p": (float, 0.05, 1),
    "length": (int, 1, MAX_NEW_CHARS),
    "seed": (int, 0, MAX_SEED),
}
"""What a link may set besides prompt and model: the type of each, its least and its greatest value."""
SHOWN_ALTERNATIVES = 10
SECONDS_BETWEEN_LOOKS = 0.005
SECONDS_BETWEEN_UPDATES = 0.05
RANDOM_SEEDS = 2**31


@dataclass(frozen=True)
class GenerateTab:
    """What other tabs need of this one: the written text, the button that asks for its attention,
    and the lists of models."""

    written: gr.HTML
    carry: gr.Button
    model: gr.Dropdown
    rival: gr.Dropdown


def build(service: ModelService, app: gr.Blocks) -> GenerateTab:
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
                    0, MAX_TOP_K, 0, step=1, label="Top-k", info="Draw from the k likeliest; 0 for all."
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

    async def write(
        prompt: str,
        model: str,
        rival: str,
        temperature: float,
        top_k: int,
        top_p: float,
        length: int,
        seed: int | None,
    ) -> AsyncIterator[dict[gr.blocks.Block, Any]]:
        seed = secrets.randbelow(RANDOM_SEEDS) if seed is None else seed
        views = {written: model} | ({rival_written: rival} if rival != NOBODY else {})
        streams: dict[gr.HTML, Stream] = {}
        try:
            options = SamplingOptions(int(length), temperature, int(top_k) or None, top_p, seed)
            for v, name in views.items():
                streams[v] = await asyncio.to_thread(service.stream, name, prompt, options)
            asked = {
                "temperature": temperature,
                "top_k": int(top_k),
                "top_p": top_p,
                "length": int(length),
                "seed": seed,
            }
            texts = {
                v: Continuation(name, service.info(name).title, prompt, asked) for v, name in views.items()
            }
            visible = {unknown: gr.update(visible=False), rival_written: gr.update(visible=rival != NOBODY)}
            async for shown in _updates(streams, texts):
                yield visible | {v: gr.update(value=text, visible=True) for v, text in shown.items()}
                visible = {}
        except UnknownCharacterError as error:
            yield {unknown: gr.update(visible=True), complaint: f"⚠️ {error}"}
        except CharlmError as error:
            raise gr.Error(str(error), print_exception=False) from error
        finally:
            for stream in streams.values():
                stream.close()

    def clean(replacement: str, prompt: str, model: str, rival: str) -> str:
        for name in (model, rival):
            if name != NOBODY:
                prompt = service.get(name).tokenizer.replace_unknown(prompt, replacement)
        return prompt

    def follow_link(request: gr.Request) -> list[Any]:
        """The settings that the address of the page asks for; what makes no sense there is left out."""
        asked = dict(request.query_params)
        updates: list[Any] = [asked["prompt"][:MAX_PROMPT_CHARS] if "prompt" in asked else gr.skip()]
        updates.append(asked["model"] if asked.get("model") in service.names() else gr.skip())
        for name, (kind, least, most) in LINKED.items():
            try:
                value = kind(asked[name])
            except (KeyError, ValueError):
                value = None
            updates.append(value if value is not None and least <= value <= most else gr.skip())
        return updates

    settings = [prompt, model, rival, temperature, top_k, top_p, length, seed]
    results = [written, rival_written, unknown, complaint]
    # Not Gradio's queue but the model service decides who writes at once and who waits.
    run = {"fn": write, "inputs": settings, "outputs": results, "show_progress": "hidden"}
    run |= {"concurrency_limit": None, "api_visibility": "private"}

    linked = [prompt, model, temperature, top_k, top_p, length, seed]
    app.load(follow_link, None, linked, **HELPER).then(
        None, js="() => { if (location.search.includes('prompt=')) document.querySelector('#start').click() }"
    )
    model.change(describe, model, model, **HELPER)
    writing = [start.click(**run)]
    for button, replacement in ((drop, ""), (replace, " ")):
        cleaned = button.click(
            partial(clean, replacement),
            [prompt, model, rival],
            prompt,
            **HELPER,
        )
        writing.append(cleaned.then(**run))
    stop.click(
        None, cancels=writing, js="() => { document.dispatchEvent(new Event('charlm-stop')) }", **HELPER
    )
    return GenerateTab(written, carry, model, rival)


class Continuation:
    """What the text view shows of one model's work, growing at its end only.

    `steps` has a line of JSON for each character: itself, its probability, the likeliest
    alternatives and how many more there were. Gradio sends only what a string has grown by.
    """

    def __init__(self, model: str, title: str, prompt: str, settings: dict[str, float]):
        self.began = time.perf_counter()
        self.value: dict[str, Any] = {
            "id": secrets.token_hex(8),
            "model": model,
            "title": title,
            "prompt": prompt,
            "settings": settings,
            "steps": "",
            "place": 0,
            "done": False,
            "seconds": 0.0,
        }

    def add(self, steps: list[Step]) -> None:
        lines = []
        for step in steps:
            likeliest = [[char, round(p, 4)] for char, p in step.alternatives[:SHOWN_ALTERNATIVES]]
            more = len(step.alternatives) - len(likeliest)
            lines.append(json.dumps([step.char, round(step.prob, 4), likeliest, more]) + "\n")
        self.value["steps"] += "".join(lines)
        self.value["seconds"] = round(time.perf_counter() - self.began, 2)


def text_of(written: dict[str, Any] | None) -> str:
    """The prompt and all that was written, from the value of a text view."""
    if not written:
        return ""
    return written["prompt"] + "".join(json.loads(line)[0] for line in written["steps"].splitlines())


async def _updates(
    streams: dict[gr.HTML, Stream], texts: dict[gr.HTML, Continuation]
) -> AsyncIterator[dict[gr.HTML, dict[str, Any]]]:
    """What there is to show: the first characters at once, then a few at a time.

    Raises `CharlmError` if writing fails.
    """
    waiting = set(streams)
    while not all(text.value["done"] for text in texts.values()):
        changed = False
        for v, stream in streams.items():
            closed, place, steps = stream.closed, stream.place, stream.take()
            if steps or place != texts[v].value["place"]:
                waiting.discard(v)
                texts[v].value["place"] = place
                texts[v].add(steps)
                changed = True
            if closed and not steps and not texts[v].value["done"]:
                texts[v].value["done"] = changed = True
        if changed:
            yield {v: dict(text.value) for v, text in texts.items()}
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS if waiting else SECONDS_BETWEEN_UPDATES)


def _describe(service: ModelService, name: str) -> str:
    info = service.info(name)
    return f"{info.description} {info.parameters:,} parameters, loss {info.val_loss:.2f}."
