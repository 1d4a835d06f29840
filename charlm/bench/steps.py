"""What a training step costs, stage by stage, and how much of what this machine could multiply it uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.bench.report import table
from charlm.corpus import Corpus
from charlm.models.attention import SelfAttention
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.cost import learning_operations
from charlm.training.presets import Recipe
from charlm.training.trainer import Trainer, has_fast_bfloat16

STEPS = 12
WARM_UP = 3
PEAK_SIZE = 2048


def report(preset: str, corpus: Corpus) -> str:
    """Two tables of a preset's step, in Markdown: where its time goes, and what of the peak it reaches."""
    recipe = presets.recipe(preset)
    trainer = Trainer(recipe.model(CharTokenizer.from_text(corpus.text)), corpus, recipe.options)
    stages = stage_seconds(trainer)
    step = sum(stages.values())
    products, (attention, one_call) = product_seconds(trainer), attention_seconds(recipe)
    rows = [(name, f"{1000 * s:.1f}", f"{s / step:.0%}") for name, s in stages.items()]
    rows += [
        ("the whole step", f"{1000 * step:.1f}", "100%"),
        ("its matrix products alone", f"{1000 * products:.1f}", f"{products / step:.0%}"),
        ("its attention alone", f"{1000 * attention:.1f}", f"{attention / step:.0%}"),
        ("the same by F.scaled_dot_product_attention", f"{1000 * one_call:.1f}", f"{one_call / step:.0%}"),
    ]
    costs = table((f"a step of `{preset}`", "ms", "share"), rows)
    operations = learning_operations(recipe)
    peaks = [
        (
            f"{name}, a product of {PEAK_SIZE} × {PEAK_SIZE}",
            f"{peak / 1e9:,.0f}",
            f"{operations / step / peak:.0%}",
            f"{operations / products / peak:.0%}",
        )
        for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32))
        for peak in (peak_operations(dtype),)
    ]
    header = (f"{operations / 1e9:.1f} GFLOP a step", "GFLOP/s", "the step reaches", "its products alone")
    return f"{costs}\n\n{table(header, peaks)}"


def stage_seconds(trainer: Trainer) -> dict[str, float]:
    """The median seconds of each stage of a training step: forward, backward, each optimizer, and the rest,
    which are the batch, the learning rates and the averaging of the weights."""
    marks: list[tuple[str, float]] = []

    def mark(name: str) -> Callable[..., None]:
        return lambda *_: marks.append((name, time.perf_counter()))

    trainer.model.register_forward_pre_hook(mark("forward"))
    trainer.model.register_forward_hook(mark("backward"))
    for optimizer in trainer.optimizers:
        optimizer.register_step_pre_hook(mark(type(optimizer).__name__))
        optimizer.register_step_post_hook(mark("the rest"))
    seen: dict[str, list[float]] = {}
    for i in range(WARM_UP + STEPS):
        marks[:] = [("the rest", time.perf_counter())]
        trainer.train_step()
        mark("the end")()
        stages: dict[str, float] = {}
        for (name, start), (_, end) in pairwise(marks):
            stages[name] = stages.get(name, 0.0) + end - start
        if i >= WARM_UP:
            for name, seconds in stages.items():
                seen.setdefault(name, []).append(seconds)
    return {name: median(seconds) for name, seconds in seen.items()}


def product_seconds(trainer: Trainer) -> float:
    """How long the matrix products of a step take by themselves, with matrices of its shapes and type."""
    rows = trainer.options.batch_size * trainer.model.config.block_size
    dtype = torch.bfloat16 if has_fast_bfloat16(trainer.device) else torch.float32
    seconds = 0.0
    for module in trainer.model.modules():
        if isinstance(module, nn.Linear):
            seconds += _linear_seconds(rows, module, dtype)
    return seconds


def _linear_seconds(rows: int, linear: nn.Linear, dtype: torch.dtype) -> float:
    """Forward, and back to the input and to the weights."""
    x = torch.ones(rows, linear.in_features, dtype=dtype)
    y = torch.ones(rows, linear.out_features, dtype=dtype)
    w = torch.ones(linear.out_features, linear.in_features, dtype=dtype)
    return sum(map(_seconds, (lambda: x @ w.T, lambda: y @ w, lambda: y.T @ x)))


def attention_seconds(recipe: Recipe) -> tuple[float, float]:
    """How long the heads of all layers take to look back in a step, forward and backward, by themselves: as
    the model writes it out, and by PyTorch's one call for it."""
    config, B = recipe.config, recipe.options.batch_size
    bfloat16 = has_fast_bfloat16(torch.device("cpu"))
    shape = (B, config.n_head, config.block_size, config.head_size)
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    heads = SelfAttention(config.n_embd, config.n_head)

    def written_out() -> Tensor:
        return heads.weights(heads.compare(q, k)) @ v

    def one_call() -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def learn(attend: Callable[[], Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            out = attend()
        out.backward(torch.ones_like(out))

    first, second = (_seconds(partial(learn, attend)) for attend in (written_out, one_call))
    return config.n_layer * first, config.n_layer * second


def peak_operations(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product."""
    a = torch.ones(PEAK_SIZE, PEAK_SIZE, dtype=dtype)
    return 2 * PEAK_SIZE**3 / _seconds(lambda: a @ a)


def _seconds(run: Callable[[], object]) -> float:
    """The least of several runs."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
