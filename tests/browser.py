"""A real browser for the tests: Debian's Chromium, driven with Playwright, on the running app."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from charlm.bench.serving import CHROMIUM, ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (npm ci)")
VIOLATIONS = """async (within) => {
    // Colours that still change are nobody's.
    for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
    const changing = document.getAnimations().filter((a) => a.effect.getComputedTiming().endTime < Infinity);
    await Promise.allSettled(changing.map((a) => a.finished));
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    const { violations } = await axe.run(within, { runOnly: { type: "tag", values: tags } });
    return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
        `${id}: ${target.join(" ")} ${failureSummary.split("\\n").slice(1).join(" ").trim()}`));
}"""

TABS = {
    "Generate": "#written .guess-row.chosen",
    "Tokens": "#tokens .token",
    "Bigram": "#bigram-tables canvas",
    "Averaging": "#averaging td",
    "Attention": "#attention .heat-map",
    "Inside the model": "#inside-network .part",
    "Train": "#train-forecast p",
}
"""Each tab, and what is there once it is drawn."""
NO_BROWSER = "no Chromium on this machine (Debian: apt-get install chromium; or set CHARLM_CHROMIUM)"


def skip_without_browser() -> None:
    if not CHROMIUM:
        if os.environ.get("CI"):
            pytest.fail(NO_BROWSER)
        pytest.skip(NO_BROWSER)


def errors(page: Page) -> list[str]:
    """Those in the console of a page, now and later."""
    found: list[str] = []
    page.on("console", lambda m: found.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: found.append(str(e)))
    return found


@contextmanager
def watched_page(chromium: Browser, expected: str | None = None, **options: object) -> Iterator[Page]:
    """An empty page in a context of its own. Its console tells of no error but of those with `expected` in
    them."""
    context = chromium.new_context(**{"viewport": DESK, **options})
    page = context.new_page()
    found = errors(page)
    try:
        yield page
    finally:
        context.close()
    unexpected = [error for error in found if expected is None or expected not in error]
    assert not unexpected, unexpected


def violations(page: Page, within: str = "html") -> list[str]:
    """What axe-core finds wrong by WCAG 2.2, A and AA, `within` what a selector selects."""
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=AXE)
    return page.evaluate(VIOLATIONS, within)


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def set_number(page: Page, block: str, value: str) -> None:
    """Sets it again if Gradio, which was still unfolding it, has put back what was there."""
    field = page.locator(f"#{block} input[type=number], #{block} input[type=text]")
    for _ in range(10):
        field.fill(value)
        field.press("Tab")
        page.wait_for_timeout(20)
        if field.input_value() == value:
            return


def pick(page: Page, menu: str, choice: str) -> None:
    """Opens the menu again if its choices came after it was opened: an open one does not change."""
    from playwright.sync_api import TimeoutError as WaitedTooLong  # late: not every test has Playwright

    option = page.get_by_role("option", name=choice, exact=True)
    for _ in range(30):
        page.locator(f"#{menu} input").click()
        try:
            return option.click(timeout=1_000)
        except WaitedTooLong:
            page.locator(f"#{menu} input").blur()
    pytest.fail(f"{choice!r} is not in the menu {menu!r}")


def bring(page: Page, path: Path) -> None:
    """Brings a packed model back on the Train tab."""
    open_tab(page, "Train")
    page.get_by_text("Keep it, or bring one back").click()
    page.locator("#train-bring input[type=file]").set_input_files(path)
    page.locator("#train-notes", has_text="The model is here").wait_for()


def wait_until_trained(page: Page) -> None:
    """A run gives way to whatever else the machine does, so this may take long."""
    page.locator('#train-progress [data-state="done"]').wait_for(timeout=90_000)
