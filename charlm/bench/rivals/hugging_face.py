"""`generate` of Hugging Face `transformers`, in single precision, with its usual cache."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from transformers import ArceeConfig, ArceeForCausalLM, GenerationConfig

from charlm.bench.rivals import Ways, by_threads, steps
from charlm.models import GPT


def ways(model: GPT, streams: int) -> Ways:
    """`generate` for so many texts at once."""
    rival = same_shape(model)
    return by_threads("transformers", lambda threads: _way(rival, streams, steps(model, streams), threads))


def same_shape(model: GPT) -> ArceeForCausalLM:
    """An Arcee model, with random weights, of the sizes of `model`: RMSNorm, rotary positions, ReLU² and no
    biases too, but a gain in each norm and no QK-norm, which makes it a little cheaper."""
    config = model.config
    sizes = ArceeConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.n_embd,
        intermediate_size=4 * config.n_embd,
        num_hidden_layers=config.n_layer,
        num_attention_heads=config.n_head,
        max_position_embeddings=2 * config.block_size,
        bos_token_id=None,
        eos_token_id=None,
    )
    return ArceeForCausalLM(sizes).eval()


def _way(rival: ArceeForCausalLM, streams: int, new: int, threads: int) -> Callable[[], float]:
    T = rival.config.max_position_embeddings // 2
    # The cache grows: halfway, a character looks back at T.
    prompt = torch.randint(rival.config.vocab_size, (streams, T - new // 2))
    settings = GenerationConfig(do_sample=True, top_k=0, min_new_tokens=new, max_new_tokens=new)

    def speed() -> float:
        clock = _Clock()
        threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            rival.generate(
                prompt, attention_mask=torch.ones_like(prompt), generation_config=settings, streamer=clock
            )
        finally:
            torch.set_num_threads(threads_before)
        # The prompt comes first, and the first character ends its reading.
        return streams * (new - 1) / (clock.times[-1] - clock.times[1])

    return speed


class _Clock:
    """A streamer of `generate` that notes when it is handed anything."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass
