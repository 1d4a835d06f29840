"""The ladder, in a real browser: what is told of a rung, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import DESK, PHONE, needs_axe, violations, watched_page

from charlm.training.ladder import load_ladder
from charlm.ui.train import ladder

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

RUNGS = ladder.picture(load_ladder())
BY_NAME = {rung["name"]: rung for rung in RUNGS}


@pytest.fixture(scope="module")
def opened(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(f"{url}#train")
        expect(page.locator("#train-ladder .rung")).to_have_count(len(RUNGS))
        yield page


@pytest.fixture
def page(opened: Page) -> Page:
    """The Train tab with its first rung chosen."""
    opened.set_viewport_size(DESK)
    opened.get_by_role("tab", name="Train", exact=True).click()
    rung(opened, "bigram").click()
    return opened


def rung(page: Page, name: str) -> playwright.Locator:
    return page.locator(f'#train-ladder [data-rung="{name}"]')


def is_told(page: Page, name: str) -> None:
    told = BY_NAME[name]
    said = page.locator("#train-ladder .say")
    expect(said).to_contain_text(f"{told['title']}. {told['added']} Validation loss {told['loss']:.3f}")
    expect(said).to_contain_text(told["found"])
    expect(page.locator("#train-ladder .page")).to_have_text(told["sample"], use_inner_text=True)
    expect(page.locator("#train-ladder .facts")).to_contain_text(told["command"])
    expect(page.locator("#train-ladder .facts")).to_contain_text(f"{told['parameters']:,}")
    expect(page.locator("#train-ladder polyline")).to_have_count(2 * len(told["curves"]))
    expect(page.locator('#train-ladder [aria-selected="true"]')).to_have_attribute("data-rung", name)


def test_each_rung_is_a_step_as_long_as_its_loss_and_told_when_reached(page: Page):
    ends = page.locator("#train-ladder .tread").evaluate_all(
        "all => all.map((tread) => tread.getBoundingClientRect().right)"
    )
    by_loss = sorted(range(len(RUNGS)), key=lambda i: RUNGS[i]["loss"])
    assert [ends[i] for i in by_loss] == sorted(ends)
    is_told(page, "bigram")
    last = RUNGS[-1]["name"]
    rung(page, last).hover()
    is_told(page, last)
    page.locator("#train-ladder h2").hover()
    is_told(page, "bigram")
    rung(page, "bigram").focus()
    page.keyboard.press("ArrowRight")
    is_told(page, RUNGS[1]["name"])
    page.keyboard.press("End")
    is_told(page, last)
    name = page.get_by_role("option", name=f"{RUNGS[-1]['title']} {RUNGS[-1]['loss']:.3f}")
    expect(name).to_be_focused()


def test_a_rung_is_chosen_to_be_trained_again(page: Page):
    rung(page, "gpt").click()
    expect(page.get_by_role("button", name="Train it again")).to_be_hidden()
    rung(page, "one-head").click()
    page.get_by_role("button", name="Train it again").click()
    expect(page.locator("#train-rung input")).to_have_value("1. One head")
    expect(page.locator("#train-amount input")).to_have_value("5000")
    expect(page.locator("#train-forecast")).to_contain_text("7,488 parameters")


def test_a_rung_writes_on_the_generate_tab(page: Page):
    rung(page, "one-head").click()
    page.get_by_role("button", name="Play it").click()
    expect(page.locator("#model input")).to_have_value("Ladder 2: One head")
    expect(page.locator("#written")).to_contain_text("Ladder 2: One head")


def test_the_sentence_that_lies_over_the_steps_leaves_the_pointer_to_them(page: Page):
    page.set_viewport_size(PHONE)
    said = page.locator("#train-ladder .say")
    page.locator("#train-ladder h2").evaluate("(title) => title.scrollIntoView()")
    top = said.bounding_box()["y"]
    covered = page.locator("#train-ladder .rung").evaluate_all(
        """(rungs, top) => rungs.map((rung) => [rung.dataset.rung, rung.getBoundingClientRect()])
            .find(([, { bottom }]) => bottom > top + 10)""",
        top,
    )
    name, box = covered
    page.mouse.move(box["x"] + 20, max(box["y"], top) + 5)
    expect(said).to_contain_text(BY_NAME[name]["title"])


@needs_axe
def test_a_phone_shows_the_steps_one_below_the_other(page: Page):
    page.set_viewport_size(PHONE)
    boxes = [node.bounding_box() for node in page.locator("#train-ladder .rung").all()]
    assert len({box["x"] for box in boxes}) == 1 and all(box["height"] >= 40 for box in boxes)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    rung(page, "one-head").click()
    is_told(page, "one-head")
    assert page.locator("#train-ladder .say").evaluate(
        "(said) => said.getBoundingClientRect().bottom <= innerHeight"
    )
    assert violations(page, "#train-ladder") == []
