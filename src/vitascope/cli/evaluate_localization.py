"""The part of `evaluate` that judges segments in time."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from vitascope.cli.output import printable

OPTIONS = ("ground_truth", "predictions", "protocol", "split", "classes", "ambiguous", "blocked", "unknown", "missing")
MOST_CLASSES = 40


class Unknown(str, Enum):
    """What becomes of predictions for videos, and with labels, that the truth does not have."""

    error = "error"
    drop = "drop"
    false_positive = "false_positive"


class Missing(str, Enum):
    """What becomes of videos without predictions."""

    count = "count"
    skip = "skip"


ProtocolOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="localization: plain (tIoU 0.1 to 0.7, seconds as given), basnet_seconds_210, co2_grid_212, actionformer_212, "
        "anet12 or anet13.",
    ),
]
ClassesOption = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="localization: names of the classes for predictions that have numbers, one a line, the first that of 0.",
    ),
]
AmbiguousOption = Annotated[
    Path | None,
    typer.Option(
        "--ambiguous",
        metavar="FILE",
        help="localization: stretches that are not to be judged, `video start end` a line; by default the list beside the "
        "truth.",
    ),
]
BlockedOption = Annotated[
    Path | None,
    typer.Option(
        "--blocked", metavar="FILE", help="localization: ids of videos to leave out on both sides, one a line."
    ),
]
UnknownOption = Annotated[
    Unknown | None,
    typer.Option(
        "--unknown",
        help="localization: what becomes of predictions for videos that the truth does not have; by default what the "
        "protocol says. drop leaves out unknown labels too.",
    ),
]
MissingOption = Annotated[
    Missing,
    typer.Option(
        "--missing", help="localization: videos without predictions count as empty, or are skipped on both sides."
    ),
]


def result(ground_truth: Path | None, predictions: Path | None, data: Path | None, protocol: str, **how: Any) -> Any:
    """Asks the api.

    Raises:
        typer.BadParameter: What is asked does not go together.
    """
    if ground_truth is None or predictions is None or data is not None:
        raise typer.BadParameter(
            "localization needs --ground-truth, what is there, and --predictions, what was found, and takes no --data"
        )
    from vitascope import api

    how |= {"unknown": how["unknown"] and how["unknown"].value, "missing": how["missing"].value}
    return api.evaluate_localization(ground_truth, predictions, protocol, **how)


def lines(result: Any, out: Path | None = None) -> list[str]:
    """The figures, a line a class, what was left out, and how it was judged."""
    heads = [f"{limit:g}" for limit in result.map] + list(result.average)
    width = max(len("mAP"), *(len(printable(row.label)) for row in result.by_class))
    text = [
        f"{result.num_videos} videos, {result.num_segments} true segments, {result.num_predictions} predictions; "
        f"protocol {result.protocol}",
        _row("tIoU", heads, width),
        _row("mAP", [_percent(value) for value in (*result.map.values(), *result.average.values())], width),
        "AP of each class:",
    ]
    places = [list(result.average).index(result.main)]
    for row in result.by_class[:MOST_CLASSES]:
        means = ["" for _ in result.average]
        means[places[0]] = _percent(row.average)
        cells = [*map(_percent, row.precisions), *means]
        text.append(f"{_row(printable(row.label), cells, width)}  of {row.num_segments}")
    if len(result.by_class) > MOST_CLASSES:
        text.append(f"  and {len(result.by_class) - MOST_CLASSES} more classes (--json, or --out for a report)")
    text.append(", ".join(f"AR@{count} {_percent(share)}" for count, share in result.recall.items()))
    text += [] if result.video_map is None else [f"mAP of telling videos {_percent(result.video_map)}"]
    if result.dropped:
        text.append("left out: " + ", ".join(f"{count} {what}" for what, count in result.dropped.items()))
    text += map(printable, result.notes)
    return [*text, *([f"report: {out / 'report.html'}"] if out else []), result.told, "All values are in percent."]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _row(name: str, cells: list[str], width: int) -> str:
    return f"{name:{width}} " + " ".join(f"{cell:>7}" for cell in cells).rstrip()
