"""A changed model is what its edits say, to the bit where nothing was changed, and goes where others go."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import charlm
from charlm import CharlmError, checkpoints, operate
from charlm.engine.decoding import runner_for
from charlm.models import LanguageModel, build
from charlm.models.trace import trace
from charlm.surgery import edits as edits_module
from charlm.surgery.edits import (
    MAX_CHARS,
    MAX_EDITS,
    AverageHead,
    Edit,
    ScaleHead,
    SwitchAttention,
    SwitchMLP,
    SwitchNeuron,
    all_average,
    merge,
    parse,
    text_of,
    title,
)
from charlm.surgery.operate import RECIPE, edits_of, original
from charlm.tokenizer import CharTokenizer

SIZES = {"n_layer": 3, "n_head": 2}


def awake(tokenizer: CharTokenizer, architecture: str) -> LanguageModel:
    """A model whose every matrix has weights, as a checkpoint would have it."""
    model = make_model(tokenizer, architecture, **SIZES)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3, generator=generator)
    model.record = {"command": "test", "val_loss": 1.0}
    return model.rounded().eval()


@pytest.fixture(params=["gpt", "attention"])
def model(request: pytest.FixtureRequest, tokenizer: CharTokenizer) -> LanguageModel:
    return awake(tokenizer, request.param)


@pytest.fixture
def awake_gpt(tokenizer: CharTokenizer) -> LanguageModel:
    return awake(tokenizer, "gpt")


def ids(model: LanguageModel) -> Tensor:
    return torch.randint(model.config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))


def same_weights(a: LanguageModel, b: LanguageModel) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def heads_hook(head: int, change):
    """A forward hook on a layer's attention, by which `head` (from 1) brings `change` of its values and of
    what it would have brought, both (B, T, head_size)."""

    def hook(module, args, out):
        *_, v = module.queries_keys_values(*args)
        d = v.shape[-1]
        part = slice((head - 1) * d, head * d)
        out = out.clone()
        out[..., part] = change(v[:, head - 1], out[..., part])
        return out

    return hook


def plain_average(values: Tensor, _: Tensor) -> Tensor:
    T = values.shape[1]
    tril = torch.tril(torch.ones(T, T))
    return tril / tril.sum(1, keepdim=True) @ values


CASES = {
    "2.1:silent": (1, heads_hook(1, lambda v, out: 0 * out)),
    "2.2:x2": (1, heads_hook(2, lambda v, out: 2 * out)),
    "3.1:x0.3": (2, heads_hook(1, lambda v, out: 0.3 * out)),
    "1.2:average": (0, heads_hook(2, plain_average)),
    "2.attention:off": (1, lambda module, args, out: 0 * out),
}


@pytest.mark.parametrize("text", CASES)
def test_the_weights_say_what_a_hook_on_the_heads_would(text: str, model: LanguageModel):
    changed = operate(model, text)
    x = ids(model)
    layer, hook = CASES[text]
    heads = getattr(model.layers[layer], "attention", model.layers[layer])
    before = model(x)[0]
    with heads.register_forward_hook(hook):
        expected = model(x)[0]
    assert not torch.allclose(before, expected, atol=1e-3)
    # A factor such as 0.3 is rounded together with the weights.
    assert torch.allclose(changed(x)[0], expected, atol=1e-2 if "0.3" in text else 1e-5)


@pytest.mark.parametrize("text", ["2.mlp:off", "2.mlp.17:off"])
def test_the_weights_say_what_a_hook_on_the_mlp_would(text: str, awake_gpt: LanguageModel):
    mlp = awake_gpt.layers[1].mlp

    def without_17(module, args):
        hidden = args[0].clone()
        hidden[..., 16] = 0
        return hidden

    x = ids(awake_gpt)
    before = awake_gpt(x)[0]
    if text == "2.mlp:off":
        handle = mlp.register_forward_hook(lambda module, args, out: 0 * out)
    else:
        handle = mlp.down.register_forward_pre_hook(without_17)
    with handle:
        expected = awake_gpt(x)[0]
    assert not torch.allclose(before, expected, atol=1e-3)
    assert torch.allclose(operate(awake_gpt, text)(x)[0], expected, atol=1e-5)


@pytest.mark.parametrize("text", [*CASES, "1.1:average 1.2:silent 2.1:x1.5 3.attention:off"])
def test_the_engine_writes_as_the_changed_model_computes(text: str, model: LanguageModel):
    changed = operate(model, text)
    x = ids(model)
    logits = changed(x)[0][0].detach().numpy()
    runner = runner_for(changed)
    assert np.allclose(runner.prefill(0, x[0, :1].numpy()), logits[0], atol=1e-4)
    for t in range(1, 16):
        assert np.allclose(runner.step(x[0, t : t + 1].numpy())[0], logits[t], atol=1e-4)


def test_an_averaged_head_weighs_its_past_alike(model: LanguageModel):
    weights = trace(operate(model, "2.1:average"), ids(model)).weights
    tril = torch.tril(torch.ones(16, 16))
    assert torch.allclose(weights[1, :, 0], tril / tril.sum(1, keepdim=True))
    assert not torch.allclose(weights[1, :, 1], tril / tril.sum(1, keepdim=True), atol=1e-2)


def test_no_edits_give_the_same_weights_in_a_copy(model: LanguageModel):
    copied = operate(model, "")
    assert same_weights(copied, model)
    assert copied.record == model.record
    assert copied is not model
    assert {p.data_ptr() for p in copied.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())


ALL = "1.1:silent 1.2:average 2.1:x0.3 3.attention:off"


def test_the_original_stays_as_it_is(model: LanguageModel):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    record = dict(model.record)
    operate(model, ALL)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.record == record


def test_edits_are_taken_back_to_the_bit(model: LanguageModel):
    back = "1.1:learned 1.2:x1 2.1:learned 3.attention:on"
    assert not same_weights(operate(model, ALL), model)
    assert same_weights(operate(model, f"{ALL} {back}"), model)
    undone = operate(operate(model, ALL), back)
    assert same_weights(undone, model)
    assert undone.record == model.record


def test_an_edit_of_a_changed_model_is_added_to_its_own(awake_gpt: LanguageModel):
    step_by_step = operate(operate(awake_gpt, "1.1:x0.3 2.mlp:off"), "1.1:x2 3.2:average")
    assert same_weights(step_by_step, operate(awake_gpt, "1.1:x2 2.mlp:off 3.2:average"))
    assert text_of(edits_of(step_by_step)) == "1.1:x2 2.mlp:off 3.2:average"


def test_a_changed_model_is_saved_and_loaded_with_its_recipe(model: LanguageModel, tmp_path: Path):
    changed = operate(model, ALL)
    assert "val_loss" not in changed.record
    checkpoints.save(changed, changed.record, tmp_path)
    loaded = charlm.load(tmp_path)
    assert same_weights(loaded, changed)
    assert loaded.record == changed.record
    assert text_of(edits_of(loaded)) == ALL
    assert loaded.record[RECIPE]["weights_sha256"] == checkpoints.weights_sha256(model)
    prompt = {"prompt": "The", "max_new_chars": 30, "seed": 1}
    texts = ["".join(step.char for step in charlm.stream(m, **prompt)) for m in (changed, loaded)]
    assert texts[0] == texts[1]


def test_the_recipe_names_the_original_as_its_checkpoint_does(checkpoint: Path):
    changed = operate(charlm.load(checkpoint), "1.1:silent")
    description = checkpoints.read_description(checkpoint)
    assert changed.record[RECIPE]["weights_sha256"] == description["weights_sha256"]


def test_after_loading_the_original_is_found_among_the_committed(tmp_path: Path):
    committed = charlm.load("attention")
    changed = operate(committed, "1.1:silent")
    checkpoints.save(changed, changed.record, tmp_path)
    loaded = charlm.load(tmp_path)
    assert same_weights(operate(loaded, "1.1:learned"), committed)
    assert original(loaded).record == committed.record


def test_an_original_that_is_nowhere_is_missed(model: LanguageModel, tmp_path: Path):
    changed = operate(model, "1.1:silent")
    checkpoints.save(changed, changed.record, tmp_path)
    with pytest.raises(CharlmError, match=r"changed before \(1\.1:silent\), and .* not at hand"):
        operate(charlm.load(tmp_path), "1.2:silent")


@pytest.mark.parametrize("recipe", ["1.1:silent", {"edits": 3}, {}, {"edits": "1.1:loud"}])
def test_a_foreign_record_is_refused(recipe: object, model: LanguageModel):
    model.record = {RECIPE: recipe}
    with pytest.raises(CharlmError):
        operate(model, "1.2:silent")


def test_an_original_is_forgotten_with_what_was_made_from_it(model: LanguageModel):
    source = operate(model, "")
    changed, kept = operate(source, "1.1:silent"), weakref.ref(source)
    del source
    assert kept() is not None
    del changed
    gc.collect()
    assert kept() is None


numbers = st.integers(1, 99_999)
EDITS = st.one_of(
    st.builds(ScaleHead, numbers, numbers, st.integers(0, 300).map(lambda n: n / 100)),
    st.builds(AverageHead, numbers, numbers),
    st.builds(SwitchAttention, numbers, st.booleans()),
    st.builds(SwitchMLP, numbers, st.booleans()),
    st.builds(SwitchNeuron, numbers, numbers, st.booleans()),
)


@given(st.lists(EDITS, max_size=5))
def test_text_and_edits_are_each_others_inverse(edits: list[Edit]):
    text = text_of(edits)
    assert parse(text) == tuple(edits)
    assert text_of(parse(text)) == text


def test_the_text_of_edits():
    text = "5.4:silent 3.1:average 2.3:x1.5 4.attention:off 6.mlp:off 6.mlp.17:off 1.1:learned 2.mlp:on"
    assert parse(text) == (
        ScaleHead(5, 4, 0),
        AverageHead(3, 1),
        ScaleHead(2, 3, 1.5),
        SwitchAttention(4, on=False),
        SwitchMLP(6, on=False),
        SwitchNeuron(6, 17, on=False),
        ScaleHead(1, 1, 1),
        SwitchMLP(2, on=True),
    )
    assert text_of(parse("  1.1:x0\n1.2:x1 ")) == "1.1:silent 1.2:learned"


WRONG = """
5.4 5:silent 0.1:silent 1.0:average 5.4:loud 5.4:off 5.4:x 5.4:x1.555 5.4:x-1 5.mlp:silent 5.attention.3:off
5.mlp.0:off 05.4:silent 5.4:silent,3.1:silent ٥.4:silent 5.4:SILENT 123456.1:silent 5.4:silent; 5.mlp.1.2:off
"""


@pytest.mark.parametrize("text", WRONG.split())
def test_other_text_is_no_edit(text: str):
    with pytest.raises(CharlmError, match="is no edit: write, for example"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("4.1:silent", "There is no layer 4: this model has layers 1 to 3"),
        ("4.mlp.1:off", "There is no layer 4"),
        ("4.mlp:off", "There is no layer 4"),
        ("4.attention:on", "There is no layer 4"),
        ("3.3:average", "There is no head 3: this model has heads 1 to 2"),
        ("3.mlp.65:off", "There is no neuron 65: this model has neurons 1 to 64"),
        ("1.1:x3.01", "factor must be from 0 to 3, in hundredths, not 3.01"),
        ("1.1:silent " * (MAX_EDITS + 1), f"{MAX_EDITS} edits, not {MAX_EDITS + 1}"),
        (" " * (MAX_CHARS + 1), "10,000 characters, not 10,001"),
    ],
)
def test_what_cannot_be_done_is_told(text: str, sentence: str, awake_gpt: LanguageModel):
    with pytest.raises(CharlmError, match=sentence):
        operate(awake_gpt, text)


def test_a_model_without_the_part_is_told(tokenizer: CharTokenizer):
    with pytest.raises(CharlmError, match="no heads: it looks at one character only"):
        operate(build("bigram", tokenizer, {}, seed=1), "1.1:silent")
    heads = make_model(tokenizer, "attention")
    for text in ("1.mlp:off", "1.mlp.1:off"):
        with pytest.raises(CharlmError, match="no MLP"):
            operate(heads, text)


def test_the_edits_of_a_changed_model_are_counted_with_the_new_ones(
    awake_gpt: LanguageModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(edits_module, "MAX_EDITS", 2)
    changed = operate(awake_gpt, "1.1:silent 1.2:silent")
    with pytest.raises(CharlmError, match="2 edits, not 3"):
        operate(changed, "2.1:silent")


@pytest.mark.parametrize("factor", [-0.01, 3.01, 0.005, float("nan"), float("inf")])
def test_a_factor_is_a_number_of_hundredths(factor: float):
    with pytest.raises(CharlmError, match="factor"):
        ScaleHead(1, 1, factor)


def test_weights_that_would_be_no_numbers_any_more_are_refused(model: LanguageModel):
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "qkv" in name).fill_(60_000)
    with pytest.raises(CharlmError, match="Head 1·1 is too large"):
        operate(model, "1.1:x2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("5.4:silent 5.4:learned", ""),
        ("5.4:silent", "without head 5·4"),
        ("5.4:average", "with head 5·4 averaged"),
        ("2.3:x1.5", "with head 2·3 ×1.5"),
        ("4.attention:off", "without attention in layer 4"),
        ("6.mlp:off", "without MLP 6"),
        ("6.mlp.17:off", "without neuron 17 of MLP 6"),
        ("5.4:silent 5.3:silent", "without 2 heads"),
        ("1.1:average 1.2:average 1.3:average", "with 3 heads averaged"),
        ("5.4:silent 5.3:average 6.mlp:off", "with 3 edits"),
    ],
)
def test_titles(text: str, expected: str):
    assert title(parse(text)) == expected


def test_all_heads_to_plain_averages(model: LanguageModel):
    edits = all_average(model)
    assert text_of(edits) == "1.1:average 1.2:average 2.1:average 2.2:average 3.1:average 3.2:average"
    assert merge(edits) == edits
    weights = trace(operate(model, edits), ids(model)).weights
    tril = torch.tril(torch.ones(16, 16))
    assert torch.allclose(weights, tril / tril.sum(1, keepdim=True))
