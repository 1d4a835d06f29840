"""The attention model's arithmetic for one new character of each text, as one compiled function.

For models this small PyTorch spends its time on calling operators, some two hundred a character.
Here Numba compiles plain loops to machine code instead: the same sums as `AttentionLanguageModel`,
in single precision, from weights in half precision, which are half the bytes to read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

EPSILON = np.finfo(np.float32).eps
ZERO = np.float32(0)


class Weights(NamedTuple):
    """float16 seen as int16, because Numba has no half precision; `gains` are float32."""

    embedding: np.ndarray
    """(vocab_size, C)"""
    qkv: np.ndarray
    """(n_layer, 3 C, C)"""
    gains: np.ndarray
    """(n_layer, n_head): what QK-norm multiplies queries by."""
    projection: np.ndarray
    """(n_layer, C, C); this and the next two have no layers for a model of heads alone."""
    up: np.ndarray
    """(n_layer, 4 C, C)"""
    down: np.ndarray
    """(n_layer, C, 4 C)"""
    head: np.ndarray
    """(vocab_size, C)"""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled when first called. Sums may be taken in any order, so that they fill the registers.

    The machine code is kept on disk for the next start, where there is a place to keep it.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "arcp", "nsz"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return njit(**options)(function)


@intrinsic
def half(_context: Any, _bits: Any) -> Any:
    """The bits of a half-precision number → the number: one instruction of the processor."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, args: list[ir.Value]) -> ir.Value:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.int16), generate


@compiled
def step(
    weights: Weights,
    ids: np.ndarray,
    slots: np.ndarray,
    positions: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    cache: np.ndarray,
    logits: np.ndarray,
) -> None:
    """Reads n characters, each `ids[i]` at `positions[i]` of the text in `slots[i]`, and sets logits
    (n, vocab_size). The characters of one text come in their order.

    cos, sin (n, head_size / 2): of the angles of the positions. cache (slots, n_layer, n_head, 2,
    head_size, block_size): the keys and values of each text, a ring of its latest characters. What
    comes out for a text does not depend on its neighbours, to the bit.
    """
    n, (n_layer, n_head), C = len(ids), weights.gains.shape, weights.embedding.shape[1]
    head_size, block_size = cache.shape[4:]
    is_block = len(weights.up) > 0
    x = np.empty((n, C), np.float32)
    normed, heads, branch = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    qkv = np.empty((n, 3 * C), np.float32)
    hidden = np.empty((n, 4 * C), np.float32)
    scores = np.empty(block_size, np.float32)

    for i in range(n):
        for c in range(C):
            x[i, c] = half(weights.embedding[ids[i], c])
    for layer in range(n_layer):
        if is_block:
            rms_norm(x, normed)
            linear(normed, weights.qkv[layer], qkv)
        else:
            linear(x, weights.qkv[layer], qkv)
        for i in range(n):
            place = positions[i] % block_size
            length = min(positions[i] + 1, block_size)
            # Taken one by one: unpacking would hide from Numba that each lies in one piece.
            rows = qkv[i].reshape(3, n_head, head_size)
            q, k, v = rows[0], rows[1], rows[2]
            if is_block:
                rms_norm(q, q)
                rms_norm(k, k)
                for h in range(n_head):
                    q[h] *= weights.gains[layer, h]
            for h in range(n_head):
                rotate(q[h], cos[i], sin[i])
                rotate(k[h], cos[i], sin[i])
                keys, values = cache[slots[i], layer, h, 0], cache[slots[i], layer, h, 1]
                keys[:, place] = k[h]
                values[:, place] = v[h]
                out = heads[i, h * head_size : (h + 1) * head_size]
                attend(q[h], keys, values, length, scores, out)
        if not is_block:
            x[:] = heads
            continue
        linear(heads, weights.projection[layer], branch)
        x += branch
        rms_norm(x, normed)
        linear(normed, weights.up[layer], hidden)
        for i in range(n):
            for c in range(4 * C):
                hidden[i, c] = max(hidden[i, c], ZERO) ** 2
        linear(hidden, weights.down[layer], branch)
        x += branch
    if is_block:
        rms_norm(x, x)
    linear(x, weights.head, logits)


@compiled
def linear(x: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """out (n, O) = x (n, I) @ weight.T, for a weight (O, I)."""
    for o in range(len(weight)):
        row = weight[o]
        for i in range(len(x)):
            xi = x[i]
            total = ZERO
            for c in range(len(row)):
                total += half(row[c]) * xi[c]
            out[i, o] = total


@compiled
def rms_norm(x: np.ndarray, out: np.ndarray) -> None:
    """Each row of x (n, C) divided by its root mean square."""
    for i in range(len(x)):
        row = x[i]
        squares = ZERO
        for c in range(len(row)):
            squares += row[c] * row[c]
        scale = np.float32(1) / np.sqrt(squares / np.float32(len(row)) + EPSILON)
        for c in range(len(row)):
            out[i, c] = row[c] * scale


@compiled
def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> None:
    """Turns the pairs (x[d], x[d + head_size / 2]) by their angles, where they stand."""
    pairs = len(cos)
    for d in range(pairs):
        a, b = x[d], x[d + pairs]
        x[d] = a * cos[d] - b * sin[d]
        x[d + pairs] = a * sin[d] + b * cos[d]


@compiled
def attend(
    q: np.ndarray, keys: np.ndarray, values: np.ndarray, length: int, scores: np.ndarray, out: np.ndarray
) -> None:
    """softmax(q·k/√d) over the first `length` of keys (head_size, block_size), times the values."""
    scale = np.float32(1 / np.sqrt(len(q)))
    scores[:length] = ZERO
    for d in range(len(q)):
        qd, row = q[d] * scale, keys[d]
        for t in range(length):
            scores[t] += qd * row[t]
    largest = scores[0]
    for t in range(length):
        largest = max(largest, scores[t])
    total = ZERO
    for t in range(length):
        scores[t] = np.exp(scores[t] - largest)
        total += scores[t]
    for d in range(len(out)):
        row = values[d]
        weighted = ZERO
        for t in range(length):
            weighted += scores[t] * row[t]
        out[d] = weighted / total
