"""Compute once what training would compute at every turn, and keep it in the library. WHAT: motion (optical flow).

Run again it does what is left, and what changed. Example: vitascope cache motion --library recordings.vitascope
"""

from __future__ import annotations

from typing import Annotated

import typer

from vitascope.cli.output import emit, printable
from vitascope.cli.scan import JsonOption, LibraryOption

THINGS = ("motion",)
# how flow is computed; the first is as exact as Farneback's and four times as fast
FLOWS = ("dis-medium", "dis-fine", "dis-fast", "dis-ultrafast", "farneback", "farneback-light", "tvl1")


def command(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="What is kept: motion.")],
    library: LibraryOption = None,
    method: Annotated[
        str, typer.Option(metavar="FLOW", help=f"Optical flow, train with the same: {', '.join(FLOWS)}.")
    ] = FLOWS[0],
    workers: Annotated[int, typer.Option(min=0, help="Processes, each with one video; 0 for none but this.")] = 2,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    if what not in THINGS:
        raise typer.BadParameter(f"WHAT ({what}) must be one of: {', '.join(THINGS)}")
    if method not in FLOWS:
        raise typer.BadParameter(f"--method ({method}) must be one of: {', '.join(FLOWS)}")
    result = api.keep("motion", library, method=method, num_workers=workers, progress=True)
    emit(json, result, lambda: lines(result))
    if result.signal:
        raise SystemExit(128 + result.signal)


def lines(result) -> list[str]:
    """What was done, what is wrong with which video, and what the flow takes."""
    removed = f", {result.removed} of gone videos removed" if result.removed else ""
    text = [
        f"{result.cached} videos cached ({result.num_pairs} pairs of frames), {result.skipped} were there already{removed}"
    ]
    text += [f"  {state}: {printable(path)}: {printable(detail)}" for path, state, detail in result.problems]
    if result.video_bytes:
        share = 100 * result.cache_bytes / result.video_bytes
        text.append(f"flow takes {result.cache_bytes / 1e6:.1f} MB, {share:.1f} % of the videos' bytes")
    if result.signal:
        return [*text, f"go on:  vitascope cache motion --library {result.library} --method {result.method}"]
    return text
