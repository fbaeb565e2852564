"""Find the moments of the library that are most like one moment of a video.

Example: vitascope search --like recordings/monday.mp4@12.5
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli.output import clock, emit, printable
from vitascope.cli.scan import JsonOption, LibraryOption


def command(
    like: Annotated[str, typer.Option("--like", metavar="VIDEO@SECONDS", help="The moment to look for.")],
    library: LibraryOption = None,
    run: Annotated[
        str | None, typer.Option(help="Run whose vectors are searched; by default the latest embedded.")
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many moments.")] = 10,
    elsewhere: Annotated[bool, typer.Option("--elsewhere", help="Only moments of other videos.")] = False,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    path, seconds = moment(like)
    result = api.search((path, seconds), library, run=run, k=k, elsewhere=elsewhere)
    emit(json, result, lambda: lines(result))


def moment(like: str) -> tuple[Path, float]:
    """The file and the time of `VIDEO@SECONDS`.

    Example:
        >>> moment("a@b.mp4@1.5")
        (PosixPath('a@b.mp4'), 1.5)
    """
    path, at, seconds = like.rpartition("@")
    try:
        value = float(seconds)
    except ValueError:
        value = math.nan
    if not at or not path or not math.isfinite(value) or value < 0:
        raise typer.BadParameter(f"--like ({like}) must be VIDEO@SECONDS with SECONDS >= 0, e.g. monday.mp4@12.5")
    return Path(path), value


def lines(result) -> list[str]:
    text = [
        f"like {printable(str(result.path))} at {clock(result.seconds)}, among {result.num_vectors} snippets of run {result.run}"
    ]
    for rank, hit in enumerate(result.hits, 1):
        span = f"{clock(hit.start_seconds)} to {clock(hit.end_seconds)}"
        text.append(f"{rank:3}. {hit.score:6.3f}  {span:>20}  {printable(hit.path)}")
    return text
