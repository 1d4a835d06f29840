"""What is said of a run's layers: whether they are healthy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from charlm.service.run import Run
from charlm.training import presets
from charlm.training.measures import LayerMeasures, Measures
from charlm.ui.train import healthy

GOOD = {"gradient": 0.5, "update_ratio": 2e-3, "activation": 1.0, "dead": 0.0}


def run_with(steps: int = 10, **changed: dict[str, float]) -> Run:
    """A run of three layers, all healthy but for what is changed of the first and the last at the end."""
    recipe = presets.recipe("small", {"warmup_steps": 2, "optimizer": "adamw"})
    run = Run("ann", "one", recipe, Path())
    for step in range(1, steps + 1):
        layers = []
        for name in ("embedding", "layer_1", "layer_2", "logits"):
            values: dict[str, Any] = GOOD | (changed.get(name, {}) if step == steps else {})
            if name in ("embedding", "logits"):
                values["dead"] = None
            layers.append(LayerMeasures(name=name.replace("_", " "), **values))
        norm = sum(layer["gradient"] ** 2 for layer in layers) ** 0.5
        run.measures.append(Measures(step=step, gradient_norm=norm, layers=layers))
    return run


def told(run: Run) -> dict[str, tuple[bool, str]]:
    return {m["key"]: (m["well"], m["said"]) for m in healthy.panel(run)["measures"]}


def test_what_is_healthy_is_said_to_be_so():
    panel = healthy.panel(run_with())
    assert panel["steps"] == list(range(1, 11))
    assert [m["key"] for m in panel["measures"]] == ["gradient", "update_ratio", "activation", "dead"]
    assert all(m["well"] and m["said"].endswith("healthy.") for m in panel["measures"])
    names = [[line["name"] for line in m["series"]] for m in panel["measures"]]
    assert names[0] == ["embedding", "layer 1", "layer 2", "logits"]
    assert names[3] == ["layer 1", "layer 2"]
    assert panel["measures"][0]["series"][1]["values"] == [0.5] * 10


def test_as_long_as_nothing_is_measured_there_is_nothing_to_show():
    assert healthy.panel(run_with(0)) == {}
    assert told(run_with(2))["update_ratio"] == (True, "It grows with the rate for 2 steps, the warm-up.")


@pytest.mark.parametrize(
    ("key", "layer", "value", "said"),
    [
        ("gradient", "layer_1", 1e-3, "It vanishes on its way back: 0.5 in layer 2, 0.001 in layer 1."),
        ("gradient", "layer_2", 1e-3, "It grows on its way back: 0.5 in layer 1, 0.001 in layer 2."),
        ("gradient", "layer_1", 1e3, "It is 1e+03 now, 1,000 times its median: it explodes."),
        ("activation", "layer_2", 20.0, "They explode: 1 in layer 1, 20 in layer 2."),
        ("activation", "layer_1", 0.01, "They vanish: 1 in embedding, 0.01 in layer 1."),
        ("dead", "layer_2", 0.75, "75% are dead in layer 2: many."),
    ],
)
def test_what_is_not_healthy_is_said_with_its_numbers(key: str, layer: str, value: float, said: str):
    well, sentence = told(run_with(**{layer: {key: value}}))[key]
    assert not well
    assert sentence.startswith(said)


@pytest.mark.parametrize(("ratio", "said"), [(1e-5, "1e-05 of their weights"), (0.2, "0.2 of their weights")])
def test_the_update_ratio_is_judged_by_its_median(ratio: float, said: str):
    run = run_with()
    assert told(run)["update_ratio"][0]
    for measures in run.measures[2:]:
        for layer in measures["layers"][1:3]:
            layer["update_ratio"] = ratio
    well, sentence = told(run)["update_ratio"]
    assert not well
    assert said in sentence
