"""Models without numbers in them."""

from __future__ import annotations

import subprocess
import sys

import torch

from charlm.models import ARCHITECTURES, GPT, GPTConfig
from charlm.models.base import LIMITS
from charlm.models.unfilled import outline, unfilled


def test_an_outline_has_the_shapes_of_the_model():
    for architecture, sizes in (("bigram", {}), ("attention", {"n_layer": 2}), ("gpt", {"n_layer": 2})):
        model_type = ARCHITECTURES[architecture]
        config = model_type.config_type(vocab_size=7, **sizes)
        model = model_type(config)
        for made in (outline(model_type, config), unfilled(model_type, config)):
            shapes = {name: weight.shape for name, weight in made.state_dict().items()}
            assert shapes == {name: weight.shape for name, weight in model.state_dict().items()}
            assert made.parameter_count() == model.parameter_count()
        # Nothing is left behind: a model that is made now has random weights.
        assert not torch.equal(*(next(model_type(config).parameters()) for _ in range(2)))


def test_a_loaded_model_computes_as_the_one_that_was_saved():
    config = GPTConfig(7, block_size=8, n_layer=2, n_head=2, n_embd=8)
    model = GPT(config).eval()
    loaded = unfilled(GPT, config)
    loaded.load_state_dict(model.state_dict())
    idx = torch.arange(5)[None]
    assert torch.equal(loaded.eval()(idx)[0], model(idx)[0])


def test_an_outline_of_the_largest_model_takes_no_memory():
    largest = GPTConfig(**{name: limit for name, limit in LIMITS.items() if name != "n_layer"}, n_layer=2)
    assert outline(GPT, largest).parameter_count() > 9e8


def test_loading_a_model_leaves_the_compiler_alone():
    """It takes a second to import."""
    code = "import sys, charlm; charlm.load('gpt'); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
