"""Train RECIPE on the videos of --data; run again with the same --run to go on after an interruption.

A recipe of several stages may take a data set for each: --data stills=pictures/ --data videos=DAVIS/

A classifier (finetune, probe) learns from labelled clips: a list with labels, or a folder with a folder for each class;
--init gives it the encoder that another run has pre-trained, which then sets its size.

Example: vitascope train mme-tiny --data recordings/ --set mask_ratio=0.75 --set optim.lr=3e-4

Example: vitascope train finetune-tiny --data labelled/ --init RUN --library recordings.vitascope
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli.output import emit, printable
from vitascope.cli.scan import JsonOption, LibraryOption
from vitascope.store.library import Library


def command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe, e.g. mme-tiny.")],
    data: Annotated[
        list[str],
        typer.Option("--data", metavar="[NAME=]DIR", help="Folder, or CSV, JSONL or TXT list; of data set NAME."),
    ],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field.")] = None,
    library: LibraryOption = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Start from the encoder of this run: its id in the library trained in, or its folder."
        ),
    ] = None,
    run: Annotated[str | None, typer.Option(help="Go on with this run, by its id or the beginning of it.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that load data.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files too.")] = False,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    settings = {
        "seed": seed,
        "num_workers": workers,
        "device": device,
        "precision": precision,
        "tensorboard": tensorboard,
    }
    try:
        config = api.configure(recipe, set_ or [])
        sources = data_sets(data)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    start = {"init": init} if init else {}
    result = api.train(recipe, sources, library, config=config, run=run, settings=settings, progress=True, **start)
    emit(json, result, lambda: lines(result))
    if result.signal:
        raise SystemExit(128 + result.signal)


def data_sets(given: list[str]) -> Path | dict[str, Path]:
    """One folder for all data sets, or `NAME=DIR` for each.

    Example:
        >>> data_sets(["stills=a", "videos=b=c"])["videos"].name
        'b=c'
    """
    if len(given) == 1 and (os.path.exists(given[0]) or "=" not in given[0]):
        return Path(given[0])
    pairs = [text.partition("=") for text in given]
    if not all(name.isidentifier() and path for name, _, path in pairs):
        raise ValueError(f"--data ({' '.join(given)}) must be one folder, or NAME=DIR for each data set of the recipe")
    return {name: Path(path) for name, _, path in pairs}


def lines(result) -> list[str]:
    text = [f"run {result.run}: {result.state} after {result.steps} steps"]
    text += [f"  {name} {value:.4g}" for name, value in result.metrics.items()]
    if result.unreadable:
        text.append(f"  {len(result.unreadable)} videos could not be read, in whole or in part:")
        text += [f"    {printable(path)}: {reason}" for path, reason in sorted(result.unreadable.items())]
    text += [f"advice: {printable(sentence)}" for sentence in result.advice]
    text.append(f"folder: {result.folder}")
    if result.signal:
        with Library(result.library) as library:
            text.append(f"go on: {library.runs.find(result.run).go_on}")
    elif "accuracy" in result.metrics:  # of the last batches of training, which says little
        text.append(
            f"next: vitascope evaluate recognition --library {result.library} --run {result.run} --data LABELLED"
        )
    else:
        text.append(f"next: vitascope embed --library {result.library} --run {result.run}")
    return text
