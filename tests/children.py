"""What may stand in for the process of a run: importable by one that was just started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from charlm.training.presets import Recipe


def fails(recipe: Recipe, data: str | None, model: Path, connection: Connection) -> None:
    """Tells a little, and then why it fails."""
    connection.recv()
    connection.send({"baselines": {"uniform": 1.0, "bigram": 0.5}})
    connection.send({"step": 2, "done": 1.0, "seconds": 1.0, "chars_per_second": 5.0})
    connection.send({"failed": "That was all."})
    sys.exit(1)


def is_silent(recipe: Recipe, data: str | None, model: Path, connection: Connection) -> None:
    connection.recv()
    time.sleep(600)


def crashes(recipe: Recipe, data: str | None, model: Path, connection: Connection) -> None:
    connection.recv()
    os.abort()


def leaves_nothing(recipe: Recipe, data: str | None, model: Path, connection: Connection) -> None:
    """Ends as if all were well, but is outlived by a process of its own."""
    connection.recv()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"])


def stops(recipe: Recipe, data: str | None, model: Path, connection: Connection) -> None:
    """Ends when it is told to stop."""
    while connection.recv() is not None:
        pass
