"""Score results against the truth of a data set, or make the results first. TASK: davis (J and F of cut-out objects).

Example: vitascope evaluate davis --ground-truth DAVIS/ --predictions results/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli.output import emit, printable
from vitascope.cli.scan import JsonOption
from vitascope.cli.segment import Policy

TASKS = ("davis",)


def command(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What is scored: davis.")],
    ground_truth: Annotated[
        Path | None, typer.Option("--ground-truth", metavar="DIR", help="The data set, or its folder of masks.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", metavar="DIR", help="Results: one folder of PNGs a sequence.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The data set, to be segmented and then scored.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Weights that segment; by default those that come with the package."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keep the masks here; run again to go on after a stop.")
    ] = None,
    policy: Annotated[Policy, typer.Option(help="What is remembered, as `segment` takes it.")] = Policy.default,
    short_side: Annotated[
        int | None, typer.Option(min=32, help="Pixels of the short side that the network sees, as `segment` takes it.")
    ] = None,
    year: Annotated[str, typer.Option(help="Protocol: 2017 (several objects) or 2016 (one).")] = "2017",
    split: Annotated[
        str | None, typer.Option(help="A list of ImageSets, e.g. val; by default all sequences with masks.")
    ] = None,
    davis_compat: Annotated[
        bool, typer.Option("--davis-compat", help="Decay beyond 256 frames as the official scorer has it.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that score; 0 for none but this one.")] = 2,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    settings = {} if policy is Policy.default else {"policy": policy.value}
    settings |= {"short_side": short_side} if short_side else {}
    how = weights or out or settings or None
    check(task, {"--ground-truth": ground_truth, "--predictions": predictions}, data, how, year)
    result = api.evaluate_davis(
        ground_truth or data,
        predictions,
        weights=weights,
        settings=settings,
        out=out,
        year=year,
        split=split,
        davis_compat=davis_compat,
        num_workers=workers,
        progress=True,
    )
    emit(json, result, lambda: lines(result))


def check(task: str, scored: dict[str, Path | None], data: Path | None, how: object, year: str) -> None:
    """Refuses what does not go together, in one sentence."""
    if task not in TASKS:
        raise typer.BadParameter(f"TASK ({task}) must be one of: {', '.join(TASKS)}")
    if year not in ("2016", "2017"):
        raise typer.BadParameter(f"--year ({year}) must be 2016 or 2017")
    given = [name for name, folder in scored.items() if folder is not None]
    if bool(given) == (data is not None):
        raise typer.BadParameter(
            "give either --ground-truth and --predictions, to score, or --data, to segment and score"
        )
    if len(given) == 1:
        (missing,) = set(scored) - set(given)
        raise typer.BadParameter(f"{given[0]} needs {missing} as well")
    if given and how is not None:
        raise typer.BadParameter(
            "--weights, --policy, --short-side and --out go with --data; --predictions are scored as they are"
        )


def lines(result) -> list[str]:
    """A line an object, and the means."""
    width = max(len("mean over objects"), *(len(printable(row["sequence"])) + 5 for row in result["per_object"]))
    columns = ("J", "J recall", "J decay", "F", "F recall", "F decay")
    text = [f"{'':{width}} " + " ".join(f"{name:>8}" for name in columns)]
    for row in result["per_object"]:
        text.append(f"{printable(row['sequence'])} #{row['object']}".ljust(width) + " " + cells(row))
    text.append(f"{'mean over objects':{width}} {cells(result)}")
    return [*text, f"J&F {100 * result['j_and_f_mean']:.1f}, in percent as all values above"]


def cells(row: dict) -> str:
    """The six values in percent; a decay that is not defined is a dash.

    Example:
        >>> cells(dict.fromkeys(["j_mean", "j_recall", "f_mean", "f_recall"], 0.5) | {"j_decay": None, "f_decay": 0})
        '    50.0     50.0        -     50.0     50.0      0.0'
    """
    values = [row[f"{metric}_{name}"] for metric in "jf" for name in ("mean", "recall", "decay")]
    return " ".join(f"{'-' if value is None else format(100 * value, '.1f'):>8}" for value in values)
