"""What is done once in the process from which those of the runs are forked, so that each begins at once and
shares the memory that this takes. It is imported by that process alone (`multiprocessing`'s fork server)."""

import gc

import torch

from charlm.engine.compiling import Kernel
from charlm.models import build
from charlm.service import learning  # noqa: F401  (what the runs need)
from charlm.tokenizer import CharTokenizer
from charlm.training.trainer import TrainingOptions, build_optimizers

torch.set_num_threads(1)  # A process with threads cannot be forked.
# PyTorch imports much with its first optimizer.
build_optimizers(
    build("gpt", CharTokenizer.from_text("ab"), {"block_size": 1, "n_layer": 1, "n_head": 1, "n_embd": 2}, 1),
    TrainingOptions(),
)
kernel = Kernel()
kernel.prepare()
kernel.wait()
gc.freeze()
