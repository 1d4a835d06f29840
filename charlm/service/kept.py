"""The model in the making: the checkpoints that a run keeps of its evaluations, beside the one it leaves.

A step's folder is named after the run's checkpoint: `model-300` beside `model`. Its configuration is written
last and removed first, so a step is kept if that is there.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from charlm.checkpoints import CONFIG

SIGN = "@"


def kept_name(run: str, step: int) -> str:
    """The name of the model that the run with the id `run` was after `step` steps."""
    return f"{run}{SIGN}{step}"


def is_kept(name: str) -> bool:
    """Whether a model's name is that of a step of a run, there or not."""
    return SIGN in name


def folder_of(model: Path, step: int) -> Path:
    """Where a run that leaves its checkpoint in `model` keeps that of `step`."""
    return model.with_name(f"{model.name}-{step}")


def kept_steps(model: Path) -> list[int]:
    """The steps that are kept of a run that leaves its checkpoint in `model`, in order."""
    prefix = f"{model.name}-"
    names: list[str] = []
    with suppress(OSError):  # The run was removed.
        names = [name.removeprefix(prefix) for name in os.listdir(model.parent) if name.startswith(prefix)]
    steps = {int(name) for name in names if name.isdecimal()}
    return sorted(step for step in steps if (folder_of(model, step) / CONFIG).exists())


def remove(model: Path, steps: Iterable[int]) -> None:
    """Removes what is kept of `steps`."""
    for step in steps:
        folder = folder_of(model, step)
        with suppress(OSError):
            (folder / CONFIG).unlink()
        shutil.rmtree(folder, ignore_errors=True)


def thin_out(model: Path, steps: Iterable[int], most: int) -> None:
    """Removes some of `steps` until the rest have at most `most` bytes together: the first, the latest, and
    of those between as many as there is room for, as far apart as can be."""
    sizes = _sizes(model, steps)
    while len(sizes) > 2 and sum(sizes.values()) > most:
        step = _least_missed(list(sizes))
        del sizes[step]
        remove(model, [step])


@dataclass(frozen=True)
class KeptRun:
    """Whose a run is, where it leaves its checkpoint, and whether it still learns."""

    client: str
    model: Path
    active: bool


def make_room(runs: Sequence[KeptRun], most: int) -> None:
    """Removes steps of `runs`, the oldest first, until all have at most `most` bytes together: first of the
    client who has most. The latest step of an active run stays, for it is what is left if the run is
    killed."""
    kept = [(run, _sizes(run.model, kept_steps(run.model))) for run in runs]
    while True:
        held: Counter[str] = Counter()
        for run, sizes in kept:
            held[run.client] += sum(sizes.values())
        spare = [(run, sizes) for run, sizes in kept if len(sizes) > run.active]
        if held.total() <= most or not spare:
            return
        run, sizes = max(spare, key=lambda each: held[each[0].client])
        steps = list(sizes)
        step = _least_missed(steps) if len(steps) > 2 else steps[0]
        del sizes[step]
        remove(run.model, [step])


def _least_missed(steps: list[int]) -> int:
    """The step between the first and the last of three or more whose neighbours are closest."""
    return steps[min(range(1, len(steps) - 1), key=lambda i: steps[i + 1] - steps[i - 1])]


def _sizes(model: Path, steps: Iterable[int]) -> dict[int, int]:
    """The bytes of the files of each of `steps` that is kept."""
    sizes = {}
    for step in sorted(set(steps) & set(kept_steps(model))):
        with suppress(OSError):  # Removed meanwhile.
            sizes[step] = sum(path.stat().st_size for path in folder_of(model, step).iterdir())
    return sizes
