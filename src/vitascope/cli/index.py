"""Look through every video once, for what training can go by. WHAT: shots (cuts, and what is seen between them).

Run again it does what is left, and what changed. Example: vitascope index shots --library recordings.vitascope
"""

from __future__ import annotations

from typing import Annotated

import typer

from vitascope.cli.output import emit, printable
from vitascope.cli.scan import JsonOption, LibraryOption

THINGS = ("shots",)


def command(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="What is looked for: shots.")],
    library: LibraryOption = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes, each with one video; 0 for none but this.")] = 2,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    if what not in THINGS:
        raise typer.BadParameter(f"WHAT ({what}) must be one of: {', '.join(THINGS)}")
    result = api.keep("shots", library, num_workers=workers, progress=True)
    emit(json, result, lambda: lines(result))
    if result.signal:
        raise SystemExit(128 + result.signal)


def lines(result) -> list[str]:
    """What was done, what is wrong with which video, and what the indices take."""
    removed = f", {result.removed} of gone videos removed" if result.removed else ""
    text = [f"{result.cached} videos indexed ({result.num_pairs} cuts), {result.skipped} were there already{removed}"]
    text += [f"  {state}: {printable(path)}: {printable(detail)}" for path, state, detail in result.problems]
    if result.cache_bytes:
        text.append(f"the indices take {result.cache_bytes / 1e6:.2f} MB")
    if result.signal:
        return [*text, f"go on:  vitascope index shots --library {result.library}"]
    return text
