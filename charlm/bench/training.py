"""How soon a preset learns, against nanoGPT's recipe for CPUs; and what a run costs those who write."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from charlm.bench import steps
from charlm.bench.report import alternate, machine, ratio, table
from charlm.corpus import Corpus, load_corpus
from charlm.engine.sampling import SamplingOptions
from charlm.errors import CharlmError
from charlm.service.models import ModelService
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.evaluation import evaluate
from charlm.training.trainer import Trainer

RECIPE = (
    "train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 "
    "--log_interval=1 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 "
    "--max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)
"""nanoGPT's README: what it recommends for a computer without a GPU."""
RECIPE_LOSS = 1.88
"""The validation loss that nanoGPT's README states for it."""
SHOWN_POINTS = 8
WAIT_POLICY = "OMP_WAIT_POLICY"
"""The variable that says what OpenMP's threads do while they wait."""
TEXTS = 5
"""How many a visitor writes beside a run."""


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
    parts.append(disturbance(corpus, rounds))  # last, because the app sets PyTorch to one thread
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


def disturbance(corpus: Corpus, rounds: int) -> str:
    """How fast a visitor's text is written with and without somebody's training run beside it, and how fast
    the run learns meanwhile; also if its threads spin while they wait, instead of sleeping."""
    service = ModelService()
    runs = service.runs
    visitor = service.visitors.welcome("127.0.0.1")

    def speed() -> float:
        start = time.perf_counter()
        n = len(list(service.stream("gpt", "", SamplingOptions(1000, seed=1))))
        return n / (time.perf_counter() - start)

    learned: dict[str, list[float]] = {"ACTIVE": [], "PASSIVE": []}

    def beside_training(policy: str) -> float:
        os.environ[WAIT_POLICY] = policy
        run = runs.start(visitor, "bench", "small", {}, seconds=600, text=corpus.text)
        del os.environ[WAIT_POLICY]
        while run.active and run.progress["step"] < 3:
            time.sleep(0.1)
        before = run.progress
        value = median(speed() for _ in range(TEXTS))
        after = run.progress
        learned[policy].append((after["step"] - before["step"]) / (after["seconds"] - before["seconds"]))
        runs.stop(visitor)
        while run.active:
            time.sleep(0.1)
        return value

    ways = {policy: partial(beside_training, policy) for policy in learned}
    speeds = alternate({"alone": speed, **ways}, rounds)
    service.close()
    rows = [("alone", f"{median(speeds['alone']):,.0f}", "1.00", "")]
    rows += [
        (
            f"beside a run of `small` whose threads {how}",
            f"{median(speeds[policy]):,.0f}",
            f"{ratio(speeds, policy, 'alone'):.2f}",
            f"{median(learned[policy]):.1f}",
        )
        for policy, how in (("ACTIVE", "spin while they wait"), ("PASSIVE", "sleep, as here"))
    ]
    return table(("one visitor writes with `gpt`", "characters/s", "ratio", "steps/s of the run"), rows)
