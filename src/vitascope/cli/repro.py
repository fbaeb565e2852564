"""Measure what is claimed of a method, on synthetic worlds, and write which claims are held. WHAT: mme-motion, mme-shuffle,
hico, wtal.

Each takes up to an hour on two cores; broken off, it goes on when called again. Example: vitascope repro mme-motion
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli.output import emit
from vitascope.cli.scan import JsonOption


def command(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="mme-motion, mme-shuffle, hico or wtal.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Of the page.")] = Path("docs/claims"),
    work: Annotated[
        Path, typer.Option("--work", metavar="FOLDER", help="Of videos and weights; kept, to go on.")
    ] = Path("vitascope-repro"),
    small: Annotated[
        bool, typer.Option("--small", help="Only try the command, in minutes; says nothing of the claims.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Trials at once, each on one core.")] = 2,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    result = api.repro(what, out, work, is_small=small, num_workers=workers, progress=True)
    emit(json, result, lambda: lines(result))


def lines(result) -> list[str]:
    """Each claim with its verdict, and where the page is."""
    text = [
        f"{'held    ' if held else 'NOT HELD'}  {mean:+5.1f} points ({low:+.1f} to {high:+.1f})  {claim}"
        for claim, held, mean, low, high in result.claims
    ]
    return [*text, f"page: {result.page}"]
