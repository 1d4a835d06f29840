"""Writing files so that a crash at any moment leaves either the old one or the new one."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from charlm.errors import CharlmError


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path` by `data`, creating its folder. Raises `CharlmError` if that is impossible."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened as any new file, so that the umask says who may read it.
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CharlmError(f"Cannot write {path.name}: {error.strerror}.") from error
