"""The controls of the laboratory: which model, its switches, and for how long it learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from charlm.service.limits import MAX_NAME_CHARS, TRAINABLE
from charlm.training.presets import PRESETS
from charlm.training.rungs import RUNGS
from charlm.ui.parts import SILENT_EVENT, Page
from charlm.ui.train import knobs, numbers
from charlm.ui.train.knobs import GROUPS, KNOBS, Knob
from charlm.ui.train.numbers import DEFAULT_SECONDS, SECONDS, STEPS

FIRST_PRESET = "small"
RUNG_NAMES = [rung.name for rung in RUNGS]
OFFERED = [name for name in TRAINABLE if name not in RUNG_NAMES]
NO_RUNG = ""
CHOSEN_RUNG = """() => {
    document.querySelector("#train-start").scrollIntoView({ block: "center" });
    return [charlm.ladder.chosen()];
}"""


def base_of(preset: str | None, rung: str | None) -> str:
    """The preset that the switches start from: that of the rung, if one is chosen."""
    return rung or preset or FIRST_PRESET


class Controls:
    """All that a run is set by besides its text. `inputs` are `preset`, `rung`, `unit`, `amount` and one for
    each of `KNOBS`, in this order; `outputs` are what `show` updates."""

    def __init__(self, page: Page):
        self.page = page
        first = knobs.of_preset(FIRST_PRESET)
        self._lay_out_model()
        self._lay_out_budget()
        self.knobs: list[Any] = []
        self.groups = []
        for group in GROUPS:
            with gr.Accordion(group, open=False, elem_classes="switches") as accordion:
                self.groups.append(accordion)
                for knob in (knob for knob in KNOBS if knob.group == group):
                    self.knobs.append(_control(knob, first[knob.name]))
        self.inputs = [self.preset, self.rung, self.unit, self.amount, *self.knobs]
        self.outputs = [*self.inputs, *self.groups]
        self._connect()

    def _lay_out_model(self) -> None:
        self.preset = gr.Radio(
            [(PRESETS[name].title, name) for name in OFFERED],
            value=FIRST_PRESET,
            label="Model",
            info=PRESETS[FIRST_PRESET].description,
            elem_id="train-preset",
        )
        self.rung = gr.Dropdown(
            [("none", NO_RUNG), *((f"{i}. {rung.title}", rung.name) for i, rung in enumerate(RUNGS, 1))],
            value=NO_RUNG,
            label="or a rung of the ladder",
            elem_id="train-rung",
        )

    def _lay_out_budget(self) -> None:
        with gr.Row():
            self.unit = gr.Radio(
                [STEPS, SECONDS], value=SECONDS, label="Stop after", elem_id="train-unit", min_width=120
            )
            self.amount = gr.Number(
                DEFAULT_SECONDS, label="How many", precision=0, min_width=120, elem_id="train-amount"
            )
        self.name = gr.Textbox("", label="Name of the model", max_length=MAX_NAME_CHARS, elem_id="train-name")

    def _connect(self) -> None:
        unseen = self.page.unseen
        self.unit.input(self._offer_amount, [self.preset, self.rung, self.unit], self.amount, **unseen)
        self.preset.input(lambda preset: self.choose(preset), self.preset, self.outputs, **unseen)
        self.rung.input(self._choose_rung, [self.preset, self.rung], self.outputs, **unseen)
        optimizer, *rates = (
            self.knobs[i]
            for i, knob in enumerate(KNOBS)
            if knob.name in ("optimizer", "learning_rate", "muon_learning_rate")
        )
        optimizer.input(self._suit, [self.preset, self.rung, optimizer], rates, **unseen)

    def follow(self, ladder: gr.HTML) -> None:
        """Has a click on a rung of the ladder choose it."""
        chosen = ladder.click(None, None, self.rung, js=CHOSEN_RUNG, **SILENT_EVENT)
        chosen.then(self._choose_rung, [self.preset, self.rung], self.outputs, **self.page.unseen)

    def _offer_amount(self, preset: str | None, rung: str | None, unit: str) -> int:
        return numbers.default_amount(base_of(preset, rung), unit)

    def _choose_rung(self, preset: str | None, rung: str) -> list[Any]:
        return self.choose(base_of(preset, rung))

    def _suit(self, preset: str | None, rung: str | None, optimizer: str) -> list[dict[str, Any]]:
        """Sets the rates to what suits an optimizer, and says so."""
        rates = knobs.suitable_rates(base_of(preset, rung), optimizer)
        said = f"Set to what suits {knobs.WORDS[optimizer]}."
        return [
            gr.update(
                visible=optimizer == "muon" or name != "muon_learning_rate",
                **({"value": rates[name], "info": f"{said} {knobs.info_of(name)}"} if name in rates else {}),
            )
            for name in knobs.RATES
        ]

    def choose(self, preset: str) -> list[Any]:
        """Sets everything to what a preset or a rung is offered with."""
        return self.show(preset, {}, STEPS, numbers.default_amount(preset, STEPS))

    def show(self, preset: str, changes: Mapping[str, Any], unit: str, amount: float) -> list[Any]:
        """Sets everything to a preset with `changes`, for so long: updates of `outputs`."""
        is_rung = preset in RUNG_NAMES
        settings = {**knobs.of_preset(preset), **changes}
        return [
            gr.update(value=None if is_rung else preset, info=PRESETS[preset].description),
            preset if is_rung else NO_RUNG,
            unit,
            amount,
            *(_shown(knob, settings) for knob in KNOBS),
            *(
                gr.update(visible=any(k.group == group and k.name in settings for k in KNOBS))
                for group in GROUPS
            ),
        ]


def _control(knob: Knob, value: Any) -> Any:
    """The control of a switch: on or off, a choice, a number that is typed, or a slider."""
    options: dict[str, Any] = {
        "value": value,
        "label": knob.label,
        "info": knobs.info_of(knob.name),
        "elem_id": f"train-{knob.name}",
    }
    if knob.is_switch:
        return gr.Checkbox(**options)
    if knob.choices:
        return gr.Radio([(knobs.WORDS[choice], choice) for choice in knob.choices], **options)
    if not knob.step:
        return gr.Number(**options)
    return gr.Slider(*knob.bounds, step=knob.step, **options)


def _shown(knob: Knob, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sets the control of a switch, or hides it from a model that has no such thing."""
    if knob.name not in settings or (knob.name == "muon_learning_rate" and settings["optimizer"] != "muon"):
        return gr.update(visible=False)
    return gr.update(value=settings[knob.name], visible=True, info=knobs.info_of(knob.name))
