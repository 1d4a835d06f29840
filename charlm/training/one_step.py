"""One training step of the bigram table, written out: what `loss.backward()` and AdamW's `step()` compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.errors import CharlmError
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.trainer import build_optimizers

BLOCK_SIZE = 8
MAX_STEPS = 1000
"""How many are worth looking at: by then the loss falls no more."""


@dataclass(frozen=True)
class AdamW:
    """AdamW's settings (Loshchilov & Hutter, 2019), named as in PyTorch but for its two betas."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float


@dataclass(frozen=True)
class Start:
    """What the first step begins with: a text's vocabulary of V characters, a batch of the text, inputs `x`
    and targets `y` (B, T), the `table` (V, V) as drawn at random, and how it is to learn."""

    tokenizer: CharTokenizer
    x: Tensor
    y: Tensor
    table: Tensor
    options: AdamW


@dataclass(frozen=True)
class Step:
    """All that is computed in step `t`, from 1. Tensors of which nothing else is said are (V, V): row, the
    character that is read; column, the next one."""

    t: int
    table: Tensor
    """Before the step: row i holds the logits wherever character i is read."""
    logits: Tensor
    """(B, T, V)"""
    probs: Tensor
    """(B, T, V)"""
    loss: Tensor
    """Of the table before the step: nats a character, a single number."""
    gradient: Tensor
    m: Tensor
    """The first moment: a moving average of the gradients."""
    v: Tensor
    """The second moment: a moving average of their squares."""
    m_hat: Tensor
    v_hat: Tensor
    change: Tensor
    new_table: Tensor


def one_step(table: Tensor, m: Tensor, v: Tensor, t: int, x: Tensor, y: Tensor, options: AdamW) -> Step:
    """Step `t`, from 1, of a bigram `table` with AdamW's moments `m` and `v`, all (V, V), on inputs `x` and
    targets `y`, both (B, T)."""
    N, V = y.numel(), len(table)
    logits = table[x]
    probs = logits.softmax(dim=-1)
    loss = -probs.gather(-1, y[..., None]).log().mean()

    # Of the logits, the gradient is p, less 1 at the target; a row of the table takes the sum of all places
    # that read its character.
    of_logits = (probs - F.one_hot(y, V)) / N
    gradient = torch.zeros_like(table).index_add(0, x.flatten(), of_logits.flatten(0, 1))

    m = options.beta1 * m + (1 - options.beta1) * gradient
    v = options.beta2 * v + (1 - options.beta2) * gradient**2
    # Both began at zero: at first they are too small, by as much.
    m_hat = m / (1 - options.beta1**t)
    v_hat = v / (1 - options.beta2**t)
    change = -options.lr * (m_hat / (v_hat.sqrt() + options.eps) + options.weight_decay * table)
    return Step(t, table, logits, probs, loss, gradient, m, v, m_hat, v_hat, change, table + change)


def begin(text: str) -> Start:
    """The bigram table of the characters of `text`, at random but the same each time, and the first and the
    last chunk of the text as a batch, to be trained with the options of the preset "bigram".

    Raises `CharlmError` if the text is too short for a chunk and its target, or has but one character.
    """
    if len(text) <= BLOCK_SIZE:
        raise CharlmError(
            f"A chunk of {BLOCK_SIZE} characters and its target need {BLOCK_SIZE + 1} characters: "
            f"this text has {len(text)}."
        )
    if len(set(text)) < 2:
        raise CharlmError("This text has one character only: there is nothing to guess.")
    recipe = presets.recipe("bigram")
    tokenizer = CharTokenizer.from_text(text)
    model = recipe.model(tokenizer)
    [table] = model.parameters()
    [group] = build_optimizers(model, recipe.options)[0].param_groups
    beta1, beta2 = group["betas"]
    options = AdamW(group["lr"], beta1, beta2, group["eps"], group["weight_decay"])
    ids = torch.tensor(tokenizer.encode(text))
    chunks = torch.stack([ids[: BLOCK_SIZE + 1], ids[-BLOCK_SIZE - 1 :]])
    return Start(tokenizer, chunks[:, :-1], chunks[:, 1:], table.detach(), options)


def steps(start: Start) -> Iterator[Step]:
    """One step after another on the same batch, without end."""
    table, t = start.table, 1
    m, v = torch.zeros_like(table), torch.zeros_like(table)
    while True:
        step = one_step(table, m, v, t, start.x, start.y, start.options)
        yield step
        table, m, v, t = step.new_table, step.m, step.v, t + 1


def least_loss(start: Start) -> float:
    """The loss on the batch, in nats a character, that no bigram table can beat: that of its own counts."""
    counts = torch.zeros_like(start.table)
    counts.index_put_((start.x.flatten(), start.y.flatten()), torch.ones(()), accumulate=True)
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    return (-torch.special.xlogy(counts, shares).sum() / counts.sum()).item()
