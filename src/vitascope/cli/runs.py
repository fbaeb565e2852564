"""List the training runs of a library, newest first.

Example: vitascope runs --library recordings.vitascope
"""

from __future__ import annotations

from vitascope.cli.output import emit
from vitascope.cli.scan import JsonOption, LibraryOption


def command(library: LibraryOption = None, json: JsonOption = False) -> None:
    from vitascope import api

    result = api.runs(library)
    emit(json, result, lambda: lines(result))


def lines(result) -> list[str]:
    if not result:
        return ["no runs yet", "next: vitascope train videomae-tiny --data DIR"]
    text = [f"{'run':24} {'recipe':18} {'state':12} {'started (UTC)':20} metrics"]
    for run in result:
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in run.metrics.items())
        text.append(f"{run.id:24} {run.recipe:18} {run.state:12} {run.started_at[:19]:20} {metrics}")
    return text
