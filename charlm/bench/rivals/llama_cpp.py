"""llama.cpp through `llama-cpp-python`, with weights in single precision, half precision and 8 bits; keys and
values in half precision, its default and here its fastest."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

from charlm.bench.report import speed
from charlm.bench.rivals import Ways, by_threads, steps
from charlm.errors import CharlmError
from charlm.models import GPT
from charlm.models.gpt import GPTConfig

TYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}


def ways(model: GPT, streams: int) -> Ways:
    """Its batches of so many texts at once, for each type of the weights."""
    # llama-cpp-python would tell on stderr all that it loads.
    logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL)
    config = model.config
    found: Ways = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in TYPES.items():
            path = Path(folder, name)
            write_gguf(config, kind, path)
            loaded = _load(path)

            def way(threads: int, loaded: Any = loaded) -> Callable[[], float]:
                writing = write(loaded, config, streams, threads)
                return lambda: speed(writing, steps(model, streams), streams)

            found |= by_threads(f"llama.cpp {name}", way)
    return found


def write_gguf(config: GPTConfig, kind: gguf.GGMLQuantizationType, path: Path) -> None:
    """An Arcee model, with random weights, of these sizes: RMSNorm, rotary positions, ReLU² and no biases
    too, but a gain in each norm and no QK-norm, which makes it a little cheaper."""
    writer = gguf.GGUFWriter(path, "arcee")
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_rms_eps(1e-6)
    random = np.random.default_rng(1)

    def add(name: str, *shape: int) -> None:
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
        else:
            weights = random.normal(0, 0.02, shape).astype(np.float32)
            writer.add_tensor(f"{name}.weight", gguf.quantize(weights, kind), raw_dtype=kind)

    C = config.n_embd
    add("token_embd", config.vocab_size, C)
    for i in range(config.n_layer):
        for norm in ("attn_norm", "ffn_norm"):
            add(f"blk.{i}.{norm}", C)
        for matrix in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{i}.{matrix}", C, C)
        add(f"blk.{i}.ffn_up", 4 * C, C)
        add(f"blk.{i}.ffn_down", C, 4 * C)
    add("output_norm", C)
    add("output", config.vocab_size, C)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _load(path: Path) -> Any:
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.use_mmap = False
    loaded = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not loaded:
        raise CharlmError(f"llama.cpp does not load a model of type {path.name}.")
    return loaded


def write(loaded: Any, config: GPTConfig, streams: int, threads: int) -> Iterator[list[int]]:
    """The ids of the next character of each text, again and again, each of which looks back at a whole
    context."""
    T = config.block_size
    context = _context(loaded, streams, T, threads)
    memory = llama_cpp.llama_get_memory(context)
    sampler = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    llama_cpp.llama_sampler_chain_add(sampler, llama_cpp.llama_sampler_init_temp(1.0))
    llama_cpp.llama_sampler_chain_add(sampler, llama_cpp.llama_sampler_init_dist(1))
    batch = llama_cpp.llama_batch_init(streams, 0, 1)
    batch.n_tokens = streams
    ids, position = [0] * streams, 0
    while True:
        if position >= T:
            llama_cpp.llama_memory_seq_rm(memory, -1, position - T, position - T + 1)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, True
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, i
        if llama_cpp.llama_decode(context, batch):
            raise CharlmError("llama.cpp does not decode its batch.")
        ids = [llama_cpp.llama_sampler_sample(sampler, context, i) for i in range(streams)]
        position += 1
        if position >= T:
            yield ids


def _context(loaded: Any, streams: int, block_size: int, threads: int) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_seq_max = streams * block_size, streams
    params.n_threads = params.n_threads_batch = threads
    if streams == 1:  # A single row is faster without.
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(loaded, params)
    if not context:
        raise CharlmError("llama.cpp makes no context for this model.")
    return context
