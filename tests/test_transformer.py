"""The transformer of parts: every rung of the ladder, and every switch of the laboratory."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model

from charlm import checkpoints
from charlm.corpus import Corpus
from charlm.engine.decoding import has_kernel, runner_for
from charlm.engine.plain import PlainRunner, RereadingRunner
from charlm.engine.sampling import stream
from charlm.errors import CharlmError
from charlm.models import AttentionConfig, GPTConfig, LanguageModel, Parts, Transformer, TransformerConfig
from charlm.models.parts import CHOICES
from charlm.models.trace import trace
from charlm.models.transformer import MLPS, NORMS
from charlm.surgery import heads
from charlm.surgery.operate import operate
from charlm.tokenizer import CharTokenizer
from charlm.training.excerpt import make_excerpt
from charlm.training.trainer import Trainer, TrainingOptions
from charlm.ui.attention import numbers as attention
from charlm.ui.inside import neurons
from charlm.ui.inside import numbers as inside

GPT_PARTS, HEADS_ALONE = asdict(GPTConfig.parts), asdict(AttentionConfig.parts)
USUAL = asdict(Parts())
VARIANTS: list[dict[str, object]] = [{}]
VARIANTS += [{n: choice} for n, choices in CHOICES.items() for choice in choices if choice != USUAL[n]]
VARIANTS += [
    HEADS_ALONE | {"positions": "learned"},
    GPT_PARTS | {"residual": False},
    {"qk_norm": True, "scaled": False},
]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
TEXT = "ANN:\nThe rose is"


def name_of(parts: dict[str, object]) -> str:
    return "-".join(f"{name}-{value}" for name, value in parts.items()) or "usual"


@pytest.fixture(params=VARIANTS, ids=name_of)
def model(request: pytest.FixtureRequest, tokenizer: CharTokenizer) -> Transformer:
    """With random weights in all its parts, also in those that start silent."""
    model = make_model(tokenizer, "transformer", **request.param)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(i)
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    assert isinstance(model, Transformer)
    return model.rounded().eval()


@pytest.fixture
def idx(tokenizer: CharTokenizer) -> torch.Tensor:
    return torch.tensor([tokenizer.encode(TEXT)])


@pytest.mark.parametrize(("architecture", "parts"), [("gpt", GPT_PARTS), ("attention", HEADS_ALONE)])
def test_with_the_parts_of_another_model_it_is_that_model(
    tokenizer: CharTokenizer, idx: torch.Tensor, architecture: str, parts: dict[str, object]
):
    other = make_model(tokenizer, architecture)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.zeros_(other.lm_head.bias) if other.lm_head.bias is not None else None
    model = make_model(tokenizer, "transformer", **parts)
    theirs = other.state_dict()
    # A layer of heads alone is the heads themselves, and its last table has a bias, here of zeros.
    ours = {name: theirs.get(name, theirs.get(name.replace(".attention", ""))) for name in model.state_dict()}
    model.load_state_dict(ours)
    assert torch.equal(model(idx)[0], other(idx)[0])


def test_every_choice_has_its_part():
    assert set(MLPS) | {"none"} == set(CHOICES["mlp"])
    assert set(NORMS) == set(CHOICES["norm"])
    assert set(asdict(Parts())) == set(CHOICES)


@pytest.mark.parametrize(
    "wrong", [{"norm": "batch"}, {"residual": 1}, {"causal": "no"}, {"mlp": True}, {"norm": None}]
)
def test_what_is_no_choice_is_refused(wrong: dict[str, object]):
    (name,) = wrong
    with pytest.raises(CharlmError, match=f"{name} must be one of"):
        TransformerConfig(vocab_size=5, **wrong)


def test_it_learns_and_is_kept(model: Transformer, corpus: Corpus, tmp_path: Path):
    trainer = Trainer(copy.deepcopy(model), corpus, TrainingOptions(steps=3, batch_size=4, eval_blocks=2))
    list(trainer.run())
    for name, parameter in trainer.model.named_parameters():
        assert not torch.equal(parameter, model.get_parameter(name)), name
    checkpoints.save(trainer.average, trainer.record("test"), tmp_path)
    loaded = checkpoints.load(tmp_path)
    assert loaded.config == model.config
    x = trainer.val_data[None, :12]
    torch.testing.assert_close(loaded(x)[0], trainer.average.rounded().eval()(x)[0])


def test_a_trace_is_what_the_model_does(model: Transformer, idx: torch.Tensor):
    traced = trace(model, idx)
    torch.testing.assert_close(model.unembed(traced.residual[-1]), model(idx)[0])
    torch.testing.assert_close(traced.weights.sum(-1), torch.ones(traced.weights.shape[:-1]))


def test_without_a_mask_it_sees_the_future(model: Transformer, idx: torch.Tensor):
    other = idx.clone()
    other[0, -1] = (other[0, -1] + 1) % model.config.vocab_size
    same = torch.allclose(model(idx)[0][0, :-1], model(other)[0][0, :-1], atol=1e-6)
    assert same == model.config.causal


def test_it_knows_where_characters_stand_only_by_its_positions(tokenizer: CharTokenizer):
    """Without positions and mask, a text read in another order is the same characters."""
    for positions, knows in (("none", False), ("learned", True), ("rotary", True)):
        model = make_model(tokenizer, "transformer", positions=positions, causal=False, residual=False)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        order = torch.tensor([3, 0, 2, 1])
        idx = torch.tensor([[4, 7, 1, 9]])
        again = torch.allclose(model(idx)[0][:, order], model(idx[:, order])[0], atol=1e-5)
        assert again != knows


def test_its_runner_gives_its_logits(model: Transformer, tokenizer: CharTokenizer):
    """As long as the text fits the block: read whole, or a character at a time."""
    ids = np.array(tokenizer.encode(TEXT))[:16]
    expected = model(torch.from_numpy(ids)[None])[0][0].detach().numpy()
    runner = runner_for(model, 2)
    assert not has_kernel(model)
    np.testing.assert_allclose(runner.prefill(1, ids), expected[-1], **CLOSE)
    np.testing.assert_allclose(
        runner.prefill(0, ids[:5]), model(torch.from_numpy(ids[:5])[None])[0][0, -1].detach(), **CLOSE
    )
    for i, char in enumerate(ids[5:], start=6):
        logits = runner.step(np.array([char, 3]))[0]
        np.testing.assert_allclose(logits, model(torch.from_numpy(ids[:i])[None])[0][0, -1].detach(), **CLOSE)


def test_only_where_nothing_can_be_remembered_all_is_read_anew(model: Transformer):
    forgets = model.config.positions == "learned" or not model.config.causal
    assert type(runner_for(model)) is (RereadingRunner if forgets else PlainRunner)


def test_beyond_its_block_it_reads_the_latest_characters(tokenizer: CharTokenizer):
    model = make_model(tokenizer, "transformer", positions="learned").rounded().eval()
    runner = runner_for(model, 1)
    ids = (np.arange(40) * 7) % tokenizer.vocab_size
    runner.prefill(0, ids[:30])
    for end in range(31, 41):
        logits = runner.step(ids[end - 1 : end])[0]
        latest = torch.from_numpy(ids[end - 16 : end])[None]
        np.testing.assert_allclose(logits, model(latest)[0][0, -1].detach(), **CLOSE)
    saved = runner.save(0)
    runner.resize(3)
    runner.restore(2, saved)
    runner.move(2, 1)
    after = runner.step(np.array([5, 5, 5]))
    np.testing.assert_array_equal(after[0], after[1])
    np.testing.assert_array_equal(after[0], after[2])


def test_it_writes(model: Transformer):
    first, again = ("".join(s.char for s in stream(model, "ANN", max_new_chars=30, seed=2)) for _ in range(2))
    assert first == again and len(first) == 30


def test_the_tabs_explain_what_it_has(model: Transformer):
    """Each sentence is about the model on the screen."""
    parts, config = model.config.parts, model.config
    terms = dict(attention.principles(model))
    assert ("No mask" in terms) != parts.causal
    assert ("QK-norm and gain" in terms) == parts.qk_norm == (attention.gains(model) is not None)
    assert any("is not divided" in text for text in terms.values()) != parts.scaled
    story = " ".join(inside.story(model))
    assert ("no residual connections" in story) != parts.residual
    assert ("no mask" in story) != parts.causal
    path = inside.path(model, len(TEXT), inside.lens(model, TEXT)[1])
    assert sum(part["parameters"] for part in path) == model.parameter_count()
    assert [part["read"] for part in path].count(True) == (config.n_layer + 1 if parts.residual else 1)
    layer = path[2]["does"]
    assert ("MLP" in layer) == (parts.mlp != "none") and ("ReLU²" in layer) == (parts.mlp == "relu2")
    assert ("LayerNorm" in layer) == (parts.norm == "layernorm")
    assert ("adds" in layer or "add to" in layer) == parts.residual
    for code in (inside.code(model), attention.code(model)):
        compile(code, "code", "exec")
    assert ("class ReLUMLP" in inside.code(model)) == (parts.mlp == "relu")


def test_its_parts_can_be_changed(model: Transformer, idx: torch.Tensor):
    """Silent, averaged and switched off: what then leaves the model is not what left it before."""
    edits = ["1.1:silent", "1.1:average", "2.attention:off"] + ["1.mlp:off", "1.mlp.3:off"] * (
        model.config.mlp != "none"
    )
    for edit in edits[:-1]:
        assert not torch.allclose(operate(model, edit)(idx)[0], model(idx)[0]), edit


def test_its_neurons_are_those_that_it_has(model: Transformer, idx: torch.Tensor):
    if model.config.mlp == "none":
        with pytest.raises(CharlmError, match="no MLP"):
            neurons.explain(model, TEXT, 0, 1)
        return
    residual = trace(model, idx).residual
    layer = model.layers[1]
    values = neurons.activations(model, residual, 2)
    x = residual[1]
    x = layer.join(x, layer.projection(layer.attention(layer.attention_norm(x), model.cos, model.sin)))
    awake = layer.mlp.up(layer.mlp_norm(x)).relu()
    torch.testing.assert_close(values, awake.square() if model.config.mlp == "relu2" else awake)
    assert neurons.explain(model, TEXT, 0, 2)["count"] == 64


def test_a_head_that_cheats_is_named(tokenizer: CharTokenizer):
    """Without a mask, a head that looks one character ahead is one that does."""
    ahead = torch.zeros(8, 8)
    ahead[torch.arange(7), torch.arange(1, 8)] = 1
    ahead[7, 7] = 1
    assert attention.habits(ahead[None], causal=False) == [("looks one character ahead", 1.0)]
    even = torch.full((1, 8, 8), 1 / 8)
    assert attention.habits(even, causal=False) == [("spreads evenly", None)]
    model = make_model(tokenizer, "transformer", causal=False)
    assert attention.explain(model, TEXT).weights[0, 0, 0, 1] > 0
    assert attention.telling_head(torch.stack((even, ahead[None])), causal=False) == (1, 0)


def test_the_heads_of_a_model_without_mask_are_not_measured(corpus: Corpus, tokenizer: CharTokenizer):
    model: LanguageModel = make_model(tokenizer, "transformer", causal=False)
    excerpt = make_excerpt(corpus, model, corpus.split(tokenizer)[0])
    with pytest.raises(CharlmError, match="no mask"):
        heads.measure(model, excerpt, "test", lambda _: None)
