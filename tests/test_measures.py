"""What is measured of a training step, against the same computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from conftest import TINY, make_model

from charlm import Corpus
from charlm.corpus import get_batch
from charlm.models import LanguageModel
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.divergence import DivergedError, explain
from charlm.training.measures import Measures
from charlm.training.trainer import Trainer, TrainingOptions

OPTIONS = TrainingOptions(steps=6, batch_size=4, eval_blocks=2, warmup_steps=0, optimizer="sgd")


def trainer_of(
    corpus: Corpus, tokenizer: CharTokenizer, preset: str = "small", compiled: bool = False, **changes: object
) -> Trainer:
    sizes = {} if preset == "bigram" else TINY | {"n_layer": 2}
    recipe = presets.recipe(preset, sizes | changes)
    recipe = replace(recipe, vocab_size=tokenizer.vocab_size, options=OPTIONS)
    return Trainer(recipe.model(tokenizer), corpus, recipe.options, compiled=compiled)


def by_name(measures: Measures | None) -> dict[str, dict]:
    assert measures is not None
    return {layer["name"]: dict(layer) for layer in measures["layers"]}


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("bigram", ["table"]),
        ("attention", ["embedding", "layer 1", "layer 2", "logits"]),
        ("small", ["embedding", "layer 1", "layer 2", "logits"]),
        ("layernorm", ["embedding", "layer 1", "layer 2", "logits"]),
    ],
)
def test_every_architecture_is_measured_whole(
    preset: str, names: list[str], corpus: Corpus, tokenizer: CharTokenizer
):
    trainer = trainer_of(corpus, tokenizer, preset)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train_step()
    layers = by_name(trainer.measures)
    assert list(layers) == names
    assert trainer.measures["step"] == 1
    # Plain SGD's first change is its rate times the gradient, so the norms of all are known.
    changes = [p - q for p, q in zip(trainer.model.parameters(), before, strict=True)]
    change = math.sqrt(sum(c.square().sum().item() for c in changes))
    assert trainer.measures["gradient_norm"] == pytest.approx(change / (OPTIONS.learning_rate), rel=1e-3)
    whole = math.sqrt(sum(layer["gradient"] ** 2 for layer in layers.values()))
    assert whole == pytest.approx(trainer.measures["gradient_norm"], rel=1e-5)


def test_the_numbers_of_a_layer_are_those_computed_by_hand(corpus: Corpus, tokenizer: CharTokenizer):
    trainer = trainer_of(corpus, tokenizer, "layernorm")
    model, layer = trainer.model, trainer.model.layers[1]
    with torch.no_grad():
        # These neurons can answer nothing.
        layer.mlp.up.weight[:8] = 0
        layer.mlp.down.weight.normal_()
    weights = [p.detach().clone() for p in layer.parameters()]
    batch = get_batch(trainer.train_data, 4, 16, torch.Generator().manual_seed(OPTIONS.seed))
    activations = {}
    layer.register_forward_hook(lambda *told: activations.update(out=told[2]))
    layer.mlp.up.register_forward_hook(lambda *told: activations.update(up=told[2]))
    with torch.autocast("cpu", torch.bfloat16, enabled=trainer._bfloat16):
        model(*batch)[1].backward()
    gradients = [p.grad.clone() for p in layer.parameters()]
    model.zero_grad()
    expected = {key: x.detach().float() for key, x in activations.items()}

    trainer.train_step()
    told = by_name(trainer.measures)["layer 2"]
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
    size = math.sqrt(sum(w.square().sum().item() for w in weights))
    assert told["gradient"] == pytest.approx(norm, rel=1e-3)
    assert told["update_ratio"] == pytest.approx(OPTIONS.learning_rate * norm / size, rel=1e-3)
    assert told["activation"] == pytest.approx(expected["out"].square().mean().sqrt().item(), rel=1e-3)
    dead = (expected["up"].relu() == 0).all(0).all(0).float().mean().item()
    assert told["dead"] == dead >= 8 / 64


def test_without_an_mlp_no_neuron_is_dead(corpus: Corpus, tokenizer: CharTokenizer):
    trainer = trainer_of(corpus, tokenizer, "attention")
    trainer.train_step()
    assert {layer["dead"] for layer in by_name(trainer.measures).values()} == {None}


def test_about_fifty_steps_are_measured_and_none_is_changed_by_it(
    corpus: Corpus, tokenizer: CharTokenizer, monkeypatch: pytest.MonkeyPatch
):
    def run(options: TrainingOptions) -> tuple[list[int], LanguageModel]:
        trainer = Trainer(make_model(tokenizer, dropout=0.1), corpus, options)
        return [e.step for e in trainer.run() if e.measures], trainer.model

    options = replace(OPTIONS, steps=120, eval_interval=1000)
    steps, measured = run(options)
    assert len(steps) == 50
    assert steps[0] == 1
    assert steps[-1] >= 118
    monkeypatch.setattr("charlm.training.trainer.MEASURES", 1)
    steps, unmeasured = run(options)
    assert len(steps) == 1
    for p, q in zip(measured.parameters(), unmeasured.parameters(), strict=True):
        assert torch.equal(p, q)


def test_what_is_compiled_is_measured_apart(
    corpus: Corpus, tokenizer: CharTokenizer, monkeypatch: pytest.MonkeyPatch
):
    """Stands in for torch.compile: what it makes of a model calls no hooks."""

    def compile_without_hooks(model: LanguageModel):
        return model.forward

    plain = trainer_of(corpus, tokenizer, "bigram")
    monkeypatch.setattr(torch, "compile", compile_without_hooks)
    compiled = trainer_of(corpus, tokenizer, "bigram", compiled=True)
    plain.train_step()
    compiled.train_step()
    assert compiled.measures == plain.measures


def test_a_run_that_diverges_says_when_and_what_helps(corpus: Corpus, tokenizer: CharTokenizer):
    options = replace(OPTIONS, steps=40, learning_rate=0.5, eval_interval=2)
    trainer = Trainer(make_model(tokenizer, norm="none", architecture="transformer"), corpus, options)
    events = []
    with pytest.raises(DivergedError, match="the run has diverged") as told:
        for event in trainer.run():
            events.append(event)
            if event.step == 7:
                with torch.no_grad():
                    trainer.model.lm_head.weight *= 1e4
    assert "After 7 steps the loss is" in str(told.value)
    assert "at step 7, and is" in str(told.value)
    assert "a lower rate (learning_rate is 0.5)" in str(told.value)
    assert "a longer warm-up (warmup_steps is 0), or a norm (it has none)." in str(told.value)
    assert trainer.step == trainer.curve[-1][0] == 6
    assert trainer.curve[-1][2] < math.log(tokenizer.vocab_size)
    assert all(math.isfinite(e.batch_loss) for e in events[1:])
    assert all(p.isfinite().all() for p in trainer.average.parameters())


def test_an_average_that_is_no_number_is_not_evaluated(corpus: Corpus, tokenizer: CharTokenizer):
    trainer = Trainer(make_model(tokenizer), corpus, replace(OPTIONS, eval_interval=2))
    with pytest.raises(
        DivergedError, match=r"After 4 steps the loss is no number: the run has diverged\. The"
    ):
        for event in trainer.run():
            if event.step == 3:
                with torch.no_grad():
                    next(trainer.average.parameters())[:] = math.nan
    assert [point[0] for point in trainer.curve] == [0, 2]
    assert all(p.isfinite().all() for p in trainer.average.parameters())


def test_weights_too_large_to_be_kept_are_told(tokenizer: CharTokenizer):
    config = make_model(tokenizer).config
    told = explain(1, 2.5, config, replace(OPTIONS, optimizer="muon", warmup_steps=100), None, None)
    assert told == (
        "After 1 step some weights are too large for half precision: the run has diverged. "
        "What helps: a lower rate (learning_rate is 0.003, muon_learning_rate 0.02)."
    )
