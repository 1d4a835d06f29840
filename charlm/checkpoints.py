"""Trained models as folders: `model.safetensors` (weights) and `config.json` (all the rest).

Nothing is ever unpickled, and nothing is allocated before the sizes in both files agree.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from charlm.errors import CharlmError
from charlm.files import write_atomically, write_together
from charlm.models import ARCHITECTURES, LanguageModel
from charlm.models.unfilled import outline, unfilled
from charlm.tokenizer import CharTokenizer

HERE = Path(__file__).resolve().parent
CHECKPOINTS = HERE / "trained" if (HERE / "trained").is_dir() else HERE.parent / "checkpoints"
"""The models that come with charlm: a wheel has them inside the package, a checkout beside it."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = "charlm 1"
FILE_LIMITS = {CONFIG: 4_000_000, WEIGHTS: 200_000_000}
"""The files of a checkpoint, and the most bytes that each may have."""
READABLE_CHARS = 100_000
"""How long a configuration may be that is written for people: a longer one has no line breaks."""
BYTES_A_WEIGHT = 2
HEADER_BYTES = 200_000
"""What safetensors may write before the weights."""


def save(model: LanguageModel, record: dict[str, Any], folder: Path) -> None:
    """Writes `model` to `folder`, with a `record` of how it was made (any JSON).

    The weights are kept in half precision, which halves the file and what a character costs to write;
    the loss does not change in its fourth digit.

    The configuration names the weights by their hash, so that a crash between the two cannot leave a pair
    that loads wrongly. Raises `CharlmError` if writing fails, or what is written
    could not be read again.
    """
    tensors = _halves(model)
    if not all(t.isfinite().all() for t in tensors.values()):
        raise CharlmError("The weights are no numbers of half precision any more: learn at a lower rate.")
    weights = save_tensors(tensors)
    architecture = next(name for name, kind in ARCHITECTURES.items() if isinstance(model, kind))
    description = {
        "format": FORMAT,
        "architecture": architecture,
        "config": asdict(model.config),
        "vocab": model.tokenizer.vocab,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "record": record,
    }
    text = json.dumps(description, indent=2)
    if len(text) > READABLE_CHARS:
        text = json.dumps(description, separators=(",", ":"))
    for name, size in ((CONFIG, len(text)), (WEIGHTS, len(weights))):
        if size > FILE_LIMITS[name]:
            raise CharlmError(f"{name} would have {size:,} bytes, and could not be read again.")
    write_together({folder / WEIGHTS: weights, folder / CONFIG: text.encode()})


def _halves(model: LanguageModel) -> dict[str, Tensor]:
    return {name: t.half().contiguous() for name, t in model.state_dict().items()}


def weights_sha256(model: LanguageModel) -> str:
    """What the configuration of a checkpoint of `model` names its weights by."""
    return hashlib.sha256(save_tensors(_halves(model))).hexdigest()


def names() -> list[str]:
    """The checkpoints that come with charlm, alphabetically."""
    if not CHECKPOINTS.is_dir():
        return []
    return sorted(path.parent.name for path in CHECKPOINTS.glob(f"*/{CONFIG}"))


def find(name: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The checkpoint called `name` under checkpoints/, the folder or zip file at the path `name`, or
    what the Hub has under USER/MODEL, downloaded.

    Raises `CharlmError` if there is none of these.
    """
    if str(name) in names():
        return CHECKPOINTS / name
    path = Path(name)
    try:
        if (path / CONFIG).is_file() or (path.is_file() and zipfile.is_zipfile(path)):
            return path
    except (OSError, ValueError):
        pass  # A name that cannot be a path is no checkpoint.
    from charlm import hub  # late, because huggingface_hub takes a while to import

    target = hub.repo_id(str(name))
    if target is not None:
        return hub.download(target, FILE_LIMITS, revision)
    raise CharlmError(
        f"There is no checkpoint {str(name)!r:.200}: it is neither one of {', '.join(names()) or 'none'} "
        f"nor a folder or zip file with a {CONFIG}, nor USER/MODEL on the Hub."
    )


def load(name: str | os.PathLike[str], revision: str | None = None) -> LanguageModel:
    """The trained model called `name` under checkpoints/, in the folder or zip file `name`, or in the
    Hub's repository `name` (USER/MODEL) at a `revision`: a branch, a tag or a commit.

    Its `tokenizer` and the `record` of its training come with it; it is in eval mode. Raises
    `CharlmError`, saying what is wrong, for a file that is missing, truncated, foreign or that does
    not fit its configuration.
    """
    path = find(name, revision)
    description = read_description(path)
    config = _config(path, description)
    model_type = ARCHITECTURES[description["architecture"]]
    expected = {k: v.shape for k, v in outline(model_type, config).state_dict().items()}
    weights_file = _called(path, WEIGHTS)
    most = BYTES_A_WEIGHT * sum(shape.numel() for shape in expected.values()) + HEADER_BYTES
    weights = _read(path, WEIGHTS, min(most, FILE_LIMITS[WEIGHTS]))
    if hashlib.sha256(weights).hexdigest() != description["weights_sha256"]:
        raise CharlmError(f"{weights_file} is damaged or belongs to another {CONFIG}: its sha256 differs.")
    try:
        tensors = load_tensors(weights)
    except SafetensorError as error:
        raise CharlmError(f"{weights_file} is not a whole safetensors file ({error}).") from error
    if {k: v.shape for k, v in tensors.items()} != expected:
        raise CharlmError(f"{weights_file} does not hold the weights that {CONFIG} describes.")
    if not all(t.dtype == torch.float16 and t.isfinite().all() for t in tensors.values()):
        raise CharlmError(f"{weights_file} holds weights that are not finite half-precision numbers.")
    model = unfilled(model_type, config)
    model.load_state_dict(tensors)
    model.tokenizer, model.record = CharTokenizer(description["vocab"]), description["record"]
    return model.eval()


def read_config(checkpoint: Path) -> Any:
    """The sizes of the model in a folder or zip file, its weights unread: what its `config` will be.

    Raises `CharlmError` if they describe no model.
    """
    return _config(checkpoint, read_description(checkpoint))


def _config(path: Path, description: dict[str, Any]) -> Any:
    try:
        tokenizer = CharTokenizer(description["vocab"])
        config = ARCHITECTURES[description["architecture"]].config_type(**description["config"])
        if config.vocab_size != tokenizer.vocab_size:
            raise CharlmError(
                f"its vocabulary has {tokenizer.vocab_size} characters, not {config.vocab_size}."
            )
    except (CharlmError, TypeError) as error:
        raise CharlmError(f"{_called(path, CONFIG)} describes no model: {error}") from error
    return config


def pack(folder: Path, path: Path) -> None:
    """Writes the checkpoint in `folder` as one zip file to `path`, for `load` to read.

    Raises `CharlmError` if reading or writing fails.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILE_LIMITS:
            archive.writestr(name, _read(folder, name))
    write_atomically(path, buffer.getvalue())


def read_description(checkpoint: Path) -> dict[str, Any]:
    """The parsed configuration of the checkpoint in a folder or zip file, its weights unread.

    Raises `CharlmError` if it is not a charlm configuration.
    """
    file = _called(checkpoint, CONFIG)
    try:
        description = json.loads(_read(checkpoint, CONFIG))
    except (ValueError, RecursionError) as error:
        raise CharlmError(f"{file} is not JSON ({error}).") from error
    types = {
        "architecture": str,
        "config": dict,
        "vocab": str,
        "weights_sha256": str,
        "record": dict,
    }
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CharlmError(f"{file} is not the configuration of a charlm model.")
    for key, kind in types.items():
        if not isinstance(description.get(key), kind):
            raise CharlmError(f"{file} lacks its {key}, or it is of the wrong kind.")
    _name_the_gpt(description)
    if description["architecture"] not in ARCHITECTURES:
        raise CharlmError(f"{file} names an unknown architecture, {description['architecture']!r}.")
    return description


def _name_the_gpt(description: dict[str, Any]) -> None:
    """Until version 0.1 the GPT was an "attention" model whose configuration had `decoder` set."""
    config = description["config"]
    if description["architecture"] == "attention" and isinstance(config.get("decoder"), bool):
        description["architecture"] = "gpt" if config.pop("decoder") else "attention"


def _called(checkpoint: Path, name: str) -> str:
    """How a sentence names a file of a checkpoint: without the folders that lead there, which are nobody's
    business."""
    return f"{name} of {checkpoint.name[:100] or '.'}"


def _read(checkpoint: Path, name: str, limit: int | None = None) -> bytes:
    """The file `name` of a folder or zip file. Raises `CharlmError` if it is missing or larger than `limit`
    bytes (None: its limit of `FILE_LIMITS`)."""
    limit = limit or FILE_LIMITS[name]
    try:
        if checkpoint.is_dir():
            with (checkpoint / name).open("rb") as file:
                data = file.read(limit + 1)
        else:
            # Two members are read into memory by name: nothing is unpacked, so no path can lead out.
            with zipfile.ZipFile(checkpoint) as archive, archive.open(name) as file:
                data = file.read(limit + 1)
    except OSError as error:
        raise CharlmError(f"Cannot read {_called(checkpoint, name)}: {error.strerror}.") from error
    except (KeyError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise CharlmError(
            f"{checkpoint.name[:100]} is no zip file with a {name} that can be read ({error})."
        ) from error
    if len(data) > limit:
        raise CharlmError(f"{_called(checkpoint, name)} is larger than {limit:,} bytes.")
    return data
