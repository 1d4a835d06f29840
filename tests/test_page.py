"""The page in a real browser, used as a learner would."""

from __future__ import annotations

from collections.abc import Iterator

import browser
import pytest

import charlm

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
Page = playwright.Page


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    browser.skip_without_browser()
    yield from browser.serve()


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as p:
        yield p.chromium.launch(executable_path=browser.CHROMIUM, args=browser.ARGUMENTS)


@pytest.fixture
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(url)
    yield page
    context.close()
    assert not complaints


def set_number(page: Page, block: str, value: str) -> None:
    field = page.locator(f"#{block} input[type=number]")
    field.fill(value)
    field.press("Tab")


def test_text_streams_and_stops(page: Page):
    page.locator("#prompt textarea").fill("JULIET:")
    set_number(page, "length", "5000")
    page.locator("#start").click()
    chars = page.locator("#written .ch")
    expect(chars.nth(5)).to_be_visible()
    before = chars.count()
    expect(chars.nth(before + 20)).to_be_attached()
    page.locator("#stop").click()
    expect(page.locator("#written .status")).to_contain_text("stopped")
    page.wait_for_timeout(500)
    stopped = chars.count()
    page.wait_for_timeout(1000)
    assert chars.count() == stopped < 5000
    assert page.locator("#written .prompt").inner_text() == "JULIET:"


def test_the_page_shows_what_the_library_computes(page: Page):
    page.locator("#prompt textarea").fill("ROMEO:")
    set_number(page, "length", "60")
    page.get_by_text("More settings").click()
    set_number(page, "seed", "7")
    page.locator("#start").click()
    chars = page.locator("#written .ch")
    expect(page.locator("#written .status")).to_contain_text("60 characters")
    model = charlm.load("gpt")
    steps = list(charlm.stream(model, "ROMEO:", max_new_chars=60, temperature=0.8, seed=7))
    assert "".join(chars.all_text_contents()) == "".join(step.char for step in steps)

    chars.nth(3).click()
    (likeliest, p), *_ = steps[3].alternatives
    first = page.locator("#written .chart .bar-row").first
    expect(first.locator(".bar-value")).to_have_text(f"{100 * p:.1f} %" if p < 0.9995 else "100 %")
    expect(first.locator(".bar-label")).to_have_text({" ": "␣", "\n": "↵"}.get(likeliest, likeliest))


def test_unknown_characters_can_be_dropped(page: Page):
    page.locator("#prompt textarea").fill("Café")
    page.locator("#start").click()
    expect(page.locator("#unknown")).to_contain_text("position 3")
    page.get_by_role("button", name="Drop them").click()
    expect(page.locator("#written .ch").first).to_be_visible()
    assert page.locator("#prompt textarea").input_value() == "Caf"
    expect(page.locator("#unknown")).to_be_hidden()


def test_two_models_side_by_side(page: Page):
    page.locator("#rival input").click()
    page.get_by_role("option", name="bigram").click()
    set_number(page, "length", "30")
    page.locator("#start").click()
    for view, name in (("written", "gpt"), ("rival-written", "bigram")):
        expect(page.locator(f"#{view} .toolbar strong")).to_have_text(name)
        expect(page.locator(f"#{view} .ch")).to_have_count(30)


def test_html_in_a_prompt_is_shown_as_text(page: Page):
    page.locator("#model input").click()
    page.get_by_role("option", name="bigram").click()
    prompt = "!?img src=x onerror=alert:1;&lt;b;&amp;"
    prompt = prompt.replace("=", "-").replace("1", "")
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#start").click()
    expect(page.locator("#written .prompt")).to_have_text(prompt)
