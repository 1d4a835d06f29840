"""The whole app: how soon it answers, and how fast it serves many who write."""

from __future__ import annotations

import time
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from charlm import checkpoints
from charlm.bench import generation, load
from charlm.bench.report import alternate, machine, ratio, table
from charlm.bench.serving import CHROMIUM, CHROMIUM_ARGUMENTS, no_browser, serving
from charlm.models import GPT
from charlm.service.batching import Batcher

ASKED = {
    "prompt": "ROMEO:",
    "model": "gpt",
    "temperature": 0.8,
    "top_k": 0,
    "top_p": 1.0,
    "length": 200,
    "seed": 1,
}
SECONDS_TO_COMPILE = 20
"""After which a start has left the compiled kernel on the disk."""
SECONDS_TO_LOAD = 10
"""After which a page has fetched all that it shows at first. What streams never ends."""
ONE_LINE_APP = "import gradio, torch; gradio.Interface(lambda text: text, 'text', 'text').launch()"


def run(rounds: int = 3, visitors: int = 32, seconds: int = 60) -> str:
    """The report, in Markdown."""
    model = checkpoints.load("gpt")
    assert isinstance(model, GPT)
    batcher = Batcher()
    generation.visitors(batcher, model, 1)  # which compiles the kernel
    decoder = [generation.visitors(batcher, model, visitors)[0]]
    missing = no_browser()
    writing = load.measure(visitors, seconds, [load.WATCH], in_browser=missing is None)
    decoder.append(generation.visitors(batcher, model, visitors)[0])
    parts = [machine(), start_up(rounds), first_text(rounds), missing or first_load()]
    return "\n\n".join((*parts, load.report(writing), beside(writing, decoder)))


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


def first_text(rounds: int) -> str:
    """How soon the first character comes once the page is up, on a machine that has never run charlm and on
    one that has."""
    with TemporaryDirectory() as kept:

        def first(cache: str) -> float:
            with serving("-m", "charlm", "app", NUMBA_CACHE_DIR=cache) as (url, _):
                began = time.perf_counter()
                with httpx2.stream("POST", f"{url}generate/write", json=ASKED, timeout=60) as answer:
                    next(line for line in answer.iter_lines() if line.startswith("g"))
                seconds = time.perf_counter() - began
                time.sleep(SECONDS_TO_COMPILE)
                return seconds

        def new_machine() -> float:
            with TemporaryDirectory() as cache:
                return first(cache)

        first(kept)
        times = alternate({"new": new_machine, "known": lambda: first(kept)}, rounds)
    rows = [
        ("first character, s", *(f"{median(times[n]):.2f}" for n in times), f"{ratio(times, *times):.2f}")
    ]
    return table(("after the first page", "new machine", "second start", "ratio"), rows)


def first_load() -> str:
    """What a browser fetches to show the page, at its first visit and at the next, beside a one-line Gradio
    app."""
    fetched = {"charlm app": _fetched("-m", "charlm", "app"), "one-line app": _fetched("-c", ONE_LINE_APP)}
    rows = [
        (f"{visit} visit: {what}", *(f"{loads[i][j]:,}" for loads in fetched.values()))
        for i, visit in enumerate(("first", "second"))
        for j, what in enumerate(("requests", "bytes"))
    ]
    return table(("loading the page", *fetched), rows)


def _fetched(*command: str) -> list[tuple[int, int]]:
    """The requests and the bytes, as they came over the network, of two visits of one browser to an app."""
    from playwright.sync_api import sync_playwright

    with serving(*command) as (url, _), sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        context = browser.new_context()
        visits = []
        for _ in range(2):
            page = context.new_page()
            network = context.new_cdp_session(page)
            requests: list[Any] = []
            sizes: list[Any] = []
            network.on(
                "Network.requestWillBeSent", lambda event, seen=requests: seen.append(event["requestId"])
            )
            network.on(
                "Network.dataReceived", lambda event, seen=sizes: seen.append(event["encodedDataLength"])
            )
            network.send("Network.enable")
            page.goto(url)
            page.wait_for_timeout(1000 * SECONDS_TO_LOAD)
            visits.append((len(requests), sum(sizes)))
            page.close()
        return visits
