"""What one training step costs, from its recipe alone."""

from __future__ import annotations

from charlm.training.presets import Recipe

BYTES_A_PARAMETER = 28
"""Weight, gradient, two moments, average, and a copy of weight and average from before: each a float32."""
BYTES_A_CHARACTER = 4
"""Of the text: its id is an int32."""
PROCESS_BYTES = 25e6
"""What a process takes that was forked from one that had imported everything."""
MUON_OPERATIONS = 280
"""Of a layer, for each C³: five times 4·n²·m + 2·n³ for each of its matrices (n, m)."""


def operations(recipe: Recipe) -> float:
    """Floating-point operations of a step: to learn, and what Muon takes to make updates orthogonal."""
    muon = recipe.options.optimizer == "muon"
    n_layer, n_embd = recipe.sizes.get("n_layer", 0), recipe.sizes.get("n_embd", 0)
    return learning_operations(recipe) + (MUON_OPERATIONS * n_layer * n_embd**3 if muon else 0)


def learning_operations(recipe: Recipe) -> float:
    """Those of a step's forward and backward pass: 6 for each parameter and character (Kaplan et al., 2020),
    and 12·T·C in each layer for the products of attention."""
    T, (L, C) = recipe.config.block_size, (recipe.sizes.get(name, 0) for name in ("n_layer", "n_embd"))
    return (6 * recipe.parameter_count() + 12 * T * L * C) * T * recipe.options.batch_size


def memory(recipe: Recipe) -> float:
    """About how many bytes a step takes at its peak, besides PyTorch itself: the parameters with all that is
    kept for each, and for each character what the layers leave for the way back and the logits.

    The factors are measured in float32: about 34 floats for each channel of a layer, 32 for each head, 4 for
    each logit, and one for each weight of attention, of which a layer on its way back has two more. Where
    bfloat16 is fast, it is a third less.
    """
    n_layer, n_embd, n_head = (recipe.sizes.get(name, 0) for name in ("n_layer", "n_embd", "n_head"))
    T = recipe.config.block_size
    floats = n_layer * (34 * n_embd + 32 * n_head) + (n_layer + 2) * n_head * T + 4 * recipe.vocab_size
    chars = T * recipe.options.batch_size
    return BYTES_A_PARAMETER * recipe.parameter_count() + 4 * floats * chars


def held(recipe: Recipe, chars: int) -> float:
    """About how many bytes a run holds between its steps, on a text of so many `chars`: what is kept for each
    parameter, the ids of the text, and what a process takes."""
    return PROCESS_BYTES + BYTES_A_PARAMETER * recipe.parameter_count() + BYTES_A_CHARACTER * chars
