"""The part of `evaluate` that measures how well a run tells classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vitascope.cli.output import printable

OPTIONS = ("run", "library", "train", "folds", "clips", "device")
CLIPS = 4
MOST_CLASSES = 40
MOST_UNREADABLE = 10

RunOption = Annotated[
    str | None,
    typer.Option("--run", help="recognition, retrieval: the run, by the beginning of its id, or its folder."),
]
RunLibraryOption = Annotated[
    Path | None,
    typer.Option("--library", help="recognition, retrieval: where the run is; by default the only library here."),
]
TrainOption = Annotated[
    Path | None,
    typer.Option(
        "--train",
        metavar="PATH",
        help="recognition of an encoder: labelled clips that the probe learns from; by default folds of --data.",
    ),
]
FoldsOption = Annotated[
    int | None,
    typer.Option(
        "--folds",
        min=2,
        help="recognition of an encoder: folds of --data; by default 5, or a fold a file where files have several clips.",
    ),
]
ClipsOption = Annotated[
    int | None,
    typer.Option(
        "--clips",
        min=1,
        help="recognition of an encoder, retrieval: clips that are spread over each record; by default 4, and 10.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="recognition, retrieval: cpu, cuda or auto.")]


def result(run: str | None, data: Path | None, train: Path | None, library: Path | None, **how: Any) -> Any:
    """Asks the api.

    Raises:
        typer.BadParameter: What is asked does not go together.
    """
    if run is None or data is None:
        raise typer.BadParameter("recognition needs --run, what is measured, and --data, labelled clips")
    if train is not None and how["num_folds"] is not None:
        raise typer.BadParameter(
            "--train and --folds exclude each other: a probe learns from a list, or from folds of --data"
        )
    from vitascope import api

    how |= {"num_clips": how["num_clips"] or CLIPS}
    return api.evaluate_run("recognition", run, data, train, library, **how, progress=True)


def lines(result: Any, out: Path | None = None) -> list[str]:
    """The figures, a line a class, and what could not be read."""
    low, high = result.interval
    text = [
        f"top-1 {_percent(result.top1)} of {result.num_samples} (95% interval {_percent(low)} to {_percent(high)}); "
        f"always the largest class: {_percent(result.majority)}"
    ]
    text += [f"top-5 {_percent(result.top5)}"] if result.top5 is not None else []
    text.append(f"mean over {len(result.classes)} classes {_percent(result.mean_class)}")
    rows = sorted(zip(map(printable, result.classes), result.confusion, range(len(result.classes)), strict=True))
    width = max(len(name) for name, _, _ in rows)
    for name, counts, number in rows[:MOST_CLASSES]:
        if sum(counts):
            text.append(
                f"  {name:{width}} {_percent(counts[number] / sum(counts)):>6} of {sum(counts)}{_most(result, number)}"
            )
    if len(rows) > MOST_CLASSES:
        text.append(f"  and {len(rows) - MOST_CLASSES} more classes (--json, or --out for a report)")
    text += [f"fold {printable(f.name)}: {_percent(f.accuracy)} of {f.num_samples}" for f in result.folds]
    if result.unreadable:
        text.append(f"{len(result.unreadable)} records could not be read and do not count:")
        unread = sorted(result.unreadable.items())
        text += [f"  {printable(name)}: {reason}" for name, reason in unread[:MOST_UNREADABLE]]
        text += [f"  and {len(unread) - MOST_UNREADABLE} more"] if len(unread) > MOST_UNREADABLE else []
    text.append(result.protocol)
    return [*text, f"report: {out / 'report.html'}"] if out else text


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _most(result: Any, number: int) -> str:
    """What a class is most often taken for."""
    others = [0 if place == number else count for place, count in enumerate(result.confusion[number])]
    worst = max(range(len(others)), key=others.__getitem__)
    return f", {others[worst]} taken for {printable(result.classes[worst])}" if others[worst] else ""
