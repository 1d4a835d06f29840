"""The whole app: how soon it answers, and how fast it serves many who write."""

from __future__ import annotations

import time
from statistics import mean, median

from charlm import checkpoints
from charlm.bench import generation, load
from charlm.bench.report import alternate, machine, ratio, table
from charlm.bench.serving import CHROMIUM, serving
from charlm.models import GPT
from charlm.service.batching import Batcher

ONE_LINE_APP = "import gradio, torch; gradio.Interface(lambda text: text, 'text', 'text').launch()"


def run(rounds: int = 3, visitors: int = 32, seconds: int = 60) -> str:
    """The report, in Markdown."""
    model = checkpoints.load("gpt")
    assert isinstance(model, GPT)
    batcher = Batcher()
    generation.visitors(batcher, model, 1)  # which compiles the kernel
    decoder = [generation.visitors(batcher, model, visitors)[0]]
    writing = load.measure(visitors, seconds, [load.WATCH], in_browser=bool(CHROMIUM))
    decoder.append(generation.visitors(batcher, model, visitors)[0])
    return "\n\n".join((machine(), start_up(rounds), load.report(writing), beside(writing, decoder)))


def beside(writing: load.Outcome, decoder: list[float]) -> str:
    """What many in the tab are written, beside what the decoder gives as many without any page, before and
    after."""
    speed = sum(writing.written) / writing.seconds
    rows = [
        ("the tab", f"{speed:,.0f}"),
        ("the decoder alone, before and after", ", ".join(f"{s:,.0f}" for s in decoder)),
        ("ratio", f"{speed / mean(decoder):.2f}"),
    ]
    return table(("many write together", "characters/s"), rows)


def start_up(rounds: int) -> str:
    """`charlm app` beside a one-line Gradio app that also imports torch."""
    memory: dict[str, list[float]] = {"charlm": [], "one line": []}

    def start(name: str, *command: str) -> float:
        began = time.perf_counter()
        with serving(*command) as (_, process):
            seconds = time.perf_counter() - began
            memory[name].append(load.megabytes(process.pid))
        return seconds

    times = alternate(
        {
            "charlm": lambda: start("charlm", "-m", "charlm", "app"),
            "one line": lambda: start("one line", "-c", ONE_LINE_APP),
        },
        rounds,
    )
    rows = [
        (
            "time to the first page, s",
            *(f"{median(times[n]):.1f}" for n in times),
            f"{ratio(times, *times):.2f}",
        ),
        ("memory, MB", *(f"{median(memory[n]):.0f}" for n in memory), f"{ratio(memory, *memory):.2f}"),
    ]
    return table(("start-up", "charlm app", "one-line app", "ratio"), rows)
