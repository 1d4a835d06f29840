"""Writing files so that a crash at any moment leaves either the old one or the new one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from charlm.errors import CharlmError


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path` by `data`, creating its folder. Raises `CharlmError` if that is impossible."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise CharlmError(f"Cannot write {path.name}: {error.strerror}.") from error
