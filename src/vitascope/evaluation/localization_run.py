"""Localization, from the files of truth and predictions to the report."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitascope.datasets.annotations import read_annotations, read_predictions
from vitascope.evaluation.localization import Localization, evaluate
from vitascope.evaluation.localization_protocols import Missing, Protocol, Unknown
from vitascope.store.reports import write_report

PathLike = str | os.PathLike


def evaluate_localization(
    ground_truth: PathLike,
    predictions: PathLike,
    protocol: Protocol | str = "plain",
    *,
    split: str | None = None,
    classes: PathLike | None = None,
    ambiguous: PathLike | None = None,
    blocked: PathLike | None = None,
    unknown: Unknown | None = None,
    missing: Missing = "count",
    out: PathLike | None = None,
) -> Localization:
    """Judge a file of predictions by `localization.evaluate`, and write a report.

    Args:
        ground_truth: A file or folder in any layout of `datasets.annotations`.
        predictions: A file, as `datasets.annotations.read_predictions` takes it.
        protocol: One of `localization_protocols.PROTOCOLS`, by name, or one's own.
        split, unknown, missing: As `localization.evaluate`.
        classes: File of the names that the predictions have numbers for, one a line, the first that of 0.
        ambiguous: File of stretches that are not to be judged, `video start end` a line; by default the one beside the
            truth, where its layout has one.
        blocked: File of ids of videos to be dropped on both sides, one a line.
        out: Folder of the report; None for none.

    Raises:
        ValueError: A file is not as said, or as `localization.evaluate`.
    """
    truth = read_annotations(ground_truth, ambiguous=ambiguous)
    if ambiguous:  # of a video that this list does not name it is known that it has none
        none = np.zeros((0, 2))
        truth = [replace(item, ambiguous_seconds=none) if item.ambiguous_seconds is None else item for item in truth]
    found = read_predictions(predictions, _classes(Path(classes)) if classes else None)
    ids = [line for line in _lines(Path(blocked), "ids") if line] if blocked else ()
    result = evaluate(truth, found, protocol, split=split, unknown=unknown, missing=missing, blocked=ids)
    if out:
        facts = {"ground truth": str(ground_truth), "predictions": str(predictions), "protocol": result.protocol}
        facts |= {"ambiguous": str(ambiguous or ""), "blocked": str(blocked or ""), "classes": str(classes or "")}
        write_report(result.report(facts=facts), out)
    return result


def _classes(path: Path) -> tuple[str, ...]:
    names = _lines(path, "classes") or [""]
    if "" in names:  # those after it would get other numbers
        raise ValueError(f"{path}, line {names.index('') + 1}: empty; it must be the name of a class")
    return tuple(names)


def _lines(path: Path, what: str) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"{path} cannot be read as a list of {what}, one a line ({error}); name another file"
        ) from error
    return [line.strip() for line in text.rstrip().splitlines()]
