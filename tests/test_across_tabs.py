"""What goes with the learner from tab to tab, a sentence and its pinned character, and what all tabs have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import TABS, open_tab, watched_page

import charlm
from charlm.ui.attention import numbers as attention
from charlm.ui.inside import numbers as inside

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

TEXT = "The king is dead, long live the ki"
PLACE = TEXT.index("k") + 1


WATCH = """
    window.stopwatches = new Set();
    new MutationObserver((changes) => {
        for (const { target } of changes) {
            const place = target.parentElement;
            if (/^\\s*\\d+\\.\\ds\\s*$/.test(target.textContent) && place?.checkVisibility())
                stopwatches.add(place.closest("[id]").id);
        }
    }).observe(document, { subtree: true, childList: true, characterData: true });
"""
"""Notes where Gradio's stopwatch runs: it is hidden, but read aloud."""


@pytest.fixture(scope="module")
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    """The Attention tab with a sentence of one's own."""
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.add_init_script(WATCH)
        page.goto(f"{url}#attention")
        page.locator("#attention-text textarea").fill(TEXT)
        expect(page.locator("#attention-chars .ch")).to_have_count(len(TEXT))
        yield page


def box(page: Page, tab: str):
    return page.locator(f"#{tab}-text textarea")


def test_a_sentence_and_its_pinned_character_go_from_tab_to_tab(page: Page):
    page.locator("#attention-chars .ch").nth(PLACE).click()
    open_tab(page, "Inside the model")
    expect(box(page, "inside")).to_have_value(TEXT)
    chosen = page.locator("#inside-network .ch.target")
    expect(chosen).to_have_attribute("data-i", str(PLACE))
    open_tab(page, "Tokens")
    expect(box(page, "tokens")).to_have_value(TEXT)
    expect(page.locator(f'#tokens-ids .target[data-place="{PLACE}"]')).to_have_count(1)
    open_tab(page, "Bigram")
    expect(page.locator("#bigram-next h2")).to_have_text(f"What follows {TEXT[PLACE]}")
    open_tab(page, "Tokens")
    page.locator('#tokens-ids [data-place="4"]').click()
    open_tab(page, "Attention")
    expect(page.locator("#attention-chars .ch.pinned")).to_have_attribute("data-i", "4")


def test_another_sentence_has_nothing_pinned(page: Page):
    open_tab(page, "Tokens")
    box(page, "tokens").fill(TEXT + "n")
    open_tab(page, "Inside the model")
    expect(box(page, "inside")).to_have_value(TEXT + "n")
    expect(page.locator("#inside-network .ch.target")).to_have_attribute("data-i", str(len(TEXT)))
    expect(page.locator("#inside-network .ends")).not_to_contain_text("goes on")
    box(page, "inside").fill(TEXT)
    expect(page.locator("#inside-network .ch")).to_have_count(len(TEXT))


def test_what_the_model_expects_after_any_character(page: Page):
    open_tab(page, "Inside the model")
    stop = page.locator('#inside-network .text [tabindex="0"]')
    stop.focus()
    page.keyboard.press("Home")
    for _ in range(PLACE):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    ends = page.locator("#inside-network .ends")
    gpt = charlm.load("gpt")
    _, logits, _ = inside.lens(gpt, TEXT[: PLACE + 1])
    best = inside.guesses(gpt, logits)[-1][0]
    expect(page.locator("#inside-network .chip").nth(-6)).to_have_text(
        f"{best['char']}{100 * best['p']:.1f} %"
    )
    p = logits[-1].softmax(0)[gpt.tokenizer.encode(TEXT[PLACE + 1])[0]].item()
    expect(ends).to_contain_text(f"goes on with {TEXT[PLACE + 1]}, to which the model gives {100 * p:.1f} %")
    expect(page.locator("#inside-network .ch.target")).to_be_focused()


def test_what_if_a_character_were_missing(page: Page):
    open_tab(page, "Attention")
    expect(page.locator("#attention-chars .ch")).to_have_count(len(TEXT))
    page.locator("#attention-chars .ch").nth(PLACE).click()
    page.get_by_role("button", name=f"What if {TEXT[PLACE]} ({PLACE}) were missing?").click()
    told = attention.without(charlm.load("gpt"), TEXT, PLACE)
    says = page.locator("#attention .missing")
    for name in ("with", "without"):
        char, p = told[name]["guesses"][0]
        expect(says).to_contain_text(f"{char} {100 * p:.1f} %".replace(" %", " %"))
        expect(says).to_contain_text(f"{told[name]['loss']:.2f}")
    page.locator("#attention-chars .ch").nth(0).click()
    expect(says).to_be_empty()


def test_no_stopwatch_runs_beside_what_changes_by_itself(page: Page):
    for tab in ("Generate", "Tokens", "Bigram", "Averaging", "Attention", "Inside the model", "Train"):
        open_tab(page, tab)
        page.locator(TABS[tab]).first.wait_for()
        page.wait_for_timeout(300)
    assert page.evaluate("[...stopwatches]") == []


def test_a_list_closes_when_one_moves_on(page: Page):
    open_tab(page, "Attention")
    page.locator("#attention-text textarea").focus()
    page.keyboard.press("Tab")
    options = page.get_by_role("option", name="GPT, six layers")
    expect(options).to_be_visible()
    page.keyboard.press("Tab")
    page.wait_for_timeout(500)
    expect(options).to_be_hidden()
