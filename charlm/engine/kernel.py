"""The attention model's arithmetic for one new character of each text, as one compiled function.

For models this small PyTorch spends its time on calling operators, some two hundred a character.
Here Numba compiles plain loops to machine code instead: the same sums as in `models`, in single
precision, from weights in half precision, which are half the bytes to read. Matrices are
multiplied a tile at a time, with all sums in registers (Goto and van de Geijn, 2008, "Anatomy of
High-Performance Matrix Multiplication").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

EPSILON = np.finfo(np.float32).eps
ZERO = np.float32(0)
LANES = 8
"""Numbers in a vector: a register of AVX2; the compiler takes several where registers are smaller."""
VECTORS = 8
"""How many sums of vectors are under way at once: a processor begins the next before the last is done."""
TILE = LANES * VECTORS
"""How many outputs of a matrix are computed at once."""
ROWS = 2
"""For how many rows at once, if there are as many. More would not fit the registers."""
MOST_FUNCTIONS = 20
"""That may be compiled for one call."""


@register_jitable
def tiles_for(size: int) -> int:
    """How many tiles `size` numbers take."""
    return (size + TILE - 1) // TILE


class HeadsWeights(NamedTuple):
    """Of an `AttentionLanguageModel`. Of each matrix, what makes TILE outputs stands together: tiles
    (n_layer, outputs / TILE, inputs, TILE), filled up with zeros, float16 seen as int16, because Numba
    has no half precision."""

    embedding: np.ndarray
    """(vocab_size, C), float32"""
    qkv: np.ndarray
    """C inputs, 3 C outputs"""
    lm_head: np.ndarray
    """One layer of C inputs, vocab_size outputs"""


class GPTWeights(NamedTuple):
    """Of a `GPT`, its matrices in tiles as those of `HeadsWeights`."""

    embedding: np.ndarray
    """(vocab_size, C), float32"""
    gain: np.ndarray
    """(n_layer, n_head), float32: what QK-norm multiplies queries by."""
    qkv: np.ndarray
    """C inputs, 3 C outputs"""
    projection: np.ndarray
    """C inputs, C outputs"""
    up: np.ndarray
    """C inputs, 4 C outputs"""
    down: np.ndarray
    """4 C inputs, C outputs"""
    lm_head: np.ndarray
    """One layer of C inputs, vocab_size outputs"""


def tiles(weight: np.ndarray) -> np.ndarray:
    """Matrices (n_layer, outputs, inputs) → the form in which the weights have them."""
    n_layer, outputs, inputs = weight.shape
    n = tiles_for(outputs)
    padded = np.zeros((n_layer, n * TILE, inputs), np.float16)
    padded[:, :outputs] = weight
    split = padded.reshape(n_layer, n, TILE, inputs)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 2)).view(np.int16)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled when first called. Sums may be taken in any order, so that they fill the registers.

    The machine code is kept on disk for the next start, where there is a place to keep it.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "arcp", "nsz"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return njit(**options)(function)


def run(kernel: Callable[..., None], *arrays: Any) -> None:
    """`kernel(*arrays)`. On a full disk the machine code cannot be kept, and each of the compiled functions
    complains of that once, when it is ready for use: the next call goes on from there."""
    for _ in range(MOST_FUNCTIONS):
        try:
            return kernel(*arrays)
        except OSError as error:
            reason = error
    raise reason


def product(rows: int, number: ir.Type) -> Any:
    """Makes a function `product(x, i, tile, out, o)`, which does

        out[i : i + rows, o : o + TILE] = x[i : i + rows] @ tile

    for a tile (inputs, TILE) of `number`s. It is written in the compiler's own terms, because the sums
    must stay in registers while x and the tile pass by. Each sum is taken in the order of the inputs,
    whatever `rows` is.
    """
    stored, floats = (ir.VectorType(kind, LANES) for kind in (number, ir.FloatType()))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        x, tile, out = (
            (signature.args[k], context.make_array(signature.args[k])(context, builder, args[k]))
            for k in (0, 2, 3)
        )
        first_row, first_column = args[1], args[4]

        def pointer(array: Any, row: ir.Value, column: ir.Value, kind: ir.Type) -> ir.Value:
            place = cgutils.get_item_pointer(context, builder, *array, [row, column])
            return builder.bitcast(place, kind.as_pointer())

        def plus(value: ir.Value, summand: int) -> ir.Value:
            return builder.add(value, ir.Constant(value.type, summand))

        zeros = ir.Constant(floats, [0.0] * LANES)
        sums = [[cgutils.alloca_once_value(builder, zeros) for _ in range(VECTORS)] for _ in range(rows)]
        inputs = cgutils.unpack_tuple(builder, tile[1].shape)[0]
        with cgutils.for_range(builder, inputs) as loop:
            weights = []
            for v in range(VECTORS):
                column = ir.Constant(inputs.type, LANES * v)
                loaded = builder.load(pointer(tile, loop.index, column, stored), align=2)
                weights.append(builder.fpext(loaded, floats))
            for r in range(rows):
                value = builder.load(pointer(x, plus(first_row, r), loop.index, ir.FloatType()))
                vector = builder.insert_element(zeros, value, ir.Constant(ir.IntType(32), 0))
                vector = builder.shuffle_vector(vector, zeros, everywhere)
                for v in range(VECTORS):
                    # "contract" lets multiplication and addition become one instruction.
                    term = builder.fmul(vector, weights[v], flags=("contract",))
                    total = builder.fadd(builder.load(sums[r][v]), term, flags=("contract",))
                    builder.store(total, sums[r][v])
        for r in range(rows):
            for v in range(VECTORS):
                place = pointer(out, plus(first_row, r), plus(first_column, LANES * v), floats)
                builder.store(builder.load(sums[r][v]), place, align=4)
        return context.get_dummy_value()

    @intrinsic
    def product(_context: Any, x: Any, i: Any, tile: Any, out: Any, o: Any) -> Any:
        return types.void(x, types.intp, tile, out, types.intp), generate

    return product


product_of_row = product(1, ir.HalfType())
product_of_rows = product(ROWS, ir.HalfType())
product_in_attention = product(1, ir.FloatType())


@compiled
def heads_step(
    weights: HeadsWeights,
    ids: np.ndarray,
    slots: np.ndarray,
    positions: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    logits: np.ndarray,
) -> None:
    """Reads n characters, each `ids[i]` at `positions[i]` of the text in `slots[i]`, and sets logits (n,
    vocab_size, filled up to whole tiles). The characters of one text come in their order.

    cos, sin (n, head_size / 2): of the angles of the positions. key_cache (slots, n_layer, n_head,
    block_size / TILE, head_size, TILE) and value_cache (slots, n_layer, n_head, head_size / TILE,
    block_size, TILE), filled up to whole tiles: of each text, a ring of its latest characters. What comes
    out for a text does not depend on its neighbours, to the bit.
    """
    x = embed(weights.embedding, ids)
    qkv = np.empty((len(x), weights.qkv.shape[1] * TILE), np.float32)
    for layer in range(len(weights.qkv)):
        linear(x, weights.qkv[layer], qkv)
        look_back(layer, qkv, slots, positions, cos, sin, key_cache, value_cache, x)
    linear(x, weights.lm_head[0], logits)


@compiled
def gpt_step(
    weights: GPTWeights,
    ids: np.ndarray,
    slots: np.ndarray,
    positions: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    logits: np.ndarray,
) -> None:
    """As `heads_step`, for a GPT."""
    x = embed(weights.embedding, ids)
    normed, heads = np.empty_like(x), np.empty_like(x)
    n, C = x.shape
    qkv = np.empty((n, weights.qkv.shape[1] * TILE), np.float32)
    hidden = np.empty((n, weights.up.shape[1] * TILE), np.float32)
    branch = np.empty((n, weights.down.shape[1] * TILE), np.float32)
    for layer in range(len(weights.qkv)):
        rms_norm(x, normed)
        linear(normed, weights.qkv[layer], qkv)
        qk_norm(qkv, C, weights.gain[layer])
        look_back(layer, qkv, slots, positions, cos, sin, key_cache, value_cache, heads)
        linear(heads, weights.projection[layer], branch)
        x += branch[:, :C]
        rms_norm(x, normed)
        linear(normed, weights.up[layer], hidden)
        relu_squared(hidden)
        linear(hidden, weights.down[layer], branch)
        x += branch[:, :C]
    rms_norm(x, x)
    linear(x, weights.lm_head[0], logits)


@compiled
def embed(embedding: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The channels (n, C) of characters ids (n,)."""
    x = np.empty((len(ids), embedding.shape[1]), np.float32)
    for i in range(len(ids)):
        x[i] = embedding[ids[i]]
    return x


@compiled
def look_back(
    layer: int,
    qkv: np.ndarray,
    slots: np.ndarray,
    positions: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    out: np.ndarray,
) -> None:
    """Self-attention of a layer: keeps the keys and values in qkv (n, 3 C and more), and sets out (n, C)
    to the outputs of all heads side by side."""
    n_head, head_size, block_size = key_cache.shape[2], key_cache.shape[4], value_cache.shape[4]
    scores = np.empty((n_head, key_cache.shape[3] * TILE), np.float32)
    mixed = np.empty((n_head, value_cache.shape[3] * TILE), np.float32)
    for i in range(len(qkv)):
        place = positions[i] % block_size
        length = min(positions[i] + 1, block_size)
        # Taken one by one: unpacking would hide from Numba that each lies in one piece.
        rows = qkv[i, : 3 * n_head * head_size].reshape(3, n_head, head_size)
        q, k, v = rows[0], rows[1], rows[2]
        for h in range(n_head):
            rotate(q[h], cos[i], sin[i])
            rotate(k[h], cos[i], sin[i])
            keys, values = key_cache[slots[i], layer, h], value_cache[slots[i], layer, h]
            keys[place // TILE, :, place % TILE] = k[h]
            for d in range(head_size):
                values[d // TILE, place, d % TILE] = v[h, d]
            attend(q, h, keys, values, length, scores, mixed)
            out[i, h * head_size : (h + 1) * head_size] = mixed[h, :head_size]


@compiled
def qk_norm(qkv: np.ndarray, C: int, gain: np.ndarray) -> None:
    """Normalises the queries and keys in qkv (n, 3 C and more), head by head, and multiplies the queries
    by each head's gain (n_head,)."""
    n_head = len(gain)
    for i in range(len(qkv)):
        rows = qkv[i, : 2 * C].reshape(2, n_head, C // n_head)
        q, k = rows[0], rows[1]
        rms_norm(q, q)
        rms_norm(k, k)
        for h in range(n_head):
            q[h] *= gain[h]


@compiled
def relu_squared(x: np.ndarray) -> None:
    """max(x, 0)² of every number of x (n, C), where it stands."""
    for i in range(len(x)):
        for c in range(x.shape[1]):
            x[i, c] = max(x[i, c], ZERO) ** 2


@compiled
def linear(x: np.ndarray, tiles: np.ndarray, out: np.ndarray) -> None:
    """out (n, outputs) = x (n, inputs) @ the matrix in tiles (outputs / TILE, inputs, TILE)."""
    for t in range(len(tiles)):
        i = 0
        while i + ROWS <= len(x):
            product_of_rows(x, i, tiles[t], out, t * TILE)
            i += ROWS
        while i < len(x):
            product_of_row(x, i, tiles[t], out, t * TILE)
            i += 1


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
    q: np.ndarray,
    h: int,
    keys: np.ndarray,
    values: np.ndarray,
    length: int,
    scores: np.ndarray,
    out: np.ndarray,
) -> None:
    """out[h] = softmax(q[h]·k/√d) over the first `length` characters, times their values."""
    for t in range(tiles_for(length)):
        product_in_attention(q, h, keys[t], scores, t * TILE)
    row = scores[h, :length]
    scale = np.float32(1 / np.sqrt(q.shape[1]))
    largest = row[0]
    for t in range(length):
        largest = max(largest, row[t])
    total = ZERO
    for t in range(length):
        row[t] = np.exp((row[t] - largest) * scale)
        total += row[t]
    for t in range(length):
        row[t] /= total
    for t in range(len(values)):
        product_in_attention(scores, h, values[t, :length], out, t * TILE)
