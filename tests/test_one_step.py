"""One training step of the bigram table, written out, against autograd and PyTorch's AdamW."""

from __future__ import annotations

import base64
from dataclasses import replace
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.errors import CharlmError
from charlm.training import one_step
from charlm.training.one_step import MAX_STEPS, Start, begin, least_loss, steps
from charlm.ui.train import glass


@pytest.fixture
def start() -> Start:
    return begin(glass.TEXT)


def loss_of(table: Tensor, start: Start) -> Tensor:
    return F.cross_entropy(table[start.x].flatten(0, 1), start.y.flatten())


def test_a_batch_is_the_first_and_the_last_chunk_of_the_text(start: Start):
    assert [start.tokenizer.decode(ids) for ids in start.x.tolist()] == ["hear me ", " me spea"]
    assert [start.tokenizer.decode(ids) for ids in start.y.tolist()] == ["ear me s", "me speak"]
    assert start.table.shape == (9, 9)
    assert torch.equal(start.table, begin(glass.TEXT).table)


def test_the_gradient_is_that_of_autograd(start: Start):
    for step in islice(steps(start), 5):
        table = step.table.clone().requires_grad_()
        loss = loss_of(table, start)
        loss.backward()
        torch.testing.assert_close(step.loss, loss.detach())
        torch.testing.assert_close(step.gradient, table.grad)
        assert torch.equal(step.logits, step.table[start.x])
        torch.testing.assert_close(step.probs.sum(-1), torch.ones(2, 8))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_change_and_the_moments_are_those_of_adamw(start: Start, weight_decay: float):
    start = replace(start, options=replace(start.options, weight_decay=weight_decay))
    options = start.options
    table = start.table.clone().requires_grad_()
    betas = (options.beta1, options.beta2)
    adamw = torch.optim.AdamW([table], options.lr, betas, options.eps, options.weight_decay)
    for step in islice(steps(start), 50):
        before = table.detach().clone()
        adamw.zero_grad()
        loss_of(table, start).backward()
        adamw.step()
        if step.t in (1, 2, 50):
            torch.testing.assert_close(step.change, table.detach() - before, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(step.new_table, table.detach(), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(step.m, adamw.state[table]["exp_avg"], rtol=1e-4, atol=1e-7)
            torch.testing.assert_close(step.v, adamw.state[table]["exp_avg_sq"], rtol=1e-4, atol=1e-9)


def test_it_learns_as_the_preset_does(start: Start):
    options = start.options
    assert (options.lr, options.beta1, options.beta2, options.weight_decay) == (0.1, 0.9, 0.99, 0)


def test_no_table_gets_below_the_least_loss(start: Start):
    *_, last = islice(steps(start), MAX_STEPS)
    assert 0 < last.loss - least_loss(start) < 0.01


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "this text has 0"), ("a", "this text has 1"), ("speaking", "has 8"), ("a" * 20, "one character")],
)
def test_a_text_without_a_batch_is_refused_with_a_sentence(text: str, sentence: str):
    with pytest.raises(CharlmError, match=sentence):
        glass.explain(text, 1)


@pytest.mark.parametrize("step", [0, -1, MAX_STEPS + 1, 1.0, True, None, "2"])
def test_a_step_that_there_is_not_is_refused_with_a_sentence(step: object):
    with pytest.raises(CharlmError, match="from 1 to 1,000"):
        glass.explain(glass.TEXT, step)


def test_half_of_a_character_is_refused_with_a_sentence():
    with pytest.raises(CharlmError, match="half of a character"):
        glass.explain("half a character: \ud800", 1)


def table_of(told: dict, name: str) -> Tensor:
    numbers = torch.frombuffer(bytearray(base64.b64decode(told["tables"][name])), dtype=torch.float32)
    return numbers.view(len(told["chars"]), -1)


def test_what_is_shown_is_what_was_computed(start: Start):
    *earlier, before, step, after = islice(steps(start), 12)
    told = glass.explain(glass.TEXT, 11)
    assert told["losses"] == [s.loss.item() for s in (*earlier, before, step, after)]
    assert "".join(told["chars"]) == start.tokenizer.vocab
    assert (told["x"], told["y"]) == (start.x.tolist(), start.y.tolist())
    expected = {name: getattr(step, name) for name in told["tables"] if hasattr(step, name)}
    assert len(expected) == 9
    expected |= {"probs": step.table.softmax(1), "m_before": before.m, "v_before": before.v}
    for name, table in expected.items():
        assert torch.equal(table_of(told, name), table), name
    first = glass.explain(glass.TEXT, 1)
    assert not table_of(first, "m_before").any() and not table_of(first, "v_before").any()
    assert len(first["losses"]) == 2


def test_a_long_text_is_read_from_its_end():
    told = glass.explain("0123456789" * 100 + "hear me speak, hear me so", 1)
    assert "".join(told["chars"]) == " ,aehkmoprs"
    assert told["read"] == glass.MAX_CHARS


def test_the_code_is_the_function_that_runs():
    assert glass.code().startswith("def one_step(table: Tensor")
    assert one_step.one_step.__doc__ in glass.code()
