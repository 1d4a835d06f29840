"""The path of one character through a model: parts, shapes, and the guess after each layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from charlm.explain import one_thread
from charlm.explain.attention import readable
from charlm.models import AttentionLanguageModel, LanguageModel
from charlm.models.attention import DecoderBlock, Trace
from charlm.sampling import next_char_probs

TOP = 8

LINES = """\
idx = torch.tensor([model.tokenizer.encode(text)])
x = model.embedding(idx)                                # (B, T, C)
for layer in model.layers:
    x = layer(x, (model.cos[:T], model.sin[:T]))        # (B, T, C)
    guess = model.unembed(x)[0, -1].softmax(dim=0)      # the "logit lens"
logits = model.unembed(x)                               # (B, T, vocab_size)
probs = (logits[0, -1] / temperature).softmax(dim=0)    # then top-k, then top-p
"""


def parts(model: LanguageModel, T: int) -> list[dict[str, Any]]:
    """The parts of `model` in the order a character meets them, each with its `name`, what it does,
    the shape of what leaves it for B = 1, and its parameters. Those of all parts sum to the model's.
    """
    config = model.config
    V = config.vocab_size

    def part(
        name: str, does: str, shape: tuple[int, ...], *modules: nn.Module | nn.Parameter
    ) -> dict[str, Any]:
        parameters = sum(
            m.numel() if isinstance(m, nn.Parameter) else sum(p.numel() for p in m.parameters())
            for m in modules
        )
        return {"name": name, "does": does, "shape": list(shape), "parameters": parameters}

    read = part("Characters", "one id each", (1, T))
    if not isinstance(model, AttentionLanguageModel):
        table = part("Table", "row of the last character", (1, T, V), model)
        return [read, table]
    C = config.n_embd
    rows = [read, part("Embedding", "a row of channels for each character", (1, T, C), model.embedding)]
    heads = f"{config.n_head} head{'s' if config.n_head > 1 else ''} of {config.head_size} channels"
    for i, layer in enumerate(model.layers, start=1):
        if isinstance(layer, DecoderBlock):
            looks = (layer.attention, layer.projection)
            rows.append(
                part(f"Block {i}: attention", f"norm, {heads}, projection, added back", (1, T, C), *looks)
            )
            does = f"norm, to {4 * C} channels, ReLU², back to {C}, added back"
            rows.append(part(f"Block {i}: MLP", does, (1, T, C), layer.mlp))
        else:
            rows.append(part(f"Layer {i}: attention", heads, (1, T, C), layer))
    final = "norm, then a score for every character" if config.decoder else "a score for every character"
    rows.append(part("Logits", final, (1, T, V), model.lm_head))
    return rows


@one_thread()
@torch.no_grad()
def lens(model: LanguageModel, text: str) -> tuple[str, list[Tensor], list[str]]:
    """The part of `text` that was read, the logits (vocab_size,) of the next character as they
    stand after the embedding and after each layer, and notes on what was left out.

    A bigram model has but one entry. Raises `CharlmError` if nothing of the text can be read.
    """
    text, notes = readable(model, text)
    idx = torch.tensor([model.tokenizer.encode(text)])
    if not isinstance(model, AttentionLanguageModel):
        return text, [model(idx)[0][0, -1]], notes
    trace = Trace()
    model.run(idx, trace=trace)
    return text, [model.unembed(x[0, -1]) for x in trace.residual], notes


def guesses(model: LanguageModel, logits: list[Tensor]) -> list[list[tuple[str, float]]]:
    """For each entry of `lens`, the likeliest next characters with their probabilities."""
    result = []
    for row in logits:
        probs, ids = row.softmax(dim=0).topk(min(TOP, len(row)))
        chars = (model.tokenizer.vocab[i] for i in ids.tolist())
        result.append(list(zip(chars, probs.tolist(), strict=True)))
    return result


def candidates(
    model: LanguageModel, logits: Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> list[dict[str, Any]]:
    """Every next character, the likeliest first: `before`, its probability at this temperature with
    nothing cut off, and `after`, with top-k and top-p; 0 is cut off."""
    before = next_char_probs(logits, temperature)
    after = next_char_probs(logits, temperature, top_k, top_p)
    order = logits.argsort(descending=True, stable=True).tolist()
    return [
        {"char": model.tokenizer.vocab[i], "before": before[i].item(), "after": after[i].item()}
        for i in order
    ]
