"""Look at every video below DIR and write down what it is: done, damaged (with its gaps) or refused (with the reason).

Example: vitascope scan recordings/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli.output import clock, emit, printable

LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        help="Folder of the library; by default DIR.vitascope beside the data, or where no data are given the only one here.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for scripts.")]


def command(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of videos, of any nesting.")],
    library: LibraryOption = None,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every frame, to find all damage now.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that open files.")] = 2,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    result = api.scan(data, library, deep=deep, num_workers=workers, progress=True)
    emit(json, result, lambda: lines(result))


def lines(result) -> list[str]:
    text = [
        f"{result.num_files} videos, {clock(result.duration_seconds)} in all: "
        f"{result.done} done, {result.damaged} damaged, {result.refused} refused "
        f"({result.opened} opened, {result.unchanged} unchanged, {result.moved} moved, {result.gone} gone)"
    ]
    for file in result.problems:
        text.append(f"  {file['state']:8} {printable(file['path'])}: {file['reason']}: {printable(file['detail'])}")
        text += [f"           gap {clock(gap[0])} to {clock(gap[1])}" for gap in file["gaps"]]
    if result.variable_rate:
        text.append(
            f"  {result.variable_rate} with a variable frame rate; times are true presentation times throughout"
        )
    text.append(f"library: {result.library}")
    text.append(f"next: vitascope train mme-tiny --data {result.data} --library {result.library}")
    return text
