"""Lists the public functions that no test has run, after `python -m pytest --cov`; fails if there are any."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import coverage

with tempfile.TemporaryDirectory() as folder:
    report = Path(folder, "coverage.json")
    measured = coverage.Coverage()
    measured.load()
    measured.json_report(outfile=str(report))
    files = json.loads(report.read_text())["files"]

untested = [
    f"{path}: {name}"
    for path, file in files.items()
    for name, function in file["functions"].items()
    if name and not any(part.startswith("_") for part in name.split("."))
    if function["missing_lines"] and not function["executed_lines"]
]
print("\n".join(untested) or "Every public function is run by a test.")
sys.exit(bool(untested))
