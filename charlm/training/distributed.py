"""Training on several processes or machines, started by PyTorch's `torchrun`; alone without it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the other processes that `torchrun` started, over NCCL on GPUs and Gloo on CPUs."""
    if "RANK" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """What this process computes on: its GPU if it has one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def share(model: nn.Module) -> nn.Module:
    """`model`, its gradients averaged over the processes."""
    return DistributedDataParallel(model) if dist.is_initialized() else model


def mean(value: float) -> float:
    """The mean of the `value` that each process gives."""
    return _sum(value) / world_size()


def of_first(value: float) -> float:
    """The `value` that the first process gives."""
    return _sum(value if rank() == 0 else 0.0)


def any_of(value: bool) -> bool:
    """Whether any process gives a true `value`."""
    return _sum(float(value)) > 0


def _sum(value: float) -> float:
    if not dist.is_initialized():
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device())
    dist.all_reduce(total)
    return total.item()
