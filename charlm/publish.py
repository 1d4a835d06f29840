"""Models and the app itself, uploaded to the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, ModelCardData

from charlm import checkpoints
from charlm.engine.sampling import stream
from charlm.errors import CharlmError
from charlm.hub import check_repo_id, translated_errors
from charlm.surgery.edits import text_of
from charlm.surgery.operate import edits_of

ROOT = Path(__file__).resolve().parent.parent
SPACE_FILES = ["app.py", "README.md", "LICENSE", "requirements.txt"]
SPACE_FOLDERS = ["charlm", "checkpoints"]
LEFT_OUT = ["*/__pycache__/*", "*.pyc", "*/training.safetensors", "*/.*"]
SAMPLE_CHARS = 400


def push(name: str, target: str, private: bool = False) -> str:
    """Uploads the checkpoint `name` to the Hub's repository `target` (USER/MODEL), created if need
    be, with a model card made from its record. Returns the address of the commit.

    Raises `CharlmError` if there is no such checkpoint or the Hub refuses.
    """
    folder = checkpoints.find(name)
    if folder.is_file():
        raise CharlmError(f"{folder} is a zip file: unpack it first.")
    card = model_card(name, target)
    with translated_errors(target):
        api = HfApi()
        api.create_repo(target, private=private, exist_ok=True)
        api.upload_file(
            path_or_fileobj=card.encode(),
            path_in_repo="README.md",
            repo_id=target,
            commit_message="Model card",
        )
        commit = api.upload_folder(
            repo_id=target,
            folder_path=folder,
            allow_patterns=[checkpoints.CONFIG, checkpoints.WEIGHTS],
            commit_message=f"charlm model {folder.name}",
        )
    return str(commit.commit_url)


def model_card(name: str, target: str) -> str:
    """The README of a model on the Hub, from the checkpoint's own record. Raises `CharlmError`."""
    check_repo_id(target)
    model = checkpoints.load(name)
    record = model.record
    text = "".join(step.char for step in stream(model, max_new_chars=SAMPLE_CHARS, temperature=0.8, seed=1))
    facts = {
        "Parameters": f"{model.parameter_count():,}",
        "Trained on": f"{record.get('data', 'unknown')} (sha256 `{record.get('data_sha256', 'unknown')}`)",
        "Validation loss": _nats(record.get("val_loss")),
        "Training loss": _nats(record.get("train_loss")),
        "Steps": f"{record.get('steps', 'unknown')}",
        "Made by": f"`{record.get('command', 'unknown')}`",
    }
    if edits := edits_of(model):
        facts["Changed since"] = f"`{text_of(edits)}`"
    data = ModelCardData(
        license="mit", library_name="charlm", pipeline_tag="text-generation", tags=["charlm"]
    )
    return str(
        ModelCard(
            f"---\n{data.to_yaml()}\n---\n\n# {target}\n\n"
            "A character-level language model made with charlm.\n\n"
            "| | |\n| --- | --- |\n"
            + "".join(f"| {fact} | {value} |\n" for fact, value in facts.items())
            + f'\n```python\nimport charlm\n\nmodel = charlm.load("{target}")\n```\n\n'
            + "What it writes from nothing, at temperature 0.8:\n\n"
            + "".join(f"    {line}\n" for line in text.splitlines())
        )
    )


def _nats(loss: Any) -> str:
    """A loss of a record, which a model that was changed since has not."""
    return f"{loss:.4f} nats per character" if isinstance(loss, float) else "unknown"


def space_files() -> list[str]:
    """What a Space needs of this checkout, as paths from its root. Raises `CharlmError` where charlm was
    installed without one."""
    if not (ROOT / "app.py").is_file():
        raise CharlmError("A Space is made from a checkout of charlm's repository: run this command there.")
    paths = [path.relative_to(ROOT).as_posix() for path in _candidates()]
    return sorted(path for path in paths if not any(fnmatch(path, unwanted) for unwanted in LEFT_OUT))


def _candidates() -> Iterator[Path]:
    """No other folder is looked into: a virtual environment beside these has tens of thousands of files."""
    yield from (ROOT / name for name in SPACE_FILES)
    for folder in SPACE_FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file())


def deploy(target: str, private: bool = False) -> str:
    """Creates or updates the Space `target` (USER/SPACE) from this checkout and returns its address.

    Raises `CharlmError` if that is no name, there is no checkout, or the Hub refuses.
    """
    check_repo_id(target)
    files = space_files()
    with translated_errors(target):
        api = HfApi()
        url = api.create_repo(target, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=target,
            repo_type="space",
            folder_path=ROOT,
            allow_patterns=files,
            delete_patterns=[f"{folder}/*" for folder in SPACE_FOLDERS],
            commit_message="charlm",
        )
    return str(url)
