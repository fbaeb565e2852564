"""List the training runs of a library, newest first.

Example: vitascope runs --library recordings.vitascope
"""

from __future__ import annotations

from datetime import datetime, timezone

from vitascope.cli.output import emit
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
    text = [f"{'run':36} {'recipe':16} {'state':12} {'started (UTC)':20} metrics"]
    for run in result:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in run.metrics.items())
        started = datetime.fromtimestamp(run.started_at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        text.append(f"{run.id:36} {run.recipe:16} {run.state:12} {started:20} {metrics}")
    return text
