"""Models with some of their parts changed, by a name that says how: “gpt/5.4:silent” has this edit of gpt."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future

from charlm.models import LanguageModel
from charlm.service import limits
from charlm.surgery.operate import operate

SEPARATOR = "/"


def operated_name(name: str, edits: str) -> str:
    """The name of the model called `name` with `edits`, as `surgery.edits.parse` reads them, after those that
    it has already."""
    name, before = split_name(name)
    edits = " ".join((*before.split(), *edits.split()))
    return f"{name}{SEPARATOR}{edits}" if edits else name


def split_name(name: str) -> tuple[str, str]:
    """A name without its edits, and these."""
    name, _, edits = name.partition(SEPARATOR)
    return name, edits


class OperatedModels:
    """Makes the changed models that are asked for, each once, and keeps the latest
    `limits.MAX_OPERATED_MODELS` of them. For any number of threads at once."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, tuple[LanguageModel, Future[LanguageModel]]] = OrderedDict()
        self._lock = threading.Lock()
        """For the dictionary alone: nothing slow is done with it."""

    def get(self, name: str, model: LanguageModel, edits: str) -> LanguageModel:
        """`model` with `edits`, which are called `name` together. Raises `CharlmError` as `operate`."""
        with self._lock:
            known = self._models.get(name)
            if known is not None and known[0] is model:
                self._models.move_to_end(name)
                making = known[1]
            else:
                known, making = None, Future()
                self._models[name] = model, making
                while len(self._models) > limits.MAX_OPERATED_MODELS:
                    self._models.popitem(last=False)
        if known is None:
            try:
                making.set_result(operate(model, edits))
            except BaseException as error:
                with self._lock:
                    self._models.pop(name, None)
                making.set_exception(error)
        return making.result()
