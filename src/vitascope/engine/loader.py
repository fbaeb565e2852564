"""Reading samples ahead of the training loop, and what becomes of those that cannot be read."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from vitascope.engine.sampler import Positions
from vitascope.methods.base import Batch, Draw
from vitascope.structures import VideoError


class LoaderError(RuntimeError):
    """A process that reads video died."""


class Skipped(NamedTuple):
    """A video that could not be read: the record's index in its data set, and the `VideoError`'s fields."""

    index: int
    path: str
    reason: str
    detail: str


class Loaded(NamedTuple):
    """One process's share of a step: `batch` of the samples that could be read, None if there is none."""

    batch: Batch | None
    read: tuple[int, ...]  # indices of the records in the batch
    skipped: tuple[Skipped, ...]


class Readable(Dataset):
    """A method's samples, with `Skipped` in the place of those that raise `VideoError`; other errors pass."""

    def __init__(self, samples: Dataset) -> None:
        self.samples = samples

    def __getitem__(self, draw: Draw) -> tuple[int, Batch | Skipped]:
        try:
            return draw.index, self.samples[draw]
        except VideoError as error:
            return draw.index, Skipped(draw.index, error.path, error.reason, error.detail)


def collate(samples: Sequence[tuple[int, Batch | Skipped]]) -> Loaded:
    """Stack the samples that could be read.

    Example:
        >>> bad = Skipped(7, "a.mp4", "empty", "the file has 0 bytes")
        >>> loaded = collate([(3, {"x": torch.zeros(2)}), (7, bad)])
        >>> loaded.batch["x"].shape, loaded.read, loaded.skipped[0].path
        (torch.Size([1, 2]), (3,), 'a.mp4')
    """
    read = [(index, sample) for index, sample in samples if not isinstance(sample, Skipped)]
    skipped = tuple(sample for _, sample in samples if isinstance(sample, Skipped))
    batch = default_collate([sample for _, sample in read]) if read else None
    return Loaded(batch, tuple(index for index, _ in read), skipped)


def split(batch: Batch | None, count: int, micro_batch: int | None, most: int) -> list[tuple[int, Batch | None]]:
    """Cut a batch into parts of at most `micro_batch` samples, each with its size.

    There are as many parts as a batch of `most` samples has, the last ones without samples: processes whose method
    exchanges something in each part do so equally often.

    Example:
        >>> [(size, part and part["x"].tolist()) for size, part in split({"x": torch.arange(3)}, 3, 2, most=5)]
        [(2, [0, 1]), (1, [2]), (0, None)]
    """
    size = micro_batch or most
    parts: list[tuple[int, Batch | None]] = []
    for at in range(0, most, size):
        taken = min(size, count - at)
        some = taken > 0
        parts.append((taken, {key: value[at : at + size] for key, value in batch.items()}) if some else (0, None))
    return parts


@contextmanager
def open_loader(
    samples: Dataset, positions: Positions, num_workers: int, device: torch.device
) -> Iterator[Iterator[Loaded]]:
    """Read the batches of `positions`, in order, in `num_workers` processes; they end with the block.

    Raises:
        LoaderError: While iterating: a worker died (seen within 5 s).
    """
    others = set(multiprocessing.active_children())
    handler = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    loader = DataLoader(
        Readable(samples),
        batch_sampler=positions,
        num_workers=num_workers,
        collate_fn=collate,
        worker_init_fn=settle_worker,
        multiprocessing_context=start_method(device) if num_workers else None,
        pin_memory=device.type == "cuda",
    )
    batches = iter(loader)
    if handler is not None and threading.current_thread() is threading.main_thread():
        # torch's handler raises wherever the main thread is, even halfway through an update of the weights;
        # a dead worker is also found while waiting for its batch
        signal.signal(signal.SIGCHLD, handler)
    workers = [child for child in multiprocessing.active_children() if child not in others]
    try:
        yield _watched(batches, workers)
    finally:
        for worker in workers:  # torch's workers take this signal from their parent as a quiet end
            worker.terminate()
        del batches


def start_method(device: torch.device) -> str:
    """Return how workers start: forking is quick, and not allowed once a CUDA context exists or off Linux."""
    if not sys.platform.startswith("linux"):
        return "spawn"
    return "fork" if device.type == "cpu" else "forkserver"


def settle_worker(worker: int) -> None:
    """Set up a loader process: one thread, no interest in the terminal's Ctrl-C, no life after its parent's death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _report_unless_left
    torch.set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
    if sys.platform.startswith("linux"):
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _report_unless_left(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """Report an error of a worker's threads; a parent that left while a batch was handed over is none."""
    if not issubclass(kind, ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _watched(batches: Iterator[Loaded], workers: list) -> Iterator[Loaded]:
    while True:
        try:
            loaded = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            dead = [worker for worker in workers if not worker.is_alive() and worker.exitcode]
            if not dead:
                raise
            code = dead[0].exitcode
            cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
            raise LoaderError(
                f"a process that reads video (pid {dead[0].pid}) {cause}, perhaps for lack of memory; "
                f"use fewer num_workers ({len(workers)}) or a smaller batch"
            ) from error
        yield loaded
