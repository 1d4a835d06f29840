"""The code passes its linters: ruff, mypy, import-linter (no import runs up the house), deptry and Biome."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from charlm.bench.serving import ROOT
from charlm.ui.glossary import TERMS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="import-linter needs Python 3.11"),
]


def test_the_linters_have_nothing_to_say():
    if not (shutil.which("make") and (ROOT / "node_modules").is_dir()):
        message = "`make install` brings what `make lint` needs"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    result = subprocess.run(
        ["make", "lint", f"PYTHON={sys.executable}"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_each_style_belongs_to_its_view():
    """The selectors beside a view begin with its class, or with the id of its tab."""
    for sheet in sorted((ROOT / "charlm" / "ui").glob("*/*.css")):
        own = (
            f".{sheet.stem}",
            f".charlm-view.{sheet.stem}",
            f"#{sheet.parent.name}",
            f"#tab-{sheet.parent.name}",
        )
        rules = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        for selectors in re.findall(r"([^{}]+){", rules):
            for selector in re.split(r",(?![^(]*\))", selectors):
                assert selector.strip().startswith((*own, "@media")), f"{sheet.name}: {selector}"


def test_every_term_that_is_explained_is_used():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "charlm" / "ui").rglob("*.py"))
    used = {term.lower() for term in re.findall(r"\[\[([a-zA-Z ]+)(?:\||\]\])", sources)}
    assert set(TERMS) == used - {"term"}
