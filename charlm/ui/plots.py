"""Plotly figures in the page's style, readable on light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

INK = "#7c86a2"
"""Grey that can be read on white and on black."""
PALETTE = ["#4f46e5", "#e67314", "#0f9d8a"]
"""Indigo, orange and teal: told apart with any colour vision."""


def visible(char: str) -> str:
    """A character as it can be seen: spaces and line breaks get a sign."""
    return {" ": "␣", "\n": "↵", "\t": "⇥"}.get(char, char)


def figure(traces: Sequence[Any], title: str, height: int, **layout: Any) -> go.Figure:
    """`traces` on a transparent ground."""
    grid = {"gridcolor": "rgba(124,134,162,.2)", "zeroline": False}
    for axis in ("xaxis", "yaxis"):
        layout[axis] = grid | layout.get(axis, {})
    return go.Figure(
        traces,
        go.Layout(
            title={"text": title, "font": {"size": 15}, "x": 0.02, "xanchor": "left"},
            height=height,
            margin={"l": 45, "r": 10, "t": 45, "b": 55},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font={"color": INK, "size": 12},
            colorway=PALETTE,
            template="none",
            **layout,
        ),
    )
