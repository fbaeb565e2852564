"""The scanning loop: every file that a walk found is looked at once, and ends in exactly one state."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from vitascope.engine.log import Status
from vitascope.engine.pool import Failure, run_isolated
from vitascope.store.catalogue import Changes, Found, Scanned, content_hash
from vitascope.store.library import Library
from vitascope.structures import ScanSummary, VideoError

TIMEOUT_SECONDS = 120.0  # for one file; a deep look has no limit, since an hour of video takes minutes to decode

Check = Callable[..., tuple[Any, Any, tuple]]  # (path, deep=...) -> info, frame index, gaps


def scan(
    library: Library,
    data: Path,
    paths: Iterable[str],
    check: Check,
    *,
    deep: bool = False,
    num_workers: int = 2,
    progress: Callable[[Status], Any] | None = None,
) -> ScanSummary:
    """Look at the files that are new or changed, and write down what they are, in batches, as the looks come in.

    Args:
        library: Whose catalogue is brought up to date.
        data: The folder that was walked.
        paths: The files that were found in it.
        check: Looks at one video: `(path, deep=...)` gives its info (a dataclass), its frame index and its gaps, or
            raises `VideoError`. A module's function, since other processes call it.
        deep: Decode every frame, of unchanged files too.
        num_workers: Processes; a file that kills its process is refused and the rest goes on. 0 works in this one.
        progress: Called after each file.

    Returns:
        The counts over all files found, and a row for each that is not done.
    """
    found = [_found(path) for path in paths]
    library.clean()
    changes = library.catalogue.changes(found, under=data)
    library.catalogue.apply(changes)
    todo = {file.path: file for file in (found if deep else changes.to_scan)}
    began = time.monotonic()

    def results() -> Iterator[Scanned]:
        looks = run_isolated(partial(look, check, deep), list(todo), num_workers, None if deep else TIMEOUT_SECONDS)
        for done, (path, seen) in enumerate(looks, 1):
            if isinstance(seen, Failure):
                seen = {"content_hash": "", "state": "refused", "reason": seen.reason, "detail": seen.detail}
            yield Scanned(*todo[path], **seen)
            if progress:
                left = (time.monotonic() - began) / done * (len(todo) - done)
                progress(Status("scan", done, len(todo), None, left))

    library.catalogue.add(results())
    return _summary(library, data, found, changes, len(todo))


def look(check: Check, deep: bool, path: str) -> dict[str, Any]:
    """What one file is, as the fields of `Scanned` that a look can tell; never raises for what is wrong with a file."""
    try:
        seen: dict[str, Any] = {"content_hash": content_hash(path)}
    except OSError as error:
        return {"content_hash": "", "state": "refused", "reason": "missing", "detail": f"cannot be read: {error}"}
    try:
        info, index, gaps = check(path, deep=deep)
    except VideoError as error:
        return seen | {"state": "refused", "reason": error.reason, "detail": error.detail}
    metadata = asdict(info) | {"num_frames": len(index), "is_variable_rate": bool(index.is_variable_rate)}
    seen |= {"gaps": tuple(gaps), "metadata": metadata, "frame_index": index.to_bytes()}
    if not gaps:
        return seen | {"state": "done"}
    return seen | {
        "state": "damaged",
        "reason": "damaged",
        "detail": f"{len(gaps)} stretch{'es' * (len(gaps) > 1)} of it cannot be shown",
    }


def _found(path: str) -> Found:
    try:
        status = os.stat(path)
    except OSError:  # gone since the walk, or a dangling link: the look will say so
        return Found(os.path.abspath(path), 0, 0)
    return Found(os.path.abspath(path), status.st_size, status.st_mtime_ns)


def _summary(library: Library, data: Path, found: Sequence[Found], changes: Changes, opened: int) -> ScanSummary:
    present = {file.path for file in found}
    entries = [entry for entry in library.catalogue.entries() if entry.path in present]
    states = [entry.state for entry in entries]
    problems = tuple(
        {
            "path": entry.path,
            "state": entry.state,
            "reason": entry.reason,
            "detail": entry.detail,
            "gaps": [(gap.start_seconds, gap.end_seconds) for gap in entry.gaps],
        }
        for entry in entries
        if entry.state != "done"
    )
    return ScanSummary(
        data=str(data),
        library=str(library.path),
        num_files=len(entries),
        duration_seconds=sum(entry.metadata.get("duration_seconds") or 0.0 for entry in entries),
        done=states.count("done"),
        damaged=states.count("damaged"),
        refused=states.count("refused"),
        opened=opened,
        unchanged=len(found) - opened - len(changes.moved),
        moved=len(changes.moved),
        gone=len(changes.gone),
        variable_rate=sum(bool(entry.metadata.get("is_variable_rate")) for entry in entries),
        problems=problems,
    )
