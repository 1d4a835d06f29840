"""Two real processes, started by `torchrun`, against one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from charlm.corpus import Corpus

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

TRAIN = ["train", "small", "--n-layer", "1", "--n-embd", "16", "--n-head", "2", "--block-size", "16"]
OPTIONS = ["--batch-size", "8", "--steps", "30", "--eval-interval", "10", "--json"]


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun has no libuv on Windows")
def test_two_processes_learn_what_one_learns(corpus: Corpus, tmp_path: Path):
    data = tmp_path / "colours.txt"
    data.write_text(corpus.text)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    curves = []
    for launcher, out in (([], "one"), (two, "two")):
        command = [sys.executable, *launcher, "-m", "charlm", *TRAIN, *OPTIONS]
        command += ["--data", str(data), "--out", str(tmp_path / out)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert result.returncode == 0, result.stderr
        record = json.loads(result.stdout)
        curves.append([loss for _, train, val, _ in record["curve"] for loss in (train, val)])
    assert record["command"].startswith("torchrun --nproc-per-node 2 -m charlm train ")
    assert curves[1] == pytest.approx(curves[0], abs=2e-3)
    assert curves[0][-1] < curves[0][0] - 0.2
