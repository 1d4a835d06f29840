"""The same model with the same weights, exported by PyTorch and run by ONNX Runtime in single precision."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from charlm.bench.report import speed
from charlm.bench.rivals import Ways, by_threads, steps
from charlm.models import GPT
from charlm.models.rotary import angles


class Step(nn.Module):
    """One character of each text, after keys and values (B, n_head, T, head_size) of each layer."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(
        self, ids: Tensor, cos: Tensor, sin: Tensor, past_keys: list[Tensor], past_values: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """ids (B, 1) → the logits (B, vocab_size), and the new keys and values (B, n_head, 1, head_size)."""
        x = self.model.embedding(ids)
        keys, values = [], []
        blocks: list[Any] = list(self.model.layers)
        for block, past_k, past_v in zip(blocks, past_keys, past_values, strict=True):
            q, k, v = block.attention.queries_keys_values(block.norm(x), cos, sin)
            # Appended to the scores: to append the key itself would copy all that are kept.
            scores = torch.cat((q @ past_k.transpose(-2, -1), q @ k.transpose(-2, -1)), dim=-1)
            weights = (scores * block.attention.scale).softmax(-1)
            heads = weights[..., :-1] @ past_v + weights[..., -1:] * v
            x = x + block.projection(heads.transpose(1, 2).flatten(2))
            x = x + block.mlp(block.norm(x))
            keys.append(k)
            values.append(v)
        return self.model.unembed(x)[:, -1], keys, values


def ways(model: GPT, streams: int) -> Ways:
    """The exported step for so many texts at once, one character after another."""
    # With the character that is written, a whole context.
    ids = torch.arange(model.config.block_size - 1) % model.config.vocab_size
    past = _past(model, ids, streams)
    exported = _export(model, past)

    def way(threads: int) -> Callable[[], float]:
        writing = write(exported, past, model.config.head_size, threads)
        return lambda: speed(writing, steps(model, streams), streams)

    return by_threads("ONNX Runtime", way)


def write(exported: bytes, past: list[np.ndarray], head_size: int, threads: int) -> Iterator[np.ndarray]:
    """The ids (B,) of the next characters, again and again. A new key overwrites the oldest: rotary
    positions make their order of no account."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    kept = [array.copy() for array in past]
    streams, _, length, _ = kept[0].shape
    random = np.random.default_rng(1)
    ids = np.zeros((streams, 1), np.int64)
    position = length
    while True:
        cos, sin = (a.numpy() for a in angles(torch.tensor([position]), head_size))
        logits, *new = session.run(None, dict(zip(names, (ids, cos, sin, *kept), strict=True)))
        for old, one in zip(kept, new, strict=True):
            old[:, :, position % length] = one[:, :, 0]
        position += 1
        reached = np.exp(logits - logits.max(-1, keepdims=True)).cumsum(-1)
        ids = (reached <= random.random((streams, 1)) * reached[:, -1:]).sum(-1, keepdims=True)
        yield ids[:, 0]


def _past(model: GPT, ids: Tensor, streams: int) -> list[np.ndarray]:
    """Keys of each layer, then values, of characters ids (T,), the same for each text."""
    config, step = model.config, Step(model)
    none = torch.zeros(1, config.n_head, 0, config.head_size)
    keys, values = [none] * config.n_layer, [none] * config.n_layer
    with torch.inference_mode():
        for position, one in enumerate(ids[:, None, None]):
            cos, sin = angles(torch.tensor([position]), config.head_size)
            _, new_keys, new_values = step(one, cos, sin, keys, values)
            keys = [torch.cat(pair, dim=2) for pair in zip(keys, new_keys, strict=True)]
            values = [torch.cat(pair, dim=2) for pair in zip(values, new_values, strict=True)]
    return [past.expand(streams, -1, -1, -1).contiguous().numpy() for past in (*keys, *values)]


def _export(model: GPT, past: list[np.ndarray]) -> bytes:
    """`Step` in ONNX's format."""
    ids = torch.zeros(len(past[0]), 1, dtype=torch.long)
    tensors = [torch.from_numpy(array) for array in past]
    cos, sin = angles(torch.tensor([0]), model.config.head_size)
    n = model.config.n_layer
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # PyTorch warns of its own parts.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        path = Path(folder, "step.onnx")
        arguments = (ids, cos, sin, tensors[:n], tensors[n:])
        torch.onnx.export(
            Step(model).eval(), arguments, path, dynamo=True, external_data=False, verbose=False
        )
        return path.read_bytes()
