"""Having the kernel compiled while nobody waits for it.

A compiler keeps other threads from their work, and one that meets a processor which it does not know may end
its process. So a process of its own compiles first, and leaves the machine code on the disk.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from charlm.engine.decoding import AttentionRunner, is_usable
from charlm.models import GPT, AttentionLanguageModel
from charlm.models.attention import AttentionConfig
from charlm.models.gpt import GPTConfig

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-c", f"from {__name__} import compile_kernel; compile_kernel()"]

SECONDS_TO_END = 10
"""How long a compiler is waited for that cannot be interrupted."""

log = logging.getLogger(__name__)


class Kernel:
    """Whether the kernel may be used already."""

    def __init__(self) -> None:
        self.ready = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._compiler: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Begins to compile it, in the background, if nobody has yet."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._prepare, daemon=True, name="charlm-kernel")
                self._thread.start()
                # A thread that compiles while the interpreter ends would end it badly.
                atexit.register(self.close)

    def wait(self) -> None:
        """Returns when it is ready or cannot be, once somebody has prepared it."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Ends what is being compiled."""
        self._closed = True
        if self._compiler is not None:
            self._compiler.kill()
        if self._thread is not None:
            self._thread.join(SECONDS_TO_END)

    def _prepare(self) -> None:
        try:
            complaint = None if is_usable() else "It cannot run here."
            if complaint is None and not _is_kept():
                complaint = self._compile_elsewhere()
            if self._closed:
                return
            if complaint is None:
                compile_kernel()
                self.ready = True
            else:
                log.warning("Texts are written without the kernel. %s", complaint)
        except Exception:
            log.exception("Texts are written without the kernel")

    def _compile_elsewhere(self) -> str | None:
        """Compiles it in a process that gives way to all others. Returns what that said if it failed."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._compiler = subprocess.Popen(
            COMMAND,
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, self._compiler.pid, 10)
        said = self._compiler.communicate()[1].strip()
        code = self._compiler.returncode
        return said[-300:] or f"The compiler ended with {code}." if code else None


def _is_kept() -> bool:
    """Whether an earlier process has left machine code on the disk that is younger than its source."""
    from charlm.engine import kernel

    steps: tuple[Any, ...] = (kernel.heads_step, kernel.gpt_step)
    source = Path(kernel.__file__)
    return all(
        any(
            kept.stat().st_mtime > source.stat().st_mtime
            for kept in Path(step.stats.cache_path).glob(f"{source.stem}.{step.__name__}-*.nbc")
        )
        for step in steps
        if step.stats.cache_path
    )


def compile_kernel() -> None:
    """Compiles it for both kinds of models, or loads what an earlier process has left. Nothing, where it
    cannot run."""
    if not is_usable():
        return
    heads = AttentionLanguageModel(AttentionConfig(2, block_size=2, n_embd=2))
    gpt = GPT(GPTConfig(2, block_size=2, n_layer=1, n_head=1, n_embd=2))
    for model in (heads, gpt):
        AttentionRunner(model, 1).prefill(0, np.zeros(1, np.int64))
