"""How the page looks: theme, styles and the scripts that the views share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from charlm.ui.guard import MAX_UPLOAD_BYTES, Guard

ASSETS = Path(__file__).parent / "assets"

# Fonts of the visitor's own system: nothing is fetched from elsewhere, so the page works offline.
SANS = ["ui-sans-serif", "system-ui", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def asset(name: str) -> str:
    """The text of a file beside this one, under assets/."""
    return (ASSETS / name).read_text(encoding="utf-8")


def view(name: str, value: Any = None, **options: Any) -> gr.HTML:
    """A part of the page that draws `value` (any JSON) with assets/NAME.js, and redraws on change."""
    return gr.HTML(
        value,
        html_template=f'<div class="charlm-view {name}"></div>',
        js_on_load=asset(f"{name}.js"),
        padding=False,
        apply_default_css=False,
        **options,
    )


THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.indigo,
    secondary_hue=gr.themes.colors.amber,
    neutral_hue=gr.themes.colors.slate,
    radius_size=gr.themes.sizes.radius_lg,
    font=SANS,
    font_mono=MONO,
).set(
    body_text_color_subdued="*neutral_500",
    block_info_text_color="*neutral_500",
    body_background_fill="#f7f7fb",
    body_background_fill_dark="#0d1018",
    block_background_fill="#ffffff",
    block_background_fill_dark="#151925",
    block_border_width="1px",
    block_border_color="#e4e6f0",
    block_border_color_dark="#262c3d",
    block_label_text_weight="600",
    block_shadow="none",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_500",
    button_primary_background_fill_hover_dark="*primary_400",
    button_primary_text_color="#ffffff",
    input_background_fill="#ffffff",
    input_background_fill_dark="#10141f",
    input_border_width="1px",
)

LAUNCH: dict[str, Any] = {
    "theme": THEME,
    "css": asset("charlm.css"),
    "head": f"<script>{asset('common.js')}</script>",
    "footer_links": ["api"],
    "mcp_server": True,
    "max_file_size": MAX_UPLOAD_BYTES,
    # Above what the model service lets write and wait: it tells who waits his place in the line.
    "max_threads": 200,
    "run_history": False,
    "app_kwargs": {"middleware": [Middleware(Guard)]},
}
"""What `launch` needs besides the app itself."""
