"""Writing files so that a crash at any moment leaves either the old one or the new one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from charlm.errors import CharlmError


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path` by `data`, creating its folder. Raises `CharlmError` if that is impossible."""
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """The same for several files, which are replaced, in this order, once all are written.

    Raises `CharlmError` if that is impossible.
    """
    written = {path: path.with_name(f".{path.name}.{secrets.token_hex(8)}") for path in files}
    path = next(iter(files))
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Opened as any new file, so that the umask says who may read it.
            with written[path].open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in written.items():
            temporary.replace(path)
    except OSError as error:
        for temporary in written.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise CharlmError(f"Cannot write {path.name}: {error.strerror}.") from error
