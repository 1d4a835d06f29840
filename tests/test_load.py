"""Many visitors for a short while: nothing fails, nothing leaks, nobody is left behind."""

from __future__ import annotations

import sys
from statistics import mean

import pytest

from charlm.bench import load


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_twenty_visitors_for_twenty_seconds():
    outcome = load.measure(20, 20, load.HABITS)
    assert not outcome.errors
    assert set(outcome.requests) == {load.WRITE, load.LEAVE, load.ATTEND, load.ENCODE, load.TRAIN}
    assert min(outcome.written) >= mean(outcome.written) / 2
    assert outcome.after.temporary <= outcome.before.temporary
    # What a server keeps for its next visitors is bounded, whoever comes.
    assert outcome.after.threads <= outcome.before.threads + 20
    assert outcome.after.files <= outcome.before.files + 20
    assert outcome.after.memory <= outcome.before.memory * 1.25
