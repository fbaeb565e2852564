"""Devices and processes: what Accelerate is asked for, and what the processes of a run tell each other."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import Tensor, nn

from vitascope.engine.loader import Loaded, Skipped
from vitascope.engine.settings import TrainSettings
from vitascope.methods.base import Batch, Method

Terms = dict[str, float]


class Share(NamedTuple):
    """A step as all processes see it."""

    num_samples: int
    most_samples: int  # of one process
    read: tuple[int, ...]
    skipped: tuple[Skipped, ...]
    signum: int | None  # of a signal that any process received


class TrainingStep(nn.Module):
    """A method whose forward pass is its training step: what Accelerate and DDP wrap."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch | None) -> Batch:
        if batch is not None:
            return self.method.training_step(batch)
        # a process without a sample takes part in the exchange of gradients, with zeros, and in what the method exchanges
        zero = sum(p.sum() * 0 for p in self.method.parameters() if p.requires_grad)
        terms = self.method.idle_step() or {"loss": zero}
        return {**terms, "loss": terms["loss"] + zero}


def make_accelerator(settings: TrainSettings) -> Accelerator:
    """Return Accelerate for a run.

    Raises:
        ValueError: The device or precision is not there.
    """
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise ValueError("device ('cuda') is not available; install a CUDA build of torch or use cpu")
    on_cuda = has_cuda and settings.device != "cpu"
    if settings.precision == "fp16" and not on_cuda:
        raise ValueError("precision ('fp16') needs a CUDA device; use fp32 or bf16")
    if on_cuda:  # the same numbers in each repetition; cuBLAS reads its variable when it starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    # Accelerate keeps the first settings of a process for good; each run has its own
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = "no" if settings.precision == "fp32" else settings.precision
    return Accelerator(cpu=settings.device == "cpu", mixed_precision=precision)


def share(accelerator: Accelerator, loaded: Loaded, signum: int | None) -> Share:
    """Tell all processes what each has read, so that they decide alike."""
    mine = Share(len(loaded.read), len(loaded.read), loaded.read, loaded.skipped, signum)
    if accelerator.num_processes == 1:
        return mine
    shares = gather_object([mine])
    return Share(
        sum(each.num_samples for each in shares),
        max(each.num_samples for each in shares),
        tuple(index for each in shares for index in each.read),
        tuple(skipped for each in shares for skipped in each.skipped),
        next((each.signum for each in shares if each.signum is not None), None),
    )


def mean_terms(accelerator: Accelerator, parts: list[tuple[int, Terms]], everywhere: bool) -> Terms:
    """Average the terms of micro-batches over their samples, of this process or of all."""
    if everywhere and accelerator.num_processes > 1:
        parts = gather_object(parts)
    total = sum(count for count, _ in parts)
    names = next((terms for count, terms in parts if count), {})
    return {name: sum(count * terms[name] for count, terms in parts if count) / total for name in names}


def to_device(batch: Batch | None, device: torch.device) -> Batch | None:
    """Move a batch, if there is one, without waiting for it."""
    return batch and {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def to_floats(terms: Batch) -> Terms:
    """Bring the scalars of a training step to Python with one wait for the device."""
    loss: Tensor = terms["loss"]
    values = torch.stack([term.detach().to(loss.device, loss.dtype) for term in terms.values()]).cpu()
    return dict(zip(terms, values.tolist()))
