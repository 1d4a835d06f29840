"""Everybody can use the page: by axe-core's rules, with a keyboard, and on a phone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import TABS, needs_axe, open_tab, violations, watched_page

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(scheme: str, url: str, chromium: playwright.Browser):
    page = chromium.new_page(
        color_scheme=scheme, reduced_motion="reduce", viewport={"width": 1280, "height": 900}
    )
    page.goto(url)
    found = []
    for tab, shown in TABS.items():
        open_tab(page, tab)
        page.locator(shown).first.wait_for()
        found += [f"{tab}: {violation}" for violation in violations(page)]
    page.close()
    assert not found, f"{len(found)}: " + "\n".join(found[:40])


@pytest.fixture
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(url)
        page.locator(TABS["Generate"]).wait_for()
        yield page


def selected(page: Page) -> playwright.Locator:
    return page.get_by_role("tab", selected=True)


def test_a_tab_has_an_address(page: Page, url: str):
    open_tab(page, "Tokens")
    expect(page).to_have_url(f"{url}#tokens")
    page.get_by_role("button", name="Next: Bigram →").click()
    expect(page).to_have_url(f"{url}#bigram")
    page.go_back()
    expect(selected(page)).to_have_text("Tokens")
    page.go_back()
    expect(selected(page)).to_have_text("Generate")
    assert page.url == url
    page.go_forward()
    page.reload()
    expect(selected(page)).to_have_text("Tokens")
    expect(page.locator("#tokens .token").first).to_be_visible()
    page.go_back()
    expect(selected(page)).to_have_text("Generate")


def test_a_link_leads_to_a_tab(url: str, chromium: playwright.Browser):
    page = chromium.new_page()
    page.goto(f"{url}#inside")
    expect(selected(page)).to_have_text("Inside the model")
    expect(page.locator(TABS["Inside the model"]).first).to_be_visible()
    page.goto(f"{url}#nonsense")
    page.reload()
    expect(selected(page)).to_have_text("Generate")
    page.close()


def test_the_tabs_are_one_stop_of_the_keyboard(page: Page):
    selected(page).focus()
    for key, title in (
        ("ArrowRight", "Tokens"),
        ("End", "Train"),
        ("ArrowRight", "Generate"),
        ("ArrowLeft", "Train"),
        ("Home", "Generate"),
    ):
        page.keyboard.press(key)
        expect(selected(page)).to_have_text(title)
        expect(selected(page)).to_be_focused()
    assert (
        page.get_by_role("tab").evaluate_all("tabs => tabs.filter((tab) => tab.tabIndex === 0).length") == 1
    )


SMALL_TARGETS = """() => [...document.querySelectorAll("button, select, label:has(> input), input")]
    .filter((node) => node.checkVisibility() && !node.matches("label > input, [type=range], [role]"))
    .map((node) => [node.id || node.ariaLabel || node.textContent, node.getBoundingClientRect().height])
    .filter(([, height]) => height > 0 && height < 40)"""
"""What a thumb can hardly hit. (A list's box is as high as what it stands in.)"""


def test_every_tab_is_at_hand_on_a_phone(url: str, chromium: playwright.Browser):
    page = chromium.new_page(viewport={"width": 390, "height": 844}, has_touch=True, reduced_motion="reduce")
    page.goto(url)
    for title in TABS:
        tab = page.get_by_role("tab", name=title, exact=True)
        expect(tab).to_be_in_viewport()
        assert tab.bounding_box()["height"] >= 40
    for title, shown in TABS.items():
        page.get_by_role("tab", name=title, exact=True).tap()
        page.locator(shown).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, title
        assert not page.evaluate(SMALL_TARGETS), title
    expect(page.locator("#inside-temperature").get_by_test_id("max-value")).to_have_css("display", "block")
    page.close()


def test_ids_are_given_once_and_headings_step_by_one(page: Page):
    for title, shown in TABS.items():
        open_tab(page, title)
        page.locator(shown).first.wait_for()
    ids = page.evaluate("[...document.querySelectorAll('[id]:not([id=\"\"])')].map((node) => node.id)")
    assert not {name for name in ids if ids.count(name) > 1}
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => [+h.tagName[1], h.textContent])"
    )
    level = 0
    for deeper, text in levels:
        assert deeper <= level + 1, text
        level = deeper


def test_a_term_explains_itself(page: Page):
    """To whoever points at it, taps it or comes to it with the keyboard."""
    term = page.get_by_role("button", name="language model")
    meaning = term.locator(".meaning")
    expect(meaning).to_be_hidden()
    term.hover()
    expect(meaning).to_be_visible()
    page.mouse.move(0, 0)
    expect(meaning).to_be_hidden()
    term.focus()
    expect(meaning).to_contain_text("the probability of each possible continuation")
    page.keyboard.press("Escape")
    expect(meaning).to_be_hidden()
    open_tab(page, "Attention")
    # Nothing cuts it off.
    term = page.locator("#tab-attention .term").first
    term.hover()
    box = term.locator(".meaning").bounding_box()
    inside = (
        f"document.elementFromPoint({box['x'] + box['width'] - 5}, {box['y'] + box['height'] - 5}).className"
    )
    assert page.evaluate(inside) == "meaning"


def test_the_keyboard_is_seen_on_sliders_and_boxes(page: Page):
    for control in (
        "#temperature input[type=range]",
        ".stage_view input[type=range]",
        ".stage_view input[type=checkbox]",
    ):
        page.locator(control).focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        expect(page.locator(control)).to_be_focused()
        expect(page.locator(control)).to_have_css("outline-style", "solid")


def test_the_lecture_starts_in_the_header(page: Page, url: str):
    page.get_by_role("link", name="Start the lecture →").click()
    expect(selected(page)).to_have_text("Tokens")
    assert page.url == f"{url}#tokens"
