"""Run the main job end to end, on synthetic video or on the videos of --data, and write one report.html.

Example: vitascope demo --data recordings/
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli.output import clock, emit, printable, say
from vitascope.cli.scan import JsonOption
from vitascope.structures import Curve, Figure, Report, Table

RECIPE = "videomae-tiny"
SNIPPETS_SHOWN = 5
NEIGHBOURS_SHOWN = 4


def command(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Your videos; by default synthetic.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the library and the report.")] = Path("vitascope-demo"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 300,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    began = time.monotonic()
    if data is None:
        say("writing synthetic worlds as mp4 files")
        data = api.write_demo_worlds(out / "data")
    library = out / "library.vitascope"
    scanned = api.scan(data, library, say=say)
    say(f"{scanned.num_files} videos: {scanned.done} done, {scanned.damaged} damaged, {scanned.refused} refused")
    _, config = api.configure(RECIPE, [f"length={steps}"])
    trained = api.train(RECIPE, data, library, config=config, run=f"demo-{steps}", say=say)
    if trained.signal:
        raise SystemExit(128 + trained.signal)
    embedded = api.embed(library, run=trained.run, say=say)
    if embedded.signal:
        raise SystemExit(128 + embedded.signal)
    report = Report(
        title="vitascope: what the demo saw and learned",
        parts=(
            *library_parts(scanned, api.files(library)),
            loss_curve(trained),
            *api.figures(library, trained.run, data),
            *neighbour_figures(api, library, trained.run),
        ),
        facts={
            "command": f"vitascope demo --steps {steps}",
            "seconds": round(time.monotonic() - began),
            **api.machine(),
        },
    )
    path = api.write_report(report, out)
    result = {"report": path, "scan": scanned, "train": trained, "embed": embedded}
    emit(json, result, lambda: lines(path, library, scanned, trained, embedded))


def lines(path, library, scanned, trained, embedded) -> list[str]:
    text = [
        f"{scanned.num_files} videos: {scanned.done} done, {scanned.damaged} damaged, {scanned.refused} refused",
        f"{trained.steps} training steps, loss {trained.metrics['loss']:.4f}; {embedded.snippets} new snippets embedded",
        *(f"  {file['state']}: {printable(file['path'])}: {file['reason']}" for file in scanned.problems),
        *(f"  unreadable in training: {printable(path)}: {why}" for path, why in sorted(trained.unreadable.items())),
        *(f"  {state} in embedding: {printable(path)}: {detail}" for path, state, detail in embedded.problems),
        f"report: {path}",
        f"next: vitascope search --like VIDEO@SECONDS --library {library}",
    ]
    return text


def library_parts(scanned, files) -> tuple:
    rows = tuple(
        (
            file.path,
            file.state,
            clock(file.info.get("duration_seconds", 0.0)),
            f"{file.info['width']}x{file.info['height']}" if file.info else "",
            f"{file.info['average_fps']:.2f}" if file.info else "",
            file.info.get("codec", ""),
            file.reason or "",
        )
        for file in files
    )
    caption = (
        f"{scanned.num_files} videos, {clock(scanned.duration_seconds)} in all: {scanned.done} done, "
        f"{scanned.damaged} damaged, {scanned.refused} refused."
    )
    return (Table("The library", ("file", "state", "length", "size", "frames/s", "codec", "reason"), rows, caption),)


def loss_curve(trained) -> Curve:
    return Curve(
        "Loss",
        "step",
        (("masked pixels, mean squared error", tuple(trained.curve)),),
        "Squared error of the normalised pixels of the masked patches; 1 is what predicting the mean gives.",
    )


def neighbour_figures(api, library: Path, run: str) -> list[Figure]:
    """For moments spread over the library, the film strip of each and those of its nearest neighbours elsewhere."""
    figures = []
    for path, seconds in api.spread_moments(library, run, SNIPPETS_SHOWN):
        found = api.search((path, seconds), library, run=run, k=NEIGHBOURS_SHOWN + 1)
        rows = []
        for hit in found.hits:
            name = f"{Path(hit.path).name} {clock(hit.start_seconds)} to {clock(hit.end_seconds)}, {hit.score:.3f}"
            rows.append((name, api.film_strip(library, hit.path, hit.start_seconds, hit.end_seconds)))
        title = f"Nearest to {Path(path).name} at {clock(seconds)}"
        figures.append(
            Figure(title, tuple(rows), "First the moment itself, then its neighbours; cosine of the vectors.")
        )
    return figures
