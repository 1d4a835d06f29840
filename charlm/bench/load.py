"""Many visitors at once, who do all that visitors do: does anything fail, leak, or leave one behind?"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, quantiles

from gradio_client import Client
from gradio_client.exceptions import AppError

from charlm.bench import lesson
from charlm.bench.report import machine, table
from charlm.bench.serving import CHROMIUM, CHROMIUM_ARGUMENTS, http_client, serving

SHORT_MEMORY = """
import ctypes, gc, signal
from charlm.cli import main
from charlm.service import batching, limits, visitors
limits.FORGET_AFTER_SECONDS, visitors.SWEEP_INTERVAL_SECONDS, batching.IDLE_SECONDS = 5, 1, 3
signal.signal(signal.SIGUSR1, lambda *_: (gc.collect(), ctypes.CDLL(None).malloc_trim(0)))
main(["app"])
"""
"""The app, but what visitors leave is forgotten after seconds, so that what is never forgotten shows, and
at a signal the memory goes back that is free and only kept for later."""
CALM_SECONDS = 8
"""Long enough after the last visit for everything to be given back."""
PATIENCE_SECONDS = 60
"""How long a visitor waits for the answer to a request; what is written then comes bit by bit."""
CALLS = 400
TEXT = "the cat sat on the mat and looked at the dog. " * 60
WATCH, WRITE, LEAVE = "write in the tab", "write", "leave midway"
ATTEND, ENCODE, TRAIN = "attention", "encode", "train"
HABITS = [WATCH] * 3 + [WRITE] * 3 + [LEAVE, ATTEND, ENCODE, TRAIN]
WRITTEN_CHARS = 500
REFUSALS = ("Busy:", "The line is full")


@dataclass(frozen=True)
class Resources:
    """What the app's process holds (Linux): resident memory in megabytes, threads, open files, and
    what it has left in the folder for temporary files."""

    memory: float
    threads: int
    files: int
    temporary: int


@dataclass
class Outcome:
    """What came of a load: requests by kind, errors and refusals as they were told, the characters
    that each visitor who writes was sent, and the seconds between two updates of a text."""

    seconds: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    """The seconds until a file of a few bytes was sent, from the start on: how long the event loop stood
    still."""
    during: list[float] = field(default_factory=list)
    """Memory in megabytes, after a tenth of the time and after nine tenths."""
    before: Resources | None = None
    after: Resources | None = None
    unread: dict[str, float] = field(default_factory=dict)
    """Memory in megabytes after many calls of a program, whether or not it fetched the answers."""


def run(visitors: int, seconds: float, data: str | None = None) -> str:
    """The report, in Markdown: of the visitors, and then of a class whose runs learn from the text `data`."""
    visit = report(measure(visitors, seconds, HABITS, calls=CALLS))
    return "\n\n".join((machine(), visit, lesson.run(data)))


def report(outcome: Outcome) -> str:
    """A table of an outcome."""
    cuts = quantiles(outcome.gaps, n=100) if len(outcome.gaps) > 1 else [0.0] * 99
    requests = ", ".join(f"{count:,} {kind}" for kind, count in outcome.requests.most_common())
    rows = [
        ("requests", requests),
        ("errors", f"{len(outcome.errors)} {'; '.join(sorted(set(outcome.errors))[:3])}"),
        ("intended refusals", f"{len(outcome.refusals)}"),
        ("characters per second, together", f"{sum(outcome.written) / outcome.seconds:,.0f}"),
        ("characters per second, each who writes", f"{mean(outcome.written) / outcome.seconds:,.0f}"),
        ("slowest of them, of the mean", f"{min(outcome.written) / max(1.0, mean(outcome.written)):.2f}"),
        ("gap between updates, p50 and p99, ms", f"{1000 * cuts[49]:.0f}, {1000 * cuts[98]:.0f}"),
    ]
    rows.append(("longest wait for a small file, ms", f"{1000 * max(outcome.waits):.0f}"))
    for name in ("memory", "threads", "files", "temporary"):
        before, after = getattr(outcome.before, name), getattr(outcome.after, name)
        rows.append((f"{name}, before and after", f"{before:.0f}, {after:.0f}"))
    rows.append(("memory after a tenth and nine tenths", ", ".join(f"{m:.0f}" for m in outcome.during)))
    rows += [(f"memory after {kind}", f"{megabytes:.0f}") for kind, megabytes in outcome.unread.items()]
    return table((f"load for {outcome.seconds:.0f} s", "value"), rows)


def measure(
    visitors: int, seconds: float, habits: list[str], in_browser: bool = False, calls: int = 0
) -> Outcome:
    """`visitors`, each with one of the `habits` in turn, and one in a real browser if wanted, visit
    the app over and over for `seconds`. Then a program makes `calls` calls and fetches the answers, and as
    many and fetches none."""
    outcome = Outcome()
    with (
        tempfile.TemporaryDirectory() as temporary,
        serving("-c", SHORT_MEMORY, TMPDIR=temporary) as (url, process),
    ):
        watching = threading.Event()
        watcher = threading.Thread(target=_watch_loop, args=(url, outcome, watching), daemon=True)
        watcher.start()
        everybody = [_Visitor(url, habits[i % len(habits)], i, outcome) for i in range(visitors)]
        # Everything once: what is loaded at its first use is no leak.
        for habit in dict.fromkeys(habits):
            _Visitor(url, habit, seed=0, outcome=Outcome()).visit()
        outcome.before = _resources(process.pid, Path(temporary))
        began = time.perf_counter()
        for visitor in everybody:
            visitor.end = began + seconds
            visitor.start()

        def sample() -> None:
            for part in (0.1, 0.9):
                time.sleep(max(0.0, began + part * seconds - time.perf_counter()))
                outcome.during.append(memory(process.pid))

        sampling = threading.Thread(target=sample)
        sampling.start()
        if in_browser:
            _in_browser(url, began + seconds, outcome)
        for visitor in everybody:
            visitor.join()
        sampling.join()
        outcome.seconds = time.perf_counter() - began
        watching.set()
        watcher.join()
        outcome.written = [v.written for v in everybody if v.habit in (WATCH, WRITE)]
        outcome.after = _resources(process.pid, Path(temporary))
        for kind, fetch in (("fetched", True), ("never fetched", False)) if calls else ():
            call_attention(url, calls, fetch)
            outcome.unread[f"{calls} calls of /attention, {kind}"] = memory(process.pid)
    return outcome


def call_attention(url: str, calls: int, fetch: bool) -> None:
    """Asks for the attention over a long text as curl would, each time as somebody new, and fetches the
    answers, or never."""
    body = json.dumps({"data": [TEXT[:256], "gpt", 0, 0]}).encode()
    route = f"{url}gradio_api/call/attention"
    for _ in range(calls):
        request = urllib.request.Request(route, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                event = json.load(response)["event_id"]
        except urllib.error.HTTPError:  # the queue is full
            time.sleep(0.2)
            continue
        if fetch:
            urllib.request.urlopen(f"{route}/{event}", timeout=PATIENCE_SECONDS).read()
    while True:
        with urllib.request.urlopen(f"{url}gradio_api/queue/status", timeout=PATIENCE_SECONDS) as response:
            if not json.load(response)["queue_size"]:
                return
        time.sleep(0.2)


def _watch_loop(url: str, outcome: Outcome, end: threading.Event) -> None:
    while not end.wait(0.02):
        began = time.perf_counter()
        urllib.request.urlopen(f"{url}robots.txt", timeout=PATIENCE_SECONDS).read()
        outcome.waits.append(time.perf_counter() - began)


class _Visitor(threading.Thread):
    """Does the same again and again, with other settings each time."""

    def __init__(self, url: str, habit: str, seed: int, outcome: Outcome):
        super().__init__(daemon=True)
        self.client = _client(url)
        self.http = http_client(url, PATIENCE_SECONDS)
        self.habit, self.outcome = habit, outcome
        self.random = random.Random(seed)
        self.end = 0.0
        self.written = 0

    def run(self) -> None:
        while time.perf_counter() < self.end:
            try:
                self.visit()
            except AppError as error:
                refused = any(words in str(error) for words in REFUSALS)
                (self.outcome.refusals if refused else self.outcome.errors).append(str(error))
                time.sleep(1)
            except Exception as error:
                self.outcome.errors.append(repr(error))

    def visit(self) -> None:
        """One request of its kind."""
        self.outcome.requests[self.habit] += 1
        kinds: dict[str, Callable[[], None]] = {
            WATCH: self._watch,
            WRITE: self._write,
            LEAVE: self._leave,
            ATTEND: lambda: self.client.predict(TEXT[: self.random.randint(1, 256)], api_name="/attention"),
            ENCODE: lambda: self.client.predict(TEXT[: self.random.randint(0, 1000)], api_name="/encode"),
            TRAIN: self._train,
        }
        kinds[self.habit]()

    def _watch(self) -> None:
        """As the script of the Generate tab does."""
        asked = {
            **{"prompt": "ROMEO:", "model": "gpt", "temperature": self.random.uniform(0, 1.5), "top_k": 0},
            **{"top_p": 1.0, "length": WRITTEN_CHARS, "seed": self.random.randrange(2**31)},
        }
        last = time.perf_counter()
        with self.http.stream("POST", "generate/write", json=asked) as answer:
            for line in answer.iter_lines():
                if line.startswith("g"):
                    now = time.perf_counter()
                    self.outcome.gaps.append(now - last)
                    last = now
                elif line == "end":
                    self.written += WRITTEN_CHARS
                    return
        raise RuntimeError(f"the text ended with {line[:100]!r}")

    def _write(self) -> None:
        job = self.client.submit(
            "ROMEO:",
            temperature=self.random.uniform(0, 1.5),
            max_new_chars=WRITTEN_CHARS,
            seed=self.random.randrange(2**31),
            api_name="/generate",
        )
        last, seen = time.perf_counter(), 0
        # Not by iterating over the job: that never ends if the request itself fails.
        while not job.done() or seen < len(job.outputs()):
            time.sleep(0.01)
            if len(job.outputs()) > seen:
                now = time.perf_counter()
                self.outcome.gaps.append(now - last)
                last, seen = now, seen + 1
        written = len(job.result())
        if written != WRITTEN_CHARS:
            raise RuntimeError(f"{written} characters instead of {WRITTEN_CHARS}")
        self.written += written

    def _leave(self) -> None:
        stranger = _client(self.client.src)
        job = stranger.submit("ROMEO:", max_new_chars=5000, api_name="/generate")
        while not job.outputs() and not job.done():
            time.sleep(0.05)
        job.cancel()
        stranger.close()

    def _train(self) -> None:
        job = self.client.submit(TEXT, preset="bigram", steps=30, api_name="/train")
        state = job.result()["state"]
        if state != "done":
            raise RuntimeError(f"the run is {state}")


def _client(url: str) -> Client:
    return Client(url, verbose=False, httpx_kwargs={"timeout": PATIENCE_SECONDS})


def _in_browser(url: str, end: float, outcome: Outcome) -> None:
    """A visitor in a real Chromium who presses Generate again and again; his gaps, as he sees them."""
    from playwright.sync_api import sync_playwright

    watch = """() => {
        window.gaps = [];
        let last = 0;
        new MutationObserver(() => {
            const now = performance.now();
            if (last) window.gaps.push((now - last) / 1000);
            last = now;
        }).observe(document.querySelector("#written"), { childList: true, subtree: true });
    }"""
    whole = "document.querySelectorAll('#written .ch').length === 500"
    with sync_playwright() as p:
        page = p.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS).new_page()
        page.on(
            "console", lambda m: outcome.errors.append(f"console: {m.text}") if m.type == "error" else None
        )
        page.on("pageerror", lambda error: outcome.errors.append(f"page: {error}"))
        page.goto(url)
        page.locator("#pace").select_option("Infinity")
        page.locator("#start").click()
        page.locator("#written .ch").first.wait_for(state="attached")
        while True:
            page.evaluate(watch)
            page.locator("#start").click()
            page.wait_for_timeout(500)
            page.wait_for_function(whole, timeout=120_000)
            outcome.requests["write in Chromium"] += 1
            outcome.gaps += page.evaluate("window.gaps")
            if time.perf_counter() >= end:
                return


def megabytes(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def memory(pid: int) -> float:
    """What `megabytes` gives for an app with `SHORT_MEMORY`, without what is free and only kept for later."""
    os.kill(pid, signal.SIGUSR1)
    time.sleep(1)
    return megabytes(pid)


def _resources(pid: int, temporary: Path) -> Resources:
    """Once everything is given back."""
    time.sleep(CALM_SECONDS)
    return Resources(
        memory(pid),
        len(list(Path(f"/proc/{pid}/task").iterdir())),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        sum(1 for _ in temporary.rglob("*")),
    )
