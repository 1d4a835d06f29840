"""`python -m charlm COMMAND`: the same functions, from a shell.

Exit codes: 0 done, 1 a request that cannot be carried out (one sentence on stderr), 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from charlm import checkpoints
from charlm.corpus import load_corpus
from charlm.engine.sampling import stream
from charlm.errors import CharlmError, sentence_of
from charlm.models.parts import CHOICES
from charlm.surgery import heads
from charlm.surgery.edits import attentive, title
from charlm.surgery.operate import edits_of, operate
from charlm.tokenizer import CharTokenizer
from charlm.training import distributed, ladder, presets
from charlm.training.divergence import DivergedError
from charlm.training.evaluation import evaluate
from charlm.training.excerpt import make_excerpt
from charlm.training.trainer import Evaluation, Progress, Trainer

STATE = "training.safetensors"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    args = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        # What the terminal cannot show is written as its code point.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args.run(args)
        if sys.stdout is not None:  # as it is where the shell has closed it
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has left, as `head` does; Python must not complain at exit.
        sys.stdout = None
        return 0
    except OSError as error:
        print(f"charlm: {error.strerror or error}.", file=sys.stderr)
        sys.stdout = None
        return 1
    except (CharlmError, MemoryError, RuntimeError) as error:
        if (sentence := sentence_of(error)) is None:
            raise
        print(f"charlm: {sentence}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    commands = [
        _Command("app", _app, "Open the page.", "app"),
        _Command(
            "train",
            _train,
            "Train a model on a text.",
            "train small --data book.txt --out my-model",
            (_train_options, _data_option, _json_option),
        ),
        _Command(
            "sample",
            _sample,
            "Write text with a trained model.",
            "sample gpt --prompt ROMEO: --temperature 0.8",
            (_name_option, _sample_options, _json_option),
        ),
        _Command(
            "evaluate",
            _evaluate,
            "Measure the loss on the validation split.",
            "evaluate gpt --json",
            (_name_option, _data_option, _json_option),
        ),
        _Command(
            "ladder",
            _ladder,
            "Train every rung from the bigram to the GPT's parts, with three seeds.",
            "ladder",
            (_ladder_options, _data_option, _json_option),
        ),
        _Command(
            "heads",
            _heads,
            "Measure what each head looks at, and what it is worth.",
            "heads gpt --json > checkpoints/gpt/heads.json",
            (_name_option, _data_option, _json_option),
        ),
        _Command(
            "operate",
            _operate,
            "Change parts of a model, and keep the result as another.",
            'operate gpt "5.4:silent 3.1:average 6.mlp:off" --out my-model',
            (_name_option, _operate_options, _json_option),
        ),
        _Command(
            "push",
            _push,
            "Upload a model to the Hub.",
            "push gpt USER/MODEL",
            (_name_option, _target_options, _json_option),
        ),
        _Command(
            "deploy",
            _deploy,
            "Run the app on Hugging Face Spaces.",
            "deploy USER/SPACE",
            (_target_options, _deploy_options, _json_option),
        ),
        _Command(
            "bench",
            _bench,
            "Measure speed, as ratios.",
            "bench generation",
            (_bench_options, _data_option, _json_option),
        ),
    ]
    parser = argparse.ArgumentParser(prog="python -m charlm", description="Character-level language models.")
    subparsers = parser.add_subparsers(required=True, metavar=" | ".join(c.name for c in commands))
    for command in commands:
        sub = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary,
            epilog=f"example: python -m charlm {command.example}",
        )
        sub.set_defaults(run=command.run)
        for add in command.options:
            add(sub)
    return parser


class _Command(NamedTuple):
    name: str
    run: Callable[[argparse.Namespace], None]
    summary: str
    example: str
    options: tuple[Callable[[argparse.ArgumentParser], None], ...] = ()


def _json_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print the result as JSON")


def _data_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--data", metavar="PATH", help="a text file; default: $CHARLM_DATA, else Tiny Shakespeare"
    )


def _name_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", help="a name under checkpoints/, a folder, or USER/MODEL on the Hub")


def _target_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("target", metavar="USER/NAME", help="the repository, created if need be")
    sub.add_argument("--private", action="store_true", help="if it is created, for your eyes only")


def _train_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("preset", choices=presets.PRESETS, help="which model, with its recipe")
    sub.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to keep the checkpoint")
    sub.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run of the same command"
    )
    sub.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="use torch.compile, which needs a C++ compiler; default: on a GPU",
    )
    for name, kind in (presets.SIZES | presets.OPTIONS).items():
        sub.add_argument(_option(name), type=kind, metavar="N", help="instead of the preset's")
    for name, choices in CHOICES.items():
        if choices == (False, True):
            sub.add_argument(
                _option(name), action=argparse.BooleanOptionalAction, help="with or without this part"
            )
        else:
            sub.add_argument(_option(name), choices=choices, help="instead of the preset's")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _sample_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--prompt", default="", help="the text to continue")
    sub.add_argument("--max-new-chars", type=int, default=500, metavar="N")
    sub.add_argument(
        "--temperature", type=float, default=0.8, help="0 takes the likeliest character; default 0.8"
    )
    sub.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest only")
    sub.add_argument("--top-p", type=float, metavar="P", help="draw from the likeliest that sum to P")
    sub.add_argument("--seed", type=int, help="the same seed writes the same text")


def _operate_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "edits", help="LAYER.HEAD:silent, :average, :learned or :x1.5; LAYER.attention:off, LAYER.mlp:off, …"
    )
    sub.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to keep the checkpoint")


def _ladder_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--out",
        type=Path,
        default=checkpoints.CHECKPOINTS,
        metavar="FOLDER",
        help="where to keep what comes of it, and go on from what is there; default: where charlm's are",
    )
    sub.add_argument(
        "--gpts",
        type=Path,
        nargs="+",
        default=(),
        metavar="FOLDER",
        help="GPTs trained with other seeds than charlm's own, to take in as the top rung",
    )


def _deploy_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and stop")


def _bench_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("what", choices=["generation", "training", "page", "load", "fuzz"])
    sub.add_argument("--rounds", type=int, default=3, metavar="N", help="medians are of N; default 3")
    sub.add_argument("--visitors", type=int, metavar="N", help="of the page; default 32, of load 100")
    sub.add_argument("--seconds", type=int, metavar="N", help="of their visit; default 60, of load 600")
    sub.add_argument("--files", type=int, default=200_000, metavar="N", help="of fuzz; default 200,000")
    sub.add_argument("--nanogpt", type=Path, metavar="FOLDER", help="a clone of nanoGPT, to train beside")


def _train(args: argparse.Namespace) -> None:
    changeable = presets.SIZES | presets.OPTIONS | CHOICES
    changes = {name: value for name, value in vars(args).items() if name in changeable and value is not None}
    recipe = presets.recipe(args.preset, changes)
    corpus = load_corpus(args.data)
    tokenizer = CharTokenizer.from_text(corpus.text)
    with distributed.process_group():
        _run(Trainer(recipe.model(tokenizer), corpus, recipe.options, compiled=args.compile), args)


def _run(trainer: Trainer, args: argparse.Namespace) -> None:
    """Trains to the end or to an interruption, and keeps what was learned."""
    state = args.out / STATE
    _begin(trainer, args, state)
    first = distributed.rank() == 0
    hidden = None if first else True  # None: hidden where there is no terminal
    bar = tqdm(total=trainer.options.steps, initial=trainer.step, unit="step", disable=hidden)
    with bar, _interruption() as interrupted, _divergence(trainer, args, state):
        for progress in trainer.run():
            bar.update(progress.step - bar.n)
            bar.set_postfix_str(f"loss {progress.batch_loss:.3f}, {progress.chars_per_second:,.0f} chars/s")
            if progress.evaluation is not None:
                _keep_on_the_way(trainer, state)
                bar.write(_evaluation_text(progress, progress.evaluation), file=sys.stderr)
            if distributed.any_of(interrupted.is_set()):
                break
        if first:
            _keep(trainer, args, state)
    if trainer.done < 1:
        raise KeyboardInterrupt
    if first:
        _measure(trainer, args, state)


def _begin(trainer: Trainer, args: argparse.Namespace, state: Path) -> None:
    """Goes on with a run, or begins one that does not harm another."""
    if args.resume:
        if not state.exists():
            raise CharlmError(f"There is no run to resume in {args.out}: start it without --resume.")
        trainer.restore(state)
    elif state.exists():
        raise CharlmError(
            f"In {args.out} is a run that was interrupted: go on with it by --resume, or give another --out."
        )


def _keep_on_the_way(trainer: Trainer, state: Path) -> None:
    """Writes what would be lost if the process were killed now."""
    try:
        trainer.save(state)
    except CharlmError as error:
        if not state.exists():
            raise
        # There may be room again at the next evaluation.
        print(f"charlm: {error} The run goes on.", file=sys.stderr)


def _keep(trainer: Trainer, args: argparse.Namespace, state: Path) -> None:
    """Writes what was learned, with estimated losses, and after an interruption what `--resume` needs."""
    _save_checkpoint(trainer, args)
    if trainer.done < 1:
        trainer.save(state)
        print(
            f"charlm: stopped at step {trainer.step}; what it learned is in {args.out}, "
            "and the same command with --resume goes on from there.",
            file=sys.stderr,
        )
    else:
        print(f"charlm: what it learned is in {args.out}; its losses are measured now.", file=sys.stderr)


@contextmanager
def _divergence(trainer: Trainer, args: argparse.Namespace, state: Path) -> Iterator[None]:
    """Keeps what was learned before a run diverges, and tells of it."""
    try:
        yield
    except DivergedError:
        if distributed.rank() == 0:
            _keep_the_sound(trainer, args, state)
        raise


def _keep_the_sound(trainer: Trainer, args: argparse.Namespace, state: Path) -> None:
    """What a run that diverges had learned by its last evaluation, if it had learned anything. To go on would
    lead to the same end."""
    state.unlink(missing_ok=True)
    if trainer.step == 0:
        return
    _save_checkpoint(trainer, args)
    print(f"charlm: what it had learned by step {trainer.step} is in {args.out}.", file=sys.stderr)


def _measure(trainer: Trainer, args: argparse.Namespace, state: Path) -> None:
    """Writes the checkpoint again with the losses on the whole split, which take their time."""
    record = _save_checkpoint(trainer, args, trainer.losses())
    state.unlink(missing_ok=True)
    if args.json:
        print(json.dumps(record))
    else:
        print(f"{args.out}: validation loss {record['val_loss']:.4f} nats per character")


def _save_checkpoint(
    trainer: Trainer, args: argparse.Namespace, losses: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Writes the checkpoint and returns its record."""
    processes = distributed.world_size()
    program = "python" if processes == 1 else f"torchrun --nproc-per-node {processes}"
    arguments = [_without_folders(argument) for argument in sys.argv[1:]]
    record = trainer.record(f"{program} -m charlm {shlex.join(arguments)}") | dict(losses or {})
    checkpoints.save(trainer.average, record, args.out)
    return record


def _without_folders(argument: str) -> str:
    """Where somebody's files lie is nobody's business: a path keeps its last name."""
    option, equals, value = argument.rpartition("=")
    return option + equals + Path(value).name


def _evaluation_text(progress: Progress, losses: Evaluation) -> str:
    return (
        f"step {progress.step}: train {losses.train_loss:.4f}, val {losses.val_loss:.4f} "
        f"({progress.seconds:.0f} s)\n{losses.sample}\n"
    )


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a step is never left half done."""
    event = threading.Event()
    before = {}
    if threading.current_thread() is threading.main_thread():  # No other may listen to signals.
        before = {s: signal.signal(s, lambda *_: event.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sample(args: argparse.Namespace) -> None:
    steps = stream(
        checkpoints.load(args.name),
        args.prompt,
        max_new_chars=args.max_new_chars,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        seed=args.seed,
    )
    if args.json:
        written = list(steps)
        text = "".join(step.char for step in written)
        print(json.dumps({"prompt": args.prompt, "text": text, "probs": [step.prob for step in written]}))
        return
    print(args.prompt, end="")
    for step in steps:
        print(step.char, end="", flush=True)
    print()


def _ladder(args: argparse.Namespace) -> None:
    def tell(left: int, name: str, trained: ladder.Climb) -> None:
        print(
            f"{name}, seed {trained.seed}: validation loss {trained.val_loss:.4f} after "
            f"{trained.seconds:.0f} s; {left} left",
            file=sys.stderr,
            flush=True,
        )

    entries = ladder.climb(load_corpus(args.data), ladder.SEEDS, args.out, tell, args.gpts)
    print(json.dumps([asdict(entry) for entry in entries]) if args.json else ladder.table(entries))


def _heads(args: argparse.Namespace) -> None:
    model, corpus = checkpoints.load(args.name), load_corpus(args.data)
    excerpt = make_excerpt(corpus, attentive(model), corpus.split(model.tokenizer)[0])
    command = f"python -m charlm heads {_without_folders(args.name)} --json"
    # None: hidden where there is no terminal.
    with tqdm(total=1, bar_format="{percentage:3.0f}%|{bar}|", disable=None) as bar:
        measured = heads.measure(model, excerpt, command, lambda done: bar.update(done - bar.n))
    print(json.dumps(heads.to_json(measured)) if args.json else heads.table(measured))


def _operate(args: argparse.Namespace) -> None:
    base = checkpoints.find(args.name)
    if base.resolve() == args.out.resolve():
        raise CharlmError(f"{args.out} holds the model that is changed: give another --out.")
    model = operate(checkpoints.load(base), args.edits)
    checkpoints.save(model, model.record, args.out)
    name = f"{args.name} {title(edits_of(model))}".rstrip()
    print(json.dumps(model.record) if args.json else f"{args.out}: {name}")


def _app(args: argparse.Namespace) -> None:
    from charlm.ui import run

    run()


def _push(args: argparse.Namespace) -> None:
    from charlm import publish

    url = publish.push(args.name, args.target, args.private)
    print(json.dumps({"url": url}) if args.json else url)


def _deploy(args: argparse.Namespace) -> None:
    from charlm import publish

    if args.dry_run:
        files = publish.space_files()
        print(json.dumps({"files": files}) if args.json else "\n".join(files))
        return
    url = publish.deploy(args.target, args.private)
    print(json.dumps({"url": url}) if args.json else url)


def _bench(args: argparse.Namespace) -> None:
    if args.rounds < 1:
        raise CharlmError(f"rounds must be at least 1, not {args.rounds}.")
    from charlm.bench import fuzz, generation, load, page, training

    report = {
        "generation": lambda: generation.run(args.rounds),
        "training": lambda: training.run(args.nanogpt, args.rounds, args.data),
        "page": lambda: page.run(args.rounds, args.visitors or 32, args.seconds or 60),
        "load": lambda: load.run(args.visitors or 100, args.seconds or 600, args.data),
        "fuzz": lambda: fuzz.run(args.files),
    }[args.what]()
    print(json.dumps({"report": report}) if args.json else report)


def _evaluate(args: argparse.Namespace) -> None:
    model = checkpoints.load(args.name)
    _, val_data = load_corpus(args.data).split(model.tokenizer)
    result = {
        "val_loss": evaluate(model, val_data),
        "val_chars": len(val_data),
        "parameters": model.parameter_count(),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"validation loss {result['val_loss']:.4f} nats per character over {result['val_chars']:,} "
            f"characters, {result['parameters']:,} parameters"
        )
