"""Localization, from the files of truth and predictions to the report."""

from __future__ import annotations

import os
from pathlib import Path

from vitascope.datasets.annotations import read_annotations, read_predictions, video_id
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
        ambiguous: File of stretches that are not to be judged, `video start end` a line; by default the one beside the
            truth, where its layout has one.
        blocked: File of ids of videos to be dropped on both sides, one a line.
        out: Folder of the report; None for none.

    Raises:
        ValueError: A file is not as said, or as `localization.evaluate`.
    """
    truth = read_annotations(ground_truth, ambiguous=ambiguous)
    ids = _ids(Path(blocked)) if blocked else ()
    result = evaluate(
        truth, read_predictions(predictions), protocol, split=split, unknown=unknown, missing=missing, blocked=ids
    )
    if out:
        facts = {"ground truth": str(ground_truth), "predictions": str(predictions), "protocol": result.protocol}
        facts |= {"ambiguous": str(ambiguous or ""), "blocked": str(blocked or "")}
        write_report(result.report(facts=facts), out)
    return result


def _ids(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of ids, one a line ({error}); name another file") from error
    return tuple(video_id(line.strip()) for line in text.splitlines() if line.strip())
