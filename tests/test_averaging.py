from __future__ import annotations

from itertools import chain, repeat

import pytest
import torch

from charlm.ui.averaging import numbers
from charlm.ui.averaging.numbers import Head, average_loop, average_softmax, average_tril, tril_weights


def test_the_first_three_versions_agree():
    x = torch.randn(4, 8, 2, generator=torch.Generator().manual_seed(1337))
    loop = average_loop(x)
    assert torch.allclose(loop[1, 3], x[1, :4].mean(0))
    assert torch.allclose(average_tril(x), loop, atol=1e-6)
    assert torch.allclose(average_softmax(x), loop, atol=1e-6)


def test_attention_is_the_same_average_when_all_scores_are_equal():
    x = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(1337))
    head = Head(n_embd=6, head_size=6)
    torch.nn.init.zeros_(head.query.weight)
    torch.nn.init.eye_(head.value.weight)
    assert torch.allclose(head(x), average_loop(x), atol=1e-6)


def test_attention_depends_on_the_data():
    torch.manual_seed(1)
    head, x = Head(6, 3), torch.randn(1, 8, 6)
    weights = head.weights(x)
    assert head(x).shape == (1, 8, 3)
    assert torch.allclose(weights.sum(-1), torch.ones(1, 8))
    assert weights.triu(1).count_nonzero() == 0
    assert not torch.allclose(weights, tril_weights(8), atol=0.05)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_longer_text_leaves_what_was_there_as_it_was(version: int):
    long = numbers.explain(version, numbers.MAX_T, seed=7)
    assert "".join(long["chars"]) == numbers.TEXT
    for T in range(1, numbers.MAX_T):
        short = numbers.explain(version, T, seed=7)
        assert short["chars"] == long["chars"][:T]
        assert short["scales"] == long["scales"] and short["projections"] == long["projections"]
        for name, rows in short["matrices"].items():
            assert rows == [row[: len(rows[0])] for row in long["matrices"][name][:T]]  # to the bit
            assert len(rows[0]) == (T if name in ("tril", "scores", "wei") else numbers.C)
        assert short["three"] == [out[:T] for out in long["three"]]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_no_number_is_beyond_its_scale(version: int):
    shown = numbers.explain(version, numbers.MAX_T, seed=7)
    for name, rows in shown["matrices"].items():
        largest = max(abs(x) for row in rows for x in row if x is not None)
        assert largest == shown["scales"][name] or name in ("tril", "wei", "scores")
        assert largest <= shown["scales"][name]


def test_queries_keys_and_values_are_what_their_matrices_make_of_x():
    shown = numbers.explain(4, 9, seed=7)
    x = torch.tensor(shown["matrices"]["x"])
    for name in ("q", "k", "v"):
        product = x @ torch.tensor(shown["projections"][name]).T
        assert torch.allclose(product, torch.tensor(shown["matrices"][name]), atol=1e-6)


def fake_clock(monkeypatch: pytest.MonkeyPatch, durations: list[float]) -> None:
    """A clock that lets each call take the next of `durations`, in milliseconds."""
    ticks = chain.from_iterable((0.0, ms / 1000) for ms in durations)
    monkeypatch.setattr(numbers.time, "thread_time", lambda: next(ticks))


def test_a_time_is_a_median_and_the_first_call_does_not_count(monkeypatch: pytest.MonkeyPatch):
    usual = list(chain.from_iterable(repeat((8.0, 2.0), 6)))
    fake_clock(monkeypatch, [900, 900, *usual, 8, 900])
    (row,) = numbers.time_versions([4], pairs=7)
    assert row == pytest.approx({"T": 4, "loop": 8, "tril": 2, "ratio": 4, "low": 4, "high": 4})
    assert numbers.verdict(row) == "At T = 4 the loop takes 4.0 times as long as the matrix."


def test_a_thread_that_waits_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    sleep = numbers.time.sleep

    def wait(x: torch.Tensor) -> torch.Tensor:
        sleep(0.05)
        return x

    monkeypatch.setattr(numbers, "average_tril", wait)
    (row,) = numbers.time_versions([4], pairs=3)
    assert row["tril"] < 25


@pytest.mark.parametrize(
    ("loop", "said"),
    [
        ([0.5, 0.5, 0.5, 0.5], "the matrix takes 4.0 times as long as the loop"),
        (
            [4, 40, 8, 30],
            "too noisy to say: for the middle half of the pairs the loop takes from 4.0 to 15.0",
        ),
    ],
)
def test_the_verdict_says_what_was_measured(monkeypatch: pytest.MonkeyPatch, loop: list[float], said: str):
    fake_clock(monkeypatch, [1, 1, *chain.from_iterable((ms, 2) for ms in loop)])
    assert said in numbers.verdict(numbers.time_versions([4], pairs=4)[0])


def test_a_clock_too_coarse_is_no_division_by_zero(monkeypatch: pytest.MonkeyPatch):
    fake_clock(monkeypatch, [16, 0] * 4)
    (row,) = numbers.time_versions([4], pairs=3)
    assert (row["ratio"], row["low"], row["high"]) == (None, None, None)
    assert "less time than this machine's clock can tell" in numbers.verdict(row)
