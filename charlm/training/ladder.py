"""The ladder, climbed: each rung trained with several seeds, what came of it in one file, `ladder.json`, and
the weights of one seed where they are small."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from charlm import checkpoints
from charlm.corpus import Corpus
from charlm.engine.decoding import CORES
from charlm.engine.sampling import stream
from charlm.errors import CharlmError
from charlm.files import write_atomically
from charlm.models import LanguageModel
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.rungs import RUNGS
from charlm.training.trainer import SAMPLE_CHARS, Trainer

LADDER = "ladder.json"
FORMAT = "charlm ladder 1"
FIRST, TOP = "bigram", "gpt"
CLIMBED = (FIRST, *(rung.name for rung in RUNGS))
"""The rungs that `climb` trains, from the lowest up. Above them is `TOP`, which takes an hour, and is taken
from checkpoints."""
SEEDS = (1337, 1338, 1339)
MOST_BYTES = 300_000
"""Larger weights are not kept."""
DIGITS = 4
"""How many decimal places of a number are kept: the next one depends on the machine."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Climb:
    """One training of a rung: the losses in nats per character of the averaged weights, as a checkpoint keeps
    them, on the whole validation split and on as much of the training split; the `seconds` that it took of
    one processor core (the GPT's: of a clock), however busy the machine was; and what it writes from nothing
    at temperature 0.8.

    `curve` has the step, the estimated training and validation loss and the seconds of each evaluation.
    """

    seed: int
    val_loss: float
    train_loss: float
    seconds: float
    sample: str
    curve: list[tuple[int, float, float, float]]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Climb:
        """Raises `ValueError`, `TypeError` or `KeyError` for what no training leaves."""
        curve = [(int(step), float(train), float(val), float(s)) for step, train, val, s in value["curve"]]
        numbers = {name: float(value[name]) for name in ("val_loss", "train_loss", "seconds")}
        if not all(math.isfinite(x) for x in (*numbers.values(), *(x for point in curve for x in point))):
            raise ValueError("a loss is no number")
        return cls(seed=int(value["seed"]), sample=_text(value["sample"]), curve=curve, **numbers)


@dataclass(frozen=True)
class Entry:
    """A rung and what came of its recipe on the text with this hash: `settings` are all of the recipe's but
    the seed, `command` trains it again with the first seed."""

    name: str
    command: str
    data_sha256: str
    settings: dict[str, Any]
    parameters: int
    climbs: list[Climb]
    """By their seeds."""

    @property
    def mean(self) -> float:
        """Of the validation losses."""
        return statistics.fmean(climb.val_loss for climb in self.climbs)

    @property
    def spread(self) -> float | None:
        """The standard deviation of one training's validation loss, by its seed alone; None if there was but
        one."""
        losses = [climb.val_loss for climb in self.climbs]
        return statistics.stdev(losses) if len(losses) > 1 else None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Entry:
        """Raises as `Climb.from_json`."""
        climbs = [Climb.from_json(climb) for climb in value["climbs"]]
        if not climbs:
            raise ValueError("a rung was never trained")
        texts = {key: _text(value[key]) for key in ("name", "command", "data_sha256")}
        settings, parameters = dict(value["settings"]), int(value["parameters"])
        return cls(settings=settings, parameters=parameters, climbs=climbs, **texts)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is none")
    return value


def settings_of(name: str) -> dict[str, Any]:
    """All that may be changed of the recipe of a rung, but the seed."""
    return {key: value for key, value in presets.recipe(name).settings().items() if key != "seed"}


def load_ladder(folder: Path | None = None) -> list[Entry]:
    """What is known of the rungs, from the lowest up: by the file in `folder`, or the one that comes with
    charlm. Nothing if it cannot be read, which is logged."""
    try:
        value = json.loads(((folder or checkpoints.CHECKPOINTS) / LADDER).read_bytes())
        if value["format"] != FORMAT:
            raise ValueError("it has another format")
        entries = [Entry.from_json(entry) for entry in value["rungs"]]
        order = (*CLIMBED, TOP)
        return sorted((e for e in entries if e.name in order), key=lambda entry: order.index(entry.name))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        log.warning("There is no ladder: %s cannot be read (%s).", LADDER, error)
        return []


def climb(
    corpus: Corpus,
    seeds: Sequence[int],
    folder: Path,
    progress: Callable[[int, str, Climb], None],
    tops: Sequence[Path] = (),
) -> list[Entry]:
    """Trains each rung with each of `seeds` on `corpus`, but for what `ladder.json` in `folder` has of the
    same recipe and the same text, and writes that file anew after each. Returns the ladder.

    Small models learn fastest with one thread, so as many are trained side by side as there are processor
    cores, each in a process of its own. `progress` is told how many are left, and what came of a rung. The
    checkpoints in `tops` are taken in as the top rung, trained with other seeds than charlm's own.

    Raises `CharlmError` for a text that is too short, for a checkpoint in `tops` that was trained otherwise
    than the top rung, or if nothing can be written.
    """
    known = {e.name: e for e in load_ladder(folder) if _is_of(e, corpus)}
    for model in _tops(corpus, tops):
        known[TOP] = _with(known.get(TOP), TOP, corpus, _climb_of(model, model.record))
    done = {(entry.name, climb.seed) for entry in known.values() for climb in entry.climbs}
    left = [(name, seed) for seed in seeds for name in CLIMBED if (name, seed) not in done]
    with _workers(len(left)) as workers:
        jobs = {}
        for name, seed in left:
            kept_in = folder / name if seed == seeds[0] else None
            jobs[workers.submit(_train, name, seed, corpus, kept_in)] = name
        try:
            for n, job in enumerate(as_completed(jobs), 1):
                name, trained = jobs[job], job.result()
                known[name] = _with(known.get(name), name, corpus, trained)
                _write(known, folder)
                progress(len(jobs) - n, name, trained)
        finally:
            workers.shutdown(cancel_futures=True)
    _write(known, folder)
    return load_ladder(folder)


def _is_of(entry: Entry, corpus: Corpus) -> bool:
    """Whether an entry is what would come of the recipe and the text as they are now."""
    return entry.settings == settings_of(entry.name) and entry.data_sha256 == corpus.sha256


def _workers(jobs: int) -> Executor:
    """Processes that were not forked, for PyTorch has threads already."""
    return ProcessPoolExecutor(
        max(1, min(jobs, CORES)), multiprocessing.get_context("spawn"), initializer=_begin_to_work
    )


def _begin_to_work() -> None:
    """One thread computes; another ends this process with the one that waits for it."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def end_with_the_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_the_parent, daemon=True).start()


def _train(name: str, seed: int, corpus: Corpus, folder: Path | None) -> Climb:
    """Trains a rung, and keeps it in `folder`, if there is one and its weights are small."""
    began = time.process_time()
    recipe = presets.recipe(name, {"seed": seed})
    trainer = Trainer(recipe.model(CharTokenizer.from_text(corpus.text)), corpus, recipe.options)
    for _ in trainer.run():
        pass
    record = trainer.record(command_of(name)) | trainer.losses()
    if folder and checkpoints.BYTES_A_WEIGHT * trainer.model.parameter_count() < MOST_BYTES:
        checkpoints.save(trainer.average, record, folder)
    taken = time.process_time() - began
    return _climb_of(trainer.average.rounded(), record | {"seconds": taken})


def command_of(name: str) -> str:
    """What trains a rung."""
    compiled = " --compile" if name == TOP else ""
    return f"python -m charlm train {name}{compiled} --out checkpoints/{name}"


def _climb_of(model: LanguageModel, record: dict[str, Any]) -> Climb:
    """What the record of a training and its model tell."""
    seed = record["options"]["seed"]
    written = stream(model.eval(), max_new_chars=SAMPLE_CHARS, temperature=0.8, seed=seed)
    return Climb(
        seed=seed,
        val_loss=round(record["val_loss"], DIGITS),
        train_loss=round(record["train_loss"], DIGITS),
        seconds=round(record["seconds"], 1),
        sample="".join(step.char for step in written),
        curve=[
            (step, *(round(x, DIGITS) for x in losses), round(s, 1)) for step, *losses, s in record["curve"]
        ],
    )


def _with(entry: Entry | None, name: str, corpus: Corpus, trained: Climb) -> Entry:
    """`entry`, or a new one, with one more training, in the place of that with the same seed."""
    if entry is None:
        vocab_size = CharTokenizer.from_text(corpus.text).vocab_size
        parameters = replace(presets.recipe(name), vocab_size=vocab_size).parameter_count()
        entry = Entry(name, command_of(name), corpus.sha256, settings_of(name), parameters, [])
    climbs = {climb.seed: climb for climb in (*entry.climbs, trained)}
    return replace(entry, climbs=[climbs[seed] for seed in sorted(climbs)])


def _tops(corpus: Corpus, folders: Sequence[Path]) -> Iterator[LanguageModel]:
    """The GPT that comes with charlm, unless it was trained otherwise than `TOP`, and those in `folders`."""
    if TOP in checkpoints.names() and _is_top(own := checkpoints.load(TOP), corpus):
        yield own
    for folder in folders:
        model = checkpoints.load(folder)
        if not _is_top(model, corpus):
            raise CharlmError(f"{folder} was not trained by the recipe of {TOP} on this text.")
        yield model


def _is_top(model: LanguageModel, corpus: Corpus) -> bool:
    """Whether it was trained by the recipe of `TOP`, with any seed, on this text."""
    recipe = presets.recipe(TOP)
    usual, options = asdict(recipe.options), model.record.get("options")
    return (
        model.config == replace(recipe.config, vocab_size=model.config.vocab_size)
        and model.record.get("data_sha256") == corpus.sha256
        and isinstance(options, dict)
        and usual | options | {"seed": None} == usual | {"seed": None}
    )


def _write(known: dict[str, Entry], folder: Path) -> None:
    order = [name for name in (*CLIMBED, TOP) if name in known]
    value = {"format": FORMAT, "rungs": [asdict(known[name]) for name in order]}
    write_atomically(folder / LADDER, (json.dumps(value, indent=1) + "\n").encode())


def table(ladder: Sequence[Entry]) -> str:
    """The rungs as a table in Markdown, with their losses in nats per character, and the time they took."""
    lines = [
        "| rung | parameters | validation loss | seeds | one training |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for entry in ladder:
        loss = f"{entry.mean:.3f}" + (f" ± {entry.spread:.3f}" if entry.spread is not None else "")
        seconds = statistics.fmean(climb.seconds for climb in entry.climbs)
        seeds = len(entry.climbs)
        lines.append(f"| `{entry.name}` | {entry.parameters:,} | {loss} | {seeds} | {seconds:,.0f} s |")
    climbed = [climb.seconds for entry in ladder if entry.name != TOP for climb in entry.climbs]
    told = f"{len(climbed)} trainings took {sum(climbed) / 60:.0f} minutes of one processor core."
    return "\n".join([*lines, "", told])
