from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_model

from charlm import CharlmError
from charlm.engine.decoding import runner_for
from charlm.models import AttentionConfig, GPTConfig, LanguageModel, build
from charlm.models.trace import trace
from charlm.tokenizer import CharTokenizer

STAGES = {
    "single head": {"architecture": "attention", "n_layer": 1, "n_head": 1},
    "multi-head": {"architecture": "attention", "n_layer": 1, "n_head": 4},
    "gpt": {"architecture": "gpt", "n_layer": 3, "n_head": 2, "dropout": 0.2},
}


@pytest.fixture(params=[*STAGES, "bigram"])
def model(request: pytest.FixtureRequest, tokenizer: CharTokenizer) -> LanguageModel:
    if request.param == "bigram":
        return build("bigram", tokenizer, {"block_size": 16}, seed=1)
    return make_model(tokenizer, **STAGES[request.param])


def random_ids(model: LanguageModel, B: int = 2, T: int = 16) -> torch.Tensor:
    return torch.randint(model.config.vocab_size, (B, T), generator=torch.Generator().manual_seed(0))


def wake(model: LanguageModel) -> LanguageModel:
    """Gives every matrix weights: the ones that start at zero would hide mistakes."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.rounded().eval()


def test_logits_and_loss(model: LanguageModel):
    x, y = random_ids(model), random_ids(model).flip(0)
    logits, loss = model.eval()(x, y)
    assert logits.shape == (2, 16, model.config.vocab_size)
    expected = F.cross_entropy(logits.view(-1, logits.shape[-1]), y.view(-1))
    assert torch.allclose(loss, expected)
    assert model(x)[1] is None


def test_the_future_changes_nothing(model: LanguageModel):
    model = wake(model)
    x = random_ids(model)
    other = x.clone()
    other[:, 9:] = (other[:, 9:] + 1) % model.config.vocab_size
    before, after = model(x)[0], model(other)[0]
    assert torch.allclose(before[:, :9], after[:, :9], atol=1e-6)
    assert not torch.allclose(before[:, 9:], after[:, 9:], atol=1e-3)


def close(logits: np.ndarray, expected: torch.Tensor) -> bool:
    return np.allclose(logits, expected.detach().numpy(), atol=1e-4)


def test_decoding_gives_the_same_logits(model: LanguageModel):
    """Two texts of different lengths at once, one of them moved on the way."""
    model = wake(model)
    x = random_ids(model)
    logits, _ = model(x)
    ids = x.numpy()
    runner = runner_for(model, slots=3)
    assert close(runner.prefill(1, ids[0, :3]), logits[0, 2])
    assert close(runner.prefill(0, ids[1, :7]), logits[1, 6])
    for t in range(3, 7):
        stepped = runner.step(np.array([ids[1, t + 4], ids[0, t]]))
        assert close(stepped, torch.stack((logits[1, t + 4], logits[0, t])))
    runner.move(1, 0)
    for t in range(7, 16):
        assert close(runner.step(ids[0, t : t + 1]), logits[0, t : t + 1])


def test_what_a_text_gets_does_not_depend_on_its_neighbours(model: LanguageModel):
    """To the bit, also between reading at once and step by step: a seed gives one text."""
    ids = random_ids(wake(model), B=5, T=16).numpy()
    together = runner_for(model, slots=5)
    for slot in range(5):
        together.prefill(slot, ids[slot, :1])
    for t in range(1, 16):
        logits = together.step(ids[:, t])
    for slot in range(5):
        assert np.array_equal(
            runner_for(model).prefill(0, ids[slot]),
            logits[slot],
        )


@pytest.mark.parametrize("stage", ["single head", "multi-head"])
def test_beyond_block_size_one_layer_decodes_as_if_it_saw_the_last_block(
    stage: str, tokenizer: CharTokenizer
):
    """With one layer the keys hold nothing older than themselves: the ring buffer must be exact."""
    model = wake(make_model(tokenizer, **STAGES[stage]))
    x = random_ids(model, B=1, T=50)
    runner = runner_for(model)
    runner.prefill(0, x[0, :15].numpy())
    for t in range(15, 50):
        logits = runner.step(x[:, t].numpy())
        assert close(logits, model(x[:, t - 15 : t + 1])[0][:, -1]), t


def test_attention_weights_and_scores(tokenizer: CharTokenizer):
    model = wake(make_model(tokenizer, **STAGES["gpt"]))
    x = random_ids(model)
    traced = trace(model, x)
    weights, scores = traced.weights, traced.scores
    assert weights.shape == scores.shape == (3, 2, 2, 16, 16)
    assert torch.allclose(weights.sum(-1), torch.ones(3, 2, 2, 16), atol=1e-6)
    assert weights.triu(1).count_nonzero() == 0
    future = torch.ones(16, 16, dtype=torch.bool).triu(1)
    assert torch.allclose(weights, scores.masked_fill(future, -math.inf).softmax(-1))


def test_explaining_runs_the_same_computation(tokenizer: CharTokenizer):
    """The path that keeps the weights and the fast one must not drift apart."""
    model = wake(make_model(tokenizer, **STAGES["gpt"]))
    x = random_ids(model)
    residual = trace(model, x).residual
    assert len(residual) == 4
    assert torch.allclose(model.unembed(residual[-1]), model(x)[0], atol=1e-4)


def test_a_block_of_more_than_block_size_is_refused(tokenizer: CharTokenizer):
    model = make_model(tokenizer)
    with pytest.raises(CharlmError, match="reads 16 characters at a time, not 17"):
        model(random_ids(model, T=17))


@pytest.mark.parametrize(
    "sizes",
    [{"n_embd": 10, "n_head": 4}, {"n_layer": 0}, {"block_size": 10**12}, {"dropout": 1.0}, {"n_embd": -2}],
)
def test_impossible_sizes_are_refused(sizes: dict[str, float]):
    for config_type in (AttentionConfig, GPTConfig):
        with pytest.raises(CharlmError):
            config_type(vocab_size=65, **sizes)


def test_bigram_is_one_table(tokenizer: CharTokenizer):
    model = build("bigram", tokenizer, {}, seed=1)
    assert [tuple(p.shape) for p in model.parameters()] == [(tokenizer.vocab_size,) * 2]
    assert torch.allclose(model.probabilities().sum(1), torch.ones(tokenizer.vocab_size))


def test_same_seed_same_weights(tokenizer: CharTokenizer):
    a, b = make_model(tokenizer), make_model(tokenizer)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
