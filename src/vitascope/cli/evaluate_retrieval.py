"""The part of `evaluate` that measures whether a run finds videos of the same class."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from vitascope.cli.output import printable

OPTIONS = ("run", "library", "gallery", "embedded", "centre", "leave_out", "clips", "device")
CLIPS = 10
MOST_CLASSES = 40
MOST_UNREADABLE = 10


class Centre(str, Enum):
    """What is subtracted from features before they are made unit length."""

    none = "none"
    gallery = "gallery"
    each = "each"


class LeaveOut(str, Enum):
    """What a query does not see."""

    file = "file"
    self = "self"


GalleryOption = Annotated[
    Path | None,
    typer.Option(
        "--gallery",
        metavar="PATH",
        help="retrieval: labelled clips among which is looked; by default the split train for the split test, or --data "
        "itself, each record among the others.",
    ),
]
EmbeddedOption = Annotated[
    bool, typer.Option("--embedded", help="retrieval: take the vectors that `embed` kept, and read no video.")
]
CentreOption = Annotated[
    Centre,
    typer.Option(help="retrieval: subtract the gallery's mean from all features, or from each list its own."),
]
LeaveOutOption = Annotated[
    LeaveOut,
    typer.Option("--leave-out", help="retrieval: what a record does not find: all of its own file, or only itself."),
]


def result(run: str | None, data: Path | None, gallery: Path | None, library: Path | None, **how: Any) -> Any:
    """Asks the api.

    Raises:
        typer.BadParameter: What is asked does not go together.
    """
    if run is None or data is None:
        raise typer.BadParameter("retrieval needs --run, what is measured, and --data, labelled clips")
    if how["embedded"] and how["num_clips"] is not None:
        raise typer.BadParameter("--embedded and --clips exclude each other: kept vectors are taken, or clips are read")
    from vitascope import api

    how |= {"num_clips": how["num_clips"] or CLIPS, "centre": how["centre"].value, "leave_out": how["leave_out"].value}
    return api.evaluate_run("retrieval", run, data, gallery, library, **how, progress=True)


def lines(result: Any, out: Path | None = None) -> list[str]:
    """The figures, a line a class, and what could not be read."""
    low, high = map(_percent, result.interval)
    text = [f"{result.num_queries} queries, {result.num_gallery} records in the gallery"]
    for k, share in result.recall.items():
        interval = f" (95% interval {low} to {high})" if k == 1 else ""
        text.append(f"{f'R@{k}':4} {_percent(share):>6}, by chance {_percent(result.chance[k]):>6}{interval}")
    text.append(f"mAP  {_percent(result.mean_ap):>6}, by chance {_percent(result.chance_ap):>6}")
    width = max(len(printable(name)) for name, *_ in result.classes)
    for name, count, hit, precision in result.classes[:MOST_CLASSES]:
        text.append(f"  {printable(name):{width}} R@1 {_percent(hit):>6} of {count}, mAP {_percent(precision)}")
    if len(result.classes) > MOST_CLASSES:
        text.append(f"  and {len(result.classes) - MOST_CLASSES} more classes (--json, or --out for a report)")
    if result.num_absent:
        text.append(f"queries of a class that the gallery lacks, which count as not found: {result.num_absent}")
    if result.unreadable:
        text.append(f"{len(result.unreadable)} records have no features and do not count:")
        unread = sorted(result.unreadable.items())
        text += [f"  {printable(name)}: {printable(reason)}" for name, reason in unread[:MOST_UNREADABLE]]
        text += [f"  and {len(unread) - MOST_UNREADABLE} more"] if len(unread) > MOST_UNREADABLE else []
    text += [f"report: {out / 'report.html'}"] if out else []
    return [*text, result.protocol]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
