"""The page: a title and one tab for each idea. Every tab asks the model service and nobody else."""

from __future__ import annotations

import json
import os

import gradio as gr

from charlm.service.limits import MAX_PROMPT_CHARS, MAX_TEXT_CHARS
from charlm.service.models import ModelService
from charlm.ui.api import Api
from charlm.ui.attention import tab as attention
from charlm.ui.attention.tab import AttentionTab
from charlm.ui.averaging import tab as averaging
from charlm.ui.bigram import tab as bigram
from charlm.ui.generate.routes import GenerateRoutes
from charlm.ui.generate.tab import GenerateTab
from charlm.ui.glossary import with_terms
from charlm.ui.inside import tab as inside
from charlm.ui.parts import SILENT_EVENT, Page
from charlm.ui.requests import client_of
from charlm.ui.server import serve
from charlm.ui.surgery.panel import SurgeryPanel
from charlm.ui.tabs import selecting, tab_of
from charlm.ui.tokens import tab as tokens
from charlm.ui.train.tab import TrainTab

HEADER = with_terms("""
<header class="charlm-header">
  <h1>charlm</h1>
  <p>A [[language model]] guesses the next character. Watch it guess, see how it pays [[attention]],
  look inside, and train one yourself. <a href="#tokens">Start the lecture →</a></p>
</header>
""")

REMEMBERED = {
    *("prompt", "temperature", "length"),
    *("tokens-text", "tokens-block", "tokens-batch", "tokens-seed"),
    *("bigram-temperature", "averaging-version", "averaging-T", "averaging-seed"),
    *("attention-text", "inside-text", "inside-temperature", "inside-k", "inside-p"),
    *("train-unit", "train-amount", "train-name"),
}
"""The controls whose settings survive a reload, by their elem_id."""

STORAGE_KEY = "charlm"
"""With what the browser encrypts the settings it keeps. Every page is sent it, so it hides nothing; but one
made anew at each start would make what is kept unreadable after a restart."""

MAX_QUEUED = 100
"""How many calls wait, beside the texts and the runs, which have lines of their own."""
MAX_SESSIONS = 200
"""Of how many sessions Gradio remembers what they sent and were sent. A page that is forgotten goes on: it
only draws anew what is on the screen already."""
MAX_THREADS = 200
"""How many functions of the page run at once: more than the model service lets write and wait, which tells
who waits his place in the line."""


def run() -> None:
    """Serves the page until the process is told to end. Raises `CharlmError` if that is impossible."""
    service = ModelService()
    try:
        serve(build_app(service), GenerateRoutes(service).routes, service.warm_up)
    finally:
        service.close()


def build_app(service: ModelService | None = None) -> gr.Blocks:
    """The whole page."""
    service = service or ModelService()
    # Files that pass through the page lie in a folder of this process, and are deleted within an hour.
    os.environ["GRADIO_TEMP_DIR"] = str(service.visitors.folder / "uploads")
    with gr.Blocks(
        title="charlm: a character-level language model", analytics_enabled=False, delete_cache=(1800, 1800)
    ) as app:
        gr.HTML(HEADER, padding=False)
        # What a tab holds does not live before the tab is opened: these must.
        visitor = gr.BrowserState("", storage_key="charlm-visitor-id", secret=STORAGE_KEY)
        kept = gr.BrowserState(None, storage_key="charlm-settings", secret=STORAGE_KEY)
        page = Page(service, app, visitor, gr.JSON([], visible="hidden"))
        timer = gr.Timer(1, active=False)
        gr.Timer(60).tick(service.visitors.touch, visitor, None, **SILENT_EVENT)
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            generating, attending, looking, training = _build_tabs(page, tabs, timer)
        Api(service).register()
        _welcome(page)
        _remember_settings(app, kept)
        _show_attention(generating, attending, tabs)
        for panel in (attending.panel, looking):
            _write_changed(panel, generating, tabs)
        _play_steps(training, generating, attending, looking, tabs)
        _play_rung(training, generating, tabs)
    app.state_session_capacity, app.max_threads = MAX_SESSIONS, MAX_THREADS
    return app.queue(max_size=MAX_QUEUED)


def _build_tabs(
    page: Page, tabs: gr.Tabs, timer: gr.Timer
) -> tuple[GenerateTab, AttentionTab, SurgeryPanel, TrainTab]:
    """The tabs, in the lecture's order. Returns those that lead to each other: of Inside, the panel on which
    a model is changed."""
    with tab_of(tabs, "generate"):
        generating = GenerateTab(page)
    with tab_of(tabs, "tokens") as tab:
        tokens.build(page, tab)
    with tab_of(tabs, "bigram") as tab:
        bigram.build(page, tab)
    with tab_of(tabs, "averaging") as tab:
        averaging.build(page, tab)
    with tab_of(tabs, "attention") as tab:
        attending = attention.build(page, tab)
    with tab_of(tabs, "inside") as tab:
        looking = inside.build(page, tab)
    with tab_of(tabs, "train") as tab:
        training = TrainTab(page, tab, timer)
    page.app.load(None, None, tabs, js="() => charlm.tabs.first()")
    return generating, attending, looking, training


def _welcome(page: Page) -> None:
    """Gives a newcomer a name that nobody can guess, and lists the models of whoever comes back."""

    def welcome(visitor: str, request: gr.Request) -> tuple[str, list[str]]:
        visitor = page.service.visitors.welcome(client_of(request.client.host), visitor)
        return visitor, page.service.own_names(visitor)

    page.app.load(welcome, page.visitor, [page.visitor, page.own_models], **page.unseen)


def _remember_settings(app: gr.Blocks, kept: gr.BrowserState) -> None:
    """Keeps in the browser what the controls of all tabs are set to, by their elem_id, so that it survives
    a reload. A link to a text goes before what was kept."""
    kinds = (gr.Textbox, gr.Slider, gr.Number, gr.Radio, gr.Dropdown)
    controls = [b for b in app.blocks.values() if isinstance(b, kinds) and b.elem_id in REMEMBERED]
    ids = json.dumps([control.elem_id for control in controls])
    keep = f"(...values) => [Object.fromEntries({ids}.map((id, i) => [id, values[i]]))]"
    restore = f"""(kept) => {ids}.map((id) =>
        kept && id in kept && !location.search.includes("prompt=") ? kept[id] : {{ __type__: "update" }})"""
    gr.on([c.change for c in controls], None, controls, kept, js=keep, **SILENT_EVENT)
    app.load(None, kept, controls, js=restore, **SILENT_EVENT)


SHOW_ATTENTION = f"""() => {{
    const unchanged = {{ __type__: "update" }};
    const shown = charlm.stage.shown();
    if (!shown) return [unchanged, unchanged, unchanged];
    const [text, model] = shown;
    const end = [...text].slice(-{MAX_TEXT_CHARS}).join("");
    return [end, model, {selecting("attention")}];
}}"""


def _show_attention(generating: GenerateTab, attending: AttentionTab, tabs: gr.Tabs) -> None:
    """Takes what the Generate tab wrote to the Attention tab, when its button is pressed."""
    outputs = [attending.text, attending.model, tabs]
    generating.show_attention.click(None, None, outputs, js=SHOW_ATTENTION)


WRITE_CHANGED = f"""(text, model, edits) => {{
    const base = model.split("/")[0];
    const prompt = [...text].slice(-{MAX_PROMPT_CHARS}).join("");
    const changed = charlm.surgery.named(model, edits);
    return [prompt, changed, base, charlm.surgery.seed(), {selecting("generate")}];
}}"""


def _write_changed(panel: SurgeryPanel, generating: GenerateTab, tabs: gr.Tabs) -> None:
    """Has the Generate tab write with the model that was changed on a panel, beside the one it was."""
    outputs = [generating.prompt, generating.model, generating.rival, generating.seed, tabs]
    asked = panel.view.apply(None, [panel.text, panel.model, panel.edits], outputs, js=WRITE_CHANGED)
    asked.then(None, None, None, js="() => document.querySelector('#start').click()")


PLAY_STEP = """(typed) => {
    const unchanged = { __type__: "update" };
    const { tab, model, seed } = charlm.learning.playing();
    const models = ["generate", "attention", "inside"].map((name) => (name === tab ? model : unchanged));
    const kept = tab === "generate" && !typed.trim() ? seed : unchanged;
    return [...models, kept, { __type__: "update", selected: tab }];
}"""

WRITE_STEP = """() => {
    if (charlm.learning.playing().tab === "generate") document.querySelector("#start").click();
}"""


def _play_steps(
    training: TrainTab, generating: GenerateTab, attending: AttentionTab, looking: SurgeryPanel, tabs: gr.Tabs
) -> None:
    """Has another tab play the model that a run was at a step. The Generate tab writes with it, with the same
    seed each time, so that steps can be compared."""
    outputs = [generating.model, attending.model, looking.model, generating.seed, tabs]
    asked = training.history.apply(None, generating.seed, outputs, js=PLAY_STEP)
    asked.then(None, None, None, js=WRITE_STEP)


PLAY_RUNG = f"() => [charlm.ladder.chosen(), {selecting('generate')}]"


def _play_rung(training: TrainTab, generating: GenerateTab, tabs: gr.Tabs) -> None:
    """Has the Generate tab write with the rung of the ladder that was chosen."""
    asked = training.ladder.select(None, None, [generating.model, tabs], js=PLAY_RUNG)
    asked.then(None, None, None, js="() => document.querySelector('#start').click()")
