"""What training does to each layer, measure by measure, and whether that is healthy."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any

from charlm.service.run import Run
from charlm.training.measures import LayerMeasures, Measures

VANISHING = 100
"""By how much the gradients of two layers may differ."""
EXPLODING = 10
"""By how much a gradient norm may exceed its median."""
LITTLE, MUCH = 3e-4, 3e-2
"""Between these an update-to-weight ratio is healthy."""
LEAP = 10
"""By how much activations may grow or shrink from one layer to the next."""
FEW, MANY = 0.1, 0.3
"""Shares of dead neurons."""

USUAL = [1e-3, 1e-2]
"""What most say an update-to-weight ratio ought to be."""
USUAL_RATIO = {
    "adamw": "Healthy for AdamW: 0.001 to 0.01 after the warm-up, less towards the end if the rate falls.",
    "muon": (
        "Healthy: 0.001 to 0.01 for AdamW's weights, and about 0.01 for those of the layers, which are "
        "Muon's: its updates have one size, whatever the gradient's. Less towards the end if the rate falls."
    ),
    "sgd": (
        "Healthy: about 0.001 to 0.01. Plain SGD's updates are in proportion to the gradient, so a layer "
        "whose gradient vanishes stands still."
    ),
}


def panel(run: Run) -> dict[str, Any]:
    """Each measure of `run`: a series for each layer, and two sentences on what is healthy and whether this
    is. Empty as long as nothing is measured."""
    if not run.measures:
        return {}
    measures = list(run.measures)  # more may come meanwhile
    ratio = USUAL_RATIO[run.recipe.options.optimizer]
    shown = [
        _measure(measures, "gradient", "Gradient norm", GRADIENT, _gradient(measures)),
        _measure(measures, "update_ratio", "Update-to-weight ratio", ratio, _update_ratio(run, measures)),
        _measure(measures, "activation", "Size of activations", ACTIVATION, _activation(measures)),
    ]
    if any(layer["dead"] is not None for layer in measures[-1]["layers"]):
        shown.append(_measure(measures, "dead", "Dead neurons", DEAD, _dead(measures)))
    return {"id": run.id, "steps": [m["step"] for m in measures], "measures": shown}


GRADIENT = (
    "Healthy: of a similar size in every layer and from step to step. Where it shrinks on its way back, the "
    "first layers hardly learn; where it leaps up, a step goes too far."
)
ACTIVATION = (
    "The root mean square of what leaves a layer. Healthy: similar from layer to layer; with residual "
    "connections it grows slowly, since each layer adds to what came before."
)
DEAD = (
    "The share of a layer's neurons that are 0 for every character of the batch, and so learn nothing from "
    "it. Healthy: few. ReLU² is 0 where ReLU is."
)


def _measure(
    measures: list[Measures], key: str, title: str, healthy: str, verdict: Verdict
) -> dict[str, Any]:
    names = [layer["name"] for layer in measures[-1]["layers"] if _value(layer, key) is not None]
    by_name = [{layer["name"]: _value(layer, key) for layer in m["layers"]} for m in measures]
    series = [{"name": name, "values": [values[name] for values in by_name]} for name in names]
    well, said = verdict
    told = {"key": key, "title": title, "healthy": healthy, "well": well, "said": said, "series": series}
    return told | {"band": USUAL if key == "update_ratio" else None}


Verdict = tuple[bool, str]
"""Whether something is healthy, and a sentence."""


def _value(layer: LayerMeasures, key: str) -> Any:
    return dict(layer)[key]


def _inner(measures: Measures) -> list[LayerMeasures]:
    """The layers between the embedding and the logits; a bigram's table."""
    return [layer for layer in measures["layers"] if layer["name"] not in ("embedding", "logits")]


def _gradient(measures: list[Measures]) -> Verdict:
    """Of the step that was measured last."""
    now, usual = measures[-1]["gradient_norm"], median(m["gradient_norm"] for m in measures)
    if now > EXPLODING * usual > 0:
        return False, f"It is {now:.2g} now, {now / usual:,.0f} times its median: it explodes."
    inner = _inner(measures[-1])
    least, most = (end(inner, key=lambda layer: layer["gradient"]) for end in (min, max))
    if now < 1e-4:
        return False, f"All layers together have {now:.1g}: it vanishes, and hardly anything is learned."
    if most["gradient"] > VANISHING * least["gradient"]:
        # It comes from the last layer.
        how = "grows" if inner.index(most) < inner.index(least) else "vanishes"
        return False, (
            f"It {how} on its way back: {most['gradient']:.2g} in {most['name']}, "
            f"{least['gradient']:.2g} in {least['name']}."
        )
    return True, f"All layers together have {now:.2g} now, their median is {usual:.2g}: healthy."


def _update_ratio(run: Run, measures: list[Measures]) -> Verdict:
    """The median of what was measured after the warm-up, as the rate falls towards the end."""
    warmup = run.recipe.options.warmup_steps
    later = [m for m in measures if m["step"] > warmup]
    if not later:
        return True, f"It grows with the rate for {warmup:,} steps, the warm-up."
    ratio = median(layer["update_ratio"] for m in later for layer in _inner(m))
    said = f"Since the warm-up a step has changed the layers by {ratio:.2g} of their weights (the median)"
    if ratio < LITTLE:
        return False, f"{said}: little. A higher rate learns faster."
    if ratio > MUCH:
        return False, f"{said}: much. At a lower rate steps do not overshoot."
    return True, f"{said}: healthy."


def _activation(measures: list[Measures]) -> Verdict:
    """Of the step that was measured last."""
    # Logits are no channels: how large they are says how sure the model is.
    layers = [layer for layer in measures[-1]["layers"] if layer["name"] != "logits"]
    for before, after in pairwise(layers):
        sizes = (
            f"{before['activation']:.2g} in {before['name']}, {after['activation']:.2g} in {after['name']}"
        )
        if after["activation"] > LEAP * before["activation"]:
            return False, f"They explode: {sizes}."
        if after["activation"] * LEAP < before["activation"]:
            return False, f"They vanish: {sizes}."
    sizes = " to ".join(f"{end['activation']:.2g} in {end['name']}" for end in (layers[0], layers[-1]))
    return True, f"From {sizes}: healthy." if len(layers) > 1 else f"{layers[0]['activation']:.2g}: healthy."


def _dead(measures: list[Measures]) -> Verdict:
    """Of the step that was measured last."""
    share, name = max((layer["dead"] or 0.0, layer["name"]) for layer in measures[-1]["layers"])
    if share > MANY:
        return False, f"{share:.0%} are dead in {name}: many. A lower rate or a norm keeps them alive."
    if share > FEW:
        return True, f"{share:.0%} are dead in {name}: some, no harm as long as it does not grow."
    return True, f"At most {share:.0%} are dead in a layer: healthy." if share else "None is dead: healthy."
