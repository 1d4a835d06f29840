"""The laboratory's switches, what differs between runs, and who guessed right, without a browser."""

from __future__ import annotations

import csv
import inspect
import io
import json
from pathlib import Path
from typing import Any

import pytest

from charlm import CharlmError
from charlm.models import gpt, transformer
from charlm.models.parts import CHOICES
from charlm.service.limits import BOUNDS, MAX_RUN_SECONDS, MAX_STEPS, TRAINABLE
from charlm.service.run import THIS, Run
from charlm.training import presets
from charlm.training.trainer import OPTIMIZERS, SCHEDULES
from charlm.ui.train import comparison, knobs, source
from charlm.ui.train.knobs import BY_NAME, KNOBS


def values(preset: str, **changes: Any) -> list[Any]:
    """What the controls hold: of a switch that is hidden, something."""
    settings = knobs.of_preset("small") | knobs.of_preset(preset) | changes
    return [settings[knob.name] for knob in KNOBS]


def run_of(number: int, loss: float | None = None, **options: Any) -> Run:
    changes = options.pop("changes", {})
    recipe = presets.recipe(options.pop("preset", "small"), {"seconds": MAX_RUN_SECONDS} | changes)
    run = Run("ann", f"run {number}", recipe, Path("nowhere"), id=f"id{number}", state="done", **options)
    run.number = number
    if loss is not None:
        run.evaluations = [{"step": 5, "seconds": 1.5, "train_loss": loss, "val_loss": loss}]  # type: ignore
    return run


def test_every_switch_has_a_sentence_and_what_it_can_be_from_one_place():
    everything = CHOICES.keys() | presets.SIZES.keys()
    learning = {knob.name for knob in KNOBS} - everything
    assert everything <= BY_NAME.keys() and learning <= presets.OPTIONS.keys()
    assert BY_NAME["optimizer"].choices == OPTIMIZERS and BY_NAME["schedule"].choices == SCHEDULES
    for knob in KNOBS:
        assert knob.sentence.endswith(".") and knob.group in knobs.GROUPS
        if knob.choices:
            assert knob.is_switch or all(choice in knobs.WORDS for choice in knob.choices)
        else:
            least, most = knob.bounds
            assert BOUNDS[knob.name][0] <= least < most == BOUNDS[knob.name][1]


@pytest.mark.parametrize("preset", TRAINABLE)
def test_a_preset_as_it_is_differs_in_nothing(preset: str):
    assert knobs.read(preset, values(preset)) == {}
    for knob in KNOBS:
        if not knob.choices and knob.name in knobs.of_preset(preset):
            least, most = knob.bounds
            assert least <= knobs.of_preset(preset)[knob.name] <= most


def test_what_is_set_is_said_in_words():
    changes = knobs.read("small", values("small", residual=False, optimizer="sgd", learning_rate=0.1))
    assert changes == {"residual": False, "optimizer": "sgd", "learning_rate": 0.1}
    assert knobs.differences("small", changes) == ["without residual connections", "with SGD"]
    assert knobs.differences("small", changes | {"learning_rate": 0.2})[-1] == "at rate 0.2"
    said = comparison.described("small", {"n_layer": 1, "mlp": "none", "dropout": 0.1})
    assert said == "GPT, four layers, without an MLP, with 1 layer, with dropout 0.1"
    assert knobs.read("small", values("small", muon_learning_rate=9.0, optimizer="adamw")) == {
        "optimizer": "adamw"
    }
    with pytest.raises(CharlmError, match="Learning rate: which number"):
        knobs.read("small", values("small", learning_rate=None))


def test_a_bigram_has_only_what_it_has():
    assert set(knobs.of_preset("bigram")).isdisjoint({*CHOICES, "n_layer", "dropout", "muon_learning_rate"})
    assert knobs.read("bigram", values("bigram", residual=False, n_layer=7)) == {}


def test_the_rate_follows_the_optimizer():
    assert knobs.suitable_rates("small", "sgd") == {"learning_rate": 0.1}
    assert knobs.suitable_rates("small", "adamw") == {"learning_rate": 3e-3}
    own = {"learning_rate": 0.01, "muon_learning_rate": 0.04}
    assert knobs.suitable_rates("small", "muon") == knobs.suitable_rates("residual", "muon") == own
    assert knobs.suitable_rates("one-head", "adamw")["learning_rate"] == 1e-3
    assert knobs.suitable_rates("bigram", "adamw") == {"learning_rate": 0.1}


def test_a_run_without_a_name_is_called_by_what_differs():
    changes = {"residual": False, "optimizer": "sgd", "learning_rate": 0.1}
    name = "small, without residual connections, with SGD"
    assert comparison.default_name("small", changes, 60) == name
    assert comparison.default_name("small", changes, 40) == "small, without residual connections, …"
    assert comparison.default_name("small", changes, 20) == "small"
    assert comparison.default_name("layernorm", {}, 60) == "rung 6"


def test_what_differs_between_runs_is_said_of_each():
    one = run_of(1, changes={"steps": 60})
    two = run_of(2, changes={"steps": 60, "residual": False, "n_head": 2})
    assert comparison.differences([two]) == ["without residual connections, with 2 heads"]
    assert comparison.differences([one, two]) == [
        "with residual connections, with 4 heads",
        "without residual connections, with 2 heads",
    ]
    seconds = run_of(3, changes={"steps": MAX_STEPS, "seconds": 60})
    assert comparison.budget_of(seconds) == ("seconds", 60)
    assert comparison.budget_of(one) == ("steps", 60)
    assert comparison.differences([one, seconds]) == ["for 60 steps", "for 60 seconds"]
    table = run_of(4, preset="bigram", changes={"steps": 60})
    said = comparison.differences([one, table])
    assert said[0].startswith("a transformer, ") and said[1].startswith("a table, ")


@pytest.mark.parametrize(
    ("guess", "losses", "right"),
    [
        ("id1", (2.0, 3.0), True),
        ("id1", (3.0, 2.0), False),
        (THIS, (3.0, 2.0), True),
        (THIS, (2.0, 3.0), False),
    ],
)
def test_a_guess_is_judged_by_the_two_losses(guess: str, losses: tuple[float, float], right: bool):
    runs = [run_of(1, losses[0]), run_of(2, losses[1], guess=guess)]
    told = comparison.guesses(runs)
    assert (told["right"], told["of"]) == (int(right), 1)
    guessed = "run 1" if guess == "id1" else "run 2"
    assert told["said"] == (
        f"{'Right' if right else 'Wrong'}: you guessed that “{guessed}” ends lower. "
        f"“run 2” ended at {losses[1]:.3f}, “run 1” at {losses[0]:.3f}."
    )


def test_what_cannot_be_judged_counts_for_nothing():
    first, second = run_of(1, 2.0), run_of(2, 3.0, guess="id1")
    second.state = "running"
    assert comparison.guesses([first, second]) == {"said": "", "right": 0, "of": 0}
    second.state = "done"
    assert comparison.guesses([second]) == {"said": "", "right": 0, "of": 0}
    second.text_id = "another"
    told = comparison.guesses([first, second])
    assert "different texts" in told["said"] and told["of"] == 0


def test_a_run_that_diverged_has_lost():
    first, second = run_of(1, 2.0), run_of(2, 1.0, guess="id1")
    second.state = "diverged"
    told = comparison.guesses([first, second])
    assert told["right"] == 1 and "“run 2” ended nowhere: it diverged" in told["said"]


def test_of_two_runs_that_diverged_neither_has_won():
    first, second = run_of(1, 2.0), run_of(2, 1.0, guess=THIS)
    first.state = second.state = "diverged"
    told = comparison.guesses([first, second])
    assert told["of"] == 0 and "Both" in told["said"]


def test_the_rate_of_an_optimizer_that_is_not_used_is_no_difference():
    runs = [run_of(1, preset="relu2"), run_of(2, preset="small", changes={"optimizer": "adamw"})]
    assert not any("Muon" in said for said in comparison.differences(runs))


def test_only_runs_of_the_same_text_are_rivals():
    runs = [run_of(1, 2.0), run_of(2, 2.0), run_of(3, 2.0)]
    runs[1].text_id = runs[2].text_id = "mine"
    runs.append(run_of(4))
    runs[3].state = "failed"
    numbers = [[rival["number"] for rival in comparison.rivals(runs, of)] for of in ("", "mine", None)]
    assert numbers == [[1], [2, 3], [2, 3]]


def test_a_run_is_taken_home_with_its_curve():
    run = run_of(1, 2.0, changes={"residual": False, "steps": 60})
    run.batch_losses = [(1, 4.0, 0.1), (6, 1.9, 1.6)]
    rows = list(csv.DictReader(io.StringIO(comparison.as_csv(run))))
    assert [row["step"] for row in rows] == ["1", "5", "6"]
    assert rows[1]["characters"] == str(5 * 16 * 128) and rows[1]["val_loss"] == "2.0"
    assert rows[2]["batch_loss"] == "1.9" and rows[2]["val_loss"] == ""
    told = json.loads(comparison.as_json(run))
    assert told["settings"]["residual"] is False and "--no-residual" in told["command"]
    assert told["evaluations"][0]["val_loss"] == 2.0 and len(told["batch_losses"]) == 2


def test_what_is_drawn_of_a_run_is_bounded():
    run = run_of(1, 2.0)
    run.batch_losses = [(step, 4.0, 0.1) for step in range(500)]
    (listed,) = comparison.listed([run])
    assert 100 <= len(listed["batches"]) <= comparison.DRAWN_BATCHES
    assert listed["loss"] == 2.0 and not listed["measured"]


def test_the_source_is_that_of_the_model_and_of_all_that_a_step_does():
    assert inspect.getsource(gpt.Block) in source.code(presets.recipe("small"))
    without = source.code(presets.recipe("small", {"residual": False}))
    assert inspect.getsource(transformer.Block) in without
    for name in (
        "train_step",
        "_compute_gradients",
        "_set_rates",
        "build_optimizers",
        "learning_rate_factor",
    ):
        assert f"def {name}(" in without
    assert "class BigramLanguageModel" in source.code(presets.recipe("bigram"))
