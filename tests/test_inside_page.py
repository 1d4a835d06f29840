"""The Inside tab in a real browser: what leaves the screen, what is said of which model, and what a key or a
finger reaches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import DESK, PHONE, bring, needs_axe, open_tab, pick, set_number, violations, watched_page
from conftest import TINY

import charlm
from charlm import checkpoints
from charlm.models import build
from charlm.tokenizer import CharTokenizer
from charlm.ui.inside import comparing, neurons
from charlm.ui.inside import numbers as inside

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

GPT = "GPT, six layers"
TEXT = "My noble lord, I would not spea"


@contextmanager
def opened(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(f"{url}#inside")
        expect(page.locator("#inside-network .part")).to_have_count(9)
        yield page


@pytest.fixture
def page(page: Page) -> Page:
    """The shared page: the GPT as it was, on the first text, at the first settings."""
    page.set_viewport_size(DESK)
    if page.locator("#inside-edits textarea").input_value():
        page.get_by_role("button", name="As it was").click()
    expect(page.locator("#inside-edits textarea")).to_have_value("")
    if page.locator("#inside-model input").input_value() != GPT:
        pick(page, "inside-model", GPT)
    page.locator("#inside-text textarea").fill(TEXT)
    set_number(page, "inside-temperature", "1")
    set_number(page, "inside-k", "0")
    expect(page.locator("#inside-network .part")).to_have_count(9)
    expect(page.locator("#inside-network .changes")).to_have_count(0)
    return page


def expect_nothing_shown(page: Page) -> None:
    expect(page.locator("#inside-notes .note")).to_have_count(1)
    expect(page.locator("#inside-network .network_view > *")).to_have_count(0)
    expect(page.locator("#inside-candidates .candidates_view > *")).to_have_count(0)


@pytest.mark.parametrize("text", ["", "éñ"])
def test_the_picture_leaves_the_screen_with_its_text(page: Page, text: str):
    page.locator("#inside-text textarea").fill(text)
    expect_nothing_shown(page)
    page.locator("#inside-text textarea").fill(TEXT)
    expect(page.locator("#inside-network .part")).to_have_count(9)
    expect(page.locator("#inside-candidates .bar-row")).not_to_have_count(0)


def test_the_picture_leaves_the_screen_with_its_model(page: Page):
    page.locator("#inside-model input").fill("no such model")
    page.locator("#inside-model input").press("Enter")
    expect_nothing_shown(page)
    pick(page, "inside-model", "Bigram table")
    expect(page.locator("#inside-network .part")).to_have_count(2)


def test_what_is_said_is_true_of_the_model_on_the_screen(page: Page):
    story, guesses = page.locator("#inside-network .story"), page.locator("#inside-network .guess")
    expect(story).to_contain_text("every block adds to that row")
    expect(story).to_contain_text("Only the last row was trained to be read")
    expect(page.locator("#inside-network .sign", has_text="+")).to_have_count(6)
    expect(guesses).to_have_count(7)
    pick(page, "inside-model", "One attention head")
    expect(story).to_contain_text("no residual connections")
    expect(story).not_to_contain_text("adds")
    expect(page.locator("#inside-network .sign", has_text="+")).to_have_count(0)
    expect(guesses).to_have_count(1)
    expect(page.locator('[data-part="Embedding"] .guess')).to_have_count(0)
    pick(page, "inside-model", "Bigram table")
    expect(story).to_have_text(inside.story(charlm.load("bigram"))[0])


def focused(page: Page) -> str:
    return page.evaluate("document.activeElement.innerText.replace(/\\s+/g, ' ')")


def test_parts_and_guesses_are_one_stop_and_say_where_they_come_from(page: Page):
    model = charlm.load("gpt")
    guesses = inside.guesses(model, inside.lens(model, TEXT)[1])
    say = page.locator("#inside-network .say")
    expect(say).to_have_attribute("role", "status")
    stop = page.locator('#inside-network .strip [tabindex="0"]')
    expect(stop).to_have_count(1)
    stop.focus()
    page.keyboard.press("End")
    assert focused(page).startswith("Logits")
    expect(say).to_contain_text(
        "RMSNorm, then a score for every character. What leaves it has the shape (1, 31, 65)"
    )
    page.keyboard.press("ArrowUp")
    assert focused(page).startswith("Block 6")
    expect(say).to_contain_text("4 heads of 64 channels with QK-norm")
    page.keyboard.press("ArrowRight")
    best = guesses[-1][0]
    expect(say).to_contain_text(f"After Block 6: {best['char']} has the score {best['score']:.2f}")
    expect(say).to_contain_text(f"e^{best['score']:.2f} / e^{best['total']:.2f} = {100 * best['p']:.1f}")
    same = [row for row in guesses if best["char"] in [guess["char"] for guess in row]]
    expect(page.locator("#inside-network .chip.target")).to_have_count(len(same))


def test_what_remains_is_one_stop_and_is_explained(page: Page):
    set_number(page, "inside-temperature", "2")
    set_number(page, "inside-k", "2")
    expect(page.locator("#inside-candidates .kept")).to_contain_text("2 of 65")
    model = charlm.load("gpt")
    rows = inside.candidates(model, inside.lens(model, TEXT)[1][-1], 2, 2, None)
    stop = page.locator('#inside-candidates .list [tabindex="0"]')
    expect(stop).to_have_count(1)
    stop.focus()
    say = page.locator("#inside-candidates .say")
    left = sum(row["before"] for row in rows[:2])
    before, after = (f"{100 * rows[0][name]:.1f} %" for name in ("before", "after"))
    words = f"{before} at this temperature, divided by the {100 * left:.1f} % that remain: {after}."
    expect(say).to_have_text(f"{rows[0]['char']}: {words}")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(say).to_contain_text("cut off: it cannot be drawn")


def test_the_sampler_is_in_sight_beside_the_strip(page: Page):
    rows = page.locator("#inside-network .part").evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect().height)"
    )
    assert max(rows) < 60
    assert page.locator("#inside-network .guess").evaluate_all(
        "all => all.every((g) => new Set([...g.children].map((c) => c.offsetTop)).size === 1)"
    )
    strip = page.locator("#inside-network .strip").bounding_box()
    sampler = page.locator("#inside-candidates .list").bounding_box()
    assert sampler["x"] > strip["x"] + strip["width"] - 1
    assert sampler["y"] < strip["y"] + strip["height"]
    expect(page.locator("#inside :is(h3, h4), #inside-network :is(h1, h3)")).to_have_count(0)
    expect(page.get_by_role("heading", name="What remains to draw from", level=2)).to_be_visible()


def test_on_a_phone_everything_can_be_tapped(page: Page):
    page.set_viewport_size(PHONE)
    expect(page.locator("#inside-network .chip").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for item in ("#inside-network :is(.chip, .name)", "#inside-candidates .list .bar-row"):
        heights = page.locator(item).evaluate_all("all => all.map((e) => e.getBoundingClientRect().height)")
        assert min(heights) >= 40, item
    page.locator('[data-part="Embedding"] .chip').nth(1).click()
    say = page.locator("#inside-network .say")
    expect(say).to_contain_text(re.compile("After Embedding: . has the score"))
    expect(say).to_be_in_viewport(ratio=1)


@pytest.fixture(scope="module")
def gpt() -> charlm.LanguageModel:
    return charlm.load("gpt").eval()


def percent(p: float) -> str:
    return "<0.1\u00a0%" if p < 0.001 else f"{100 * p:.1f}\u00a0%"


def test_a_part_is_switched_off_and_on_where_it_stands(page: Page, gpt: charlm.LanguageModel):
    switch = page.get_by_role("button", name="Block 6, MLP")
    shifted = page.locator("#inside-network .shifted")
    expect(switch).to_have_attribute("aria-pressed", "true")
    expect(shifted).to_have_count(0)
    switch.focus()
    page.keyboard.press("Enter")
    expect(switch).to_have_attribute("aria-pressed", "false")
    expect(switch).to_be_focused()
    expect(shifted).to_have_count(1)
    expect(shifted).to_have_attribute("data-part", "Block 6")
    expect(shifted.locator(".changes")).to_have_text("MLP off")
    before, after = (inside.lens(m, TEXT)[1] for m in (gpt, charlm.operate(gpt, "6.mlp:off")))
    shift = inside.shifts(gpt, before, after)[-1]
    assert shift is not None
    moved = f"{percent(shift['before'])} → {percent(shift['after'])}"
    expect(shifted.locator(".moved")).to_have_text(f"{shift['char']}\u00a0{moved}", use_inner_text=True)
    expect(page.locator("#inside-network .ends")).to_contain_text(
        f"Before the change, the best guess was {shift['char']}: {percent(shift['before'])} then"
    )
    page.locator('#inside-network [data-guessed="0"]').hover()
    expect(page.locator("#inside-network .say")).to_contain_text(
        f"After Block 6, before the change: {shift['char']} has the score {before[-1].max():.2f}"
    )
    # A pinned character is no wish to change something again.
    page.locator("#inside-surgery").get_by_role("button", name="As it was").click()
    expect(shifted).to_have_count(0)
    page.locator("#inside-network .ch").nth(5).click()
    expect(page.locator("#inside-network .ch.target")).to_have_attribute("data-i", "5")
    expect(switch).to_have_attribute("aria-pressed", "true")
    page.locator("#inside-network .ch").last.click()
    expect(page.locator("#inside-network .ch.target")).to_have_attribute("data-i", str(len(TEXT) - 1))


def test_neurons_are_shown_held_and_switched_off(page: Page, gpt: charlm.LanguageModel):
    part = page.locator("#inside-neurons")
    part.scroll_into_view_if_needed()
    told = neurons.explain(gpt, TEXT, 0, 6)
    rows, say, effect = part.locator(".list .bar-row"), part.locator(".say"), part.locator(".effect")
    expect(rows).to_have_count(len(told["most"]))
    second = told["most"][1]
    name, up = second["neuron"], second["up"][0]
    expect(rows.nth(1)).to_contain_text(f"{second['value']:.2f}{up['char']}\u00a0+{up['by']:.2f}")
    expect(part.locator('.list [tabindex="0"]')).to_have_count(1)
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    expect(say).to_contain_text(f"Neuron {name} found {second['value'] ** 0.5:.2f} here")
    page.keyboard.press("Enter")
    expect(rows.nth(1)).to_have_attribute("aria-selected", "true")
    expect(rows.nth(1)).to_be_focused()
    expect(part.get_by_label("Neuron", exact=True)).to_have_value(str(name))
    part.get_by_label("Held at, as a number").fill("0")
    page.keyboard.press("Enter")
    held = neurons.explain(gpt, TEXT, 0, 6, name, 0)["bars"][0]
    expect(effect).to_contain_text(f"neuron {name} held at 0 for every character, in this view only")
    expect(effect).to_contain_text(f"{held['char']} {percent(held['ps'][1])}; before, ")
    expect(part.locator(".several").first).to_have_text(
        held["char"] + "".join(map(percent, held["ps"])), use_inner_text=False
    )
    expect(page.locator("#inside-network .shifted")).to_have_count(0)
    part.get_by_role("button", name="Release").click()
    expect(effect).to_contain_text("Switch the neuron off, or hold it")
    part.get_by_role("button", name="Switch off").click()
    expect(page.locator('[data-part="Block 6"] .changes')).to_have_text(f"neuron {name} off")
    expect(effect).to_contain_text(f"Without neuron {name}, switched off in the weights, the guess is")
    expect(rows.nth(1)).to_contain_text("off")
    part.get_by_role("button", name="Switch on").click()
    expect(page.locator("#inside-network .changes")).to_have_count(0)
    part.get_by_label("Neuron", exact=True).fill("2000")
    page.keyboard.press("Enter")
    expect(part.get_by_label("Neuron", exact=True)).to_have_value("1024")
    part.get_by_role("button", name="Block 3").click()
    expect(part.locator(".awake")).to_contain_text("Block 3: ")


def test_two_texts_are_compared(page: Page, gpt: charlm.LanguageModel):
    part = page.locator("#inside-patching")
    part.scroll_into_view_if_needed()
    first, second = (part.get_by_label(f"{which} text") for which in ("First", "Second"))
    texts = first.input_value(), second.input_value()
    told = comparing.compare(gpt, *texts)
    says, say, cells = part.locator(".told"), part.locator(".say"), part.locator(".cell")
    expect(cells).to_have_count(7 * len(texts[0]))
    for i, measured in enumerate(told["measured"]):
        expect(says).to_contain_text(f"with {measured['char']} ({percent(measured['ps'][i])}")
    expect(says).to_contain_text("from block 3 to block 5 at u/y (8)")
    expect(part.locator('.cell[tabindex="0"]')).to_have_attribute("aria-pressed", "true")
    part.locator('.cell[tabindex="0"]').focus()
    page.keyboard.press("ArrowLeft")
    returned = round(100 * told["returned"][3][7])
    expect(say).to_contain_text(f"row at o/e (7) after block 3, {returned}\u00a0% of its prediction")
    page.keyboard.press("Enter")
    row = comparing.compare_cell(gpt, *texts, 3, 7)["bars"][0]
    expect(part.locator(".several").first).to_have_text(row["char"] + "".join(map(percent, row["ps"])))
    name = f"After block 3, at o or e (7): {returned}\u00a0%"
    expect(part.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
    second.fill("What you ha")
    second.press("Enter")
    expect(says).to_contain_text("the first has 12, the second 11")
    expect(cells.first).to_be_hidden()
    part.get_by_role("button", name="the king / the wing").click()
    expect(cells).to_have_count(7 * 8)
    expect(first).to_have_value("the king")


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_laboratory_is_for_everybody(page: Page, scheme: str):
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("button", name="Block 6, MLP").click()
    page.locator("#inside-neurons").scroll_into_view_if_needed()
    page.locator("#inside-patching").scroll_into_view_if_needed()
    expect(page.locator("#inside-patching .cell").first).to_be_visible()
    for part in ("network", "neurons", "patching"):
        assert not violations(page, f"#inside-{part}")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for item in (
        "#inside-network :is(.switch, .earlier .chip)",
        "#inside-neurons :is(button, input, .list .bar-row)",
        "#inside-patching :is(button, input)",
    ):
        heights = page.locator(item).evaluate_all(
            "all => all.filter((e) => e.checkVisibility()).map((e) => e.getBoundingClientRect().height)"
        )
        assert min(heights) >= 40, item


def test_a_model_without_neurons_and_one_that_does_not_look_back_say_so(page: Page):
    pick(page, "inside-model", "One attention head")
    expect(page.locator("#inside-neurons .hint").first).to_have_text(neurons.NO_NEURONS)
    expect(page.locator("#inside-network .switch")).to_have_attribute("aria-label", "Layer 1, attention")
    expect(page.locator("#inside-network .switch")).to_have_count(1)
    expect(page.locator("#inside-patching .cell").first).to_be_visible()
    pick(page, "inside-model", "Bigram table")
    expect(page.locator("#inside-patching .hint").first).to_contain_text("looks at one character only")
    expect(page.locator("#inside-network .switch")).to_have_count(0)


def test_two_texts_may_be_of_any_characters(fresh: Page, tmp_path: Path):
    """Of those, too, that JavaScript counts as two."""
    page = fresh
    checkpoints.save(build("gpt", CharTokenizer("ab😀"), TINY, seed=1), {}, tmp_path / "model")
    checkpoints.pack(tmp_path / "model", tmp_path / "faces.zip")
    bring(page, tmp_path / "faces.zip")
    open_tab(page, "Inside the model")
    pick(page, "inside-model", "faces")
    page.get_by_label("First text").fill("a😀a")
    page.get_by_label("Second text").fill("a😀b")
    page.get_by_role("button", name="Compare").click()
    cells = page.locator("#inside-patching .cell")
    expect(cells).to_have_count(6)
    expect(cells.nth(1)).to_have_attribute("aria-label", re.compile("at 😀 \\(1\\)"))
    for cell in (cells.last, cells.first):
        cell.click()
        expect(cell).to_have_attribute("aria-pressed", "true")
