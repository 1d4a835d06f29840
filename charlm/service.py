"""The model service: what every tab asks for models, loaded once, when first wanted."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from charlm import checkpoints, hub
from charlm.batching import Batcher, Stream
from charlm.errors import CharlmError, check_range
from charlm.models import LanguageModel
from charlm.presets import PRESETS
from charlm.runs import MAX_VOCAB_SIZE, SIZE_LIMITS, TrainingRuns
from charlm.sampling import SamplingOptions, prompt_ids

T = TypeVar("T")
MAX_PROMPT_CHARS = 10_000
MAX_NEW_CHARS = 5_000
MAX_OWN_MODELS = 8
"""How many models of one visitor are kept: a new one replaces the oldest."""
CLEANING_INTERVAL_SECONDS = 60


@dataclass(frozen=True)
class ModelInfo:
    """What a visitor is told of a model before it is loaded. `val_loss` is in nats per character."""

    title: str
    description: str
    parameters: int
    val_loss: float
    has_attention: bool


class ModelService:
    """Hands out the trained models, for any number of threads at once.

    A visitor's own model is known by a `name` that nobody else can guess.
    """

    def __init__(self) -> None:
        self.runs = TrainingRuns()
        self.runs.on_trained(lambda run: self._add(run.visitor, run.name, run.model))
        self._batcher = Batcher()
        self._models: dict[str, LanguageModel] = {}
        self._own: dict[str, _OwnModel] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._clean_up, daemon=True).start()

    def names(self, visitor: str = "") -> list[str]:
        """The models there are for everybody, the best first, and before them the `visitor`'s own,
        the latest first."""
        with self._lock:
            own = [name for name, model in self._own.items() if visitor and model.visitor == visitor]
        return own[::-1] + sorted(checkpoints.names(), key=lambda name: self.info(name).val_loss)

    def is_own(self, name: str) -> bool:
        """Whether the model called `name` is a visitor's own."""
        return name in self._own

    def info(self, name: str) -> ModelInfo:
        """Describes the model called `name`. Raises `CharlmError` if there is none."""
        checkpoint = checkpoints.read_description(self._path(name))
        record = checkpoint["record"]
        own = self._own.get(name)
        if own is not None:
            description = f"Your own model, trained on {record['data']}."
        else:
            description = PRESETS[name].description if name in PRESETS else "A model trained here."
        return ModelInfo(
            own.title if own else name,
            description,
            record["parameters"],
            record["val_loss"],
            checkpoint["architecture"] == "attention",
        )

    def get(self, name: str) -> LanguageModel:
        """The model called `name`, loaded once. Raises `CharlmError` if that is impossible."""
        with self._lock:
            if name not in self._models:
                self._models[name] = self.compute(checkpoints.load, self._path(name))
            return self._models[name]

    def compute(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)`, in the thread that computes for everybody, when it is free."""
        return self._batcher.call(function, *args)

    def stream(self, name: str, prompt: str, options: SamplingOptions) -> Stream:
        """`sampling.stream` with the model called `name`, beside all others who write with it, within
        what one visitor may ask for.

        Raises `CharlmError` at once for a request that cannot be carried out.
        """
        if len(prompt) > MAX_PROMPT_CHARS:
            raise CharlmError(
                f"A prompt may have {MAX_PROMPT_CHARS:,} characters: this one has {len(prompt):,}."
            )
        if options.max_new_chars > MAX_NEW_CHARS:
            raise CharlmError(
                f"At most {MAX_NEW_CHARS:,} characters are written at a time, not {options.max_new_chars:,}."
            )
        model = self.get(name)
        return self._batcher.submit(model, prompt_ids(model.tokenizer, prompt), options)

    def warm_up(self) -> None:
        """Has the best model loaded and its kernel compiled, which takes seconds at the first start,
        while a visitor still reads the page."""
        name = self.names()[0]
        if name not in self._models:
            self.stream(name, "", SamplingOptions(max_new_chars=1))

    def add_zip(self, visitor: str, title: str, path: Path) -> str:
        """Makes the model in the zip file at `path` the `visitor`'s own and returns its name.

        Raises `CharlmError` if it is not a charlm model.
        """
        return self._add_copy(visitor, title, path)

    def add_from_hub(self, visitor: str, name: str) -> str:
        """Makes a public model on the Hub the `visitor`'s own and returns its name here.

        `name` is USER/MODEL or the address of its page. Raises `CharlmError` if there is no such
        model of ours.
        """
        target = hub.repo_id(name)
        if target is None:
            raise CharlmError(f"{name[:100]!r} is not the name of a model on the Hub: write USER/MODEL.")
        # Never with the token of whoever runs the app: visitors see what everybody may see.
        return self._add_copy(visitor, target, hub.download(target, token=False))

    def _add_copy(self, visitor: str, title: str, path: Path) -> str:
        model = self.compute(checkpoints.load, path)
        # As large as what can be trained here: a visitor's model must not take everybody's memory.
        for size, most in (SIZE_LIMITS | {"vocab_size": MAX_VOCAB_SIZE}).items():
            check_range(size, getattr(model.config, size, 1), 1, most)
        folder = self.runs.new_folder()
        checkpoints.save(model, _checked_record(model.record), folder)
        return self._add(visitor, title, folder)

    def pack(self, name: str) -> Path:
        """The visitor's own model called `name` as one zip file. Raises `CharlmError` if it is not
        there any more."""
        own = self._own.get(name)
        if own is None:
            raise CharlmError("This model is not here any more.")
        safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in own.title)
        path = own.folder / f"{safe}.zip"
        checkpoints.pack(own.folder, path)
        return path

    def _add(self, visitor: str, title: str, folder: Path) -> str:
        self.runs.touch(visitor)
        with self._lock:
            name = secrets.token_urlsafe(16)
            self._own[name] = _OwnModel(visitor, title, folder)
            mine = [name for name, own in self._own.items() if own.visitor == visitor]
            self._remove(mine[:-MAX_OWN_MODELS])
            return name

    def _clean_up(self) -> None:
        """Removes now and then what visitors who are gone have left."""
        while True:
            time.sleep(CLEANING_INTERVAL_SECONDS)
            with self._lock:
                self._remove([name for name, own in self._own.items() if self.runs.is_gone(own.visitor)])
            self.runs.forget_the_gone()

    def _remove(self, names: list[str]) -> None:
        for name in names:
            shutil.rmtree(self._own.pop(name).folder, ignore_errors=True)
            self._models.pop(name, None)

    def _path(self, name: str) -> Path:
        # A visitor's word must never be taken for a path.
        if name in self._own:
            return self._own[name].folder
        if name not in checkpoints.names():
            raise CharlmError("There is no such model, or it is not here any more.")
        return checkpoints.find(name)


@dataclass(frozen=True)
class _OwnModel:
    visitor: str
    title: str
    folder: Path


def _checked_record(record: dict[str, Any]) -> dict[str, Any]:
    """The record of somebody's file, with what the page shows of it in the right types."""
    checked = dict(record)
    for key, kind, default in (
        ("data", str, "an unknown text"),
        ("val_loss", float, 0.0),
        ("parameters", int, 0),
    ):
        if not isinstance(checked.get(key), kind):
            checked[key] = default
    return checked
