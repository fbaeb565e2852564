"""Recognition of a run, from the lists of labelled clips to the report."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from vitascope.datasets.load import load_labelled
from vitascope.engine.log import Progress
from vitascope.evaluation import recognition
from vitascope.evaluation.probe import Recognition
from vitascope.methods.base import Method
from vitascope.store.reports import write_report


def evaluate_run(
    load: Callable[[Path], Method],
    folder: Path,
    data: str | os.PathLike,
    train: str | os.PathLike | None,
    spread_clips: Callable[..., torch.Tensor],
    *,
    num_clips: int = 4,
    num_folds: int | None = None,
    seed: int = 0,
    device: str = "auto",
    out: str | os.PathLike | None = None,
    progress: bool = False,
) -> Recognition:
    """Measure a run by `recognition.evaluate` on a folder of classes or a list, and write a report.

    Args:
        load: Gives the method of a run's folder.
        folder: Of the run.
        data: Labelled clips that are asked about.
        train: Labelled clips that a probe learns from.
        spread_clips: `(record, num_frames=, stride_frames=, fps=, size=, num_clips=)` -> its clips.
        num_clips: Of each record, for an encoder.
        num_folds, seed: As `recognition.evaluate`.
        device: `cpu`, `cuda` or `auto`.
        out: Folder of the report; None for none.
        progress: Whether standard error shows how it goes on.

    Raises:
        ValueError: Labels are missing, or the lists do not fit.
    """
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    method = load(folder).to(device)
    result = recognition.evaluate(
        method,
        load_labelled(data),
        load_labelled(train) if train else None,
        read=partial(spread_clips, **method.snippet.model_dump(), num_clips=num_clips),
        num_folds=num_folds,
        seed=seed,
        device=device,
        progress=Progress() if progress else None,
    )
    if out:
        facts = {"run": str(folder), "data": str(data), "train": str(train or ""), "clips": num_clips, "seed": seed}
        write_report(recognition.report(result, "Recognition", facts), out)
    return result
