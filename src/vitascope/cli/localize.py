"""Find when actions happen: learn it from tags of whole videos, or use what a run has learned on further videos.

--tags is a CSV file with the header video,labels: a video in each line, what happens in it separated by |, the word
nothing where none of it does, and left empty where nobody has tagged it yet. Paths start from the list's folder, or
from --data. What comes out are stretches of time for every video in it: a page each to look at, and files for ELAN,
BORIS, players, spreadsheets and evaluation kits.

The videos are described by the encoder of a run of the library, by default the newest, or by a frozen one: --encoder
lite0:FILE, i3d:FOLDER, i3d-rgb:FILE. With --clip FOLDER a CLIP that lies on this machine helps to find whole actions;
without it tags and features have to do. --encoder files:FOLDER takes features that others have published, and needs no
video: a data set's annotations as --tags are then learned from by their training split. What was stopped goes on with
the same command and --run, which needs no more than --tags; features that are made are not made again.

Example: vitascope localize --tags recordings/tags.csv --out timelines/

Example: vitascope localize recordings/tuesday.mp4 --run RUN --library recordings.vitascope
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli.output import clock, emit, printable, say
from vitascope.cli.scan import JsonOption, LibraryOption

MOST_ROWS = 12


def command(
    videos: Annotated[
        list[Path] | None, typer.Argument(metavar="[VIDEO]...", help="Videos to use a run on; not with --tags.")
    ] = None,
    tags: Annotated[Path | None, typer.Option(metavar="CSV", help="CSV or JSONL list of tags to learn from.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that the paths of --tags start from; else the list's.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the timelines.")] = Path("timelines"),
    recipe: Annotated[
        str | None,
        typer.Option(help="By default cbp-vlp-small with --clip, cbp-only-small without, or that of --run."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="run:ID, KIND:WEIGHTS or files:FOLDER; by default the newest run."),
    ] = None,
    clip: Annotated[
        str | None, typer.Option(metavar="DIR|tiny", help="CLIP: a local folder; tiny knows the synthetic world alone.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field.")] = None,
    run: Annotated[
        str | None, typer.Option(help="With videos, the run to use; with --tags, one to go on with.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Annotations with times, shown beside on the pages.")
    ] = None,
    pages: Annotated[bool, typer.Option("--pages/--no-pages", help="A page for each video.")] = True,
    library: LibraryOption = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    json: JsonOption = False,
) -> None:
    if (tags is None) == (not videos):
        raise typer.BadParameter("give either --tags LIST, to learn, or videos and --run, to use what was learned")
    if videos:
        refuse(run, {"recipe": recipe, "encoder": encoder, "clip": clip, "data": data, "set": set_})
    from vitascope import api

    if recipe and not recipe.startswith("cbp-only") and clip is None and run is None:
        say("clip: the tiny one of the package, which knows the synthetic world alone; name your own with --clip DIR")
    result = api.localize(
        tags,
        videos or (),
        library=library,
        out=out,
        run=run,
        truth=truth,
        pages=pages,
        settings={"seed": seed, "device": device},
        progress=True,
        recipe=recipe,
        encoder=encoder or "",
        clip=clip,
        data=data,
        changes=set_ or (),
    )
    emit(json, result, lambda: lines(result))
    if result.signal:
        raise SystemExit(128 + result.signal)


def refuse(run: str | None, options: dict[str, object]) -> None:
    """Refuse videos without a run to use on them, and with options that are of learning.

    Raises:
        BadParameter: So it is.
    """
    if run is None:
        raise typer.BadParameter("videos need --run, what was learned; `vitascope runs` lists it")
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise typer.BadParameter(f"{', '.join(given)}: with videos these are as --run has them; leave them out")


def lines(result) -> list[str]:
    text = [f"  {printable(path)}: {printable(detail)}" for path, detail in result.problems]
    if text:
        text.insert(0, f"{counted(len(text), 'video was', 'videos were')} left out, or not whole, or in doubt:")
    if result.signal:
        go_on = sys.argv[1:] + (["--run", result.run] if result.run and "--run" not in sys.argv else [])
        return [*text, f"stopped; go on:  {shlex.join(['vitascope', *go_on])}"]
    actions, videos = counted(result.num_segments, "action"), counted(result.num_videos, "video")
    text.append(f"{actions} found in {videos}, {result.num_likely} with a score of 0.3 or more, by run {result.run}")
    for name, tagged, found in result.classes:
        told = f", tagged in {tagged}" if result.num_tagged else ""
        text.append(f"  {printable(name)}: found in {counted(found, 'video')}{told}")
    text += doubted(result.doubts)
    text += [f"advice: {printable(sentence)}" for sentence in result.advice]
    text.append(f"result: {printable(result.out)}: index.html, timelines.json, .csv, .boris, vtt/, eaf/")
    if result.num_tagged:
        text.append(f"next: vitascope localize VIDEO --library {printable(result.library)} --run {result.run}")
    return text


def doubted(doubts) -> list[str]:
    """Lines on the tags to look at again."""
    text = ["tags to look at again:"] if doubts else []
    for video, name, kind, seconds, score in doubts[:MOST_ROWS]:
        told = "tagged, but never seen for certain; most of it" if kind == "suspicious" else "not tagged, but seen"
        text.append(f"  {printable(video)}: {printable(name)}: {told} at {clock(seconds)} ({score:.2f})")
    return text + ([f"  and {len(doubts) - MOST_ROWS} more, in index.html"] if len(doubts) > MOST_ROWS else [])


def counted(count: int, one: str, more: str = "") -> str:
    """A number and what it counts.

    Example:
        >>> counted(1, "video"), counted(2, "video")
        ('1 video', '2 videos')
    """
    return f"{count} {one if count == 1 else more or one + 's'}"
