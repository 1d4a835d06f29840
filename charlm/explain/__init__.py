"""The numbers behind the pictures, as plain lists that any page could draw.

Each module has the `LINES` of PyTorch that its tab shows: a test runs them and compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch with one thread of its own: of two, each waits for the other at every operator, ten
    times as long as it computes when another program (a training run) has taken its core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
