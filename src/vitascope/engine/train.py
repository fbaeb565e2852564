"""The one training loop, for every method and stage.

Killed anywhere and called again, a run goes on from its last checkpoint and gives the same weights, optimiser state and
metrics, bit for bit, as if it had never stopped: all randomness is a function of the seed and the position.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitascope.engine import checkpoint
from vitascope.engine.distributed import (
    Share,
    Terms,
    TrainingStep,
    make_accelerator,
    mean_terms,
    share,
    to_device,
    to_floats,
)
from vitascope.engine.loader import Loaded, Skipped, open_loader, split
from vitascope.engine.log import Status, read_metrics
from vitascope.engine.optim import learning_names, lr_at, make_optimizer, set_lr
from vitascope.engine.run import Run, Span, make_plan
from vitascope.engine.sampler import Positions, seed_of
from vitascope.engine.settings import TrainSettings
from vitascope.engine.signals import Interrupted, Signals
from vitascope.methods.base import Batch, Method
from vitascope.structures import Record


class NonFiniteLoss(ArithmeticError):
    """The loss or the gradient is no longer a number; the weights were not touched by it."""


@dataclass(frozen=True)
class TrainResult:
    """What a call of `train` did. `unreadable` lists each video that could not be read once, with its reason."""

    run_dir: Path
    checkpoint: Path | None  # the newest
    step: int
    total: int
    interrupted: int | None = None  # number of the signal that ended it
    unreadable: tuple[Skipped, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)  # the last line of metrics.jsonl


def train(
    method: Method,
    records: dict[str, list[Record]],
    run_dir: str | Path,
    settings: TrainSettings | None = None,
    *,
    name: str = "",
    recipe: str = "",
    progress: Callable[[Status], Any] | None = None,
) -> TrainResult:
    """Train all stages of a method, or go on with a run that was begun in `run_dir`.

    Args:
        method: Trained in place; build it with the same weights each time (seed before building).
        records: Of each data set that the stages name.
        run_dir: Made if absent; holds `checkpoints/`, `metrics.jsonl`, `timing.jsonl`.
        settings: How to train.
        name: Of the method, for `config.json`; by default its class's, in lower case.
        recipe: Its recipe's name, for `config.json`.
        progress: Called after each step in the main process, for example `log.Progress()`; None for silence.

    Raises:
        CheckpointError: The run in `run_dir` is of another configuration, data or seed, or cannot be read.
        EveryVideoUnreadable: Nothing can be read.
        LoaderError: A process that reads video died.
        NonFiniteLoss: The training diverged; the last checkpoint is untouched.
        ValueError: The stages, data or settings do not fit.
    """
    settings = settings or TrainSettings()
    accelerator = make_accelerator(settings)
    identity = {"method": name or type(method).__name__.lower(), "recipe": recipe}
    run = Run(method.to(accelerator.device), settings, Path(run_dir), accelerator, make_plan(method, records), identity)
    run.resume()
    signals, signum = Signals(run.rescue, raises=accelerator.num_processes == 1), None
    try:
        with signals, run.open_log(progress):
            for span in run.remaining():
                train_stage(run, span, signals)
            accelerator.wait_for_everyone()
    except Interrupted as interrupted:
        signum = interrupted.args[0]
        signals.leave()
    newest, lines = checkpoint.folders(run.run_dir), read_metrics(run.run_dir)
    unreadable = tuple(run.unreadable.values())
    last = lines[-1] if lines else {}
    return TrainResult(run.run_dir, newest[0] if newest else None, run.step, run.total, signum, unreadable, last)


def train_stage(run: Run, span: Span, signals: Signals) -> None:
    """Train one stage, from the step that the run has reached."""
    stage, accelerator = span.stage, run.accelerator
    names = learning_names(run.method, stage)
    with run.learning(names):
        run.method.train()
        optimizer = make_optimizer(run.method, names, stage.optim)
        module, optimizer = accelerator.prepare(TrainingStep(run.method), optimizer)
        run.begin(span, optimizer)
        positions = Positions(
            stage,
            len(span.records),
            seed=run.settings.seed,
            first_step=run.step - span.first,
            last_step=min(span.last, run.goal) - span.first,
            rank=accelerator.process_index,
            num_ranks=accelerator.num_processes,
        )
        samples = run.method.samples(stage, span.records)
        with open_loader(samples, positions, run.settings.num_workers, accelerator.device) as batches:
            take_steps(run, span, module, batches, signals)
    accelerator.free_memory()


def take_steps(run: Run, span: Span, module: nn.Module, batches: Iterable[Loaded], signals: Signals) -> None:
    """Take one step a batch; all processes agree on what was read and on when a signal ends the run."""
    asked = time.monotonic()
    for loaded in batches:
        waited = time.monotonic() - asked
        everyone = share(run.accelerator, loaded, signals.signum)
        if everyone.signum is not None:
            raise Interrupted(everyone.signum)
        metrics = gradients(run, span, module, loaded.batch, len(loaded.read), everyone)
        with signals.held():
            finish_step(run, span, everyone, metrics, asked, waited)
        run.require_readable(span)
        asked = time.monotonic()


def gradients(
    run: Run, span: Span, module: nn.Module, batch: Batch | None, count: int, everyone: Share
) -> dict[str, float]:
    """Fill the gradients of a step's mean loss over the samples of all processes; nothing if there is none.

    Returns:
        Learning rate, gradient norm, number of samples and the mean of each term of the loss.

    Raises:
        NonFiniteLoss: The loss or the gradient is not a number.
    """
    accelerator, optim, optimizer, total = run.accelerator, span.stage.optim, run.optimizer, everyone.num_samples
    lr = lr_at(run.step - span.first, span.last - span.first, optim)
    set_lr(optimizer, lr)
    optimizer.zero_grad()
    if not total:
        return {"lr": lr, "samples": 0}
    parts: list[tuple[int, Terms]] = []
    micro_batches = split(batch, count, run.settings.micro_batch, everyone.most_samples)
    for index, (size, micro) in enumerate(micro_batches):
        # dropout and the like follow from the position, so that no state of a generator has to be saved
        torch.manual_seed(seed_of(run.settings.seed, span.stage.name, run.step, accelerator.process_index, index))
        is_last = index == len(micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(module):
            terms = module(to_device(micro, accelerator.device))
            # DDP divides by the number of processes; the mean is over samples, of which each may have another number
            accelerator.backward(terms["loss"] * (size * accelerator.num_processes / total))
        parts.append((size, to_floats(terms)))
    learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = float(accelerator.clip_grad_norm_(learning, optim.clip_norm or math.inf))
    means = mean_terms(accelerator, parts, everywhere=run.is_logged(span))
    is_finite = all(math.isfinite(terms["loss"]) for _, terms in parts)
    if not is_finite or not (math.isfinite(norm) or accelerator.scaler):  # fp16's scaler skips such a step itself
        values = ", ".join(f"{key} {value:.4g}" for key, value in {**means, "gradient norm": norm}.items())
        raise NonFiniteLoss(
            f"step {run.step + 1} of stage {span.stage.name!r} is not finite ({values}); the last checkpoint is of step "
            f"{run.saved_step}; lower the learning rate ({lr:.4g}), use fp32, or look at the data"
        )
    return {"lr": lr, "grad_norm": norm, "samples": total, **means}


def finish_step(run: Run, span: Span, everyone: Share, metrics: dict[str, float], asked: float, waited: float) -> None:
    """Update the weights, count the step, log it and save it where due; its batch was `asked` for, and `waited` for."""
    is_logged = run.is_logged(span)
    if everyone.num_samples:
        run.optimizer.step()
    run.complete(everyone)
    if run.log is not None:
        run.log.took(waited, time.monotonic() - asked)
        run.log.progress(span.stage.name, run.step, run.goal, metrics.get("loss"))
    if run.log is not None and is_logged:
        run.log.write({"step": run.step, "stage": span.stage.name, **metrics, "unreadable": run.reasons()})
    if run.step % run.settings.save_every_steps == 0 or run.step in (span.last, run.goal):
        run.save()
