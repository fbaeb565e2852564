"""Run the main job end to end, on synthetic video or on the videos of --data, and write one report.html.

With --mask an object of one of the videos is cut out, too, and with --tags actions are dated.

Example: vitascope demo --data recordings/ --mask monday.png
"""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli import demo_cutout, demo_timelines
from vitascope.cli.demo_cutout import cut_out, synthetic_task, task_of
from vitascope.cli.demo_timelines import Tagged, date_actions, synthetic_tags
from vitascope.cli.output import clock, emit, printable, say
from vitascope.cli.scan import JsonOption
from vitascope.store.facts import machine
from vitascope.store.library import Library
from vitascope.store.reports import write_report
from vitascope.structures import Curve, Figure, Report, Table

RECIPE = "mme-tiny"
MOMENTS_SHOWN = 5
HITS_SHOWN = 5


def command(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Your videos; by default synthetic.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG", help="Object ids in the first frame of the video that has its name (or alone has its size)."
        ),
    ] = None,
    tags: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Tags of your videos, as `vitascope localize` takes them; paths from --data."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the library and the report.")] = Path("vitascope-demo"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 600,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    began, is_synthetic = time.monotonic(), data is None
    if is_synthetic and (mask or tags):
        raise typer.BadParameter("--mask and --tags need --data: they are of your own videos")
    if tags and not tags.is_file():
        raise typer.BadParameter(f"--tags ({tags}) is no file; name a list with the header video,labels")
    if is_synthetic:
        say("writing synthetic worlds as mp4 files")
        data = api.make_worlds(out / "data")
    library = out / "library.vitascope"
    scanned = api.scan(data, library, progress=True)
    say(f"{scanned.num_files} videos: {scanned.done} done, {scanned.damaged} damaged, {scanned.refused} refused")
    task = synthetic_task(data, out) if is_synthetic else task_of(mask, entries_of(library)) if mask else None
    segmented = cut_out(task, out / "cutout") if task else None
    stop_if(segmented and segmented.signal)
    config = api.configure(RECIPE, [f"length={steps}"])
    run = earlier_run(library, config.model_dump(mode="json"), scanned)
    trained = api.train(RECIPE, data, library, config=config, run=run, progress=True)
    stop_if(trained.signal)
    embedded = api.embed(library, run=trained.run, progress=True)
    stop_if(embedded.signal)
    tagged = synthetic_tags(data, out) if is_synthetic else Tagged(tags, data) if tags else None
    dated = date_actions(tagged, library, trained.run, out / "timelines") if tagged else None
    stop_if(dated and dated.signal)
    say("writing the report")
    given = {"data": None if is_synthetic else data, "mask": mask, "tags": tags}
    facts = {"command": command_of(steps, given), "seconds": round(time.monotonic() - began), "run": trained.run}
    own = [*(demo_cutout.parts(task, segmented) if task else ())]
    own += demo_timelines.parts(tagged, dated) if tagged else ()
    report = Report(
        "What vitascope saw, learned and found", parts_of(data, library, scanned, trained, own), facts | machine()
    )
    path = write_report(report, out)
    result = {"report": path, "scan": scanned, "train": trained, "embed": embedded, "segment": segmented}
    result["localize"] = dated
    emit(json, result, lambda: lines(path, library, scanned, trained, embedded, segmented, dated))


def parts_of(data: Path, library: Path, scanned, trained, own: list) -> tuple:
    """What the report shows; `own` comes after the table of the library."""
    from vitascope import api

    entries = entries_of(library)
    return (
        library_table(scanned, entries),
        *own,
        loss_curve(trained),
        *api.figures(trained.folder, data),
        *neighbours(library, trained.run, [entry.path for entry in entries if entry.state != "refused"]),
    )


def command_of(steps: int, given: dict[str, Path | None]) -> str:
    """The command line that makes the same report."""
    words = ["vitascope", "demo", "--steps", str(steps)]
    return shlex.join([*words, *(w for name, path in given.items() if path for w in (f"--{name}", str(path)))])


def entries_of(library: Path) -> list:
    with Library(library) as lib:
        return lib.catalogue.entries()


def stop_if(signal: int | None) -> None:
    if signal:
        raise SystemExit(128 + signal)


def earlier_run(library: Path, config: dict, scanned) -> str | None:
    """The run of the same training on the same videos that an earlier demo left here, finished or not."""
    if scanned.opened or scanned.moved or scanned.gone:
        return None  # a run goes on with the videos that it began with, or not at all
    same = {"data": scanned.data, "num_videos": scanned.num_files}
    with Library(library) as lib:
        runs = [run for run in lib.runs.list(RECIPE) if run.config == config and run.data == same]
    return runs[0].id if runs else None


def lines(path, library, scanned, trained, embedded, segmented, dated) -> list[str]:
    text = [
        f"{scanned.num_files} videos: {scanned.done} done, {scanned.damaged} damaged, {scanned.refused} refused",
        f"{trained.steps} training steps, loss {trained.metrics['loss']:.4f}; {embedded.snippets} new snippets embedded",
        *(f"  {file['state']}: {printable(file['path'])}: {file['reason']}" for file in scanned.problems),
        *(f"  unreadable in training: {printable(path)}: {why}" for path, why in sorted(trained.unreadable.items())),
        *(f"  {state} in embedding: {printable(path)}: {detail}" for path, state, detail in embedded.problems),
        *([] if segmented is None else [f"cut-out: {segmented.out}"]),
        *([] if dated is None else [f"timelines: {dated.num_segments} actions, {dated.out}/index.html"]),
        f"report: {path}",
        f"next: vitascope search --like VIDEO@SECONDS --library {library}",
    ]
    return text


def library_table(scanned, entries) -> Table:
    rows = []
    for entry in entries:
        info = entry.metadata
        size = f"{info['width']}x{info['height']}" if info else ""
        rate = f"{info['average_fps']:.2f}" + (" variable" if info["is_variable_rate"] else "") if info else ""
        length = clock(info["duration_seconds"]) if info else ""
        rows.append(
            (
                os.path.relpath(entry.path, scanned.data),
                entry.state,
                length,
                size,
                rate,
                info.get("codec", ""),
                entry.reason,
            )
        )
    caption = (
        f"{scanned.num_files} videos, {clock(scanned.duration_seconds)} in all: {scanned.done} done, "
        f"{scanned.damaged} damaged, {scanned.refused} refused."
    )
    columns = ("file", "state", "length", "size", "frames/s", "codec", "reason")
    return Table("The library", columns, tuple(rows), caption)


def loss_curve(trained) -> Curve:
    caption = "Error of what is said of hidden places: where their points go, and what they look like. Knowing nothing gives 1."
    return Curve("Training loss", "step", (("masked motion", trained.curve),), caption)


def neighbours(library: Path, run: str, paths: list[str]) -> list[Figure]:
    """For moments of videos spread over the library, the film strips of the moment and of its nearest neighbours."""
    from vitascope import api

    figures = []
    for path in paths[:: max(1, len(paths) // MOMENTS_SHOWN)][:MOMENTS_SHOWN]:
        with Library(library) as lib:
            times = lib.features.get(path, run).times_seconds if path in embedded_paths(lib, run) else []
        if not len(times):
            continue
        start, end = times[len(times) // 2]
        found = api.search((path, (start + end) / 2), library, run=run, k=HITS_SHOWN)
        rows = tuple(
            (
                f"{Path(hit.path).name}, {clock(hit.start_seconds)} to {clock(hit.end_seconds)}, cosine {hit.score:.3f}",
                api.film_strip(hit.path, hit.start_seconds, hit.end_seconds),
            )
            for hit in found.hits
        )
        title = f"Most like {Path(path).name} at {clock(start)}"
        figures.append(Figure(title, rows, "The first strip is the moment itself."))
    return figures


def embedded_paths(lib: Library, run: str) -> set[str]:
    known = lib.catalogue.paths()
    return {known[part.file_id] for part in lib.features.parts(run)}
