"""One training step of the bigram table, number by number. No Gradio."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Any

import torch

from charlm.errors import CharlmError
from charlm.service.limits import check_characters
from charlm.training import one_step
from charlm.ui.encoding import base64_of

TEXT = "hear me speak"
"""Of the text that every tab opens with: its table is small enough to be looked at whole."""
MAX_CHARS = 24
"""How much of a text is read: its vocabulary must fit the screen."""


def code() -> str:
    """The function that computes what is shown, as it stands in the source."""
    return inspect.getsource(one_step.one_step)


def explain(text: str, step: int) -> dict[str, Any]:
    """All that is computed in the `step`, from 1, on a batch of the end of `text`: the vocabulary, the
    batch, the losses before the first step and after each so far, and the tables, row by row in base64
    (float32), among them those that the step began with.

    Raises `CharlmError` for a text of which there is no batch, or a step that is not from 1 to `MAX_STEPS`.
    """
    if type(step) is not int or not 1 <= step <= one_step.MAX_STEPS:
        raise CharlmError(f"A step is a number from 1 to {one_step.MAX_STEPS:,}, not {step!r:.100}.")
    check_characters(text)
    start = one_step.begin(text[-MAX_CHARS:])
    m_before = v_before = torch.zeros_like(start.table)
    done = one_step.steps(start)
    now = next(done)
    losses = [now.loss.item()]
    for following in done:
        losses.append(following.loss.item())
        if now.t == step:
            break
        m_before, v_before, now = now.m, now.v, following
    tables = {
        "table": now.table,
        "probs": now.table.softmax(dim=1),
        "gradient": now.gradient,
        "m_before": m_before,
        "m": now.m,
        "m_hat": now.m_hat,
        "v_before": v_before,
        "v": now.v,
        "v_hat": now.v_hat,
        "change": now.change,
        "new_table": now.new_table,
    }
    return {
        "chars": list(start.tokenizer.vocab),
        "read": min(len(text), MAX_CHARS),
        "x": start.x.tolist(),
        "y": start.y.tolist(),
        "options": asdict(start.options),
        "step": step,
        "most": one_step.MAX_STEPS,
        "losses": losses,
        "least": one_step.least_loss(start),
        "tables": {name: base64_of(table) for name, table in tables.items()},
    }
