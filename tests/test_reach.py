"""Everybody can use the page: by axe-core's rules, with a keyboard, and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from browser import TABS, open_tab

from charlm.bench.serving import CHROMIUM, CHROMIUM_ARGUMENTS

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

AXE = Path(__file__).parent.parent / "node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
VIOLATIONS = """async (tags) => {
    const { violations } = await axe.run(document, { runOnly: { type: "tag", values: tags } });
    return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
        `${id}: ${target.join(" ")} ${failureSummary.split("\\n").slice(1).join(" ").trim()}`));
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    browser.skip_without_browser()
    with playwright.sync_playwright() as p:
        yield p.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (npm ci)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(scheme: str, url: str, chromium: playwright.Browser):
    page = chromium.new_page(
        color_scheme=scheme, reduced_motion="reduce", viewport={"width": 1280, "height": 900}
    )
    page.goto(url)
    page.add_script_tag(path=AXE)
    found = []
    for tab, shown in TABS.items():
        open_tab(page, tab)
        page.locator(shown).first.wait_for()
        found += [f"{tab}: {violation}" for violation in page.evaluate(VIOLATIONS, RULES)]
    page.close()
    assert not found, f"{len(found)}: " + "\n".join(found[:40])
