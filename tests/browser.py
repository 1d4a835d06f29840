"""A real browser for the tests: Debian's Chromium, driven with Playwright, on the running app."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from charlm.bench.serving import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Page

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


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def set_number(page: Page, block: str, value: str) -> None:
    field = page.locator(f"#{block} input[type=number], #{block} input[type=text]")
    field.fill(value)
    field.press("Tab")


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


def wait_until_trained(page: Page) -> None:
    """A run gives way to whatever else the machine does, so this may take long."""
    page.locator('#train-progress [data-state="done"]').wait_for(timeout=90_000)
