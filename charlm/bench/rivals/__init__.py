"""What people would pick instead to write with a GPT of this shape, where it is installed: nothing of it is
needed otherwise, so each is imported late.

None attends exactly as charlm does, and none is asked to do more: the sizes are the same, and on average
each new character looks back at as many.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from charlm.engine.decoding import CORES
from charlm.models import GPT

Ways = dict[str, Callable[[], float]]
"""Names of ways to write, and what measures each once: characters per second."""


@dataclass(frozen=True)
class Rival:
    """A library that writes too."""

    name: str
    module: str
    """Of this package; its `ways(model, streams)` are those of the library."""
    packages: tuple[str, ...]
    """What has to be installed, as pip calls it."""
    imports: tuple[str, ...]
    """As what Python knows it."""


RIVALS = (
    Rival("transformers", "hugging_face", ("transformers",), ("transformers",)),
    Rival(
        "ONNX Runtime",
        "onnx_runtime",
        ("onnxruntime", "onnx", "onnxscript"),
        ("onnxruntime", "onnx", "onnxscript"),
    ),
    Rival("llama.cpp", "llama_cpp", ("llama-cpp-python", "gguf"), ("llama_cpp", "gguf")),
)


def ways(model: GPT, streams: int) -> tuple[Ways, list[str]]:
    """The ways of all that are installed to write so many texts at once with a model of the shape of
    `model`, and a sentence for each rival that is left out."""
    found: Ways = {}
    left_out: list[str] = []
    for rival in RIVALS:
        if any(importlib.util.find_spec(name) is None for name in rival.imports):
            left_out.append(
                f"{rival.name} is not installed (pip install {' '.join(rival.packages)}), so it is left out."
            )
            continue
        try:
            library = importlib.import_module(f"{__name__}.{rival.module}")
            its_ways: Ways = library.ways(model, streams)
            for way in its_ways.values():
                way()
        # A library that is built for another processor, or of another version, fails in its own way.
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or "without a reason"
            left_out.append(
                f"{rival.name} is left out, because it fails here ({type(error).__name__}: {reason:.200})."
            )
        else:
            found |= its_ways
    return found, left_out


def by_threads(name: str, way: Callable[[int], Callable[[], float]]) -> Ways:
    """The way called `name` on one thread and on one for each core."""
    return {f"{name}, {n} thread{'s' * (n > 1)}": way(n) for n in sorted({1, CORES})}


def steps(model: GPT, streams: int) -> int:
    """How many characters of each text a measurement takes: fewer of many."""
    return model.config.block_size // (1 if streams == 1 else 8)
