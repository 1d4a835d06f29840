"""A real browser for the tests: Debian's Chromium, driven with Playwright, on the running app."""

from __future__ import annotations

import os

import pytest

from charlm.bench.serving import CHROMIUM

NO_BROWSER = "no Chromium on this machine (Debian: apt-get install chromium; or set CHARLM_CHROMIUM)"


def skip_without_browser() -> None:
    if not CHROMIUM:
        if os.environ.get("CI"):
            pytest.fail(NO_BROWSER)
        pytest.skip(NO_BROWSER)
