"""Models whose weights are not numbers yet: to be loaded, or only to be counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from charlm.models.base import LanguageModel


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills new weights with numbers; `empty` makes the tensors that hold them."""

    def __init__(self, empty: Callable[..., Tensor] = torch.empty):
        super().__init__()
        self._empty = empty

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return (self._empty if func is torch.empty else func)(*args, **kwargs)


def unfilled(model_type: type[LanguageModel], config: Any) -> LanguageModel:
    """A model whose weights are yet to be loaded."""
    with _Unfilled():
        return model_type(config)


def outline(model_type: type[LanguageModel], config: Any) -> LanguageModel:
    """A model that takes hardly any memory, whatever its sizes: only the shapes of its weights can be asked
    for."""
    with _Unfilled(_single):
        return model_type(config)


def _single(*size: Any, **_: Any) -> Tensor:
    """A single number, seen as often as there are places. (On the meta device PyTorch would import its
    compiler, which takes a second.)"""
    return torch.zeros(()).expand(*size)
