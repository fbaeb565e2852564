"""Score results against the truth of a data set, or make the results first.

TASK davis: J and F of cut-out objects. TASK recognition: how well a run tells the classes of labelled clips. TASK
retrieval: whether the clips nearest to a clip are of its class. TASK localization: whether actions are found at their
times, for predictions in the JSON of ActivityNet, whoever made them.

Labelled clips are a folder with a folder for each class, or a list: a CSV file with the header
video,labels,start,end,split and a video, or a stretch of it, in each line. Only video and labels are needed. Paths start
from the list's folder, times are in seconds; where lines have the split test, they are measured by those of train.

Example: vitascope evaluate recognition --run RUN --data labelled/

Example: vitascope evaluate retrieval --run RUN --data labelled.csv

Example: vitascope evaluate localization --ground-truth gt.json --predictions found.json --protocol anet13 --json
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vitascope.cli import evaluate_localization as localization
from vitascope.cli import evaluate_recognition as recognition
from vitascope.cli import evaluate_retrieval as retrieval
from vitascope.cli.output import emit, printable
from vitascope.cli.scan import JsonOption
from vitascope.cli.segment import Policy

DAVIS = ("ground_truth", "predictions", "weights", "policy", "short_side", "year", "split", "davis_compat", "workers")
TASKS = {  # what not all tasks take
    "davis": DAVIS,
    "recognition": recognition.OPTIONS,
    "retrieval": retrieval.OPTIONS,
    "localization": localization.OPTIONS,
}

TruthOption = Annotated[
    Path | None,
    typer.Option(
        "--ground-truth",
        metavar="PATH",
        help="davis: the data set, or its folder of masks. localization: annotations, JSON with `database`, or a folder "
        "of W-TALC's arrays or of THUMOS's texts.",
    ),
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        metavar="PATH",
        help="davis: results, one folder of PNGs a sequence. localization: JSON with `results`.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="davis: the data set, to be segmented and then scored. recognition, retrieval: labelled clips, a folder of "
        "class folders, or a CSV list with the columns video, labels, and if wanted start, end, split.",
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", help="davis: weights that segment; by default those that come with the package."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="davis: keep the masks here; run again to go on after a stop. The other tasks: write a report here.",
    ),
]
PolicyOption = Annotated[Policy, typer.Option(help="davis: what is remembered, as `segment` takes it.")]
ShortSideOption = Annotated[
    int | None,
    typer.Option(min=32, help="davis: pixels of the short side that the network sees, as `segment` takes it."),
]
YearOption = Annotated[str, typer.Option(help="davis: protocol, 2017 (several objects) or 2016 (one).")]
SplitOption = Annotated[
    str | None,
    typer.Option(
        help="davis: a list of ImageSets, e.g. val; by default all sequences with masks. localization: of the truth, that "
        "is judged; by default the protocol's."
    ),
]
CompatOption = Annotated[
    bool, typer.Option("--davis-compat", help="davis: decay beyond 256 frames as the official scorer has it.")
]
WorkersOption = Annotated[int, typer.Option(min=0, help="davis: processes that score; 0 for none but this one.")]


def command(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"What is scored: {', '.join(TASKS)}.")],
    data: DataOption = None,
    out: OutOption = None,
    ground_truth: TruthOption = None,
    predictions: PredictionsOption = None,
    weights: WeightsOption = None,
    policy: PolicyOption = Policy.default,
    short_side: ShortSideOption = None,
    year: YearOption = "2017",
    split: SplitOption = None,
    davis_compat: CompatOption = False,
    workers: WorkersOption = 2,
    run: recognition.RunOption = None,
    library: recognition.RunLibraryOption = None,
    train: recognition.TrainOption = None,
    folds: recognition.FoldsOption = None,
    clips: recognition.ClipsOption = None,
    device: recognition.DeviceOption = "auto",
    gallery: retrieval.GalleryOption = None,
    embedded: retrieval.EmbeddedOption = False,
    centre: retrieval.CentreOption = retrieval.Centre.none,
    leave_out: retrieval.LeaveOutOption = retrieval.LeaveOut.file,
    protocol: localization.ProtocolOption = "plain",
    classes: localization.ClassesOption = None,
    ambiguous: localization.AmbiguousOption = None,
    blocked: localization.BlockedOption = None,
    unknown: localization.UnknownOption = None,
    missing: localization.MissingOption = localization.Missing.count,
    json: JsonOption = False,
) -> None:
    check_task(task, context)
    if task == "recognition":
        result = recognition.result(run, data, train, library, num_folds=folds, num_clips=clips, device=device, out=out)
        emit(json, result, lambda: recognition.lines(result, out))
    elif task == "retrieval":
        how = {"embedded": embedded, "centre": centre, "leave_out": leave_out, "num_clips": clips, "device": device}
        result = retrieval.result(run, data, gallery, library, **how, out=out)
        emit(json, result, lambda: retrieval.lines(result, out))
    elif task == "localization":
        how = {
            "split": split,
            "classes": classes,
            "ambiguous": ambiguous,
            "blocked": blocked,
            "unknown": unknown,
            "missing": missing,
        }
        result = localization.result(ground_truth, predictions, data, protocol, **how, out=out)
        emit(json, result.to_json() if json else result, lambda: localization.lines(result, out))
    else:
        settings = {} if policy is Policy.default else {"policy": policy.value}
        settings |= {"short_side": short_side} if short_side else {}
        how = {"year": year, "split": split, "davis_compat": davis_compat, "num_workers": workers}
        result = davis(
            {"--ground-truth": ground_truth, "--predictions": predictions}, data, weights, settings, out, how
        )
        emit(json, result, lambda: lines(result))


def davis(
    scored: dict[str, Path | None],
    data: Path | None,
    weights: Path | None,
    settings: dict[str, Any],
    out: Path | None,
    how: dict[str, Any],
) -> Any:
    """Asks the api to score results, or to segment `data` and score that."""
    from vitascope import api

    check(scored, data, weights or out or settings or None, how["year"])
    truth, predictions = scored.values()
    return api.evaluate_davis(
        truth or data, predictions, weights=weights, settings=settings, out=out, **how, progress=True
    )


def check_task(task: str, context: typer.Context) -> None:
    """Refuses a task that there is not, and an option of another one."""
    if task not in TASKS:
        raise typer.BadParameter(f"TASK ({task}) must be one of: {', '.join(TASKS)}")
    for option in context.command.params:
        source, takers = context.get_parameter_source(option.name), [t for t in TASKS if option.name in TASKS[t]]
        if takers and task not in takers and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{option.opts[0]} goes with {' and '.join(takers)}, not with {task}")


def check(scored: dict[str, Path | None], data: Path | None, how: object, year: str) -> None:
    """Refuses what does not go together, in one sentence."""
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
