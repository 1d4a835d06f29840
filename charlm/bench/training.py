"""How soon a preset learns, against nanoGPT's recipe for CPUs; and what a run costs those who write."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from charlm.bench import steps
from charlm.bench.report import machine, seconds, table
from charlm.corpus import Corpus, load_corpus
from charlm.engine.sampling import stream
from charlm.errors import CharlmError
from charlm.service import turns
from charlm.service.models import ModelService
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.evaluation import evaluate
from charlm.training.trainer import Trainer
from charlm.ui.attention import numbers as attention

RECIPE = (
    "train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 "
    "--log_interval=1 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 "
    "--max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)
"""nanoGPT's README: what it recommends for a computer without a GPU."""
RECIPE_LOSS = 1.88
"""The validation loss that nanoGPT's README states for it."""
SHOWN_POINTS = 8
WAYS: dict[str, tuple[dict[str, str], int]] = {
    "two threads that sleep soon while they wait, as here": ({}, 2),
    "two threads that sleep at once": ({"GOMP_SPINCOUNT": "0"}, 2),
    "two threads that never sleep": ({"GOMP_SPINCOUNT": "infinite"}, 2),
    "one thread": ({}, 1),
}
"""With which threads a run may learn: how they wait, and how many there are."""
TEXTS, CHARS = 3, 2000
"""How many texts a visitor writes beside a run, and how long they are."""
SECONDS_ALONE = 5.0
"""For how long a run is watched that nobody disturbs."""
PROMPT = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak."
"""What the view shows."""


@dataclass(frozen=True)
class Point:
    """The loss on the whole validation split after `seconds` of training, measuring not counted."""

    step: int
    seconds: float
    val_loss: float


def run(nanogpt: Path | None = None, rounds: int = 3, data: str | None = None) -> str:
    """The report, in Markdown. `nanogpt` is a clone of github.com/karpathy/nanoGPT, to run beside.

    Raises `CharlmError` if its recipe cannot be run.
    """
    corpus = load_corpus(data)
    parts = [machine()]
    if nanogpt is not None:
        seconds: dict[str, list[float]] = {"nanogpt": [], "small": []}
        for _ in range(rounds):
            seconds["nanogpt"].append(nanogpt_seconds(nanogpt, corpus))
            curve = learn("small", corpus)
            seconds["small"].append(seconds_to(curve, RECIPE_LOSS))
        ratios = [a / b for a, b in zip(seconds["small"], seconds["nanogpt"], strict=True)]
        rows = [
            ("nanoGPT's CPU recipe, whole run", *_spread(seconds["nanogpt"], ".1f")),
            (f"`small`, to a validation loss of {RECIPE_LOSS}", *_spread(seconds["small"], ".1f")),
            ("ratio", *_spread(ratios, ".2f")),
        ]
        header = ("time to loss, seconds", f"median of {rounds} in turn", "from … to")
        parts += [table(header, rows), curve_table("small", curve)]
    else:
        parts.append(curve_table("small", learn("small", corpus)))
    parts.append(curve_table("bigram", learn("bigram", corpus)))
    parts += [steps.report(preset, corpus) for preset in ("small", "gpt")]
    parts.append(disturbance(data, rounds))
    return "\n\n".join(parts)


def _spread(values: list[float], form: str) -> tuple[str, str]:
    """The median, and from where to where the values lie."""
    return f"{median(values):{form}}", f"{min(values):{form}} to {max(values):{form}}"


def learn(preset: str, corpus: Corpus) -> list[Point]:
    """Trains `preset` as the command line would and measures it often."""
    tokenizer = CharTokenizer.from_text(corpus.text)
    recipe = replace(presets.recipe(preset), vocab_size=tokenizer.vocab_size)
    every = max(1, recipe.options.steps // 40)
    began = time.perf_counter()
    trainer = Trainer(recipe.model(tokenizer), corpus, recipe.options)
    points = []
    measuring = 0.0
    for progress in trainer.run():
        if progress.step % every == 0:
            start = time.perf_counter()
            loss = evaluate(trainer.average, trainer.val_data)
            points.append(Point(progress.step, start - began - measuring, loss))
            measuring += time.perf_counter() - start
    return points


def seconds_to(points: list[Point], loss: float) -> float:
    """After how many seconds the validation loss was at most `loss`; infinity if never."""
    return next((point.seconds for point in points if point.val_loss <= loss), float("inf"))


def curve_table(name: str, points: list[Point]) -> str:
    """Some of the points of a curve, the last among them."""
    shown = points[:: max(1, len(points) // SHOWN_POINTS)]
    rows = [(p.step, f"{p.seconds:.1f}", f"{p.val_loss:.3f}") for p in dict.fromkeys((*shown, points[-1]))]
    return table((f"`{name}`: step", "seconds", "whole validation loss"), rows)


def nanogpt_seconds(nanogpt: Path, corpus: Corpus) -> float:
    """How long nanoGPT's recipe runs in the clone `nanogpt`, its imports not counted."""
    folder = nanogpt / "data" / "shakespeare_char"
    if not folder.is_dir():
        raise CharlmError(f"{nanogpt} is no clone of nanoGPT: it has no data/shakespeare_char.")
    tokenizer = CharTokenizer.from_text(corpus.text)
    for name, text in (("train", corpus.train_text), ("val", corpus.val_text)):
        np.array(tokenizer.encode(text), dtype=np.uint16).tofile(folder / f"{name}.bin")
    vocab = dict(enumerate(tokenizer.vocab))
    meta = {"vocab_size": len(vocab), "itos": vocab, "stoi": {char: i for i, char in vocab.items()}}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))

    command = [sys.executable, "-u", *RECIPE.split()]
    with subprocess.Popen(
        command, cwd=nanogpt, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        began, last = None, ""
        for line in process.stdout or ():
            last = line
            if began is None and re.match(r"step 0: ", line):
                began = time.perf_counter()
    if process.returncode or began is None:
        raise CharlmError(f"nanoGPT's train.py failed: {last.strip()}")
    return time.perf_counter() - began


def disturbance(data: str | None, rounds: int) -> str:
    """How fast a visitor's texts and a view come with and without somebody's training run beside them, and
    how fast the run learns meanwhile: as it is here, with threads that spin, and with one thread."""
    measured: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, (waiting, threads) in WAYS.items():
            measured[way].append(_beside(waiting, threads, data))
    rows = []
    for way, rounds_of_it in measured.items():
        ratio = median(m["text beside"] / m["text alone"] for m in rounds_of_it)
        m = {key: median(m[key] for m in rounds_of_it) for key in rounds_of_it[0]}
        views = f"{1000 * m['view alone']:.0f} and {1000 * m['view beside']:.0f}"
        steps = f"{m['learning alone']:.1f} and {m['learning beside']:.1f}"
        rows.append(
            (way, f"{m['text alone']:,.0f} and {m['text beside']:,.0f}", f"{ratio:.2f}", views, steps)
        )
    header = ("a run of `small` with", "characters/s alone and beside it", "ratio")
    return table((*header, "an attention view, ms", "steps/s alone and beside a writer"), rows)


def _beside(waiting: dict[str, str], threads: int, data: str | None) -> dict[str, float]:
    """What `measure_beside` tells in a process of its own, whose runs inherit how threads wait."""
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import measure_beside; measure_beside({threads}, {data!r})"],
        env=os.environ | waiting,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def measure_beside(threads: int, data: str | None) -> None:
    """Prints, as JSON: the characters per second of a visitor who writes, the seconds until a view is there,
    and the steps per second of a run of `small` with so many `threads`, each alone and beside the others."""
    turns.CORES = threads
    service = ModelService()
    visitor = service.visitors.welcome("127.0.0.1")
    model, text = service.get("gpt"), load_corpus(data).text

    def speed() -> float:
        return CHARS / seconds(lambda: list(stream(model, max_new_chars=CHARS, seed=1)))

    def view() -> float:
        return seconds(lambda: service.compute(attention.explain, model, PROMPT))

    speed()
    told = {
        "text alone": median(speed() for _ in range(TEXTS)),
        "view alone": median(view() for _ in range(TEXTS)),
    }
    run = service.runs.start(visitor, "bench", "small", {}, seconds=600, text=text)
    while run.active and run.progress["step"] < 3:
        time.sleep(0.1)

    def learned(work: Callable[[], object]) -> float:
        steps, start = run.progress["step"], time.perf_counter()
        work()
        return (run.progress["step"] - steps) / (time.perf_counter() - start)

    told["learning alone"] = learned(lambda: time.sleep(SECONDS_ALONE))
    told["learning beside"] = learned(
        lambda: told.update({"text beside": median(speed() for _ in range(TEXTS))})
    )
    told["view beside"] = median(view() for _ in range(TEXTS))
    service.close()
    print(json.dumps(told))
