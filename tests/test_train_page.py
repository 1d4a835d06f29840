"""The Train tab in a real browser: the forecast, the curve and the strip of a run, and a second window."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser import PHONE, open_tab, set_number, wait_until_trained, watched_page
from conftest import TEXT

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page


@pytest.fixture
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium, reduced_motion="reduce", has_touch=True) as page:
        page.goto(f"{url}#train")
        page.locator("#train-forecast p").wait_for()
        yield page


def start(page: Page, steps: int, text: str = TEXT) -> None:
    """Trains a bigram table, which takes no time."""
    page.locator("#train-corpus").get_by_text("Pasted text").click()
    page.locator("#train-text textarea").fill(text)
    page.locator("#train-preset").get_by_text("Bigram table").click()
    expect(page.locator("#train-amount input")).to_have_value("1000")
    set_number(page, "train-amount", str(steps))
    page.locator("#train-start").click()


def test_what_cannot_be_trained_is_said_before_the_start(page: Page):
    forecast, start = page.locator("#train-forecast"), page.locator("#train-start")
    expect(start).to_have_text("Train for 60 seconds")
    page.locator("#train-unit").get_by_text("steps").click()
    expect(start).to_have_text("Train for 600 steps")
    set_number(page, "train-amount", "-3")
    expect(forecast).to_have_text("A run takes from 1 to 5,000 steps, not -3.")
    set_number(page, "train-amount", "1")
    expect(forecast).to_contain_text("about 1 step in")
    page.locator("#train-unit").get_by_text("seconds").click()
    expect(page.locator("#train-amount input")).to_have_value("60")
    set_number(page, "train-amount", "15840")
    expect(forecast).to_contain_text("from 1 to 1,800 seconds")
    start.click()
    expect(page.locator("#train-notes")).to_have_text(forecast.inner_text())


def test_the_curve_and_the_strip_are_walked_together(page: Page):
    start(page, 400)
    wait_until_trained(page)
    history, say = page.locator("#train-history"), page.locator("#train-history .say")
    frames, columns = history.locator(".frame"), history.locator("svg .column")
    expect(say).to_contain_text("After 400 steps: training loss")
    count = frames.count()
    assert count >= 10
    expect(columns).to_have_count(count)
    for box in (".strip", "svg.losses"):
        assert history.locator(f'{box} [tabindex="0"]').count() == 1
    frames.last.focus()
    page.keyboard.press("Home")
    expect(say).to_contain_text("After 0 steps")
    expect(frames.first).to_have_attribute("aria-selected", "true")
    expect(columns.first).to_have_attribute("aria-selected", "true")
    first = history.locator(".page").inner_text()
    columns.first.focus()
    page.keyboard.press("ArrowRight")
    expect(frames.nth(1)).to_have_attribute("aria-selected", "true")
    assert history.locator(".page").inner_text() != first
    columns.nth(3).hover(force=True)
    told = re.compile("After \\d+ steps: .* as unsure as among e\\^\\d\\.\\d{3} = \\d+\\.\\d characters")
    expect(say).to_have_text(told)
    expect(frames.nth(3)).to_have_attribute("aria-selected", "true")
    page.mouse.move(0, 0)
    expect(frames.nth(1)).to_have_attribute("aria-selected", "true")
    for text in (
        "uniform guess",
        "counted bigram",
        "the mean over 64 chunks",
        "which the lists of models tell",
    ):
        expect(history).to_contain_text(text)
    expect(page.locator("#tab-train .js-plotly-plot")).to_have_count(0)
    expect(page.locator("#train-progress")).to_contain_text("400 steps in")


@pytest.mark.thorough
def test_no_stopwatch_runs_beside_what_changes_by_itself(page: Page):
    page.evaluate("""() => {
        window.stopwatches = new Set();
        const look = () => {
            for (const view of document.querySelectorAll("#train-progress, #train-history, #train-forecast"))
                for (const time of view.textContent.match(/\\d\\.\\ds/g) ?? []) stopwatches.add(time);
        };
        new MutationObserver(look).observe(document.body, {
            subtree: true, childList: true, characterData: true,
        });
    }""")
    start(page, 30)
    wait_until_trained(page)
    assert page.evaluate("[...stopwatches]") == []


@pytest.mark.thorough
def test_another_window_shows_the_run(page: Page, url: str):
    other = page.context.new_page()
    other.goto(url)
    open_tab(other, "Train")
    expect(other.locator("#train-progress")).to_contain_text("Press Train")
    open_tab(other, "Tokens")
    page.bring_to_front()
    start(page, 400)
    wait_until_trained(page)
    open_tab(other, "Train")
    expect(other.locator('#train-progress [data-state="done"]')).to_be_visible()
    expect(other.locator("#train-history .frame").first).to_be_visible()


@pytest.mark.thorough
def test_a_text_that_repeats_itself_is_told(page: Page):
    start(page, 200, text="ab" * 1500)
    wait_until_trained(page)
    expect(page.locator("#train-history")).to_contain_text("So this text repeats itself")


@pytest.mark.thorough
def test_a_phone_has_large_targets_and_nothing_sticks_out(page: Page):
    page.set_viewport_size(PHONE)
    page.get_by_text("Its sizes").click()
    start(page, 30)
    wait_until_trained(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    controls = "#train-history .frame, #train-start, #train-stop, #tab-train label:has(input[type=radio])"
    for target in page.locator(f"{controls}, .switches input[type=range]:visible").all():
        assert target.bounding_box()["height"] >= 40
    plot = page.locator("#train-history svg.losses").bounding_box()
    assert plot["x"] >= 0 and plot["x"] + plot["width"] <= 390
