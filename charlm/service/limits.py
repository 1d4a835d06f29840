"""What a visitor may ask for. Each limit stands here once, and so does the sentence that tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charlm.checkpoints import FILE_LIMITS, WEIGHTS
from charlm.corpus import Corpus
from charlm.engine.sampling import MAX_SEED
from charlm.errors import CharlmError, check_range
from charlm.training import presets
from charlm.training.cost import memory, operations
from charlm.training.presets import OPTIONS, PRESETS, SIZES, Recipe
from charlm.training.rungs import RUNGS

MAX_CALL_BYTES = 1_500_000
"""The largest call of a function: what was sent is kept until many others have called. A longer text comes
as a file."""
MAX_PROMPT_CHARS = 10_000
MAX_TEXT_CHARS = 10_000
"""The longest text to be looked at or encoded; a model reads the end of it."""
MAX_NEW_CHARS = 5_000
"""How many characters are written at a time."""
MAX_SAMPLES = 4
"""How many texts one asks for at a time."""
MAX_STREAMS = 32
"""How many texts are written at once."""
MAX_WAITING_STREAMS = 100
"""How many more may wait for a place."""

TRAINABLE = ("small", "multi-head", "attention", "bigram", *(rung.name for rung in RUNGS))
"""The presets whose training fits a visit: the GPT's takes over an hour."""
MAX_CORPUS_CHARS = 5_000_000
"""The longest text to train on."""
MAX_FILE_BYTES = 4 * MAX_CORPUS_CHARS
"""The largest file: a character of UTF-8 has four bytes at most."""
MAX_VOCAB_SIZE = 1_000
MAX_NAME_CHARS = 60
SIZE_LIMITS = {"block_size": 256, "n_layer": 8, "n_head": 8, "n_embd": 384}
"""The largest model that is trained, brought or kept here."""
OWN_FILE_LIMITS = FILE_LIMITS | {WEIGHTS: 40_000_000}
"""The files of a model that is brought here, and the most bytes that each may have."""
MAX_STEPS = 5_000
MAX_RUN_SECONDS = 1800
"""The longest that a run may learn, the turns of others not counted, whatever was asked for."""
BOUNDS: dict[str, tuple[float, float]] = {
    "block_size": (1, SIZE_LIMITS["block_size"]),
    "n_layer": (1, SIZE_LIMITS["n_layer"]),
    "n_head": (1, SIZE_LIMITS["n_head"]),
    "n_embd": (2, SIZE_LIMITS["n_embd"]),
    "dropout": (0.0, 0.9),
    "steps": (1, MAX_STEPS),
    "seconds": (1, MAX_RUN_SECONDS),
    "batch_size": (1, 256),
    "learning_rate": (1e-6, 100.0),
    "muon_learning_rate": (1e-6, 100.0),
    "warmup_steps": (0, MAX_STEPS),
    "average_decay": (0.0, 0.9999),
    "eval_interval": (1, MAX_STEPS),
    "seed": (0, MAX_SEED),
}
"""The least and the most of each setting of a run that is a number. Rates may be such that a run diverges."""
MAX_STEP_OPERATIONS = 520e9
"""How much work a step may be: at most about 10 s on one core."""
MAX_STEP_BYTES = 1.7e9
"""How much memory the steps of runs may take at one time, by the estimate of `cost.memory`. The largest run
took 1.6 GB in all, with PyTorch and its evaluations, where bfloat16 is fast."""
MAX_EVALUATIONS = 50
"""How often a run may be evaluated, about."""
MAX_BATCH_LOSSES = 500
"""How many losses of a run's batches are kept."""
MAX_RUNS = 12
"""How many runs of one visitor are kept: a new one replaces the oldest that has ended."""
TURN_SECONDS = 2.0
"""For how long a run learns before it is another's turn."""
SHORT_SECONDS = 30.0
"""A run that has less left comes before the others, so that a small one among large ones ends soon."""
MAX_RUNNING_RUNS = 40
"""How many runs share the machine in turns; more wait in line."""
MAX_RUNNING_RUNS_A_CLIENT = 34
"""How many of these may be of one client: a whole class may come from one address, and others still find a
place."""
MAX_HELD_BYTES = 2.2e9
"""How much memory the runs may hold together between their turns, by the estimate of `cost.held`."""
GRACE_SECONDS = 300
"""How long a run may have its turns beyond the time for which it may learn, to write and measure what it has
learned, before it is killed."""
SECONDS_A_LOSS = 15
"""How long a run, whose end somebody waits for, may compute each of the two last losses."""
SILENCE_SECONDS = 300
"""How long a training process that has its turn may say nothing before it is ended: several times as long as
the slowest evaluation, for others may be busy beside it."""
MAX_KEPT_BYTES_A_RUN = 60_000_000
"""How large the models may be together that a run keeps of its evaluations: beyond, some of those between the
first and the latest go."""
MAX_KEPT_BYTES = 600_000_000
"""The same of all runs: beyond, those of the client who has most go, the oldest first."""
MAX_WAITING_RUNS = 20
AWAY_SECONDS = 180
"""How long somebody who waits in line for a run may give no sign of life; an open page gives one a minute, a
hidden one every two."""

MAX_OPERATED_MODELS = 8
"""How many models with changed parts are kept in memory, beside those that somebody has made his own."""
MAX_LOSSES = 1_000
"""How many losses of such models are kept."""
MAX_OWN_MODELS = 8
"""How many models of one visitor are kept: a new one replaces the oldest."""
MAX_OWN_BYTES = 600_000_000
"""How large the files of all own models may be together: beyond, those make way that were not used for
longest, first those of the client who has most."""
IN_USE_SECONDS = 600
"""How long after its last use nobody else's model can make a model go."""
MAX_OWN_MEMORY = 600_000_000
"""How many bytes of memory the own models may take that are loaded."""
MAX_VISITORS = 10_000
"""How many visitors are remembered; whoever was here last is remembered longest."""
FORGET_AFTER_SECONDS = 1800
"""How long what belongs to a visitor is kept after the last sign of life."""


def check_chars(what: str, text: str, limit: int) -> str:
    """`text`, if it has at most `limit` characters. Raises `CharlmError` that names it `what` otherwise."""
    if len(text) > limit:
        raise CharlmError(f"{what} may have {limit:,} characters: this one has {len(text):,}.")
    return text


def check_new_chars(max_new_chars: int) -> None:
    """Raises `CharlmError` if more characters are asked for than are written at a time."""
    if max_new_chars > MAX_NEW_CHARS:
        raise CharlmError(
            f"At most {MAX_NEW_CHARS:,} characters are written at a time, not {max_new_chars:,}."
        )


def check_model_sizes(config: object) -> None:
    """Raises `CharlmError` if a model is larger than what can be trained here."""
    for size, most in (SIZE_LIMITS | {"vocab_size": MAX_VOCAB_SIZE}).items():
        check_range(size, getattr(config, size, 1), 1, most)


def check_run(
    name: str,
    preset: str,
    settings: Mapping[str, Any],
    steps: int | None = None,
    seconds: float | None = None,
) -> None:
    """Raises `CharlmError` unless a model may be called `name`, and a run may train `preset` with these
    `settings` for that many `steps` or `seconds`. What depends on its text is left to `check_corpus` and
    `check_work`."""
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise CharlmError(f"Give the model a name of 1 to {MAX_NAME_CHARS} characters.")
    check_characters(name)
    if preset not in TRAINABLE:
        known = (
            f"{preset!r:.100} is not trained here"
            if preset in PRESETS
            else f"There is no preset called {preset!r:.100}"
        )
        raise CharlmError(f"{known}: choose one of {', '.join(TRAINABLE)}.")
    for setting, value in settings.items():
        check_setting(setting, value)
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise CharlmError(f"A run takes from 1 to {MAX_STEPS:,} steps, not {steps}.")
    if seconds is not None and not 1 <= seconds <= MAX_RUN_SECONDS:
        raise CharlmError(f"A run takes from 1 to {MAX_RUN_SECONDS:,} seconds, not {seconds}.")
    check_work(presets.recipe(preset, settings))


def check_setting(name: str, value: object) -> None:
    """Raises `CharlmError` if the setting called `name` is no number of its type or out of `BOUNDS`. Whether
    there is one of that name, and which words it can be, a recipe checks."""
    if name not in BOUNDS or (name == "seconds" and value is None):
        return
    kind = (SIZES | OPTIONS)[name]
    least, most = BOUNDS[name]
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        whole = "" if kind is float else "a whole number "
        raise CharlmError(f"{name} must be {whole}from {least} to {most}, not {value!r:.100}.")
    check_range(name, value, least, most)


def check_work(recipe: Recipe) -> None:
    """Raises `CharlmError` if one step of a recipe takes more time or memory than there is for a run."""
    for needed, most, what in (
        (operations(recipe), MAX_STEP_OPERATIONS, "billion operations"),
        (memory(recipe), MAX_STEP_BYTES, "billion bytes of memory"),
    ):
        if needed > most:
            raise CharlmError(
                f"A step would take about {needed / 1e9:,.1f} {what}, and at most {most / 1e9:,.1f} are "
                "allowed here: choose a smaller batch_size, block_size or model."
            )


def check_corpus(text: str, block_size: int) -> int:
    """The vocab_size of `text`. Raises `CharlmError` if it is too long, too short or too varied to
    be trained on."""
    check_characters(check_chars("A text", text, MAX_CORPUS_CHARS))
    vocab: set[str] = set()
    # A piece at a time, so that other threads get their turn in between.
    piece = 100_000
    for start in range(0, len(text), piece):
        vocab.update(text[start : start + piece])
    if len(vocab) > MAX_VOCAB_SIZE:
        raise CharlmError(
            f"This text has {len(vocab):,} different characters; a model here can tell "
            f"{MAX_VOCAB_SIZE:,} apart. Scripts with thousands of signs need tokens other than characters."
        )
    if len(Corpus(text, "").val_text) <= block_size:
        raise CharlmError(
            f"This text is too short: the last tenth of it is kept for validation and must fill a "
            f"block of {block_size} characters, so it needs about {10 * (block_size + 1):,} characters."
        )
    return len(vocab)


def check_characters(text: str) -> None:
    """Raises `CharlmError` for half of a character alone, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise CharlmError(f"{half!a} at position {error.start} is half of a character alone.") from error
