"""The path of one character through a model: parts, shapes, and the guess after each layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from charlm.engine.sampling import next_char_probs
from charlm.models import GPT, LanguageModel
from charlm.models.trace import AttentionModel, trace
from charlm.ui.texts import readable

TOP = 8

LINES = """\
idx = torch.tensor([model.tokenizer.encode(text)])
x = model.embedding(idx)                                # (B, T, C)
for layer in model.layers:
    x = layer(x, model.cos[:T], model.sin[:T])          # (B, T, C)
    guess = model.unembed(x)[0, -1].softmax(dim=0)      # the "logit lens"
logits = model.unembed(x)                               # (B, T, vocab_size)
probs = (logits[0, -1] / temperature).softmax(dim=0)    # then top-k, then top-p
"""


def parts(model: LanguageModel, T: int) -> list[dict[str, Any]]:
    """The parts of `model` in the order a character meets them, each with its `name`, what it does,
    the shape of what leaves it for B = 1, its parameters, and whether it `ends_layer`: whether what
    leaves it has an entry in `lens`. The parameters of all parts sum to the model's.
    """
    if isinstance(model, GPT):
        return [_characters(T), _embedding(model, T), *_blocks(model, T), _logits(model, T)]
    if isinstance(model, AttentionModel):
        return [_characters(T), _embedding(model, T), *_heads(model, T), _logits(model, T)]
    shape = (1, T, model.config.vocab_size)
    return [_characters(T), _part("Table", "row of the last character", shape, model, ends_layer=True)]


def _part(
    name: str, does: str, shape: tuple[int, ...], *modules: nn.Module, ends_layer: bool = False
) -> dict[str, Any]:
    parameters = sum(p.numel() for module in modules for p in module.parameters())
    return {
        "name": name,
        "does": does,
        "shape": list(shape),
        "parameters": parameters,
        "ends_layer": ends_layer,
    }


def _characters(T: int) -> dict[str, Any]:
    return _part("Characters", "one id each", (1, T))


def _embedding(model: AttentionModel, T: int) -> dict[str, Any]:
    does, shape = "a row of channels for each character", (1, T, model.config.n_embd)
    return _part("Embedding", does, shape, model.embedding, ends_layer=True)


def _heads(model: AttentionModel, T: int) -> list[dict[str, Any]]:
    shape = (1, T, model.config.n_embd)
    return [
        _part(f"Layer {i}: attention", _describe_heads(model), shape, layer, ends_layer=True)
        for i, layer in enumerate(model.layers, start=1)
    ]


def _blocks(model: GPT, T: int) -> list[dict[str, Any]]:
    C = model.config.n_embd
    shape = (1, T, C)
    looks = f"norm, {_describe_heads(model)}, projection, added back"
    thinks = f"norm, to {4 * C} channels, ReLU², back to {C}, added back"
    rows = []
    blocks: list[Any] = list(model.layers)
    for i, block in enumerate(blocks, start=1):
        rows.append(_part(f"Block {i}: attention", looks, shape, block.attention, block.projection))
        rows.append(_part(f"Block {i}: MLP", thinks, shape, block.mlp, ends_layer=True))
    return rows


def _logits(model: AttentionModel, T: int) -> dict[str, Any]:
    does = "a score for every character"
    if isinstance(model, GPT):
        does = f"norm, then {does}"
    return _part("Logits", does, (1, T, model.config.vocab_size), model.lm_head)


def _describe_heads(model: AttentionModel) -> str:
    n = model.config.n_head
    return f"{n} head{'s' if n > 1 else ''} of {model.config.head_size} channels"


@torch.no_grad()
def lens(model: LanguageModel, text: str) -> tuple[str, list[Tensor], list[str]]:
    """The part of `text` that was read, the logits (vocab_size,) of the next character as they
    stand after the embedding and after each layer, and notes on what was left out.

    A bigram model has but one entry. Raises `CharlmError` if nothing of the text can be read.
    """
    text, notes = readable(model, text)
    idx = torch.tensor([model.tokenizer.encode(text)])
    if not isinstance(model, AttentionModel):
        return text, [model(idx)[0][0, -1]], notes
    return text, [model.unembed(x[0, -1]) for x in trace(model, idx).residual], notes


def guesses(model: LanguageModel, logits: list[Tensor]) -> list[list[tuple[str, float]]]:
    """For each entry of `lens`, the likeliest next characters with their probabilities."""
    result = []
    for row in logits:
        probs, ids = row.softmax(dim=0).topk(min(TOP, len(row)))
        chars = (model.tokenizer.vocab[i] for i in ids.tolist())
        result.append(list(zip(chars, probs.tolist(), strict=True)))
    return result


def path(model: LanguageModel, T: int, logits: list[Tensor]) -> list[dict[str, Any]]:
    """The `parts`, each that ends a layer with its `guesses` from the `logits` of `lens`."""
    following = iter(guesses(model, logits))
    return [part | {"guesses": next(following) if part["ends_layer"] else []} for part in parts(model, T)]


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
