"""The caching loop: flow, or shots, of every video of a library are found once, in worker processes, and kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vitascope.engine.log import Progress, Status
from vitascope.engine.pool import Failure, run_isolated
from vitascope.engine.signals import Interrupted, Signals
from vitascope.store.atomic import WriteError, writing
from vitascope.store.catalogue import Entry, is_as_scanned
from vitascope.store.kept import KeptFiles
from vitascope.store.library import Library
from vitascope.structures import CacheSummary, Gap, VideoError

SHOTS = "thumbnails"  # how shots are found, which names the folder of their files
DONE = {"cache": "cached", "index": "indexed"}  # what a stage of progress is called when over

# (video, path to write, index=...) -> number of what was found, and the gaps met; for flow also method=...
Compute = Callable[..., tuple[int, tuple[Gap, ...]]]
Show = Callable[[Status], Any] | bool | None


class Job(NamedTuple):
    """One video to work on, as it is told to a worker."""

    video: str
    path: Path
    index: bytes
    size: int
    mtime_ns: int


def cache_motion(
    library: Library,
    method: str,
    compute: Compute,
    num_workers: int = 2,
    progress: Show = None,
) -> CacheSummary:
    """Write the flow of every readable video that has none of its present content.

    A video's file is there whole or not at all: killed at any point, the next call does the rest. SIGTERM and SIGINT end
    it at once; the videos in work are begun again next time. Files of contents that no video has any more are removed.

    Args:
        library: Where the videos have been scanned.
        method: How flow is computed.
        compute: Computes and writes that of one video: a module's function, since other processes call it.
        num_workers: Processes, each with one video at a time; one that kills its process is reported and the rest goes
            on. 0 works in this one.
        progress: Called after each video; True for a line on standard error.

    Raises:
        LibraryError: The library knows no videos.
        WriteError: The disk is full or read-only.
    """
    kept = _Kept(library, library.motion, method, "cache")
    return kept.fill(partial(compute, method=method), num_workers, progress)


def index_shots(library: Library, compute: Compute, num_workers: int = 2, progress: Show = None) -> CacheSummary:
    """Write the index of shots of every readable video that has none of its present content, as `cache_motion` does flow.

    Args:
        library: Where the videos have been scanned.
        compute: Computes and writes that of one video: a module's function, since other processes call it.
        num_workers: As in `cache_motion`.
        progress: As in `cache_motion`.

    Returns:
        Its `num_pairs` is the number of shot boundaries found now.

    Raises:
        WriteError: The disk is full or read-only.
    """
    return _Kept(library, library.shots, SHOTS, "index").fill(compute, num_workers, progress)


def shots_of(library: Library) -> dict[str, str]:
    """The index of shots of every video that has one, by the video's absolute path."""
    return library.shots.files(SHOTS)


class _Kept(NamedTuple):
    """What is to be made, and where it is kept."""

    library: Library
    files: KeptFiles
    method: str
    stage: str  # as progress tells it

    def fill(self, compute: Compute, num_workers: int, progress: Show) -> CacheSummary:
        self.library.require_videos()
        self.library.clean()
        removed = self.files.remove_stale()
        self.files.make_folder(self.method)
        work = _Work(self)
        signum = None
        with Signals(lambda: None) as signals:
            try:
                shown = Progress() if progress is True else progress or None
                work.run(partial(_cached, compute), num_workers, signals, shown)
            except Interrupted:
                signals.leave()
                signum = signals.signum
        return work.summary(len(removed), signum)


def _cached(compute: Compute, job: Job) -> Any:
    """Compute what is kept of one video and move it into place; an error that a person can mend is returned."""
    try:
        with writing(job.path) as temp:
            result = compute(job.video, temp, index=job.index)
            if not is_as_scanned(job.video, job.size, job.mtime_ns):
                raise ValueError("changed while it was read; scan its folder again")
    except (VideoError, WriteError) as error:
        return error
    except ValueError as error:
        return Failure("error", str(error))
    return result


class _Work:
    """What is to do and what came of it."""

    def __init__(self, kept: _Kept) -> None:
        self.library, self.files, self.method, self.stage = kept
        self.problems: list[tuple[str, str, str]] = []
        self.todo: dict[str, Entry] = {}  # by path
        self.num_cached = self.num_skipped = self.num_pairs = self.num_ended = 0
        self.seconds_ended, self.began = 0.0, time.monotonic()
        contents = set()
        for entry in self.library.catalogue.entries():
            if entry.state == "refused":
                self.problems.append((entry.path, "refused", f"{entry.reason}: {entry.detail}"))
            elif entry.content_hash in contents or self.files.path(entry, self.method).is_file():
                self.num_skipped += 1
            else:
                self.todo[entry.path] = entry
            contents.add(entry.content_hash)  # a copy needs no work of its own

    def run(self, function: Callable[[Job], Any], num_workers: int, signals: Signals, progress: Show) -> None:
        """Have all jobs done; there is no limit of time: an hour of video takes minutes to hours, by method."""
        self._report(progress)
        with closing(run_isolated(function, self._jobs(), num_workers)) as results:
            for job, result in results:
                with signals.held():  # what is told and what the catalogue says belong together
                    self._take(job, result)
                self._report(progress)

    def summary(self, num_removed: int, signum: int | None) -> CacheSummary:
        files = self.files.files(self.method)
        return CacheSummary(
            library=str(self.library.path),
            method=self.method,
            cached=self.num_cached,
            skipped=self.num_skipped,
            num_pairs=self.num_pairs,
            cache_bytes=sum(os.path.getsize(path) for path in set(files.values())),
            video_bytes=sum(entry.size for entry in self.library.catalogue.entries() if entry.path in files),
            removed=num_removed,
            problems=tuple(self.problems),
            signal=signum,
        )

    def _jobs(self) -> Iterator[Job]:
        """Give the videos one by one, the longest first: then the workers end at about the same time."""
        for entry in sorted(self.todo.values(), key=_duration, reverse=True):
            index = self.library.catalogue.frame_index(entry.path)
            if index is None:
                self._end(entry, "refused", "gone or changed since its scan; scan its folder again")
                continue
            yield Job(entry.path, self.files.path(entry, self.method), index, entry.size, entry.mtime_ns)

    def _take(self, job: Job, result: Any) -> None:
        """Note what came of one video, and write down what is wrong with it: a scan looks at a few frames only."""
        if isinstance(result, WriteError):  # the next video would meet it too
            raise result
        entry, mark = self.todo[job.video], self.library.catalogue.mark
        if isinstance(result, VideoError):
            self._end(entry, "refused", f"{result.reason}: {result.detail}")
            mark(entry.path, "refused", result.reason, result.detail)
            return
        if isinstance(result, Failure):
            self._end(entry, "refused", result.detail)
            return
        num_pairs, gaps = result
        self.num_cached += 1
        self.num_pairs += num_pairs
        if not gaps:
            self._end(entry)
            return
        places = ", ".join(f"{gap.start_seconds:.1f} to {gap.end_seconds:.1f} s" for gap in gaps[:5])
        detail = f"{len(gaps)} gaps ({places}); the rest is {DONE[self.stage]}"
        self._end(entry, "damaged", detail)
        mark(entry.path, "damaged", "damaged", detail, gaps)

    def _report(self, progress: Show) -> None:
        """Tell how far it is, in videos; the time left goes by their seconds."""
        if progress is None or not self.todo:
            return
        seconds, total = time.monotonic() - self.began, sum(map(_duration, self.todo.values()))
        left = seconds * (total - self.seconds_ended) / self.seconds_ended if self.seconds_ended else None
        progress(Status(self.stage, self.num_ended, len(self.todo), None, left))

    def _end(self, entry: Entry, state: str = "", detail: str = "") -> None:
        self.num_ended += 1
        self.seconds_ended += _duration(entry)
        if state:
            self.problems.append((entry.path, state, detail))


def _duration(entry: Entry) -> float:
    return float(entry.metadata.get("duration_seconds") or 1.0)
