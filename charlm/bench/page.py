"""The whole app under visitors: how soon it answers, how fast it serves many, what it keeps in memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median, quantiles

from gradio_client import Client

from charlm.bench.report import alternate, machine, ratio, table

ROOT = Path(__file__).resolve().parent.parent.parent
ONE_LINE_APP = "import gradio, torch; gradio.Interface(lambda text: text, 'text', 'text').launch()"
CHARS_EACH = 500


def run(rounds: int = 3, visitors: int = 32, seconds: int = 60) -> str:
    """The report, in Markdown."""
    return "\n\n".join((machine(), start_up(rounds), load(visitors, seconds)))


def start_up(rounds: int) -> str:
    """`python app.py` beside a one-line Gradio app that also imports torch."""
    memory: dict[str, list[float]] = {"app.py": [], "one line": []}

    def start(name: str, *command: str) -> float:
        began = time.perf_counter()
        with serving(*command) as (_, process):
            seconds = time.perf_counter() - began
            memory[name].append(_megabytes(process.pid))
        return seconds

    times = alternate(
        {
            "app.py": lambda: start("app.py", "app.py"),
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
    return table(("start-up", "app.py", "one-line app", "ratio"), rows)


def load(visitors: int, seconds: float) -> str:
    """`visitors` write with the GPT over and over for `seconds`, through Gradio's own client."""
    with serving("app.py") as (url, process):
        clients = [Client(url, verbose=False) for _ in range(visitors)]
        list(clients[0].submit("A", max_new_chars=CHARS_EACH, api_name="/generate"))
        before = _megabytes(process.pid)
        end = time.perf_counter() + seconds
        visits = [_Visit(client, end, seed) for seed, client in enumerate(clients)]
        began = time.perf_counter()
        for visit in visits:
            visit.start()
        for visit in visits:
            visit.join()
        took = time.perf_counter() - began
        time.sleep(2)
        after = _megabytes(process.pid)
    written = [visit.written for visit in visits]
    gaps = [gap for visit in visits for gap in visit.gaps]
    cuts = quantiles(gaps, n=100) if len(gaps) > 1 else [0.0] * 99
    rows = [
        ("characters per second, together", f"{sum(written) / took:,.0f}"),
        ("characters per second, each", f"{mean(written) / took:,.0f}"),
        ("slowest visitor, of the mean", f"{min(written) / max(1.0, mean(written)):.2f}"),
        ("requests", f"{sum(visit.requests for visit in visits):,}"),
        ("errors", f"{sum(len(visit.errors) for visit in visits)}"),
        ("gap between updates, p50, ms", f"{1000 * cuts[49]:.0f}"),
        ("gap between updates, p99, ms", f"{1000 * cuts[98]:.0f}"),
        ("memory before, MB", f"{before:.0f}"),
        ("memory after, MB", f"{after:.0f}"),
    ]
    return table((f"{visitors} visitors for {seconds:.0f} s", "value"), rows)


class _Visit(threading.Thread):
    """One visitor: writes a text, then the next, until the time is up."""

    def __init__(self, client: Client, end: float, seed: int):
        super().__init__(daemon=True)
        self.client, self.end, self.seed = client, end, seed
        self.written = self.requests = 0
        self.gaps: list[float] = []
        self.errors: list[Exception] = []

    def run(self) -> None:
        while time.perf_counter() < self.end:
            self.requests += 1
            try:
                job = self.client.submit(
                    "ROMEO:", max_new_chars=CHARS_EACH, seed=self.seed, api_name="/generate"
                )
                last = time.perf_counter()
                for _ in job:
                    now = time.perf_counter()
                    self.gaps.append(now - last)
                    last = now
                self.written += len(job.result())
            except Exception as error:
                self.errors.append(error)


@contextmanager
def serving(*command: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs a Python command that starts a Gradio app: its address, once it answers, and its process."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        while True:
            try:
                urllib.request.urlopen(url, timeout=60).read()
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(f"{command} ended with {process.returncode}") from None
                time.sleep(0.05)
        yield url, process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _megabytes(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
