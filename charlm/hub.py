"""Models and the app itself on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, ModelCard, ModelCardData, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from charlm import checkpoints
from charlm.errors import CharlmError
from charlm.sampling import stream

ROOT = Path(__file__).resolve().parent.parent
SPACE_FILES = ["app.py", "README.md", "LICENSE", "requirements.txt", "charlm/*", "checkpoints/*"]
LEFT_OUT = ["*/__pycache__/*", "*.pyc", "*/training.safetensors", "*/.*"]
REPO_ID = re.compile(r"(?:https?://[^/\s]+/)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/?")
SAMPLE_CHARS = 400


def repo_id(name: str) -> str | None:
    """The USER/MODEL that `name` is, or whose page it is the address of; None if it is neither."""
    match = REPO_ID.fullmatch(name.strip())
    return match[1] if match else None


def download(name: str, revision: str | None = None, token: bool | str | None = None) -> Path:
    """The folder of the checkpoint in the Hub's repository `name` (USER/MODEL), from the local cache
    if it is there already.

    `revision` is a branch, a tag or a commit. Raises `CharlmError` if there is no such repository or
    it holds no model of ours.
    """
    if repo_id(name) != name:
        raise CharlmError(f"{name!r:.100} is not the name of a model: write USER/MODEL.")
    files = [checkpoints.CONFIG, checkpoints.WEIGHTS]
    with _told(name, revision):
        sizes = _sizes(name, revision, token)
        for file, limit in zip(
            files, (checkpoints.MAX_CONFIG_BYTES, checkpoints.MAX_WEIGHTS_BYTES), strict=True
        ):
            if sizes is not None and sizes.get(file, 0) > limit:
                raise CharlmError(f"{file} of {name} is larger than {limit:,} bytes.")
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                token=token,
                allow_patterns=files,
                local_files_only=sizes is None,
            )
        )
    if not all((folder / file).is_file() for file in files):
        raise CharlmError(f"{name} is not a charlm model: it lacks {' or '.join(files)}.")
    return folder


def _sizes(name: str, revision: str | None, token: bool | str | None) -> dict[str, int] | None:
    """The bytes of each file of a repository; None where there is no network."""
    try:
        info = HfApi(token=token).model_info(name, revision=revision, files_metadata=True)
    except (httpx2.TransportError, OfflineModeIsEnabled):
        return None
    return {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}


def push(name: str, target: str, private: bool = False) -> str:
    """Uploads the checkpoint `name` to the Hub's repository `target` (USER/MODEL), created if need
    be, with a model card made from its record. Returns the address of the commit.

    Raises `CharlmError` if there is no such checkpoint or the Hub refuses.
    """
    folder = checkpoints.find(name)
    if folder.is_file():
        raise CharlmError(f"{folder} is a zip file: unpack it first.")
    card = model_card(name, target)
    with _told(target):
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
    model = checkpoints.load(name)
    record = model.record
    text = "".join(step.char for step in stream(model, max_new_chars=SAMPLE_CHARS, temperature=0.8, seed=1))
    facts = {
        "Parameters": f"{model.parameter_count():,}",
        "Trained on": f"{record.get('data', 'unknown')} (sha256 `{record.get('data_sha256', 'unknown')}`)",
        "Validation loss": f"{record.get('val_loss', float('nan')):.4f} nats per character",
        "Training loss": f"{record.get('train_loss', float('nan')):.4f} nats per character",
        "Steps": f"{record.get('steps', 'unknown')}",
        "Made by": f"`{record.get('command', 'unknown')}`",
    }
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


def space_files() -> list[str]:
    """What a Space needs of this checkout, as paths from its root."""
    paths = (path.relative_to(ROOT).as_posix() for path in sorted(ROOT.rglob("*")) if path.is_file())
    return [
        path
        for path in paths
        if any(fnmatch(path, wanted) for wanted in SPACE_FILES)
        and not any(fnmatch(path, unwanted) for unwanted in LEFT_OUT)
    ]


def deploy(target: str, private: bool = False) -> str:
    """Creates or updates the Space `target` (USER/SPACE) from this checkout and returns its address.

    Raises `CharlmError` if that is no name or the Hub refuses.
    """
    if repo_id(target) != target:
        raise CharlmError(f"{target!r:.100} is not the name of a Space: write USER/SPACE.")
    with _told(target):
        api = HfApi()
        url = api.create_repo(target, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=target,
            repo_type="space",
            folder_path=ROOT,
            allow_patterns=space_files(),
            delete_patterns=["charlm/*", "checkpoints/*"],
            commit_message="charlm",
        )
    return str(url)


@contextmanager
def _told(name: str, revision: str | None = None) -> Iterator[None]:
    """Turns what huggingface_hub raises into a sentence for the user."""
    try:
        yield
    except GatedRepoError as error:
        raise CharlmError(
            f"{name} is gated: ask for access on its page, then log in with a token."
        ) from error
    except RevisionNotFoundError as error:
        raise CharlmError(f"{name} has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise CharlmError(
            f"There is no repository {name} on the Hub, or your token may not see it."
        ) from error
    except LocalTokenNotFoundError as error:
        raise CharlmError("There is no token: run `hf auth login`, or set HF_TOKEN.") from error
    except HFValidationError as error:
        raise CharlmError(f"{name!r} is not the name of a repository: write USER/NAME.") from error
    except LocalEntryNotFoundError as error:
        raise CharlmError(f"{name} is not in the local cache, and the Hub cannot be reached.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        if status in (401, 403):
            raise CharlmError(
                f"The Hub does not let you write to or read {name}: is your token right?"
            ) from error
        if status == 429:
            raise CharlmError("The Hub has had too many requests: please try again later.") from error
        raise CharlmError(
            f"The Hub answered with status {status} for {name}: please try again later."
        ) from error
    except (httpx2.TransportError, OfflineModeIsEnabled, ConnectionError) as error:
        raise CharlmError(f"The Hub cannot be reached ({type(error).__name__}).") from error
    except (OSError, RuntimeError) as error:
        raise CharlmError(f"{name} could not be transferred whole: {error}.") from error
