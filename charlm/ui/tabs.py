"""The tabs of the page: their order, their addresses, and the way from each to the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

TITLES = {
    "generate": "Generate",
    "tokens": "Tokens",
    "bigram": "Bigram",
    "averaging": "Averaging",
    "attention": "Attention",
    "inside": "Inside the model",
    "train": "Train",
}
"""By its name in the address, after `#`, the title of each tab, in the lecture's order."""


@contextmanager
def tab_of(tabs: gr.Tabs, name: str) -> Iterator[gr.Tab]:
    """A tab of `tabs`, which ends with a button that leads to the next."""
    with gr.Tab(TITLES[name], id=name, elem_id=f"tab-{name}") as tab:
        yield tab
        names = [*TITLES, None]
        following = names[names.index(name) + 1]
        if following is not None:
            button = gr.Button(f"Next: {TITLES[following]} →", size="sm", elem_classes="next")
            button.click(None, None, tabs, js=f"() => ({selecting(following)})")
    tab.select(None, None, None, js=f"() => charlm.tabs.opened({json.dumps(name)})")


def selecting(name: str) -> str:
    """The JavaScript of the value by which an event opens the tab `name`."""
    return json.dumps({"__type__": "update", "selected": name})
