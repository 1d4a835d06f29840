"""Repositories of models on the Hugging Face Hub: their names, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, snapshot_download
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

from charlm.errors import CharlmError

REPO_ID = re.compile(r"(?:https?://[^/\s]+/)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/?")


def repo_id(name: str) -> str | None:
    """The USER/MODEL that `name` is, or whose page it is the address of; None if it is neither."""
    match = REPO_ID.fullmatch(name.strip())
    return match[1] if match else None


def check_repo_id(name: str) -> str:
    """`name`, if it is one of a repository. Raises `CharlmError` otherwise."""
    if repo_id(name) != name:
        raise CharlmError(f"{name!r:.100} is not the name of a repository: write USER/NAME.")
    return name


def download(
    name: str,
    limits: Mapping[str, int],
    revision: str | None = None,
    token: bool | str | None = None,
    cache: Path | None = None,
) -> Path:
    """The folder with the files named in `limits` of the Hub's repository `name` (USER/MODEL): in the local
    cache, where they may be already, or in a `cache` of the caller's own.

    `limits`: the most bytes that each may have. `revision`: a branch, a tag or a commit. Raises
    `CharlmError` if there is no such repository, it lacks one of the files, or one is too large.
    """
    check_repo_id(name)
    with translated_errors(name, revision):
        sizes = _sizes(name, revision, token)
        for file, limit in limits.items():
            if sizes is not None and sizes.get(file, 0) > limit:
                raise CharlmError(f"{file} of {name} is larger than {limit:,} bytes.")
        there = Path(
            snapshot_download(
                name,
                revision=revision,
                token=token,
                allow_patterns=list(limits),
                cache_dir=cache,
                local_files_only=sizes is None,
            )
        )
    if not all((there / file).is_file() for file in limits):
        raise CharlmError(f"{name} is not a charlm model: it lacks {' or '.join(limits)}.")
    return there


def _sizes(name: str, revision: str | None, token: bool | str | None) -> dict[str, int] | None:
    """The bytes of each file of a repository; None where there is no network."""
    try:
        info = HfApi(token=token).model_info(name, revision=revision, files_metadata=True)
    except (httpx2.TransportError, OfflineModeIsEnabled):
        return None
    return {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}


@contextmanager
def translated_errors(name: str, revision: str | None = None) -> Iterator[None]:
    """Turns what huggingface_hub raises into a `CharlmError`."""
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
        # Not the error itself: it may name folders of this machine.
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise CharlmError(f"{name} could not be transferred whole ({reason}).") from error
