"""Where a model that was trained is taken home, or brought back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from charlm.errors import CharlmError
from charlm.service.limits import MAX_NAME_CHARS
from charlm.training.excerpt import MAX_CHARS
from charlm.ui.parts import Page


class Keeping:
    """The controls and what they do; what could not be done is told in `notes`."""

    def __init__(self, page: Page, notes: gr.HTML):
        self.page, self.service, self.notes = page, page.service, notes
        with gr.Accordion("Keep it, or bring one back", open=False):
            self._lay_out_download()
            self._lay_out_upload()

    def _lay_out_download(self) -> None:
        gr.Markdown(
            f"A model's zip holds up to {MAX_CHARS:,} characters of its text, by which changes are measured."
        )
        pack = gr.Button("Prepare the download", size="sm", elem_id="train-pack")
        download = gr.DownloadButton("Download the zip", visible=False, size="sm", elem_id="train-download")

        def prepare(visitor: str) -> Any:
            own = self.service.own_names(visitor)
            if not own:
                gr.Info("Train a model first.")
                return gr.skip()
            try:
                packed = self.service.compute(self.service.pack, own[0])
                return gr.DownloadButton(value=str(packed), visible=True)
            except CharlmError as error:
                raise gr.Error(str(error), print_exception=False) from error

        pack.click(prepare, self.page.visitor, download, **self.page.unseen)

    def _lay_out_upload(self) -> None:
        visitor, outputs = self.page.visitor, [self.notes, self.page.own_models]
        bring = gr.File(
            label="A model's zip, from here", file_types=[".zip"], height=120, elem_id="train-bring"
        )
        address = gr.Textbox(
            label="A model on the Hugging Face Hub",
            placeholder="USER/MODEL, or the address of its page",
            max_length=300,
            elem_id="train-hub",
        )
        fetch = gr.Button("Bring it here", size="sm", elem_id="train-fetch")
        bring.upload(self.bring_back, [visitor, bring], outputs, **self.page.unseen)
        fetch.click(self.bring_from_hub, [visitor, address], outputs, **self.page.unseen)

    def bring_back(self, visitor: str, path: str | None) -> list[Any]:
        """Makes an uploaded model the visitor's own; the upload is deleted."""
        if path is None:
            return [gr.skip(), gr.skip()]
        try:
            title = Path(path).stem[:MAX_NAME_CHARS]
            return self._add(visitor, lambda: self.service.add_zip(visitor, title, Path(path)))
        finally:
            Path(path).unlink(missing_ok=True)

    def bring_from_hub(self, visitor: str, address: str) -> list[Any]:
        """Makes a public model on the Hub the visitor's own."""
        return self._add(visitor, lambda: self.service.add_from_hub(visitor, address))

    def _add(self, visitor: str, add: Callable[[], str]) -> list[Any]:
        try:
            add()
        except CharlmError as error:
            return [[str(error)], gr.skip()]
        return [
            ["The model is here: find it in the model lists of the other tabs."],
            self.service.own_names(visitor),
        ]
