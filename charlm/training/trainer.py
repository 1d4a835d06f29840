"""One training loop, for the command line, the page and the tests."""

from __future__ import annotations

import base64
import copy
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from charlm.corpus import Corpus, get_batch
from charlm.engine.sampling import MAX_SEED, stream
from charlm.errors import CharlmError, check_range
from charlm.files import write_atomically
from charlm.models import BigramLanguageModel, LanguageModel
from charlm.models.trace import AttentionModel, trace
from charlm.training import distributed
from charlm.training.divergence import DivergedError, explain, has_diverged
from charlm.training.evaluation import bigram_counts, counted_bigram_loss, evaluate
from charlm.training.excerpt import EXCERPT, make_excerpt
from charlm.training.measures import MEASURES, Measures, StepMeasures, is_finite, norm

SAMPLE_CHARS = 200
WATCHED_CHARS = 24
"""How much of the validation split is watched for its attention."""

OPTIMIZERS = ("sgd", "adamw", "muon")
SCHEDULES = ("constant", "linear", "cosine")
"""How the learning rate goes on after the warm-up: as it is, or down to zero."""
MOMENTUM = 0.9
"""Of SGD."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. With the optimizer "muon", `muon_learning_rate` is for the matrices inside the layers and
    all else is AdamW's at `learning_rate`. `average_decay` is how slowly the averaged weights move; at 0 they
    are the weights themselves. With `seconds`, a run ends after that time if `steps` have not ended it
    before."""

    steps: int = 2000
    seconds: float | None = None
    batch_size: int = 32
    optimizer: str = "muon"
    schedule: str = "linear"
    learning_rate: float = 3e-3
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.1
    warmup_steps: int = 50
    average_decay: float = 0.99
    eval_interval: int = 250
    eval_blocks: int = 64
    seed: int = 1337

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise CharlmError(
                    f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r:.100}."
                )
        for name in ("steps", "batch_size", "eval_interval", "eval_blocks"):
            if getattr(self, name) < 1:
                raise CharlmError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("seconds", "learning_rate", "muon_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise CharlmError(f"{name} must be above 0, not {value}.")
        for name in ("weight_decay", "warmup_steps"):
            check_range(name, getattr(self, name), 0, sys.float_info.max)
        check_range("average_decay", self.average_decay, 0, 1)
        check_range("seed", self.seed, 0, MAX_SEED)


class _Step(TypedDict):
    step: int
    done: float
    seconds: float
    chars_per_second: float


class ProgressEvent(_Step, total=False):
    """A `Progress` as JSON; the `train_loss` and what follows it only where the model was evaluated."""

    batch_loss: float
    """Of the batch that the last step learned from, before it did; not before the first step."""
    measures: Measures
    """Only at some of the steps."""
    train_loss: float
    val_loss: float
    sample: str
    watched: str
    attention: dict[str, Any]
    """`shape` (n_layer, n_head, T, T), and `bytes` from 0 to 255 in base64: enough for a small picture."""


@dataclass(frozen=True)
class Evaluation:
    """What the averaged model can do: estimated losses in nats per character, a sample, and its
    attention (n_layer, n_head, T, T), if it has any, over the `watched` text: the first characters
    of the validation split."""

    train_loss: float
    val_loss: float
    sample: str
    watched: str
    attention: Tensor | None


@dataclass(frozen=True)
class Progress:
    """Where a run stands after `step` steps, with the part `done` (0 to 1) behind it. `seconds` counts
    all the time so far, with that of evaluations; `chars_per_second` only that of training."""

    step: int
    done: float
    batch_loss: float
    seconds: float
    chars_per_second: float
    evaluation: Evaluation | None
    measures: Measures | None = None

    def event(self) -> ProgressEvent:
        """The same as JSON."""
        event = ProgressEvent(
            step=self.step, done=self.done, seconds=self.seconds, chars_per_second=self.chars_per_second
        )
        if math.isfinite(self.batch_loss):
            event["batch_loss"] = self.batch_loss
        if self.measures is not None:
            event["measures"] = self.measures
        if (e := self.evaluation) is None:
            return event
        event |= {
            "train_loss": e.train_loss,
            "val_loss": e.val_loss,
            "sample": e.sample,
            "watched": e.watched,
        }
        if e.attention is not None:
            data = (255 * e.attention).round().to(torch.uint8).numpy().tobytes()
            event["attention"] = {
                "shape": list(e.attention.shape),
                "bytes": base64.b64encode(data).decode(),
            }
        return event


def build_optimizers(model: LanguageModel, options: TrainingOptions) -> list[torch.optim.Optimizer]:
    """SGD, or AdamW as in the lecture, for everything; or AdamW, but Muon for the matrices inside the layers.

    Muon (Jordan et al., 2024) makes the update of a matrix orthogonal, so that all its directions
    learn equally fast.
    """
    if options.optimizer == "sgd":
        return [torch.optim.SGD(model.parameters(), lr=options.learning_rate, momentum=MOMENTUM)]
    matrices: list[nn.Parameter] = []
    if isinstance(model, AttentionModel) and options.optimizer == "muon":
        matrices = [p for layer in model.layers for p in layer.parameters() if p.ndim == 2]
    kept_apart = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in kept_apart]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    ]
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices, lr=options.muon_learning_rate, weight_decay=options.weight_decay)
        )
    return optimizers


def learning_rate_factor(step: int, done: float, options: TrainingOptions) -> float:
    """A straight line up during the warm-up, and then, as the schedule says: one down to zero (Defazio et
    al., 2023), half a cosine down to zero, or no change.

    `done` is the part of the run that lies behind, from 0 to 1.
    """
    warm = min(1.0, (step + 1) / max(1, options.warmup_steps))
    left = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * min(1.0, done))) / 2}
    return warm * left[options.schedule]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


class Trainer:
    """A training run: `run` does the work, `save` and `restore` let it go on another day.

    `model` is what is trained, `average` the moving average of its weights, which is the better
    model at any time (Polyak & Juditsky, 1992) and the one to keep. A GPU is used if there is one.

    Under `torchrun` every process holds the whole model and learns from its share of each batch; the
    gradients are averaged (DistributedDataParallel, Li et al., 2020), so that the run is that of one
    process with the same batch_size. The first process alone evaluates.
    """

    def __init__(
        self,
        model: LanguageModel,
        corpus: Corpus,
        options: TrainingOptions,
        *,
        compiled: bool | None = None,
    ):
        """`compiled` runs the model through torch.compile: a slow start, then faster steps. None does so on
        a GPU alone.

        Raises `CharlmError` if a split of the corpus is too short for one chunk, or a batch cannot
        be shared equally among the processes.
        """
        if options.batch_size % distributed.world_size():
            raise CharlmError(
                f"batch_size ({options.batch_size}) must be a multiple of the number of processes "
                f"({distributed.world_size()})."
            )
        self.device = distributed.device()
        model = model.to(self.device)
        self.model, self.corpus, self.options = model, corpus, options
        self.average = copy.deepcopy(model)
        self.optimizers = build_optimizers(model, options)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.train_data, self.val_data = corpus.split(model.tokenizer)
        self.step = 0
        self.seconds = 0.0
        self.curve: list[tuple[int, float, float, float]] = []
        """(step, train loss, validation loss, seconds) of every evaluation so far."""
        self.measures: Measures | None = None
        """What the last step did to each layer, if it was measured."""
        self._norm: tuple[int, float] | None = None
        """The last step that was measured, and the norm of its gradient."""
        self._remember_average()
        self._part_measured = -1
        """The last of `MEASURES` equal parts of the run of which a step was measured."""
        self._forward: Callable[..., Any] = distributed.share(model)
        self._compiles = compiled if compiled is not None else self.device.type == "cuda"
        if self._compiles:
            self._forward = self._compiled(self._forward)
        self._bfloat16 = has_fast_bfloat16(self.device)
        for data in (self.train_data, self.val_data):
            get_batch(data, 1, model.config.block_size)

    def run(self) -> Iterator[Progress]:
        """Trains to the last step and tells after each one; stop by not asking for the next.

        Every `eval_interval` steps, before the first and after the last, the average is evaluated.
        A run with a time limit depends on the speed of the machine; one without is the same each time.
        Its `seconds` are those that pass in here: not what the caller does before asking for the next step.
        Raises `DivergedError` if it diverges: average, step and curve are then again those of the last
        evaluation that was better than a uniform guess.
        """
        began = time.perf_counter() - self.seconds
        batch_chars = self.options.batch_size * self.model.config.block_size
        chars_per_second = 0.0
        loss = float("nan")
        while True:
            evaluated = self.curve and self.curve[-1][0] == self.step
            finished = self.done >= 1
            due = self.step % self.options.eval_interval == 0 or finished
            first = distributed.rank() == 0
            evaluation = self._evaluate() if due and first and not evaluated else None
            self.seconds = distributed.of_first(time.perf_counter() - began)
            if evaluation is not None:
                losses = evaluation.train_loss, evaluation.val_loss
                self.curve.append((self.step, *losses, self.seconds))
                if evaluation.val_loss < math.log(self.model.config.vocab_size):
                    self._remember_average()
            progress = Progress(
                self.step, self.done, loss, self.seconds, chars_per_second, evaluation, self.measures
            )
            left = time.perf_counter()
            yield progress
            began += time.perf_counter() - left
            if finished:
                return
            start = time.perf_counter()
            loss = self.train_step()
            chars_per_second = batch_chars / (time.perf_counter() - start)

    @property
    def done(self) -> float:
        """The part of the run that lies behind, 1 at its end."""
        in_time = self.seconds / self.options.seconds if self.options.seconds else 0.0
        return min(1.0, max(self.step / self.options.steps, in_time))

    def train_step(self) -> float:
        """Learns from one batch and returns its loss in nats per character. Raises `DivergedError`."""
        self.model.train()
        measuring = self._measuring()
        loss = distributed.mean(self._compute_gradients(measuring).item())
        if has_diverged(loss):
            raise self._diverged(loss, norm(p.grad for p in self.model.parameters()).item())
        if measuring:
            measuring.before_update()
        self._set_rates()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if measuring:
            self._note_measures(measuring.after_update(self.step))
        # A young average forgets its random start: the decay grows with the number of steps.
        decay = min(self.options.average_decay, self.step / (self.step + 9))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        return loss

    def _note_measures(self, measures: Measures) -> None:
        if is_finite(measures):
            self.measures = measures
            self._norm = measures["step"], measures["gradient_norm"]

    def _remember_average(self) -> None:
        self._sound = self.step, [p.detach().clone() for p in self.average.parameters()]

    def _diverged(self, loss: float, gradient_norm: float | None = None) -> DivergedError:
        """Why it diverges. The average is put back to where it was sound."""
        told = explain(self.step, loss, self.model.config, self.options, self._norm, gradient_norm)
        self.step, average = self._sound
        self.curve = [point for point in self.curve if point[0] <= self.step]
        with torch.no_grad():
            for p, before in zip(self.average.parameters(), average, strict=True):
                p.copy_(before)
        return DivergedError(told)

    def _measuring(self) -> StepMeasures | None:
        """What measures the next step, if it is the first of its part of the run. The first process alone
        measures."""
        self.measures = None
        part = int(self.done * MEASURES)
        if part == self._part_measured or distributed.rank():
            return None
        self._part_measured = part
        return StepMeasures(self.model)

    def _set_rates(self) -> None:
        factor = learning_rate_factor(self.step, self.done, self.options)
        rates = (self.options.learning_rate, self.options.muon_learning_rate)
        for optimizer, rate in zip(self.optimizers, rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def _compute_gradients(self, measuring: StepMeasures | None) -> Tensor:
        """The loss of the next batch, whose gradients are then there."""
        batch = get_batch(
            self.train_data, self.options.batch_size, self.model.config.block_size, self.generator
        )
        # All processes draw the same batch, and each takes its share of it.
        rank, world_size = distributed.rank(), distributed.world_size()
        x, y = (part.chunk(world_size)[rank].to(self.device) for part in batch)
        with torch.random.fork_rng():
            if measuring and self._compiles:
                self._watch_apart(measuring, x)
            # Dropout draws from global generators: seeded anew, a resumed step draws the same.
            torch.manual_seed(self.options.seed + self.step * world_size + rank)
            watching = measuring.watching() if measuring and not self._compiles else nullcontext()
            with watching, torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
                _, loss = self._forward(x, y)
        loss.backward()
        return loss

    @torch.no_grad()
    def _watch_apart(self, measuring: StepMeasures, x: Tensor) -> None:
        """Has a forward pass of its own measured, for what is compiled calls no hooks."""
        with measuring.watching(), torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            self.model(x)

    def _compiled(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """`forward`, compiled at its first call; as it is where that fails, as without a C++ compiler."""
        compiled = torch.compile(forward)

        def first(*batch: Tensor) -> Any:
            try:
                result = compiled(*batch)
                self._forward = compiled
            except Exception as error:
                log.warning("Training is not compiled, because that fails (%s).", type(error).__name__)
                self._forward = forward
                result = forward(*batch)
            return result

        return first

    @torch.no_grad()
    def _evaluate(self) -> Evaluation:
        self.average.eval()
        losses = []
        for data in (self.train_data, self.val_data):
            # The same chunks every time, so that two evaluations differ by the model alone.
            chunks = torch.Generator().manual_seed(self.options.seed)
            x, y = get_batch(data, self.options.eval_blocks, self.model.config.block_size, chunks)
            losses.append(self.average(x.to(self.device), y.to(self.device))[1].item())
        if any(map(has_diverged, losses)) or not _is_sound(self.average):
            raise self._diverged(next(filter(has_diverged, losses), losses[-1]))
        steps = stream(self.average, max_new_chars=SAMPLE_CHARS, temperature=0.8, seed=self.options.seed)
        idx = self.val_data[None, : min(WATCHED_CHARS, self.model.config.block_size)].long()
        watched = self.model.tokenizer.decode(idx[0].tolist())
        attention = None
        if isinstance(self.average, AttentionModel):
            attention = trace(self.average, idx.to(self.device)).weights[:, 0].cpu()
        train_loss, val_loss = losses
        return Evaluation(train_loss, val_loss, "".join(step.char for step in steps), watched, attention)

    def baselines(self) -> dict[str, float]:
        """Losses on the validation split, in nats per character, that a model ought to beat: of the
        uniform guess and of the counted bigram table."""
        counts = bigram_counts(self.train_data, self.model.config.vocab_size) + 1
        return {
            "uniform": math.log(self.model.config.vocab_size),
            "bigram": counted_bigram_loss(counts, self.val_data),
        }

    def record(self, command: str) -> dict[str, Any]:
        """How the averaged model was made, for its checkpoint: the `command`, the data and an excerpt of it,
        the losses that were estimated last, in nats per character, and what counting alone would give."""
        _, train_loss, val_loss, _ = self.curve[-1]
        record = {
            "command": command,
            "data": self.corpus.name,
            "data_sha256": self.corpus.sha256,
            "options": asdict(self.options),
            "steps": self.step,
            "seconds": self.seconds,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "counted_bigram_loss": self.baselines()["bigram"],
            "parameters": self.model.parameter_count(),
            "curve": self.curve,
            EXCERPT: make_excerpt(self.corpus, self.model, self.train_data).to_json(),
        }
        if isinstance(self.model, BigramLanguageModel):
            counts = bigram_counts(self.train_data, self.model.config.vocab_size)
            record["bigram_counts"] = counts.long().tolist()
        return record

    def losses(self, seconds: float = math.inf) -> dict[str, float]:
        """The same losses, on the whole validation split and on as much of the training split: instead of
        estimates, for a record. Each may take `seconds`, and is that of the beginning if the whole takes
        longer."""
        kept = self.average.rounded()
        return {
            "train_loss": evaluate(kept, self.train_data[: len(self.val_data)], seconds),
            "val_loss": evaluate(kept, self.val_data, seconds),
        }

    def save(self, path: Path) -> None:
        """Writes all that `restore` needs to `path` (safetensors). Raises `CharlmError` if it cannot."""
        description = {"step": self.step, "seconds": self.seconds, "curve": self.curve}
        description |= self._identity()
        write_atomically(path, save(self._state(), {"training": json.dumps(description)}))

    def restore(self, path: Path) -> None:
        """Goes on from what `save` wrote, step for step as if never interrupted.

        Raises `CharlmError` if the file is unreadable or of a different run.
        """
        try:
            with safe_open(path, "pt") as file:
                description = json.loads(file.metadata()["training"])
                names = file.keys()
                state = {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise CharlmError(f"{path} is not the state of a training run ({error}).") from error
        for name, value in self._identity().items():
            if description.get(name) != value:
                raise CharlmError(
                    f"{path} is the state of another run: its {name} is {description.get(name)}, not {value}."
                )
        self.step, self.seconds = description["step"], description["seconds"]
        self.curve = [tuple(point) for point in description["curve"]]
        self.model.load_state_dict(_under(state, "model"))
        self.average.load_state_dict(_under(state, "average"))
        for i, optimizer in enumerate(self.optimizers):
            slots: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under(state, f"optimizer{i}").items():
                parameter, slot = name.split(".")
                slots.setdefault(int(parameter), {})[slot] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
        self.generator.set_state(state["generator"])
        self._remember_average()

    def _identity(self) -> dict[str, object]:
        return {
            "config": asdict(self.model.config),
            "options": asdict(self.options),
            "data_sha256": self.corpus.sha256,
        }

    def _state(self) -> dict[str, Tensor]:
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for parameter, slots in optimizer.state_dict()["state"].items():
                state |= {f"optimizer{i}.{parameter}.{slot}": t for slot, t in slots.items()}
        state["generator"] = self.generator.get_state()
        return state


def _is_sound(model: LanguageModel) -> bool:
    """Whether the weights are numbers of half precision, as a checkpoint keeps them."""
    return all(bool(p.half().isfinite().all()) for p in model.parameters())


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix + "."): v for k, v in state.items() if k.startswith(prefix + ".")}
