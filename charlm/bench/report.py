"""Speeds, tables of their medians, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median

import torch


def machine() -> str:
    """The processor, its number of cores and the versions that matter, in one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":")[1].strip() if models else name
    return (
        f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    )


def alternate(runs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each of `runs` gives, run in turn `rounds` times after one round to warm up."""
    results: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            value = run()
            if i > 0:
                results[name].append(value)
    return results


def speed(steps: Iterator[object], n: int, streams: int = 1) -> float:
    """Characters per second in `n` steps, each of which writes one character of each of `streams` texts; the
    first step, for which a prompt may be read, is not counted."""
    next(steps)
    return streams * n / seconds(lambda: list(islice(steps, n)))


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(results: Mapping[str, Sequence[float]], a: str, b: str) -> float:
    """The median, over the rounds, of `a` divided by `b`."""
    return median(x / y for x, y in zip(results[a], results[b], strict=True))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
