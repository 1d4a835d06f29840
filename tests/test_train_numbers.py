"""What the Train tab says of a run and of what is asked for, without a browser."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from charlm import CharlmError, checkpoints
from charlm.models import build
from charlm.service import estimate, limits
from charlm.service.models import ModelService
from charlm.service.outlook import Outlook
from charlm.service.run import Run
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.ui.train import numbers
from charlm.ui.train.numbers import SECONDS, STEPS

TINY = {"block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16}


def foresee(unit: str, amount: float | None, chars: int = 0, **sizes: int) -> dict[str, Any]:
    return numbers.forecast("my model", "small", unit, amount, TINY | sizes, chars)


@pytest.mark.parametrize(
    ("unit", "amount", "sizes"),
    [
        (STEPS, -3, {}),
        (STEPS, 5001, {}),
        (SECONDS, 264 * 60, {}),
        (SECONDS, 0, {}),
        (STEPS, 5, {"n_head": 3}),
        (STEPS, 5, {"block_size": 999}),
    ],
)
def test_a_forecast_says_what_the_start_would(
    unit: str, amount: float, sizes: dict[str, int], service: ModelService, ann: str
):
    with pytest.raises(CharlmError) as foreseen:
        foresee(unit, amount, **sizes)
    with pytest.raises(CharlmError) as refused:
        asked = numbers.budget(unit, amount)
        service.runs.start(ann, "my model", "small", TINY | sizes, text="ab" * 500, **asked)
    assert str(foreseen.value) == str(refused.value)


def test_a_forecast_says_what_is_missing():
    for amount in (None, math.inf, math.nan):
        with pytest.raises(CharlmError, match=r"^How many steps\?$"):
            foresee(STEPS, amount)
    with pytest.raises(CharlmError, match="Give the model a name"):
        numbers.forecast(" ", "small", STEPS, 5, TINY, 0)


def test_a_forecast_counts_from_the_start_to_the_last_measured_loss():
    short, long = foresee(STEPS, 10), foresee(STEPS, 20)
    step = estimate.seconds_per_step(presets.recipe("small", TINY))
    assert short["steps"] == 10
    assert short["seconds"] > estimate.STARTING_SECONDS + 10 * step
    assert long["seconds"] > short["seconds"]
    with_measuring = foresee(STEPS, 10, chars=100_000)
    recipe = presets.recipe("small", TINY)
    assert with_measuring["seconds"] - short["seconds"] == pytest.approx(
        estimate.measuring_seconds(recipe, 100_000)
    )
    assert foresee(STEPS, 10, chars=10**10)["seconds"] == pytest.approx(
        short["seconds"] + 2 * limits.SECONDS_A_LOSS
    )


def test_a_forecast_of_seconds_knows_the_most_steps():
    told = foresee(SECONDS, limits.MAX_RUN_SECONDS)
    assert told["steps"] == limits.MAX_STEPS
    assert told["seconds"] < limits.MAX_RUN_SECONDS


def test_a_run_that_would_take_too_long_is_foretold_to_be_cut():
    huge = {"block_size": 256, "n_layer": 8, "n_head": 8, "n_embd": 384, "batch_size": 8}
    told = foresee(STEPS, 5000, **huge)
    assert told["cut"] and told["steps"] < 5000
    assert told["longest"] == limits.MAX_RUN_SECONDS < told["seconds"]
    assert not foresee(SECONDS, 60)["cut"]


def evaluations(*losses: tuple[float, float]) -> list[dict[str, Any]]:
    return [
        {"step": 100 * i, "train_loss": train, "val_loss": val, "sample": ""}
        for i, (train, val) in enumerate(losses)
    ]


def test_where_the_bigram_is_passed():
    run = evaluations((4.2, 4.2), (3.0, 3.0), (2.0, 2.0))
    assert numbers.crossing(run, 2.5) == pytest.approx(150)
    assert numbers.crossing(run, 3.0) == pytest.approx(100)
    assert numbers.crossing(run, 1.5) is None
    assert numbers.crossing(run, None) is None
    assert numbers.crossing([], 2.5) is None


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([(4.2, 4.2)], ""),
        ([(4.2, 4.2), (1.5, 1.6)], ""),
        ([(4.2, 4.2), (1.5, 1.6), (1.45, 1.62)], ""),
        ([(4.2, 4.2), (0.03, 0.027)], "this text repeats itself"),
        (
            [(4.2, 4.2), (1.5, 1.6), (1.2, 1.7)],
            "Since step 100 the validation loss has risen from 1.600",
        ),
        ([(4.2, 4.2), (1.0, 1.9)], f"guessed e^0.900 = {math.exp(0.9):.1f} times as surely"),
    ],
)
def test_learning_by_heart_is_told(losses: list[tuple[float, float]], said: str):
    told = numbers.by_heart(evaluations(*losses))
    assert said in told and bool(said) == bool(told)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """One that is done, and has left a model whose loss was measured."""
    run = Run("ann", "mine", presets.recipe("small", TINY), tmp_path, state="done")
    run.evaluations = evaluations((4.2, 4.2), (2.0, 2.496))
    run.baselines = {"uniform": math.log(65), "bigram": 2.5}
    model = build("gpt", CharTokenizer("ab"), TINY, seed=1)
    checkpoints.save(model, {"train_loss": 2.1, "val_loss": 2.4801}, run.model)
    return run


def test_a_loss_without_the_mask_is_told_to_say_nothing(run: Run):
    run.recipe = presets.recipe("layernorm", {**TINY, "causal": False})
    run.evaluations = evaluations((4.2, 4.2), (0.1, 0.1))
    first, *others = numbers.history(run)["said"]
    assert numbers.history(run)["crossing"] is None
    assert first == numbers.UNMASKED
    assert "bigram" not in " ".join(others) and "repeats itself" not in " ".join(others)


def test_each_loss_is_told_for_what_it_is(run: Run):
    told = numbers.history(run)["said"]
    assert "At about step 100 the validation loss falls below 2.50" in told[0]
    assert "mean over 64 chunks of each split" in told[-1]
    assert "2.480, which the lists of models tell" in told[-1]
    run.state = "running"
    assert "measured" not in " ".join(numbers.history(run)["said"])
    run.state = "failed"
    assert numbers.measured_losses(run) is None


def test_where_a_run_stands(run: Run):
    told = numbers.progress(run, 3, Outlook(60.0, 90.0, 2))
    assert (told["place"], told["begins"], told["ends"], told["others"]) == (3, 60.0, 90.0, 2)
    assert (told["name"], told["state"], told["step"]) == (run.name, run.state, run.progress["step"])


def test_models_of_one_name_are_told_apart(service: ModelService, ann: str, bob: str, checkpoint: Path):
    title = "m" * limits.MAX_NAME_CHARS
    names = [service.add_zip(ann, t, checkpoint) for t in ("mine", "mine", "mine", title, title)]
    titles = [service.info(name).title for name in names]
    assert titles == ["mine", "mine (2)", "mine (3)", title, title[:-4] + " (2)"]
    assert service.info(service.add_zip(bob, "mine", checkpoint)).title == "mine"
