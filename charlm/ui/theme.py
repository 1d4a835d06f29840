"""How the page looks: theme, styles and the scripts that the views share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent

# Fonts of the visitor's own system: nothing is fetched from elsewhere, so the page works offline.
SANS = ["ui-sans-serif", "system-ui", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def view(path: str, value: Any = None, **options: Any) -> gr.HTML:
    """A part of the page that draws `value` (any JSON) and redraws it on change: with the script at
    `path` beside this file, in an element whose class is the script's name."""
    script = HERE / f"{path}.js"
    return gr.HTML(
        value,
        html_template=f'<div class="charlm-view {script.stem}"></div>',
        js_on_load=script.read_text(encoding="utf-8"),
        padding=False,
        apply_default_css=False,
        **options,
    )


def styles() -> str:
    """The page's own styles, then those of each view."""
    sheets = [HERE / "charlm.css", *sorted(HERE.glob("*/*.css"))]
    return "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)


def scripts() -> str:
    """What views share, for the head of the page: what all do, then what those of a tab do."""
    others = [*sorted(HERE.glob("*.js")), *sorted(HERE.glob("*/*.js"))]
    shared = dict.fromkeys([HERE / "common.js", *(path for path in others if "_view" not in path.stem)])
    return "".join(f"<script>{path.read_text(encoding='utf-8')}</script>" for path in shared)


THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.indigo,
    secondary_hue=gr.themes.colors.amber,
    neutral_hue=gr.themes.colors.slate,
    radius_size=gr.themes.sizes.radius_lg,
    font=SANS,
    font_mono=MONO,
).set(
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_400",
    body_background_fill="#f7f7fb",
    body_background_fill_dark="#0d1018",
    block_background_fill="#ffffff",
    block_background_fill_dark="#151925",
    block_border_width="1px",
    block_border_color="#e4e6f0",
    block_border_color_dark="#262c3d",
    block_label_text_weight="600",
    block_label_text_color="*neutral_600",
    block_shadow="none",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover_dark="*primary_700",
    button_primary_text_color="#ffffff",
    input_background_fill="#ffffff",
    input_background_fill_dark="#10141f",
    input_border_width="1px",
)
