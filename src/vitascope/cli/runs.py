"""List the training runs of a library, newest first.

Example: vitascope runs --library recordings.vitascope
"""

from __future__ import annotations

from datetime import datetime, timezone

from vitascope.cli.output import emit, printable
from vitascope.cli.scan import JsonOption, LibraryOption
from vitascope.store.library import Library
from vitascope.store.locate import find_library


def command(library: LibraryOption = None, json: JsonOption = False) -> None:
    with Library(find_library(library)) as lib:
        result = lib.runs.list()
    emit(json, result, lambda: lines(result))


def lines(result) -> list[str]:
    if not result:
        return ["no runs yet", "next: vitascope train mme-tiny --data DIR"]
    text = [f"{'run':36} {'recipe':16} {'state':12} {'started (UTC)':20} {'loss':8} changed from the recipe"]
    for run in result:
        loss = f"{run.metrics['loss']:.4g}" if "loss" in run.metrics else ""
        started = datetime.fromtimestamp(run.started_at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        row = f"{run.id:36} {run.recipe:16} {run.state:12} {started:20} {loss:8} {' '.join(run.changes)}"
        text.append(printable(row).rstrip())
        if run.state in ("failed", "interrupted"):
            text += [
                f"    {word}: {printable(told)}" for word, told in (("why", run.detail), ("go on", run.go_on)) if told
            ]
    return text
