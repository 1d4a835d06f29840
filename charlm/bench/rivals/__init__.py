"""What people would pick instead to write with a GPT of this shape, where it is installed: nothing of it is
needed otherwise, so each is imported late.

All have the sizes of charlm's model, and on average a new character looks back at a whole context; in which
parts they differ is said with each.
"""

from __future__ import annotations

import importlib
import importlib.util
import traceback
from collections.abc import Callable, Mapping
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
    packages: Mapping[str, str]
    """What has to be installed: as Python knows it, and as pip does."""


RIVALS = (
    Rival("transformers", "hugging_face", {"transformers": "transformers"}),
    Rival(
        "ONNX Runtime",
        "onnx_runtime",
        {"onnxruntime": "onnxruntime", "onnx": "onnx", "onnxscript": "onnxscript"},
    ),
    Rival("llama.cpp", "llama_cpp", {"llama_cpp": "llama-cpp-python", "gguf": "gguf"}),
)


def ways(model: GPT, streams: int) -> tuple[Ways, list[str]]:
    """The ways of all that are installed to write so many texts at once with a model of the shape of
    `model`, and a sentence for each rival that is left out."""
    found: Ways = {}
    left_out: list[str] = []
    for rival in RIVALS:
        if any(importlib.util.find_spec(name) is None for name in rival.packages):
            install = f"pip install {' '.join(rival.packages.values())}"
            left_out.append(f"{rival.name} is not installed ({install}), so it is left out.")
            continue
        try:
            library = importlib.import_module(f"{__name__}.{rival.module}")
            its_ways: Ways = library.ways(model, streams)
            for way in its_ways.values():
                way()
        # What is of another version, or built for another processor, fails in a way of its own.
        except Exception as error:
            reason = traceback.format_exception_only(error)[-1].partition("\n")[0]
            left_out.append(f"{rival.name} fails here ({reason:.200}), so it is left out.")
        else:
            found |= its_ways
    return found, left_out


def by_threads(name: str, way: Callable[[int], Callable[[], float]]) -> Ways:
    """The way called `name` on one thread and on one for each core."""
    return {f"{name}, {n} thread{'s' * (n > 1)}": way(n) for n in sorted({1, CORES})}


def steps(model: GPT, streams: int) -> int:
    """How many characters of each text a measurement takes: fewer of many."""
    return model.config.block_size // (1 if streams == 1 else 8)
