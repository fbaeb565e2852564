"""The prediction loop: objects that are known in one frame are followed through the whole video, both ways."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from vitascope.engine.log import Status
from vitascope.engine.overlap import Ahead, Behind
from vitascope.engine.review import Review
from vitascope.engine.signals import Signals
from vitascope.store.cutouts import Cutout, MasksFile, Row
from vitascope.structures import Gap, Masks, ObjectStatus, SegmentSummary

SAVE_SECONDS = 15.0
CHUNK_BYTES = 128 << 20  # of decoded frames that wait, when they are read from the end to the start
CHUNK_FRAMES = 32
WAITING = 4  # frames read ahead, and masks not written yet


class Session(Protocol):
    """Follows objects from frame to frame; see `methods.stm.session`."""

    @property
    def status(self) -> tuple[ObjectStatus, ...]: ...  # of the frames that the latest call gave, in their order
    def add_object(self, frame: Tensor, mask: Any, object_id: int) -> None: ...
    def step(self, frame: Tensor, seconds: float | None = None) -> Masks: ...
    def finish(self) -> Masks: ...
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...
    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None: ...


class Source(Protocol):
    """Frames by number; used by one thread at a time."""

    size: tuple[int, int]  # H, W
    fps: float
    times_seconds: np.ndarray  # [N]
    duration_seconds: float

    @property
    def gaps(self) -> tuple[Gap, ...]: ...
    def __len__(self) -> int: ...
    def name(self, number: int) -> str: ...
    def frame(self, number: int) -> Tensor | None: ...  # uint8 [3, H, W], None where it cannot be decoded


class Drawing(NamedTuple):
    """How masks become files and pictures; `video.overlay` and `video.masks` have all of it."""

    write_mask: Callable[[Path, np.ndarray], None]
    read_mask: Callable[[Path], np.ndarray]
    encode_rle: Callable[[np.ndarray], dict[str, Any]]
    write_film: Callable[[Path, Iterable[tuple[float, Any, Any, str]], float], None]
    tile: Callable[[Any, np.ndarray], np.ndarray]
    write_sheet: Callable[[Path, list[tuple[np.ndarray, str]]], None]


class Ended(Exception):
    """A signal came while the pictures were made: they are made anew next time."""


@dataclass
class Job:
    """What is followed, in what, and where the result goes.

    Attributes:
        make_session: Gives a session without objects.
        source: The video.
        start: Number of the frame that is known.
        objects: Its objects: id -> bool `[H, W]`.
        cutout: Where the result goes.
        draw: How masks become files.
        as_rle: The result is `masks.json` instead of PNG files.
        progress: Called after each frame.
    """

    make_session: Callable[[], Session]
    source: Source
    start: int
    objects: dict[int, np.ndarray]
    cutout: Cutout
    draw: Drawing
    as_rle: bool = False
    progress: Callable[[Status], Any] | None = None


def segment(job: Job) -> SegmentSummary:
    """Follow the objects forwards to the end, then backwards to the beginning, and write the cut-out.

    A thread decodes ahead of the network and another writes masks behind it. Memory does not grow with the video. Every
    `SAVE_SECONDS`, and when SIGTERM or SIGINT comes, the state is saved: killed at any point, the next call goes on, and
    its result is that of an unbroken run. A cut-out that is complete is left as it is.

    Raises:
        VideoError: The video cannot be read.
        CutoutError: Another process writes to the folder, or it is damaged.
        WriteError: The disk is full or read-only.
    """
    if job.cutout.is_done:
        return _summary(job, was_done=True)
    count = len(job.source)
    passes = {"forwards": range(job.start, count)}
    if job.start:
        passes["backwards"] = range(job.start, -1, -1)
    with job.cutout.held(), Signals(_last_words, raises=False) as signals:
        meter = Meter(job.progress, "segment", sum(map(len, passes.values())))
        for name, numbers in passes.items():
            _Pass(job, name, numbers, signals, meter).run()
            if signals.signum is not None:
                return _summary(job, signals.signum)
        try:
            _finish(job, signals)
        except Ended:
            return _summary(job, signals.signum)
        job.cutout.publish()
    return _summary(job)


def _last_words() -> None:
    """One frame takes so long that the process ends within it."""
    print("stopped; the same command goes on from what was saved last", file=sys.stderr, flush=True)


class Meter:
    """Counts frames and says how long the rest takes.

    Args:
        show: Called with each status.
        stage: What is done.
        total: Frames.
    """

    def __init__(self, show: Callable[[Status], Any] | None, stage: str, total: int) -> None:
        self._show, self._stage, self._total, self._done = show, stage, total, 0
        self._began: tuple[float, int] | None = None

    def add(self, num_frames: int = 1, now_done: bool = True) -> None:
        """Count frames; those of an earlier run (`now_done` false) tell nothing about the speed."""
        self._done += num_frames
        now, left = time.monotonic(), None
        if not now_done:
            return
        if self._began is None:  # the first frame includes starting up
            self._began = now, self._done
        elif self._done > self._began[1]:
            left = (self._total - self._done) * (now - self._began[0]) / (self._done - self._began[1])
        if self._show is not None:
            self._show(Status(self._stage, self._done, self._total, None, left))


class _Pass:
    """One way through the video, from the frame that is known."""

    def __init__(self, job: Job, name: str, numbers: range, signals: Signals, meter: Meter) -> None:
        self.job, self.numbers, self.signals, self.meter = job, numbers, signals, meter
        self.part = job.cutout.part(name)
        self.is_backwards = numbers.step < 0
        self.at = 0  # how many of the numbers are through
        self.waiting: deque[int] = deque()  # numbers of the frames that the session holds back

    def run(self) -> None:
        """Go to the end, or to where a signal comes."""
        saved = self.part.load()
        self.at = saved.plain["at"] if saved else 0
        self.meter.add(self.at, now_done=False)
        if saved and saved.plain["is_done"]:
            return
        session = self.job.make_session()
        if saved:
            session.load_state(saved.tensors, saved.plain["session"])
            self.waiting.extend(saved.plain["waiting"])
        frames = frames_of(self.job.source, self.numbers[self.at :])
        with Behind(self._write, WAITING) as behind, Ahead(frames, WAITING, self._is_ended) as ahead:
            self._follow(session, ahead, behind)

    def _follow(self, session: Session, frames: Iterator[tuple[int, Tensor | None]], behind: Behind) -> None:
        saved_at = time.monotonic()
        for number, frame in frames:
            if frame is not None:
                self._take(session, number, frame, behind)
            self.at += 1
            self.meter.add()
            if time.monotonic() - saved_at > SAVE_SECONDS:
                self._save(session, behind)
                saved_at = time.monotonic()
        if self.at == len(self.numbers):
            self._known(session.finish(), session.status, behind)
        self._save(session, behind)

    def _take(self, session: Session, number: int, frame: Tensor, behind: Behind) -> None:
        if number != self.job.start:
            self.waiting.append(number)
            masks = session.step(frame, float(self.job.source.times_seconds[number]))
            self._known(masks, session.status, behind)
            return
        given = np.zeros(self.job.source.size, np.uint8)
        for o, mask in self.job.objects.items():
            session.add_object(frame, mask, o)
            given[mask] = o
        if not self.is_backwards:
            behind.put((number, given, session.status))

    def _known(self, masks: Masks, statuses: tuple[ObjectStatus, ...], behind: Behind) -> None:
        frames = groupby(statuses, key=lambda status: status.frame)
        for mask, (_, status) in zip(masks.masks, frames, strict=True):
            behind.put((self.waiting.popleft(), mask, tuple(status)))

    def _write(self, item: tuple[int, np.ndarray, tuple[ObjectStatus, ...]]) -> None:
        number, mask, status = item
        self.job.draw.write_mask(self.job.cutout.mask_path(self.job.source.name(number)), mask)
        self.part.append(row_of(number, float(self.job.source.times_seconds[number]), status, mask))

    def _save(self, session: Session, behind: Behind) -> None:
        behind.wait()
        is_done = self.at == len(self.numbers)
        plain: dict[str, Any] = {"at": self.at, "is_done": is_done}
        tensors: dict[str, Tensor] = {}
        if not is_done:
            tensors, plain["session"] = session.state()
            plain["waiting"] = list(self.waiting)
        self.part.save(tensors, plain)

    def _is_ended(self) -> bool:
        return self.signals.signum is not None


def frames_of(source: Source, numbers: range) -> Iterator[tuple[int, Tensor | None]]:
    """Yield frames in the order of `numbers`; a descending one in chunks that are decoded forwards.

    A file decodes forwards only: each chunk costs a seek, and memory for its frames.
    """
    if numbers.step > 0:
        for number in numbers:
            yield number, source.frame(number)
        return
    size = max(1, min(CHUNK_FRAMES, CHUNK_BYTES // (3 * source.size[0] * source.size[1])))
    for first in range(0, len(numbers), size):
        chunk = [(number, source.frame(number)) for number in reversed(numbers[first : first + size])]
        while chunk:
            yield chunk.pop()


def row_of(number: int, seconds: float, status: tuple[ObjectStatus, ...], mask: np.ndarray) -> Row:
    """What `events.json` says of one frame; the area is that of the mask as it is written."""
    shares = np.bincount(mask.ravel(), minlength=256) / mask.size
    return [
        {
            "frame": number,
            "seconds": round(seconds, 6),
            "object": s.object_id,
            "state": s.state,
            "confidence": round(float(s.confidence), 4),
            "area": round(float(shares[s.object_id]), 6),
            "scores": {name: round(float(value), 4) for name, value in s.scores.items() if np.isfinite(value)},
        }
        for s in status
    ]


def _rows(job: Job) -> Iterator[Row]:
    """All rows in order of time."""
    return chain(job.cutout.part("backwards").rows(backwards=True), job.cutout.part("forwards").rows())


def _finish(job: Job, signals: Signals) -> None:
    """Make the film, the sheet and, if asked for, the RLE from the masks in one way through the video; then the events."""
    review = Review(job.source.duration_seconds, job.source.gaps)
    for row in _rows(job):
        review.add(row)
    checks = review.checks()
    work, size = job.cutout.work, job.source.size
    tiles: dict[int, np.ndarray] = {check["frame"]: np.zeros((3, 1, 1), np.uint8) for check in checks}
    facts = {"name": job.cutout.asked.get("video"), "width": size[1], "height": size[0], "length": len(job.source)}
    rle = MasksFile(work / "masks.json", list(job.objects), facts, job.draw.encode_rle) if job.as_rle else None
    with rle or nullcontext():
        job.draw.write_film(work / "overlay.mp4", _pictures(job, signals, tiles, rle), job.source.fps)
    job.draw.write_sheet(work / "contact_sheet.png", [(tiles[c["frame"]], _caption(c)) for c in checks])
    stretches = review.stretches(round(job.source.duration_seconds, 6))
    head = {
        "frames": len(job.source),
        "width": size[1],
        "height": size[0],
        "duration_seconds": round(job.source.duration_seconds, 6),
        "objects": review.objects(),
        "gaps": [[round(gap.start_seconds, 6), round(gap.end_seconds, 6)] for gap in job.source.gaps],
        "stretches": stretches,
        "checks": checks,
    }
    with signals.held():
        job.cutout.write_events(head, _rows(job))


def _pictures(
    job: Job, signals: Signals, tiles: dict[int, np.ndarray], rle: MasksFile | None
) -> Iterator[tuple[float, Tensor, np.ndarray, str]]:
    """The frames with their masks and a text, in order of time; fills `tiles` and `rle` in passing."""
    for number, frame, row in _matched(job, signals):
        mask = job.draw.read_mask(job.cutout.mask_path(job.source.name(number))) if row else None
        if rle is not None:
            rle.append(mask)
        if row and number in tiles:
            tiles[number] = job.draw.tile(frame, mask)
        if row:
            yield float(job.source.times_seconds[number]), frame, mask, _label(row)


def _matched(job: Job, signals: Signals) -> Iterator[tuple[int, Tensor | None, Row | None]]:
    """All frames in order of time, with their rows; None for those that cannot be decoded."""
    meter, rows = Meter(job.progress, "overlay", len(job.source)), _rows(job)
    row = next(rows, None)
    with Ahead(frames_of(job.source, range(len(job.source))), WAITING, lambda: signals.signum is not None) as frames:
        for number, frame in frames:
            is_known = frame is not None and row is not None and row[0]["frame"] == number
            yield number, frame, row if is_known else None
            row = next(rows, None) if is_known else row
            meter.add()
    if signals.signum is not None:
        raise Ended


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"


def _label(row: Row) -> str:
    told = [f"{event['object']} {event['state']} {event['confidence']:.2f}" for event in row[:3]]
    more = [f"and {len(row) - 3} more"] if len(row) > 3 else []
    return "   ".join([_clock(row[0]["seconds"]), *told, *more])


def _caption(check: dict[str, Any]) -> str:
    text = f"{_clock(check['seconds'])}  #{check['frame']}  object {check['object']}: {check['state']}"
    return f"{text} {check['confidence']:.2f}" + (", came back" if check["why"] == "came back" else "")


def _summary(job: Job, signum: int | None = None, was_done: bool = False) -> SegmentSummary:
    head = {} if signum else job.cutout.head
    lists = {name: tuple(head.get(name, ())) for name in ("objects", "gaps", "stretches", "checks")}
    return SegmentSummary(str(job.cutout.folder), was_done, len(job.source), **lists, signal=signum)
