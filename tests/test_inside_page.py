"""The Inside tab in a real browser: what leaves the screen, what is said of which model, and what a key or a
finger reaches."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser import PHONE, open_tab, pick, set_number, watched_page

import charlm
from charlm.ui.inside import numbers as inside

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

TEXT = "My noble lord, I would not spea"


@pytest.fixture
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(url)
        open_tab(page, "Inside the model")
        expect(page.locator("#inside-network .part")).to_have_count(9)
        yield page


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
