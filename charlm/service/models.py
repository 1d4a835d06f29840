"""The model service: what every tab asks for models, loaded once, when first wanted.

Who computes where: PyTorch has one thread in this process (`torch.set_num_threads`), so it computes in
whichever thread calls it, and no two pools of threads wait for each other. Texts are written by the
batcher's thread and the engine's pool. Whatever else takes its time is computed by a few workers
(`compute`). Nothing is computed on the event loop. Training has processes of its own.
"""

from __future__ import annotations

import logging
import math
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from charlm import checkpoints, hub
from charlm.corpus import TINY_SHAKESPEARE
from charlm.engine.compiling import Kernel
from charlm.engine.decoding import CORES
from charlm.engine.sampling import SamplingOptions, prompt_ids
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.service import limits
from charlm.service.batching import Batcher, Stream
from charlm.service.heads import MeasuredHeads, excerpt_of
from charlm.service.kept import folder_of, is_kept, kept_name
from charlm.service.naming import told_apart
from charlm.service.once import Once
from charlm.service.operated import operated_name, split_name
from charlm.service.run import Run
from charlm.service.runs import TrainingRuns
from charlm.service.visitors import Visitors
from charlm.surgery import edits as surgery
from charlm.surgery.heads import Heads, load_heads
from charlm.surgery.operate import RECIPE, operate, original_name
from charlm.training.excerpt import EXCERPT, MAX_LOSS, Excerpt
from charlm.training.presets import PRESETS
from charlm.training.rungs import RUNGS

T = TypeVar("T")
MEMORY_A_BYTE = 2
"""Weights have half as many bytes in files as in memory."""
RUNG_NAMES = [rung.name for rung in RUNGS]
FIRST_RUNG = 2
"""The bigram table is the first of the ladder."""
NO_SUCH_MODEL = "There is no such model, or it is not here any more."
KEEP_IT_FIRST = "The heads of a changed model are measured once it is kept as a model of one's own."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """What a visitor is told of a model before it is loaded. `val_loss` is in nats per character, None for
    a model that was changed since it was measured."""

    title: str
    description: str
    data: str
    """The text it was trained on."""
    parameters: int
    val_loss: float | None
    has_attention: bool


@dataclass(frozen=True)
class _OwnModel:
    visitor: str
    client: str
    folder: Path
    info: ModelInfo
    size: int
    """Of its files, in bytes."""
    shared_as: str | None
    """By which name everybody can ask for the same, if it is a shared model that was changed."""


class ModelService:
    """Hands out the trained models, for any number of threads at once.

    A visitor's own model, and the model of a visitor's run at a step that is kept, is known by a `name` that
    nobody else can guess.
    """

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.visitors = Visitors()
        self.runs = TrainingRuns(self.visitors)
        self.runs.on_trained(self._add_trained)
        self._kernel = Kernel()
        self._batcher = Batcher(self._kernel)
        self._workers = ThreadPoolExecutor(CORES, "charlm-worker")
        self._shared = _shared_models()
        self._models: dict[str, Future[LanguageModel]] = {}
        self._own: dict[str, _OwnModel] = {}
        self._kept: dict[str, _OwnModel] = {}
        """The kept steps of runs that were asked for."""
        self._operated: Once[LanguageModel] = Once()
        self._losses: Once[float] = Once()
        self._heads = MeasuredHeads()
        self._used: dict[str, float] = {}
        """When each own model and each kept step was last used; one that was never used is not here."""
        self._lock = threading.Lock()
        """For the dictionaries alone: nothing slow is done with it."""
        self.visitors.on_sweep(self._forget_the_gone)

    def names(self) -> list[str]:
        """The models there are for everybody: those of Tiny Shakespeare first, as losses on different texts
        cannot be compared, then the best first; the rungs of the ladder follow, from the highest down."""
        there = [name for name in checkpoints.names() if name in self._shared]
        infos = self._shared

        def order(name: str) -> tuple[bool, int, float]:
            loss = infos[name].val_loss
            rung = -RUNG_NAMES.index(name) if name in RUNG_NAMES else -len(RUNG_NAMES)
            return infos[name].data != TINY_SHAKESPEARE, rung, math.inf if loss is None else loss

        return sorted(there, key=order)

    def own_names(self, visitor: str) -> list[str]:
        """The models of `visitor`, the latest first."""
        with self._lock:
            own = [name for name, model in self._own.items() if visitor and model.visitor == visitor]
        return own[::-1]

    def find(self, name: str) -> ModelInfo | None:
        """Describes the model called `name`, if there is one. What stands behind a `/` are edits of it."""
        name, edits = split_name(name)
        own = self._owned(name)
        info = own.info if own else self._shared.get(name)
        return _with_edits(info, edits) if info and edits else info

    def info(self, name: str) -> ModelInfo:
        """As `find`. Raises `CharlmError` if there is no such model."""
        found = self.find(name)
        if found is None:
            raise CharlmError(NO_SUCH_MODEL)
        return found

    def get(self, name: str) -> LanguageModel:
        """The model called `name`, loaded once, with the edits behind a `/` if there are any. Raises
        `CharlmError` if that is impossible."""
        base, edits = split_name(name)
        if edits:
            model = self.get(base)
            return self._operated.get(name, lambda: operate(model, edits), limits.MAX_OPERATED_MODELS)
        own = self._owned(name)
        with self._lock:
            if name in self._own or name in self._kept:
                self._used[name] = time.monotonic()
            loading = self._models.get(name)
            if loading is None:
                mine = self._models[name] = Future()
                self._unload()
        if own is not None:
            # Whoever uses it keeps it, also a program that has no page open.
            self.visitors.touch(own.visitor)
        if loading is not None:
            return loading.result()
        try:
            mine.set_result(checkpoints.load(self._path(name)))
        except BaseException as error:
            with self._lock:
                self._models.pop(name, None)
            mine.set_exception(error)
        return mine.result()

    def excerpt(self, name: str) -> Excerpt:
        """The text by which the model called `name`, and what is made of it, is measured.

        Raises `CharlmError` if there is no such model, or no text for it."""
        base, _ = split_name(name)
        own = self._owned(base)
        shared, _ = split_name((own.shared_as if own else base) or "")
        return excerpt_of(self.get(base), (shared, *self.names()))

    def loss(self, name: str) -> float:
        """The mean loss in nats per character of the model called `name` on its `excerpt`, which takes about
        a second the first time. Raises `CharlmError` as `get` and `excerpt`."""
        model = self.get(name)
        return self._losses.get(name, lambda: self.excerpt(name).loss(model), limits.MAX_LOSSES)

    def bigram_loss(self, name: str) -> float | None:
        """The loss, in nats per character, of the pairs of characters counted in the training split, on the
        `excerpt` of the model called `name`; None if it is not known. Raises `CharlmError` as `excerpt`."""
        return self.excerpt(name).bigram

    def heads(self, name: str) -> Heads | None:
        """What is known of the heads of the model called `name`: of one that comes with charlm, or that was
        measured here. None for any other, and for a changed one that is not kept."""
        return self._heads.find(name) or load_heads(name)

    def measure_heads(self, name: str) -> Future[Heads]:
        """Begins to measure the heads of the model called `name` in the background, if they are not known.

        Raises `CharlmError` for a model without heads, a changed one that is not kept, and while another of
        the same client is measured. What fails later is told by the result.
        """
        if split_name(name)[1]:
            raise CharlmError(KEEP_IT_FIRST)
        if not self.info(name).has_attention:
            raise CharlmError(surgery.NO_HEADS)
        known = self.heads(name)
        if known is not None:
            result: Future[Heads] = Future()
            result.set_result(known)
            return result
        own = self._owned(name)
        return self._heads.begin(
            name, own.client if own else "", lambda: (self.get(name), self.excerpt(name))
        )

    def heads_progress(self, name: str) -> float | None:
        """How much of the heads of the model called `name` is measured, from 0 to 1; None if `measure_heads`
        has not begun to, or failed."""
        return self._heads.progress(name)

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """`function(*args)`, by one of the workers, as soon as one is free."""
        return self._workers.submit(function, *args)

    def compute(self, function: Callable[..., T], *args: Any) -> T:
        """The same, waited for: never by a worker, who might wait for himself."""
        return self.submit(function, *args).result()

    def stream(self, name: str, prompt: str, options: SamplingOptions, client: str = "") -> Stream:
        """`sampling.stream` with the model called `name`, beside all others who write with it, within
        what one visitor may ask for. Places are shared among clients: `client` says whose it is.

        Raises `CharlmError` at once for a request that cannot be carried out.
        """
        limits.check_chars("A prompt", prompt, limits.MAX_PROMPT_CHARS)
        limits.check_new_chars(options.max_new_chars)
        model = self.get(name)
        return self._batcher.submit(model, prompt_ids(model.tokenizer, prompt), options, client)

    def warm_up(self) -> None:
        """Begins to load the best model and to have the kernel compiled, which takes seconds on a new
        machine."""
        self._kernel.prepare()
        self.submit(self.get, self.names()[0])

    def add_zip(self, visitor: str, title: str, path: Path) -> str:
        """Makes the model in the zip file at `path` the `visitor`'s own and returns its name.

        Raises `CharlmError` if it is not a charlm model.
        """
        return self._add_written(visitor, title, _copy, path)

    def keep_operated(self, visitor: str, name: str) -> str:
        """Makes the changed model called `name` the `visitor`'s own and returns the name that it has then.

        Raises `CharlmError` if there is no such model, or no room for it.
        """
        self.visitors.check(visitor)
        title, model = self.info(name).title, self.get(name)
        record = _checked_record(model.record)
        return self._add_written(visitor, title[: limits.MAX_NAME_CHARS], checkpoints.save, model, record)

    def kept_name(self, run: Run, step: int) -> str:
        """The name of the model that a run was at one of its `kept_steps`."""
        return kept_name(run.id, step)

    def shared_name(self, name: str) -> str | None:
        """By which name everybody can ask for the model called `name`; None if it is a visitor's alone."""
        base, edits = split_name(name)
        own = self._owned(base)
        if own is not None:
            return own.shared_as if own.shared_as and not edits else None
        return name if base in self.names() and self.find(name) is not None else None

    def add_from_hub(self, visitor: str, name: str) -> str:
        """Makes a public model on the Hub the `visitor`'s own and returns its name here.

        `name` is USER/MODEL or the address of its page. Raises `CharlmError` if there is no such
        model of ours.
        """
        self.visitors.check(visitor)
        target = hub.repo_id(name)
        if target is None:
            raise CharlmError(f"{name[:100]!r} is not the name of a model on the Hub: write USER/MODEL.")
        fetched = self.visitors.new_folder()
        try:
            # Never with the token of whoever runs the app: visitors see what everybody may see. And not to
            # the cache, where what is refused would stay.
            checkpoint = hub.download(target, limits.OWN_FILE_LIMITS, token=False, cache=fetched)
            return self._add_written(visitor, target, _copy, checkpoint)
        finally:
            shutil.rmtree(fetched, ignore_errors=True)

    def pack(self, name: str) -> Path:
        """The visitor's own model called `name` as one zip file. Raises `CharlmError` if it is not
        there any more."""
        with self._lock:
            own = self._own.get(name)
        if own is None:
            raise CharlmError(NO_SUCH_MODEL)
        safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in own.info.title)
        path = own.folder / f"{safe}.zip"
        checkpoints.pack(own.folder, path)
        return path

    def close(self) -> None:
        """Ends the runs and removes what visitors left."""
        self._batcher.close()
        self._kernel.close()
        self.runs.close()
        self.visitors.close()

    def _add_written(self, visitor: str, title: str, write: Callable[..., None], *args: Any) -> str:
        """Makes what `write(*args, folder)` leaves in a new folder the `visitor`'s own."""
        self.visitors.check(visitor)
        folder = self.visitors.new_folder()
        try:
            self.compute(write, *args, folder)
        except CharlmError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self._add(visitor, title, folder)

    def _add_trained(self, run: Run) -> None:
        name = self._add(run.visitor, run.name, run.model)
        with self._lock:
            self._used[name] = time.monotonic()

    def _add(self, visitor: str, title: str, folder: Path) -> str:
        self.visitors.touch(visitor)
        size = sum(path.stat().st_size for path in folder.iterdir())
        described = checkpoints.read_description(folder)
        info = _info(title, described, own=True)
        shared_as = self._shared_as(described["record"])
        own = _OwnModel(visitor, self.visitors.client(visitor), folder, info, size, shared_as)
        name = secrets.token_urlsafe(16)
        with self._lock:
            mine = [n for n, model in self._own.items() if model.visitor == visitor]
            removed = self._take_out(mine[: max(0, len(mine) + 1 - limits.MAX_OWN_MODELS)])
            while (there := self._least_wanted()) and self._own_bytes() + size > limits.MAX_OWN_BYTES:
                removed += self._take_out([there])
            has_room = self._own_bytes() + size <= limits.MAX_OWN_BYTES
            if has_room:
                title = told_apart(title, {m.info.title for m in self._own.values() if m.visitor == visitor})
                self._own[name] = replace(own, info=replace(info, title=title))
        _remove(removed)
        if not has_room:
            _remove([own])
            raise CharlmError("There is no room for another model here: please try again in a few minutes.")
        return name

    def _owned(self, name: str) -> _OwnModel | None:
        """The model called `name`, if it is a visitor's alone: an own model, or a kept step of a run."""
        if is_kept(name):
            return self._step_called(name)
        with self._lock:
            return self._own.get(name)

    def _step_called(self, name: str) -> _OwnModel | None:
        found = self.runs.find_kept(name)
        with self._lock:
            if found is None:
                self._kept.pop(name, None)
                self._drop(name)
            known = self._kept.get(name)
        if known or not found:
            return known
        run, step = found
        folder = folder_of(run.model, step)
        try:
            info = _info(run.name, checkpoints.read_description(folder), step=step)
            size = sum(path.stat().st_size for path in folder.iterdir())
        except (CharlmError, OSError):  # It went meanwhile.
            return None
        own = _OwnModel(run.visitor, self.visitors.client(run.visitor), folder, info, size, None)
        with self._lock:
            return self._kept.setdefault(name, own)

    def _shared_as(self, record: dict[str, Any]) -> str | None:
        """What the model with this record is called, if it is a shared one that was changed."""
        name = original_name(record)
        return operated_name(name, record[RECIPE]["edits"]) if name in self._shared else None

    def _own_bytes(self) -> int:
        return sum(own.size for own in self._own.values())

    def _least_wanted(self) -> str | None:
        """The own model to make way for another: of whoever has most here, the one that was not used for
        longest. None if all were used lately."""
        since = time.monotonic() - limits.IN_USE_SECONDS
        idle = [name for name in self._own if self._last_use(name) < since]
        held: Counter[str] = Counter()
        for own in self._own.values():
            held[own.client] += own.size
        return min(idle, key=lambda n: (-held[self._own[n].client], self._last_use(n)), default=None)

    def _last_use(self, name: str) -> float:
        return self._used.get(name, float("-inf"))

    def _unload(self) -> None:
        """Takes the own models and the kept steps out of memory that were not used for longest, until there
        is room for the one that is loaded next. They stay on the disk."""
        owned = self._own | self._kept
        loaded = sorted((n for n in self._models if n in owned), key=self._last_use)
        memory = sum(MEMORY_A_BYTE * owned[name].size for name in loaded)
        for name in loaded[:-1]:
            if memory > limits.MAX_OWN_MEMORY:
                memory -= MEMORY_A_BYTE * owned[name].size
                del self._models[name]

    def _forget_the_gone(self) -> None:
        """Removes the models of visitors who are gone, and forgets kept steps that are not there any more."""
        with self._lock:
            gone = [name for name, own in self._own.items() if self.visitors.is_gone(own.visitor)]
            removed = self._take_out(gone)
            kept = list(self._kept)
        _remove(removed)
        for name in kept:
            self._step_called(name)

    def _take_out(self, names: list[str]) -> list[_OwnModel]:
        for name in names:
            self._drop(name)
        return [self._own.pop(name) for name in names]

    def _drop(self, name: str) -> None:
        """Forgets what was made of the model called `name`."""
        self._models.pop(name, None)
        self._used.pop(name, None)
        self._heads.forget(name)

    def _path(self, name: str) -> Path:
        # A visitor's word must never be taken for a path.
        own = self._owned(name)
        if own is not None:
            return own.folder
        if name not in self.names():
            raise CharlmError(NO_SUCH_MODEL)
        return checkpoints.find(name)


def _shared_models() -> dict[str, ModelInfo]:
    """The checkpoints that come with charlm, by name. One that cannot be read is left out. Raises
    `CharlmError` if none is left."""
    found = {}
    for name in checkpoints.names():
        try:
            found[name] = _info(name, checkpoints.read_description(checkpoints.find(name)))
        except CharlmError as error:
            log.warning("A model is left out: %s", error)
    if not found:
        raise CharlmError("There is no model in checkpoints/ that can be read.")
    return found


def _info(title: str, described: dict[str, Any], own: bool = False, step: int | None = None) -> ModelInfo:
    """What the configuration of a checkpoint tells: of a shared model, of a visitor's `own`, or of what a run
    was at a `step`."""
    record = _checked_record(described["record"])
    if step is not None:
        title = f"{title} at step {step:,}"
        description = f"Your model after {step:,} steps of training on {record['data']}."
    elif own:
        description = f"Your own model, trained on {record['data']}."
        if RECIPE in record:
            description = f"A model trained on {record['data']}, and changed by you."
    elif title in PRESETS:
        title, description = _title_of(title), PRESETS[title].description
    else:
        description = "A model trained here."
    has_attention = described["architecture"] != "bigram"
    return ModelInfo(
        title, description, record["data"], record["parameters"], record["val_loss"], has_attention
    )


def _title_of(preset: str) -> str:
    """What a model is called that a preset has made: one of the ladder with its place there."""
    title = PRESETS[preset].title
    return f"Ladder {RUNG_NAMES.index(preset) + FIRST_RUNG}: {title}" if preset in RUNG_NAMES else title


def _with_edits(info: ModelInfo, edits: str) -> ModelInfo | None:
    """What is told of a model once it has `edits`; None if they are none."""
    try:
        parsed = surgery.parse(edits)
    except CharlmError:
        return None
    title = f"{info.title}, {surgery.title(parsed)}" if surgery.merge(parsed) else info.title
    return replace(info, title=title, description=f"{info.title}, changed: {edits}.", val_loss=None)


def _copy(source: Path, target: Path) -> None:
    """Writes anew what can be read of somebody's checkpoint, if it is no larger than what is trained here."""
    limits.check_model_sizes(checkpoints.read_config(source))
    model = checkpoints.load(source)
    checkpoints.save(model, _checked_record(model.record), target)


def _remove(models: list[_OwnModel]) -> None:
    for own in models:
        shutil.rmtree(own.folder, ignore_errors=True)


def _checked_record(record: dict[str, Any]) -> dict[str, Any]:
    """The record of somebody's file, with what the page shows of it in the right types."""
    checked = dict(record)
    for key, kind, default in (
        ("data", str, "an unknown text"),
        ("val_loss", float, None),
        ("parameters", int, 0),
    ):
        if not isinstance(checked.get(key), kind):
            checked[key] = default
    if checked["val_loss"] is not None and not 0 <= checked["val_loss"] <= MAX_LOSS:
        checked["val_loss"] = None
    if EXCERPT in checked and Excerpt.from_json(checked[EXCERPT]) is None:
        del checked[EXCERPT]
    return checked
