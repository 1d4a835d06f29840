"""The page: a title and one tab for each idea. Every tab asks the model service and nobody else."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction

from charlm.explain.attention import MAX_TEXT_CHARS
from charlm.service import ModelService
from charlm.ui import api, attention, averaging, bigram, generate, inside, tokens, train
from charlm.ui.parts import HELPER
from charlm.ui.theme import LAUNCH

HEADER = """
<header class="charlm-header">
  <h1>charlm</h1>
  <p>A language model guesses the next character. Watch it guess, see how it pays attention,
  look inside, and train one yourself.</p>
</header>
"""

REMEMBERED = {
    *("prompt", "temperature", "length"),
    *("tokens-text", "tokens-block", "tokens-batch", "tokens-seed"),
    *("bigram-temperature", "averaging-version", "averaging-T", "averaging-seed"),
    *("attention-text", "inside-text", "inside-temperature", "inside-k", "inside-p"),
    *("train-unit", "train-amount", "train-name"),
}
"""The controls whose settings survive a reload, by their elem_id."""

MAX_QUEUED = 100
"""How many calls wait, beside the texts and the runs, which have lines of their own."""

__all__ = ["LAUNCH", "build_app"]


def build_app(service: ModelService | None = None) -> gr.Blocks:
    """The whole page, ready to `launch(**LAUNCH)`."""
    service = service or ModelService()
    # Files that passed through the page are deleted within an hour.
    with _Page(
        title="charlm: a character-level language model", analytics_enabled=False, delete_cache=(1800, 1800)
    ) as app:
        gr.HTML(HEADER, padding=False)
        # What a tab holds does not live before the tab is opened: these must.
        visitor = gr.BrowserState("", storage_key="charlm-visitor")
        kept = gr.BrowserState(None, storage_key="charlm-controls")
        timer = gr.Timer(1, active=False)
        gr.Timer(60).tick(service.runs.touch, visitor, None, **HELPER)
        with gr.Tabs() as tabs:
            with gr.Tab("Generate", id="generate"):
                generating = generate.build(service, app)
            with gr.Tab("Tokens", id="tokens") as tab:
                tokens.build(service, tab)
            with gr.Tab("Bigram", id="bigram") as tab:
                bigram.build(service, tab)
            with gr.Tab("Averaging", id="averaging") as tab:
                averaging.build(tab)
            with gr.Tab("Attention", id="attention") as tab:
                looking = attention.build(service, tab)
            with gr.Tab("Inside the model", id="inside") as tab:
                inside_model = inside.build(service, tab)

            def lists(visitor: str) -> list[Any]:
                models = [(service.info(name).title, name) for name in service.names(visitor)]
                attentive = [(title, name) for title, name in models if service.info(name).has_attention]
                rivals = [generate.NO_RIVAL, *models]
                return [gr.update(choices=c) for c in (models, rivals, attentive, models)]

            with gr.Tab("Train", id="train") as tab:
                fed = [generating.model, generating.rival, looking.model, inside_model]
                train.build(service, app, tab, visitor, timer, lists, fed)
        api.build(service)
        app.load(service.warm_up, None, None, **HELPER)
        _remember_controls(app, kept)
        outputs = [looking.text, looking.model, tabs]
        generating.carry.click(_carry, generating.written, outputs, **HELPER)
    return app.queue(max_size=MAX_QUEUED)


class _Page(gr.Blocks):
    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Forgets, after each call, what Gradio would keep to reopen a page as it was: all that every
        session sent and was sent, and a call by a program is a session of its own."""
        try:
            return await super().process_api(*args, **kwargs)
        finally:
            if kwargs.get("state") is not None:
                kwargs["state"].config_values.clear()

    def validate_inputs(self, block_fn: BlockFunction, inputs: list[Any]) -> None:
        """Tells a program that calls with too few arguments in a sentence; the page never does."""
        wanted = len(block_fn.inputs)
        if len(inputs) < wanted:
            raise gr.Error(f"{wanted} arguments are needed here, not {len(inputs)}.", print_exception=False)


def _remember_controls(app: gr.Blocks, kept: gr.BrowserState) -> None:
    """Keeps in the browser what the controls of all tabs are set to, so that it survives a reload.
    A link to a text goes before what was kept."""
    kinds = (gr.Textbox, gr.Slider, gr.Number, gr.Radio, gr.Dropdown)
    controls = [b for b in app.blocks.values() if isinstance(b, kinds) and b.elem_id in REMEMBERED]
    gr.on([c.change for c in controls], None, controls, kept, js="(...values) => [values]", **HELPER)
    restore = """(kept, ...now) =>
        kept?.length === now.length && !location.search.includes("prompt=")
            ? kept : now.map(() => ({ __type__: "update" }))"""
    app.load(None, [kept, *controls], controls, js=restore, **HELPER)


def _carry(written: dict[str, Any] | None) -> tuple[Any, ...]:
    """Takes what the Generate tab wrote to the Attention tab."""
    text = generate.text_of(written)
    if written is None or not text:
        gr.Info("Generate a text first, then look at its attention.")
        return gr.skip(), gr.skip(), gr.skip()
    return text[-MAX_TEXT_CHARS:], written["model"], gr.Tabs(selected="attention")
