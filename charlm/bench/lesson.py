"""A class at work: half an hour of a lesson, compressed into minutes, and what each pupil waited for."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from gradio_client import Client

from charlm.bench.report import table
from charlm.bench.serving import http_client, serving
from charlm.corpus import load_corpus

PUPILS, SECONDS = 30, 240
TRAINING_BEGINS = 0.15, 0.4
"""In which part of the lesson everybody presses Train: with 240 s, within a minute."""
PAUSE_SECONDS = 2.0, 8.0
"""How long a pupil looks at something, from … to."""
PATIENCE_SECONDS = 120
QUICK = {3: ("bigram", 1000), 7: ("one-head", 1000)}
"""What some of every ten train, and for how many steps; the others train `USUAL`."""
USUAL = ("small", 600)
ASKED = {"prompt": "ROMEO:", "model": "gpt", "temperature": 0.8, "top_k": 0, "top_p": 1.0, "length": 300}
TEXT = "the cat sat on the mat and looked at the dog. "
PAGE, WRITING, ATTENTION, ENCODING = "the page", "the first character", "an attention matrix", "ids of a text"
LOSS, QUICK_END = "the first loss and sample of a run", "the end of a bigram's or a head's run"


@dataclass
class Lesson:
    """What came of a lesson: the seconds that were waited for each kind of thing, what went wrong, how many
    steps each run had made by its end, and the most memory in megabytes that the app took, all its processes
    together."""

    waits: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    memory: float = 0.0

    @contextmanager
    def waiting(self, kind: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.note(kind, began)

    def note(self, kind: str, began: float) -> None:
        """What was waited for since `began`, by `time.perf_counter`, is there."""
        self.waits.setdefault(kind, []).append(time.perf_counter() - began)


def run(data: str | None = None) -> str:
    """The report, in Markdown."""
    return report(measure(PUPILS, SECONDS, data))


def report(lesson: Lesson) -> str:
    """Tables of a lesson."""
    rows = []
    for kind, waits in sorted(lesson.waits.items()):
        cuts = quantiles(waits, n=20) if len(waits) > 1 else waits * 19
        rows.append((kind, len(waits), *(f"{value:.2f}" for value in (median(waits), cuts[18], max(waits)))))
    told = f"{len(lesson.errors)} {'; '.join(sorted(set(lesson.errors))[:3])}"
    others = [
        ("errors and refusals", told),
        ("steps of the runs, from … to", f"{min(lesson.steps, default=0)} to {max(lesson.steps, default=0)}"),
        ("most memory of all processes, MB", f"{lesson.memory:.0f}"),
    ]
    waited = table(("a class waits for", "times", "median, s", "p95, s", "longest, s"), rows)
    return f"{waited}\n\n{table(('and', 'value'), others)}"


def measure(pupils: int, seconds: float, data: str | None = None) -> Lesson:
    """`pupils` open the page, write, look at attention, train, go away and come back, for `seconds`."""
    lesson, text = Lesson(), load_corpus(data).text
    with serving("app.py") as (url, process):
        began = time.perf_counter()
        everybody = [_Pupil(url, i, text, lesson, began, seconds) for i in range(pupils)]
        for pupil in everybody:
            pupil.start()
        while any(pupil.is_alive() for pupil in everybody):
            lesson.memory = max(lesson.memory, megabytes_of_all(process.pid))
            time.sleep(2)
    return lesson


class _Pupil(threading.Thread):
    def __init__(self, url: str, seed: int, text: str, lesson: Lesson, began: float, seconds: float):
        super().__init__(daemon=True)
        self.url, self.text, self.lesson = url, text, lesson
        self.random = random.Random(seed)
        self.preset, self.steps = QUICK.get(seed % 10, USUAL)
        self.trains_at = began + seconds * self.random.uniform(*TRAINING_BEGINS)
        self.end = began + seconds
        self.training: threading.Thread | None = None

    def run(self) -> None:
        try:
            self._take_part()
        except Exception as error:
            self.lesson.errors.append(repr(error))

    def _take_part(self) -> None:
        self._pause()  # Not all come in through the door at once.
        self._open()
        while time.perf_counter() < self.end:
            if self.training is None and time.perf_counter() >= self.trains_at:
                self.training = threading.Thread(target=self._train, daemon=True)
                self.training.start()
            self.random.choice((self._write, self._write, self._look, self._encode, self._leave))()
            self._pause()
        if self.training is not None:
            self.training.join(PATIENCE_SECONDS)

    def _pause(self) -> None:
        time.sleep(self.random.uniform(*PAUSE_SECONDS))

    def _open(self) -> None:
        self.http = http_client(self.url, PATIENCE_SECONDS)
        with self.lesson.waiting(PAGE):
            self.http.get("/").raise_for_status()
        self.client = Client(self.url, verbose=False, httpx_kwargs={"timeout": PATIENCE_SECONDS})

    def _write(self, at_most: float = float("inf")) -> None:
        """Has a text written, and looks at it to the end, or at so many pieces of it."""
        asked = ASKED | {"seed": self.random.randrange(2**31)}
        began, pieces = time.perf_counter(), 0
        with self.http.stream("POST", "generate/write", json=asked) as answer:
            for line in answer.iter_lines():
                pieces += line.startswith("g")
                if pieces == 1 and line.startswith("g"):
                    self.lesson.note(WRITING, began)
                if line == "end" or pieces >= at_most:
                    return
        raise RuntimeError("a text ended early")

    def _leave(self) -> None:
        """Goes away in the middle of a text, and comes back."""
        self._write(at_most=1)
        self.http.close()
        self._pause()
        self._open()

    def _look(self) -> None:
        text = (TEXT * 6)[: self.random.randint(1, 256)]
        with self.lesson.waiting(ATTENTION):
            self.client.predict(text, api_name="/attention")

    def _encode(self) -> None:
        with self.lesson.waiting(ENCODING):
            self.client.predict(TEXT, api_name="/encode")

    def _train(self) -> None:
        """Trains until the end of the run or of the lesson."""
        client = Client(self.url, verbose=False, httpx_kwargs={"timeout": PATIENCE_SECONDS})
        began, first, step = time.perf_counter(), True, 0
        job = client.submit(self.text, self.preset, steps=self.steps, api_name="/train")
        try:
            for event in job:
                step = event["step"]
                if first and event["sample"]:
                    first = False
                    self.lesson.note(LOSS, began)
                if event["state"] == "done" and self.preset != USUAL[0]:
                    self.lesson.note(QUICK_END, began)
                if event["state"] == "failed":
                    self.lesson.errors.append(event["error"])
                if time.perf_counter() > self.end + first * PATIENCE_SECONDS:
                    job.cancel()
                    break
        except Exception as error:
            self.lesson.errors.append(repr(error))
        self.lesson.steps.append(step)
        client.close()


def megabytes_of_all(pid: int) -> float:
    """Memory of a process and all that it has started, what they share counted once (Linux)."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has ended meanwhile.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(folder.name))
    family, total = [pid], 0
    while family:
        member = family.pop()
        family += parents.get(member, [])
        with suppress(OSError):
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            total += int(rollup.split("\nPss:")[1].split()[0])
    return total / 1024
