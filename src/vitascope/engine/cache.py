"""The caching loop: the flow of every video of a library is computed once, in worker processes, and kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vitascope.engine.log import Status
from vitascope.engine.pool import Failure, run_isolated
from vitascope.engine.signals import Interrupted, Signals
from vitascope.store.atomic import WriteError, writing
from vitascope.store.catalogue import Entry, is_as_scanned
from vitascope.store.library import Library
from vitascope.structures import CacheSummary, Gap, VideoError

# (video, path to write, method=..., index=...) -> number of pairs of frames, and the gaps met
Compute = Callable[..., tuple[int, tuple[Gap, ...]]]
Progress = Callable[[Status], Any] | None


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
    progress: Progress = None,
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
        progress: Called after each video.

    Raises:
        WriteError: The disk is full or read-only.
    """
    library.clean()
    removed = library.motion.remove_stale()
    library.motion.make_folder(method)
    work = _Work(library, method)
    signum = None
    with Signals(lambda: None) as signals:
        try:
            work.run(partial(_cached, compute, method), num_workers, signals, progress)
        except Interrupted:
            signals.leave()
            signum = signals.signum
    return work.summary(len(removed), signum)


def _cached(compute: Compute, method: str, job: Job) -> Any:
    """Compute the flow of one video and move it into place; an error that a person can mend is returned."""
    try:
        with writing(job.path) as temp:
            result = compute(job.video, temp, method=method, index=job.index)
            if not is_as_scanned(job.video, job.size, job.mtime_ns):
                raise ValueError("changed while it was read; scan its folder again")
    except (VideoError, WriteError) as error:
        return error
    except ValueError as error:
        return Failure("error", str(error))
    return result


class _Work:
    """What is to do and what came of it."""

    def __init__(self, library: Library, method: str) -> None:
        self.library, self.method = library, method
        self.problems: list[tuple[str, str, str]] = []
        self.todo: dict[str, Entry] = {}  # by path
        self.num_cached = self.num_skipped = self.num_pairs = self.num_ended = 0
        self.seconds_ended, self.began = 0.0, time.monotonic()
        contents = set()
        for entry in library.catalogue.entries():
            if entry.state == "refused":
                self.problems.append((entry.path, "refused", f"{entry.reason}: {entry.detail}"))
            elif entry.content_hash in contents or library.motion.path(entry, method).is_file():
                self.num_skipped += 1
            else:
                self.todo[entry.path] = entry
            contents.add(entry.content_hash)  # a copy needs no work of its own

    def run(self, function: Callable[[Job], Any], num_workers: int, signals: Signals, progress: Progress) -> None:
        """Have all jobs done; there is no limit of time: an hour of video takes minutes to hours, by method."""
        self._report(progress)
        with closing(run_isolated(function, self._jobs(), num_workers)) as results:
            for job, result in results:
                with signals.held():  # what is told and what the catalogue says belong together
                    self._take(job, result)
                self._report(progress)

    def summary(self, num_removed: int, signum: int | None) -> CacheSummary:
        files = self.library.motion.files(self.method)
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
            yield Job(entry.path, self.library.motion.path(entry, self.method), index, entry.size, entry.mtime_ns)

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
        detail = f"{len(gaps)} gaps ({places}); the rest is cached"
        self._end(entry, "damaged", detail)
        mark(entry.path, "damaged", "damaged", detail, gaps)

    def _report(self, progress: Progress) -> None:
        """Tell how far it is, in videos; the time left goes by their seconds."""
        if progress is None or not self.todo:
            return
        seconds, total = time.monotonic() - self.began, sum(map(_duration, self.todo.values()))
        left = seconds * (total - self.seconds_ended) / self.seconds_ended if self.seconds_ended else None
        progress(Status("cache", self.num_ended, len(self.todo), None, left))

    def _end(self, entry: Entry, state: str = "", detail: str = "") -> None:
        self.num_ended += 1
        self.seconds_ended += _duration(entry)
        if state:
            self.problems.append((entry.path, state, detail))


def _duration(entry: Entry) -> float:
    return float(entry.metadata.get("duration_seconds") or 1.0)
