"""Turn every video of the library into vectors, one a snippet; what is there already is kept.

Example: vitascope embed --library recordings.vitascope
"""

from __future__ import annotations

from typing import Annotated

import typer

from vitascope.cli.output import emit, printable, say
from vitascope.cli.scan import JsonOption, LibraryOption
from vitascope.store.library import Library
from vitascope.store.locate import find_library


def command(
    library: LibraryOption = None,
    run: Annotated[str | None, typer.Option(help="Run whose encoder is used; by default the latest finished.")] = None,
    hop_seconds: Annotated[float | None, typer.Option(help="Distance of snippets; by default their length.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    json: JsonOption = False,
) -> None:
    from vitascope import api

    if run is None:
        with Library(find_library(library)) as lib:
            finished = lib.runs.list(state="done")
        if len(finished) > 1:
            run = finished[0].id
            say(f"run {run}: the latest finished of {len(finished)}; choose with --run")
    result = api.embed(library, run=run, hop_seconds=hop_seconds, settings={"device": device}, progress=True)
    emit(json, result, lambda: lines(result))
    if result.signal:
        raise SystemExit(128 + result.signal)


def lines(result) -> list[str]:
    text = [
        f"{result.embedded} videos embedded, {result.skipped} up to date, {result.snippets} new snippets of width "
        f"{result.width}, by run {result.run}"
    ]
    text += [f"  {state}: {printable(path)}: {detail}" for path, state, detail in result.problems]
    if result.signal:
        return [*text, f"go on:  vitascope embed --library {result.library} --run {result.run}"]
    return [*text, f"next: vitascope search --like VIDEO@SECONDS --library {result.library}"]
