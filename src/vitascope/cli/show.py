"""Draw what pre-training sees in a video, as one PNG. WHAT: motion (tracks and edges; predicted ones too, given a run).

Example: vitascope show motion recordings/monday.mp4 --at 12.5
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli.output import clock, emit, printable
from vitascope.cli.scan import JsonOption
from vitascope.store.atomic import write_bytes

THINGS = ("motion",)


def command(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="What is drawn: motion.")],
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file.")],
    at: Annotated[float, typer.Option("--at", metavar="SECONDS", help="Time at which the clip starts.")],
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Draw also what the method of this run predicts.")
    ] = None,
    library: Annotated[
        Path | None, typer.Option("--library", metavar="LIB", help="Library of the run; by default the video's.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Without a run: whose targets are drawn; by default mme.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="PNG", help="The picture.")] = Path("motion.png"),
    json: JsonOption = False,
) -> None:
    check(what, video, at, run, library, recipe, out)
    from PIL import Image

    from vitascope import api

    asked = {"run": run, "library": library} if run is not None else {"recipe": recipe or "mme"}
    figure, sheet = api.show_motion(video, at, **asked)
    data = io.BytesIO()
    Image.fromarray(sheet.transpose(1, 2, 0)).save(data, "PNG")
    write_bytes(out, data.getvalue())
    result = {
        "video": str(video),
        "at_seconds": at,
        "out": str(out),
        "title": figure.title,
        "caption": figure.caption,
        "rows": [{"name": name, "pictures": len(pictures)} for name, pictures in figure.rows],
    }
    emit(json, result, lambda: lines(result))


def check(
    what: str, video: Path, at: float, run: str | None, library: Path | None, recipe: str | None, out: Path
) -> None:
    """Refuses, in one sentence and before any work, what cannot be drawn or would overwrite the video."""
    from vitascope import api

    problem = None
    if what not in THINGS:
        problem = f"WHAT ({what}) must be one of: {', '.join(THINGS)}"
    elif not video.is_file():
        kind = "is a folder, not a file" if video.is_dir() else "does not exist"
        problem = f"VIDEO ({printable(str(video))}) {kind}; name one video"
    elif not (math.isfinite(at) and at >= 0):
        problem = f"--at ({at}) must be a time in the video, in seconds >= 0"
    elif run is not None and recipe is not None:
        problem = f"--run ({run}) has its recipe already; leave --recipe ({recipe}) out, or --run"
    elif recipe is not None and recipe in (known := api.recipes()) and known[recipe][0] != "mme":
        names = ", ".join(name for name, (method, _) in known.items() if method == "mme" and name.startswith("mme"))
        problem = f"--recipe ({recipe}) predicts no motion; take one of: {names}"
    elif library is not None and run is None:
        problem = f"--library ({printable(str(library))}) says where a run is; name the run with --run"
    elif out.exists() and os.path.samefile(out, video):
        problem = f"--out ({printable(str(out))}) is the video itself; name another file"
    elif out.suffix.lower() != ".png":
        problem = f"--out ({printable(str(out))}) must end in .png"
    elif out.is_dir() or not out.absolute().parent.is_dir():
        problem = f"--out ({printable(str(out))}) must be a file in a folder that is there"
    if problem:
        raise typer.BadParameter(problem)


def lines(result: dict) -> list[str]:
    text = [f"{result['title']}: {printable(result['video'])} at {clock(result['at_seconds'], 2)}", result["caption"]]
    text += [f"  row {number}: {row['name']} ({row['pictures']})" for number, row in enumerate(result["rows"], 1)]
    return [line for line in text if line] + [f"picture: {printable(result['out'])}"]
