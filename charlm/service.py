"""The model service: what every tab asks for models, loaded once, when first wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from charlm import checkpoints
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.presets import PRESETS
from charlm.sampling import Step, stream

MAX_PROMPT_CHARS = 10_000
MAX_NEW_CHARS = 5_000


@dataclass(frozen=True)
class ModelInfo:
    """What a visitor is told of a model before it is loaded. `val_loss` is in nats per character."""

    name: str
    description: str
    parameters: int
    val_loss: float
    has_attention: bool


class ModelService:
    """Hands out the trained models, for any number of threads at once."""

    def __init__(self) -> None:
        self._models: dict[str, LanguageModel] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The models there are, the best first."""
        return sorted(checkpoints.names(), key=lambda name: self.info(name).val_loss)

    def info(self, name: str) -> ModelInfo:
        """Describes the model called `name`. Raises `CharlmError` if there is none."""
        checkpoint = checkpoints.read_description(checkpoints.find(self._known(name)))
        record = checkpoint["record"]
        description = PRESETS[name].description if name in PRESETS else "A model trained here."
        has_attention = checkpoint["architecture"] == "attention"
        return ModelInfo(name, description, record["parameters"], record["val_loss"], has_attention)

    def get(self, name: str) -> LanguageModel:
        """The model called `name`, loaded once. Raises `CharlmError` if that is impossible."""
        with self._lock:
            if name not in self._models:
                self._models[name] = checkpoints.load(self._known(name))
            return self._models[name]

    def stream(
        self, name: str, prompt: str, *, max_new_chars: int, **options: float | None
    ) -> Iterator[Step]:
        """`sampling.stream` with the model called `name`, within what one visitor may ask for.

        Raises `CharlmError` at once for a request that cannot be carried out.
        """
        if len(prompt) > MAX_PROMPT_CHARS:
            raise CharlmError(
                f"A prompt may have {MAX_PROMPT_CHARS:,} characters: this one has {len(prompt):,}."
            )
        if max_new_chars > MAX_NEW_CHARS:
            raise CharlmError(
                f"At most {MAX_NEW_CHARS:,} characters are written at a time, not {max_new_chars:,}."
            )
        return stream(self.get(name), prompt, max_new_chars=max_new_chars, **options)

    def _known(self, name: str) -> str:
        # A visitor's word must never be taken for a path.
        if name not in checkpoints.names():
            raise CharlmError(f"There is no model called {name!r}.")
        return name
