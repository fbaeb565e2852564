"""Whether the batches of a training fit into memory: told before it starts, where the system would only kill it."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.engine.loader import Loaded, open_loader
from vitascope.engine.optim import learning_names
from vitascope.engine.sampler import Positions
from vitascope.engine.settings import TrainSettings
from vitascope.methods.base import Batch, Method, Stage
from vitascope.structures import Record

MOST_PER_BYTE = 1000  # that a network keeps for the gradient for each byte of a sample; S3D-G: 200
TRIED = 4  # draws of two samples, of which some may be of videos that cannot be read


class TooLarge(ValueError):
    """A batch does not fit into memory."""


def require_memory(method: Method, stage: Stage, samples: Dataset, records: list[Record], s: TrainSettings) -> None:
    """Refuse batches that cannot fit into the memory that is free now.

    Two samples are read. What is counted is the least that training needs: the batches that the loader holds, and on a
    CPU what one pass through the network keeps for the gradient.

    Args:
        method: Not changed.
        stage: Of the method.
        samples: The stage's.
        records: The stage's.
        s: Number of workers, device, precision and size of micro-batches.

    Raises:
        TooLarge: They cannot.
        LoaderError: The process that reads died.
    """
    loaded = two_samples(stage, samples, len(records), min(1, s.num_workers))
    free = free_bytes()
    if loaded is None or free is None:
        return
    share = -(-stage.batch_size // int(os.environ.get("WORLD_SIZE", 1)))  # of this process
    batches = 1 + 2 * s.num_workers  # the one in use, and what each worker has ready
    at_once = min(share, s.micro_batch or share)
    of_sample = sum(value.nbytes for value in loaded.batch.values()) // 2
    as_float = 4 * sum(value.nbytes for value in loaded.batch.values() if value.dtype == torch.uint8) // 2
    kept = as_float if s.device == "cpu" or not torch.cuda.is_available() else 0
    can_chunk, remedy = hasattr(method.config, "chunk_clips"), ""
    # chunks of a batch go through the network one by one, and nothing is kept of them
    if kept and not (can_chunk and method.config.chunk_clips) and at_once * of_sample * MOST_PER_BYTE > free:
        kept = max(kept, kept_bytes(method, stage, loaded.batch, s.precision == "bf16") // 2)
        chunked = share * of_sample * batches + at_once * as_float
        remedy = ", --set chunk_clips=16" if can_chunk and chunked < free else ""
    needed = share * of_sample * batches + at_once * kept
    if needed <= free:
        return
    fits = max(2, min(free // (of_sample * batches + kept) // 2, len(records)))  # what is counted is the least
    smaller = f"--set batch_size={fits} for these {len(records)} videos{remedy}, or " if fits < stage.batch_size else ""
    raise TooLarge(
        f"batch_size ({stage.batch_size}) needs at least {_told(needed)} of memory and {_told(free)} are free: the "
        f"loader holds {batches} batches of {_told(share * of_sample)}, and the network {_told(at_once * kept)} for the "
        f"gradient; choose {smaller}a recipe that ends in -small or -tiny"
    )


def two_samples(stage: Stage, samples: Dataset, count: int, num_workers: int) -> Loaded | None:
    """A batch of two samples of the `count` records, read as training reads them; None where the first ones cannot be."""
    pairs = stage.model_copy(update={"batch_size": 2, "length": TRIED, "unit": "steps"})
    with open_loader(samples, Positions(pairs, count, seed=0), num_workers, torch.device("cpu")) as batches:
        return next((loaded for loaded in batches if len(loaded.read) == 2), None)


def kept_bytes(method: Method, stage: Stage, batch: Batch, in_bf16: bool = False) -> int:
    """Bytes that a training step on a batch keeps in memory for the gradient, weights left out."""
    trial, kept = copy.deepcopy(method).cpu().train(), {}
    learning = set(learning_names(trial, stage))
    for name, parameter in trial.named_parameters():
        parameter.requires_grad_(name in learning)
    own = {parameter.untyped_storage().data_ptr() for parameter in trial.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.random.fork_rng(devices=[]),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=in_bf16),
    ):
        terms = trial.training_step(batch)  # holds the graph, so that no address comes twice
    del terms
    return sum(size for address, size in kept.items() if address not in own)


def free_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        pass
    return None


def _told(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
