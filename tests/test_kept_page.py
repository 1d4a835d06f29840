"""The model in the making, played from the Train tab in the other tabs, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser import PHONE, needs_axe, open_tab, set_number, violations, wait_until_trained, watched_page
from conftest import TEXT, TINY

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page, Locator = playwright.Page, playwright.Locator

WRITE, ATTENTION, INSIDE = "Write with it →", "Look at its attention →", "Look inside →"
PROMPT = "The rose"


@pytest.fixture(scope="module")
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    """The Train tab, while a tiny GPT learns from a pasted text."""
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(url)
        page.locator("#prompt textarea").fill(PROMPT)
        open_tab(page, "Train")
        page.locator("#train-forecast p").wait_for()
        page.locator("#train-corpus").get_by_text("Pasted text").click()
        page.locator("#train-text textarea").fill(TEXT)
        page.locator("#train-name").get_by_role("textbox").fill("my model")
        page.locator(".switches").get_by_text("Its sizes", exact=True).click()
        for size, value in TINY.items():
            number = page.locator(f"#train-{size} input[type=number]")
            number.fill(str(value))
            number.press("Tab")
        page.locator("#train-unit").get_by_text("steps").click()
        set_number(page, "train-amount", "600")
        expect(page.locator("#train-start")).to_have_text("Train for 600 steps")
        page.locator("#train-start").click()
        frames(page).nth(1).wait_for(timeout=90_000)
        yield page


def frames(page: Page) -> Locator:
    return page.locator("#train-history .frame")


def ways(page: Page) -> Locator:
    return page.locator("#train-history .play button")


def play(page: Page, i: int, way: str) -> str:
    """Plays the i-th evaluation, and returns what its model is called."""
    open_tab(page, "Train")
    frames(page).nth(i).click()
    title = f"my model at {frames(page).nth(i).locator('b').inner_text()}"
    group = page.get_by_role("group", name=title.replace("my", "The"), exact=True)
    expect(group).to_contain_text(title.replace("my", "The"))
    group.get_by_role("button", name=way).press("Enter")
    return title


def open_now(page: Page) -> Locator:
    return page.get_by_role("tab", selected=True)


def written(page: Page, title: str) -> str:
    pane = page.locator("#written .pane", has_text=title)
    pane.wait_for()
    expect(page.locator("#written .status")).to_have_text("500 characters, seed 1337")
    return pane.locator(".page").inner_text()


def test_a_step_is_played_in_the_other_tabs_while_the_run_goes_on(page: Page):
    expect(ways(page)).to_have_text([WRITE, ATTENTION, INSIDE])
    title = play(page, 0, WRITE)
    assert title == "my model at step 0"
    expect(open_now(page)).to_have_text("Generate")
    expect(page.locator("#model input")).to_have_value(title)
    noise = written(page, title)
    assert noise.startswith(PROMPT)

    title = play(page, 1, ATTENTION)
    expect(open_now(page)).to_have_text("Attention")
    expect(page.locator("#attention-model input")).to_have_value(title)
    expect(page.locator("#attention h2").first).to_contain_text(re.compile("Layer 1, head [12]"))
    expect(page.locator("#attention-surgery select")).to_have_count(2)

    title = play(page, 1, INSIDE)
    expect(open_now(page)).to_have_text("Inside the model")
    expect(page.locator("#inside-model input")).to_have_value(title)
    page.locator("#inside-network .part").first.wait_for()
    # Only the tab that was asked has another model.
    open_tab(page, "Generate")
    expect(page.locator("#model input")).to_have_value("my model at step 0")

    # The seed is still there, so that the same is written once more, and something else at another step.
    title = play(page, 1, WRITE)
    later = written(page, title)
    title = play(page, 0, WRITE)
    assert written(page, title) == noise != later

    open_tab(page, "Train")
    page.locator("#train-stop").click()
    ended = page.locator('#train-progress :is([data-state="stopped"], [data-state="done"])')
    ended.wait_for(timeout=90_000)
    expect(ways(page)).to_have_text([WRITE, ATTENTION, INSIDE])
    # The list of models has another then, and what was chosen stays so.
    open_tab(page, "Generate")
    expect(page.locator("#model input")).to_have_value("my model at step 0")


@needs_axe
def test_the_ways_are_large_on_a_phone_and_axe_finds_nothing(page: Page):
    open_tab(page, "Train")
    assert violations(page, "#train-history") == []
    page.set_viewport_size(PHONE)
    for way in ways(page).all():
        assert way.bounding_box()["height"] >= 40
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.thorough
def test_a_bigram_has_no_attention_to_look_at(page: Page):
    open_tab(page, "Train")
    page.locator("#train-preset").get_by_text("Bigram table").click()
    set_number(page, "train-amount", "30")
    page.locator("#train-start").click()
    wait_until_trained(page)
    expect(ways(page).locator("visible=true")).to_have_text([WRITE, INSIDE])
