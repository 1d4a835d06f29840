"""The page: a title and one tab for each idea. Every tab asks the model service and nobody else."""

from __future__ import annotations

import gradio as gr

from charlm.service import ModelService
from charlm.ui import generate
from charlm.ui.theme import LAUNCH

HEADER = """
<header class="charlm-header">
  <h1>charlm</h1>
  <p>A language model guesses the next character. Watch it guess, see how it pays attention,
  and train one yourself.</p>
</header>
"""

TABS = {"Generate": generate.build}

__all__ = ["LAUNCH", "build_app"]


def build_app(service: ModelService | None = None) -> gr.Blocks:
    """The whole page, ready to `launch(**LAUNCH)`."""
    service = service or ModelService()
    with gr.Blocks(title="charlm: a character-level language model", analytics_enabled=False) as app:
        gr.HTML(HEADER, padding=False)
        with gr.Tabs():
            for title, build in TABS.items():
                with gr.Tab(title, id=title.lower()):
                    build(service)
    return app
