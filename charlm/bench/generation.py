"""How fast the GPT writes: against the lecture's loop, a plain cache and other libraries; one and many."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, median
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charlm import checkpoints
from charlm.bench import rivals
from charlm.bench.report import alternate, machine, ratio, seconds, speed, table
from charlm.engine.decoding import runner_for
from charlm.engine.sampling import Sampler, SamplingOptions, Step, prompt_ids, stream
from charlm.models import GPT
from charlm.models.rotary import angles
from charlm.service.batching import Batcher

PROMPT = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n"
VISITORS = 32
CHARS_EACH = 500


def run(rounds: int = 5) -> str:
    """The report, in Markdown."""
    model = cast(GPT, checkpoints.load("gpt"))
    service = many_streams(Batcher(), model, rounds)
    return "\n\n".join((machine(), one_stream(model, rounds), together(model, rounds), service))


def one_stream(model: GPT, rounds: int) -> str:
    """`charlm.stream` at full context beside the other ways to do the same."""
    T = model.config.block_size
    prompt = _full_context(model)
    idx = torch.tensor([model.tokenizer.encode(prompt)])
    others, left_out = rivals.ways(model, 1)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    ways: rivals.Ways = {
        "charlm.stream": lambda: speed(stream(model, prompt, max_new_chars=T + 1, seed=1), T),
        "plain KV cache": lambda: speed(plain_cache(model, idx), T),
        "the lecture's loop": lambda: speed(lecture_loop(model, idx), 20),
        **others,
        "the estimate": lambda: memory_bandwidth(weights) / weights,
    }
    speeds = alternate(ways, rounds)
    bandwidth = median(speeds["the estimate"]) * weights
    note = (
        f"The estimate: {weights / 1e6:.1f} MB of single-precision weights, read once for each character at "
        f"the {bandwidth / 1e9:.0f} GB/s at which as many bytes were read again and again in this run (from "
        "the caches, as far as they fit)."
    )
    return "\n\n".join((_comparison("one stream, full context", speeds), *left_out, note))


def together(model: GPT, rounds: int) -> str:
    """`VISITORS` texts written at once, at full context, beside the other ways to do the same."""
    n = rivals.steps(model, VISITORS)
    idx = torch.tensor([model.tokenizer.encode(_full_context(model))] * VISITORS)
    others, left_out = rivals.ways(model, VISITORS)
    writing = batch(model, idx)
    ways: rivals.Ways = {
        "charlm": lambda: speed(writing, n, VISITORS),
        "plain KV cache": lambda: speed(plain_cache(model, idx), n, VISITORS),
        **others,
    }
    speeds = alternate(ways, rounds)
    return "\n\n".join((_comparison(f"{VISITORS} streams, full context", speeds), *left_out))


def _full_context(model: GPT) -> str:
    T = model.config.block_size
    return (PROMPT * math.ceil(T / len(PROMPT)))[-T:]


def _comparison(what: str, speeds: Mapping[str, Sequence[float]]) -> str:
    """A table of speeds, and how many times as fast the first of them is."""
    ours = next(iter(speeds))
    rows = [
        (name, f"{median(values):,.0f}", f"{ratio(speeds, ours, name):.2f}")
        for name, values in speeds.items()
    ]
    return table((what, "characters/s", f"{ours} is … times as fast"), rows)


def many_streams(batcher: Batcher, model: GPT, rounds: int) -> str:
    """The model service's batch: one visitor, then many at once."""
    together: list[tuple[float, float]] = []
    firsts: list[float] = []

    def alone() -> float:
        return visitors(batcher, model, 1)[0]

    def crowd() -> float:
        total, slowest, first = visitors(batcher, model, VISITORS)
        together.append((total, slowest))
        firsts.append(first)
        return total

    speeds = alternate({"one": alone, "many": crowd}, rounds)
    rows = [
        ("one visitor", f"{median(speeds['one']):,.0f}"),
        (f"{VISITORS} visitors together", f"{median(speeds['many']):,.0f}"),
        ("ratio", f"{ratio(speeds, 'many', 'one'):.1f}"),
        ("slowest of them, of the mean", f"{median(s for _, s in together[1:]):.2f}"),
        ("time to the first character, in steps beyond reading", f"{median(firsts[1:]):.2f}"),
    ]
    return f"{table((f'{CHARS_EACH} characters each', 'characters/s'), rows)}\n\n{crowd_estimate(model)}"


def crowd_estimate(model: GPT) -> str:
    """What many streams at full context would make at the speeds of a large product and of memory: each
    multiplies all the weights with numbers of its own, and reads keys and values of its own."""
    config = model.config
    products = 2 * sum(p.numel() for p in model.parameters() if p.ndim == 2)
    a = torch.ones(2048, 2048)
    flops = 2 * 2048**3 / min(seconds(lambda: a @ a) for _ in range(10))
    past = 4 * config.n_layer * 2 * config.block_size * config.n_embd
    bandwidth = memory_bandwidth(VISITORS * past)
    both = 1 / (products / flops + past / bandwidth)
    return (
        f"An estimate for many: {products / 1e6:.1f} MFLOP a character at the {flops / 1e9:.0f} GFLOP/s that "
        f"a large single-precision matrix product reached in this run, then {past / 1e6:.1f} MB of keys and "
        f"values at the {bandwidth / 1e9:.0f} GB/s at which as many were read, make {both:,.0f} characters/s."
    )


def visitors(batcher: Batcher, model: GPT, n: int) -> tuple[float, float, float]:
    """Characters per second of all together, the slowest's part of the mean, and how long a late
    comer waits for his first character after his prompt is read, in steps."""
    ids = prompt_ids(model.tokenizer, PROMPT)
    began = time.perf_counter()
    options = [SamplingOptions(CHARS_EACH, temperature=0.8, seed=i) for i in range(n)]
    streams = [batcher.submit(model, ids, o) for o in options]
    ends: list[float] = []
    left = list(streams)
    while left:
        time.sleep(0.005)
        for s in [s for s in left if s.closed]:
            left.remove(s)
            ends.append(time.perf_counter() - began)
    speeds = [CHARS_EACH / end for end in ends]

    reading = _reading_seconds(model, ids)
    crowd = [batcher.submit(model, ids, SamplingOptions(10**6, seed=i)) for i in range(n - 1)]
    for s in crowd:
        s.take(timeout=60)
    for s in crowd:
        s.take()
    start = time.perf_counter()
    time.sleep(0.3)
    steps = sum(len(s.take()) for s in crowd) / max(1, len(crowd))
    step_seconds = (time.perf_counter() - start) / max(1, steps)
    start = time.perf_counter()
    late = batcher.submit(model, ids, SamplingOptions(10))
    late.take(timeout=60)
    first = (time.perf_counter() - start - reading) / step_seconds
    for s in (*crowd, late):
        s.close()
    return n * CHARS_EACH / max(ends), min(speeds) / mean(speeds), first


def _reading_seconds(model: GPT, ids: list[int]) -> float:
    runner = runner_for(model)
    return min(seconds(lambda: runner.prefill(0, np.array(ids))) for _ in range(3))


def batch(model: GPT, idx: Tensor) -> Iterator[list[Step]]:
    """The engine's steps, without the service: a character for each of the texts idx (B, T)."""
    runner = runner_for(model, len(idx))
    sampler = Sampler([SamplingOptions()] * len(idx), [np.random.default_rng(i) for i in range(len(idx))])
    logits = np.stack([runner.prefill(slot, ids) for slot, ids in enumerate(idx.numpy())])
    while True:
        drawn, steps = sampler.draw(model.tokenizer, logits)
        yield steps
        logits = runner.step(drawn)


def lecture_loop(model: GPT, idx: Tensor) -> Iterator[int]:
    """The lecture's `generate`: the whole context is computed anew for every character."""
    while True:
        with torch.inference_mode():
            logits, _ = model(idx[:, -model.config.block_size :])
            drawn = torch.multinomial(logits[:, -1].softmax(dim=-1), num_samples=1)
            idx = torch.cat((idx, drawn), dim=1)
        yield int(drawn)


def plain_cache(model: GPT, idx: Tensor) -> Iterator[Tensor]:
    """The model's own layers with the usual cache, for texts idx (B, T): keys and values are appended, the
    oldest dropped."""
    config = model.config
    T = config.block_size
    past: dict[int, tuple[Tensor, Tensor]] = {}
    blocks: list[Any] = list(model.layers)
    start = 0
    while True:
        with torch.inference_mode():
            n = idx.shape[1]
            cos, sin = angles(torch.arange(start, start + n), config.head_size)
            x = model.embedding(idx)
            for i, block in enumerate(blocks):
                q, k, v = block.attention.queries_keys_values(block.norm(x), cos, sin)
                if i in past:
                    k = torch.cat((past[i][0], k), dim=2)[:, :, -T:]
                    v = torch.cat((past[i][1], v), dim=2)[:, :, -T:]
                past[i] = k, v
                heads = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
                x = x + block.projection(heads.transpose(1, 2).flatten(2))
                x = x + block.mlp(block.norm(x))
            start += n
            idx = torch.multinomial(model.unembed(x)[:, -1].softmax(dim=-1), num_samples=1)
        yield idx


def memory_bandwidth(size: int) -> float:
    """Bytes per second at which `size` bytes are read again and again: the best of several passes."""
    buffer = torch.ones(size // 4)
    buffer.sum()
    return size / min(seconds(buffer.sum) for _ in range(10))
