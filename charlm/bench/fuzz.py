"""Damaged and forged model files: each is refused with a sentence, or loads as a model that works."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from charlm import checkpoints
from charlm.errors import CharlmError
from charlm.models import ARCHITECTURES, build
from charlm.tokenizer import CharTokenizer

MAX_MEGABYTES = 64
"""How much more memory the loaders may take, whatever the files of some kilobytes ask for."""
NASTY: list[Any] = [
    *(0, 1, -1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), True, None),
    *("", "a", "aa", "\x00", "\ud800", "../..", "/etc/passwd", "9" * 5000),
    *([], {}, [[]], {"": {}}, [1] * 1000),
]


@dataclass(frozen=True)
class Verdict:
    """How many files were refused, how many loaded as working models, and the memory it took."""

    refused: int
    loaded: int
    megabytes: float


def run(files: int) -> str:
    """The report, in one line. Raises whatever a loader raised that is no refusal."""
    began = time.perf_counter()
    verdict = fuzz(files, seed=time.time_ns())
    return (
        f"{files:,} mutated files in {time.perf_counter() - began:.0f} s: {verdict.refused:,} refused, "
        f"{verdict.loaded:,} loaded as models that work, {verdict.megabytes:.0f} MB more memory at most."
    )


def fuzz(files: int, seed: int) -> Verdict:
    """Loads `files` mutated checkpoints. Raises whatever is no refusal, `AssertionError` for a model
    that loads and does not work, for a file that appears, and for more than `MAX_MEGABYTES`."""
    import resource  # Windows has none

    rng = random.Random(seed)
    refused = 0
    with tempfile.TemporaryDirectory() as name:
        folder, zipped = Path(name, "model"), Path(name, "model.zip")
        originals = [_original(architecture, Path(name)) for architecture in ARCHITECTURES]
        for architecture in ARCHITECTURES:
            _use(checkpoints.load(Path(name, architecture)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        folder.mkdir()
        for _ in range(files):
            path = rng.choice((folder, zipped))
            _forge(rng, rng.choice(originals), path)
            present = sorted(Path(name).rglob("*"))
            try:
                _use(checkpoints.load(path))
            except CharlmError:
                refused += 1
            assert sorted(Path(name).rglob("*")) == present
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert megabytes < MAX_MEGABYTES, megabytes
    return Verdict(refused, files - refused, megabytes)


@dataclass(frozen=True)
class _Files:
    config: bytes
    weights: bytes
    zipped: bytes


def _original(architecture: str, folder: Path) -> _Files:
    sizes = {"block_size": 4}
    if architecture != "bigram":
        sizes |= {"n_layer": 1, "n_head": 2, "n_embd": 8}
    model = build(architecture, CharTokenizer("abc\n"), sizes, seed=1)
    checkpoints.save(model, {"data": "abc", "val_loss": 1.0}, folder / architecture)
    checkpoints.pack(folder / architecture, folder / f"{architecture}.zip")
    config, weights = (folder / architecture / n for n in (checkpoints.CONFIG, checkpoints.WEIGHTS))
    zipped = folder / f"{architecture}.zip"
    return _Files(config.read_bytes(), weights.read_bytes(), zipped.read_bytes())


def _forge(rng: random.Random, files: _Files, path: Path) -> None:
    """Writes a mutated checkpoint to `path`: anything damaged, or one part forged and the rest made
    to fit, so that what checks the later parts is reached."""
    if path.suffix == ".zip" and rng.random() < 0.5:
        path.write_bytes(_damaged(rng, files.zipped))
        return
    weights, config = files.weights, json.loads(files.config)
    if rng.random() < 0.5:
        weights = _damaged(rng, weights)
        config["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    else:
        _replace_a_value(rng, config)
    data = json.dumps(config).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        data = _damaged(rng, data)
    parts = {checkpoints.CONFIG: data, checkpoints.WEIGHTS: weights}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, part)
    else:
        for name, part in parts.items():
            (path / name).write_bytes(part)


def _damaged(rng: random.Random, data: bytes) -> bytes:
    """One to four changes: bytes flipped, cut off, repeated, left out, or made extreme."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(damaged) + 1)
        end = min(len(damaged), at + rng.choice((1, 2, 8, 64)))
        piece = bytes(damaged[at:end])
        damaged[at:end] = rng.choice(
            (
                rng.randbytes(len(piece)),
                b"",
                piece * 2,
                rng.choice((b"\x00", b"\xff", b"\x7f")) * len(piece),
                str(rng.choice(NASTY)).encode("utf-8", "replace"),
            )
        )
        if rng.random() < 0.1:
            del damaged[rng.randrange(len(damaged) + 1) :]
    return bytes(damaged)


def _replace_a_value(rng: random.Random, config: dict[str, Any]) -> None:
    inside = rng.choice([config, config["config"], config["record"]])
    inside[rng.choice([*inside, "surprise"])] = rng.choice(NASTY)


def _use(model: Any) -> None:
    """Everything that the app does with a model that has loaded."""
    idx = torch.zeros(1, min(4, model.config.block_size), dtype=torch.long)
    logits, _ = model(idx)
    assert logits.shape == (*idx.shape, model.config.vocab_size) and logits.isfinite().all()
    assert model.tokenizer.decode(model.tokenizer.encode(model.tokenizer.vocab)) == model.tokenizer.vocab
    json.dumps(model.record)
