"""The ladder: trained rung by rung, resumably; what is kept of it; and what its picture shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from charlm import checkpoints, cli
from charlm.corpus import Corpus
from charlm.errors import CharlmError
from charlm.service.models import ModelService
from charlm.tokenizer import CharTokenizer
from charlm.training import ladder, presets
from charlm.training.evaluation import evaluate
from charlm.training.ladder import Climb, Entry, load_ladder
from charlm.training.rungs import RUNGS
from charlm.training.trainer import Trainer
from charlm.ui.train import ladder as shown

CLIMBED = ("bigram", "mlp")


def shorten(monkeypatch: pytest.MonkeyPatch, name: str, steps: int, **sizes: int) -> None:
    preset = presets.PRESETS[name]
    options = replace(preset.options, steps=steps, eval_interval=1, batch_size=2)
    smaller = preset.sizes | {"block_size": 8} | sizes
    monkeypatch.setitem(presets.PRESETS, name, replace(preset, options=options, sizes=smaller))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ladder of two rungs that are trained in no time, and in this process."""
    monkeypatch.setattr(ladder, "CLIMBED", CLIMBED)
    monkeypatch.setattr(ladder, "_workers", lambda jobs: ThreadPoolExecutor(1))
    for name in CLIMBED:
        shorten(monkeypatch, name, 2)


def climb(corpus: Corpus, folder: Path, *tops: Path) -> list[tuple[str, int, int]]:
    """What was trained, in order: the rung, the seed, and how many were left."""
    told: list[tuple[str, int, int]] = []
    ladder.climb(
        corpus, (1, 2), folder, lambda left, name, trained: told.append((name, trained.seed, left)), tops
    )
    return told


def test_every_rung_is_trained_with_every_seed_and_measured_on_the_whole_split(
    short: None, corpus: Corpus, tmp_path: Path
):
    assert climb(corpus, tmp_path) == [("bigram", 1, 3), ("mlp", 1, 2), ("bigram", 2, 1), ("mlp", 2, 0)]
    entries = load_ladder(tmp_path)
    assert [entry.name for entry in entries] == list(CLIMBED)
    for entry in entries:
        kept = checkpoints.load(tmp_path / entry.name)
        assert kept.record["command"] == entry.command
        assert entry.command == f"python -m charlm train {entry.name} --out checkpoints/{entry.name}"
        assert kept.parameter_count() == entry.parameters
        first, second = entry.climbs
        assert (first.seed, second.seed) == (1, 2) == (kept.record["options"]["seed"], 2)
        assert first.val_loss == pytest.approx(evaluate(kept, corpus.split(kept.tokenizer)[1]), abs=1e-4)
        assert [point[0] for point in first.curve] == [0, 1, 2]
        assert len(first.sample) == 200 and first.sample != second.sample
        assert entry.mean == pytest.approx((first.val_loss + second.val_loss) / 2)
        assert entry.spread == pytest.approx(abs(first.val_loss - second.val_loss) / 2**0.5)


def test_gpts_trained_elsewhere_with_other_seeds_are_the_top_rung(
    short: None, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shorten(monkeypatch, "gpt", 2, n_layer=1, n_embd=32)
    tokenizer = CharTokenizer.from_text(corpus.text)
    for seed in (4, 3):
        recipe = presets.recipe("gpt", {"seed": seed})
        trainer = Trainer(recipe.model(tokenizer), corpus, recipe.options)
        list(trainer.run())
        checkpoints.save(trainer.average, trainer.record("…") | trainer.losses(), tmp_path / str(seed))
    climb(corpus, tmp_path, tmp_path / "4")
    climb(corpus, tmp_path, tmp_path / "3", tmp_path / "4")
    top = load_ladder(tmp_path)[-1]
    assert (top.name, [c.seed for c in top.climbs]) == ("gpt", [3, 4])
    fourth = evaluate(checkpoints.load(tmp_path / "4"), corpus.split(tokenizer)[1])
    assert top.climbs[1].val_loss == pytest.approx(fourth, abs=1e-4)
    for other in ("bigram", "mlp"):
        with pytest.raises(CharlmError, match="was not trained by the recipe of gpt"):
            climb(corpus, tmp_path, tmp_path / other)
    shorten(monkeypatch, "gpt", 3)
    with pytest.raises(CharlmError, match="was not trained by the recipe of gpt"):
        climb(corpus, tmp_path, tmp_path / "4")


def test_what_is_there_is_not_trained_again(
    short: None, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    climb(corpus, tmp_path)
    before = load_ladder(tmp_path)
    assert climb(corpus, tmp_path) == []
    file = tmp_path / ladder.LADDER
    value = json.loads(file.read_text())
    del value["rungs"][1]["climbs"][0]
    file.write_text(json.dumps(value))
    assert climb(corpus, tmp_path) == [("mlp", 1, 0)]
    for was, is_now in zip(before, load_ladder(tmp_path), strict=True):
        assert [replace(c, seconds=0, curve=[]) for c in was.climbs] == [
            replace(c, seconds=0, curve=[]) for c in is_now.climbs
        ]
    shorten(monkeypatch, "mlp", 3)
    assert climb(corpus, tmp_path) == [("mlp", 1, 1), ("mlp", 2, 0)], "another recipe"
    other = Corpus(corpus.text + "Z", "another")
    assert len(climb(other, tmp_path)) == 4


def test_an_interrupted_climb_goes_on(short: None, corpus: Corpus, tmp_path: Path):
    def interrupt(left: int, *_: Any) -> None:
        if left == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ladder.climb(corpus, (1, 2), tmp_path, interrupt)
    done = {(entry.name, c.seed) for entry in load_ladder(tmp_path) for c in entry.climbs}
    assert done == {("bigram", 1), ("mlp", 1)}
    assert [told[:2] for told in climb(corpus, tmp_path)] == [("bigram", 2), ("mlp", 2)]


def test_large_weights_are_not_kept(
    short: None, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ladder, "MOST_BYTES", 10_000)
    climb(corpus, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["bigram"]
    assert len(load_ladder(tmp_path)) == 2


def test_the_command(
    short: None,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(ladder, "SEEDS", (1, 2))
    text, out = tmp_path / "colours.txt", tmp_path / "out"
    text.write_text(corpus.text)
    assert cli.main(["ladder", "--data", str(text), "--out", str(out)]) == 0
    printed, told = capsys.readouterr()
    assert told.count("\n") == 4 and "mlp, seed 2: validation loss " in told and told.endswith("0 left\n")
    bigram, mlp = load_ladder(out)
    assert f"| `mlp` | {mlp.parameters:,} | {mlp.mean:.3f} ± {mlp.spread:.3f} | 2 |" in printed
    assert cli.main(["ladder", "--data", str(text), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps([asdict(bigram), asdict(mlp)]))


@pytest.mark.slow
def test_the_workers_have_one_thread_each_and_end_with_the_command(tmp_path: Path):
    script = tmp_path / "climb.py"
    script.write_text(
        "import os, time, torch\n"
        "from charlm.training import ladder\n"
        "if __name__ == '__main__':\n"
        "    with ladder._workers(1) as workers:\n"
        "        pid = workers.submit(os.getpid).result()\n"
        "        print(pid, workers.submit(torch.get_num_threads).result(), flush=True)\n"
        "        time.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(checkpoints.__file__).parent.parent)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as p:
        assert p.stdout is not None
        pid, threads = map(int, p.stdout.readline().split())
        assert threads == 1
        p.send_signal(signal.SIGTERM)
    for _ in range(300):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    pytest.fail("a worker is left")


def entry(name: str, losses: list[float], **settings: Any) -> Entry:
    climbs = [Climb(n, loss, loss, 2.0, f"text {n}", [(0, 4.0, 4.1, 0.1)]) for n, loss in enumerate(losses)]
    return Entry(name, f"train {name}", "hash", settings, 1000, climbs)


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.update(format="another"),
        lambda value: value.pop("rungs"),
        lambda value: value.update(rungs=3),
        lambda value: value["rungs"][0].pop("settings"),
        lambda value: value["rungs"][0].update(climbs=[]),
        lambda value: value["rungs"][0].update(command=3),
        lambda value: value["rungs"][0]["climbs"][0].update(val_loss="low"),
        lambda value: value["rungs"][0]["climbs"][0].update(val_loss=float("nan")),
        lambda value: value["rungs"][0]["climbs"][0].update(curve=[[1, 2]]),
        lambda value: value["rungs"][0]["climbs"][0].update(sample=None),
    ],
)
def test_a_damaged_file_is_no_ladder(
    damage: Callable[[Any], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    assert load_ladder(tmp_path) == [] and not caplog.text
    known = {"bigram": entry("bigram", [2.5, 2.6])}
    ladder._write(known, tmp_path)
    assert load_ladder(tmp_path) == list(known.values())
    file = tmp_path / ladder.LADDER
    value = json.loads(file.read_text())
    damage(value)
    file.write_text(json.dumps(value))
    assert load_ladder(tmp_path) == []
    assert "There is no ladder" in caplog.text
    file.write_text(json.dumps(value)[:-9])
    assert load_ladder(tmp_path) == []


LADDER = [
    entry("bigram", [2.50, 2.52], block_size=8),
    entry("one-head", [2.40, 2.44], block_size=8, n_layer=1, qk_norm=False, seconds=None),
    entry("four-heads", [2.41, 2.45], block_size=8, n_layer=1, qk_norm=True, seconds=None),
    entry("mlp", [2.60, 2.62], block_size=8, n_layer=3, qk_norm=True, seconds=None),
    entry("gpt", [1.40], block_size=8, n_layer=3, qk_norm=True, seconds=None),
]


def test_what_was_found_is_told_by_the_numbers():
    bigram, head, heads, mlp, gpt = LADDER
    assert shown.found(bigram, None) == "As unsure as among e^2.51 = 12.3 characters, all alike."
    assert shown.found(head, bigram) == "The loss falls by 0.090 nats."
    noise = (2 * 0.02**2 * 2) ** 0.5  # of two spreads of 0.04 / √2
    assert shown.found(heads, head) == (
        f"The difference, 0.010 nats, is no larger than what the seed alone makes ({noise:.3f})."
    )
    assert shown.found(mlp, heads).startswith("The loss is 0.180 nats higher than on the rung below")
    assert shown.found(gpt, mlp) == "The loss falls by 1.210 nats."


def test_what_is_shown_of_a_rung():
    pictured = shown.picture(LADDER)
    assert [rung["name"] for rung in pictured] == [e.name for e in LADDER]
    head = pictured[1]
    assert (head["title"], head["added"]) == ("One head", RUNGS[0].added)
    assert head["loss"] == pytest.approx(2.42) and head["fall"] == pytest.approx(0.09)
    assert head["lecture"] == 2.40 and head["sample"] == "text 0"
    assert head["changes"] == ["n_layer 1", "qk_norm off"]
    assert pictured[2]["changes"] == ["qk_norm off → on"]
    assert pictured[3]["changes"] == ["n_layer 1 → 3"]
    assert pictured[0]["fall"] is None and pictured[-1]["spread"] is None
    assert pictured[-1]["fall"] is None, "the rungs right below it are not known"
    assert (head["trainable"], pictured[-1]["trainable"]) == (True, False)
    assert pictured[-1]["playable"]
    assert shown.summary(LADDER) == (
        "5 rungs, from 2.51 down to 1.40 nats per character. The largest fall, 0.09, is that of “One head”."
    )
    assert shown.picture([]) == [] and shown.summary([]) == ""


def test_the_ladder_that_comes_along_is_of_todays_recipes():
    """Made anew by: python -m charlm ladder"""
    entries = load_ladder()
    assert [e.name for e in entries] == [*ladder.CLIMBED, ladder.TOP]
    assert all([c.seed for c in e.climbs] == list(ladder.SEEDS) for e in entries)
    assert set(shown.ADDED) == {*ladder.CLIMBED, ladder.TOP}
    for e in entries:
        assert e.settings == ladder.settings_of(e.name)
        assert e.parameters == presets.recipe(e.name).parameter_count()
        assert e.climbs[0].seed == ladder.SEEDS[0]
        small = checkpoints.BYTES_A_WEIGHT * e.parameters < ladder.MOST_BYTES
        if small or e.name == ladder.TOP:
            record = checkpoints.load(e.name).record
            assert record["val_loss"] == pytest.approx(e.climbs[0].val_loss, abs=1e-4)
            assert record["command"] == e.command


def test_its_models_stand_after_the_others_in_every_list(service: ModelService):
    names = service.names()
    rungs = [rung.name for rung in RUNGS if rung.name in names]
    assert len(rungs) >= 6 and names[-len(rungs) :] == rungs[::-1]
    assert service.info("one-head").title == "Ladder 2: One head"
    assert service.info("layernorm").title == "Ladder 7: LayerNorm"
    assert service.info("bigram").title == "Bigram table"
