"""The extraction loop: every video of a library becomes vectors, one a snippet, whatever is wrong with some of them."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from vitascope.engine.log import Progress, Status
from vitascope.engine.overlap import Ahead
from vitascope.engine.settings import Settings
from vitascope.engine.signals import Signals
from vitascope.methods.base import Method
from vitascope.store.catalogue import Entry, State, is_as_scanned
from vitascope.store.library import Library
from vitascope.store.schema import LibraryError
from vitascope.structures import EmbedSummary, Features, Gap, Record, VideoError


class ExtractSettings(Settings):
    """How an extraction is carried out; what is extracted is the method's and the snippets' affair.

    Example:
        >>> ExtractSettings(batch_size=4).dtype
        'float16'
    """

    batch_size: int = Field(16, gt=0, description="Snippets that go through the network at once.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes an accelerator if there is one.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the network's operations.")
    dtype: Literal["float16", "float32"] = Field("float16", description="Of the stored values.")


class Stream(Protocol):
    """The snippets of one video: gives `((start_seconds, end_seconds), clip uint8 [T, C, H, W])` in ascending order."""

    fps: float
    window_seconds: float
    hop_seconds: float

    @property
    def gaps(self) -> tuple[Gap, ...]: ...  # what could not be decoded, complete at the end
    def __iter__(self) -> Iterator[tuple[tuple[float, float], Any]]: ...


@dataclass(frozen=True)
class ExtractResult:
    """What a call of `extract` did; each video is in `embedded`, `skipped` or `problems`, damaged ones may be in two.

    `problems` are `(path, "damaged" | "refused", detail)`; what was left when a signal came is in none.
    """

    embedded: tuple[str, ...]
    skipped: tuple[str, ...]
    problems: tuple[tuple[str, str, str], ...]
    num_snippets: int
    width: int
    interrupted: int | None = None  # number of the signal that ended it


def extract(
    method: Method,
    model_id: str,
    records: list[Record],
    read_snippets: Callable[[Record], Stream],
    library: Library,
    settings: ExtractSettings | None = None,
    *,
    asked: dict[str, Any] | None = None,
    progress: Callable[[Status], Any] | None = None,
) -> ExtractResult:
    """Write the features of every video that has none which are current.

    A thread decodes ahead while the network works; batches run across videos, so short ones cost no more. A video's
    features are written when its last snippet is through: killed at any point, the next call does the rest. SIGTERM and
    SIGINT end it after the present batch, or after seconds if that takes longer.

    Args:
        method: Gives `features`; put in evaluation mode for the time being.
        model_id: The name under which the library keeps them.
        records: Whose videos are read, each once and from end to end.
        read_snippets: Opens a video; it runs in the decoding thread and may raise `VideoError`, as may the stream.
        library: Where the videos have been scanned.
        settings: Batch size, device, precision, dtype.
        asked: What the caller asked of the snippets (hop, for example). Features are current only if made of the same
            content with the same weights, the same snippet and the same `asked`.
        progress: Called after each batch.

    Raises:
        WriteError: The disk is full or read-only.
    """
    settings = settings or ExtractSettings()
    wanted = {
        "asked": {**method.snippet.model_dump(exclude_none=True), **(asked or {}), "precision": settings.precision}
    }
    wanted["model_hash"] = hash_of(method)
    work = _Work(library, model_id, wanted, settings.dtype)
    todo = work.plan(records)
    if not todo:
        return work.result(None)
    name = settings.device
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    with (
        Signals(lambda: None, raises=False) as signals,
        # a decoder that hangs must not hold up the end
        Ahead(_events(todo, read_snippets), 2 * settings.batch_size, lambda: signals.signum is not None, 1.0) as events,
        _evaluating(method.to(device)),
    ):
        for batch in _unless_ended(_batches(events, settings.batch_size), signals):
            values = _features(method, batch.clips, device, settings) if batch.clips else None
            with signals.held():  # a video's file and its row belong together
                work.take(batch, values)
            if progress:
                progress(work.status())
    return work.result(signals.signum)


def embed(
    library: Library,
    load: Callable[[Path], Method],
    open_snippets: Callable[..., Stream],
    *,
    run: str | None = None,
    hop_seconds: float | None = None,
    settings: dict[str, Any] | None = None,
    progress: bool = False,
) -> EmbedSummary:
    """Extract the features of a whole library with one of its runs, by default the newest that is finished.

    Args:
        library: Its videos have been scanned.
        load: Gives the method of a run's folder.
        open_snippets: `(record, hop_seconds=, index=, num_frames=, ...)` -> the video's snippets.
        run: Beginning of the run's id.
        hop_seconds: Distance of two snippets; None sets them end to end.
        settings: Fields of `ExtractSettings`.
        progress: Whether standard error shows how it goes on.
    """
    library.require_videos()
    run = library.runs.find(run).id if run else library.finished_run()
    method, how = load(library.runs.find(run).folder), ExtractSettings(**settings or {})

    def read(record: Record) -> Stream:
        known = {**method.snippet.model_dump(), "index": library.catalogue.frame_index(record.path)}
        return open_snippets(record, hop_seconds=hop_seconds, **known)

    records, asked = [Record(entry.path) for entry in library.catalogue.entries()], {"hop_seconds": hop_seconds}
    done = extract(method, run, records, read, library, how, asked=asked, progress=Progress() if progress else None)
    counts = len(done.embedded), len(done.skipped), done.num_snippets, done.width
    return EmbedSummary(str(library.path), run, *counts, done.problems, done.interrupted)


def hash_of(model: nn.Module) -> str:
    """Return 32 hex digits that change when any weight or buffer does.

    Example:
        >>> hash_of(nn.Linear(2, 2)) == hash_of(nn.Linear(2, 2))
        False
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass
class _End:
    """A video is through; `error` if it could not be read to its end."""

    number: int
    facts: dict[str, Any] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    error: VideoError | None = None


@dataclass
class _Batch:
    """Clips of one shape, whose they are and when, and the videos that end with or before them."""

    clips: list[Tensor] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)
    ends: list[_End] = field(default_factory=list)


def _events(entries: list[Entry], read_snippets: Callable[[Record], Stream]) -> Iterator[tuple | _End]:
    """Decode: `(number, times, clip)` of each snippet, and after those of a video its `_End`."""
    for number, entry in enumerate(entries):
        end = _End(number)
        try:
            stream = read_snippets(Record(entry.path))
            for times, clip in stream:
                yield number, times, torch.as_tensor(clip)
            end.facts = {name: float(getattr(stream, name)) for name in ("fps", "window_seconds", "hop_seconds")}
            end.gaps = tuple(stream.gaps)
        except VideoError as error:
            end.error = error
        yield end


def _batches(events: Iterator[tuple | _End], batch_size: int) -> Iterator[_Batch]:
    """Group snippets of equal shape in order; a video's end travels with the batch that holds its last snippet."""
    batch = _Batch()
    for event in events:
        if isinstance(event, _End):
            batch.ends.append(event)
            continue
        number, times, clip = event
        if batch.clips and (len(batch.clips) == batch_size or batch.clips[0].shape != clip.shape):
            yield batch
            batch = _Batch()
        batch.clips.append(clip)
        batch.numbers.append(number)
        batch.times.append(times)
    yield batch


@contextmanager
def _evaluating(method: Method) -> Iterator[None]:
    was_training = method.training
    method.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        method.train(was_training)


def _unless_ended(batches: Iterator[_Batch], signals: Signals) -> Iterator[_Batch]:
    """Pass batches on until a signal came: the last one then ends in the middle of a video."""
    return itertools.takewhile(lambda _: signals.signum is None, batches)


def _features(method: Method, clips: list[Tensor], device: torch.device, settings: ExtractSettings) -> np.ndarray:
    stacked = torch.stack(clips).to(device)  # [B, T, C, H, W]
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        return method.features(stacked).float().cpu().numpy()  # [B, D]


class _Work:
    """What is to do, what came of it, and the vectors of the videos that are not through yet."""

    def __init__(self, library: Library, model_id: str, wanted: dict[str, Any], dtype: str) -> None:
        self.library, self.model_id, self.wanted, self.dtype = library, model_id, wanted, dtype
        self.todo: list[Entry] = []
        self.embedded: list[str] = []
        self.skipped: list[str] = []
        self.problems: list[tuple[str, str, str]] = []
        self.values: dict[int, list[np.ndarray]] = {}
        self.times: dict[int, list[tuple[float, float]]] = {}
        self.num_snippets = self.width = self.num_ended = 0
        self.began = time.monotonic()
        self.seconds_ended = self.seconds_open = 0.0

    def plan(self, records: list[Record]) -> list[Entry]:
        """Return the rows of the videos that are to be read."""
        for path in dict.fromkeys(os.path.abspath(record.path) for record in records):
            try:
                entry = self.library.catalogue.entry(path)
            except LibraryError as error:
                self.problems.append((path, "refused", str(error)))
                continue
            if entry.state == "refused":
                self.problems.append((path, "refused", f"{entry.reason}: {entry.detail}"))
            elif not is_as_scanned(entry.path, entry.size, entry.mtime_ns):
                self.problems.append((path, "refused", "gone or changed since its scan; scan its folder again"))
            elif self.library.features.status(entry, self.model_id, self.wanted | {"dtype": self.dtype}) == "current":
                self.skipped.append(path)
            else:
                self.todo.append(entry)
        return self.todo

    def take(self, batch: _Batch, values: np.ndarray | None) -> None:
        """Keep the vectors of a batch, and write the videos that are through with it."""
        for i, number in enumerate(batch.numbers):
            with np.errstate(over="ignore"):  # what float16 cannot hold is reported when the video is through
                self.values.setdefault(number, []).append(values[i].astype(self.dtype))
            self.times.setdefault(number, []).append(batch.times[i])
            self.seconds_open = batch.times[i][1]
        for end in batch.ends:
            self._finish(end)
        if batch.ends and not (batch.numbers and batch.numbers[-1] > batch.ends[-1].number):
            self.seconds_open = 0.0

    def status(self) -> Status:
        """How far it is, in videos; the time left goes by their seconds."""
        seconds = time.monotonic() - self.began
        total = sum(_duration(entry) for entry in self.todo)
        seen = min(total, self.seconds_ended + self.seconds_open)
        left = seconds * (total - seen) / seen if seen > 0 else None
        return Status("embed", self.num_ended, len(self.todo), None, left)

    def result(self, signum: int | None) -> ExtractResult:
        return ExtractResult(
            tuple(self.embedded), tuple(self.skipped), tuple(self.problems), self.num_snippets, self.width, signum
        )

    def _finish(self, end: _End) -> None:
        entry = self.todo[end.number]
        values, times = self.values.pop(end.number, []), self.times.pop(end.number, [])
        self.num_ended += 1
        self.seconds_ended += _duration(entry)
        if not values:
            reason, detail = "damaged", "no snippet of it can be decoded"
            if end.error:
                reason, detail = end.error.reason, end.error.detail
            self._damage(entry, "refused", reason, f"{reason}: {detail}", end.gaps)
            return
        if not is_as_scanned(entry.path, entry.size, entry.mtime_ns):
            self.problems.append((entry.path, "refused", "changed while it was read; scan its folder again"))
            return
        manifest = self.wanted | end.facts | {"gaps": [(gap.start_seconds, gap.end_seconds) for gap in end.gaps]}
        try:
            self.library.features.put(
                entry, self.model_id, Features(np.stack(values), np.array(times, np.float64), manifest)
            )
        except ValueError as error:  # the network gave no numbers, or numbers that float16 cannot hold
            self.problems.append((entry.path, "refused", f"its features cannot be kept: {error}"))
            return
        self.embedded.append(entry.path)
        self.num_snippets += len(values)
        self.width = values[0].shape[0]
        if end.error:
            detail = f"read up to {times[-1][1]:.1f} s: {end.error.detail}"
            self._damage(entry, "damaged", end.error.reason, detail, end.gaps)
        elif end.gaps:
            places = ", ".join(f"{gap.start_seconds:.1f} to {gap.end_seconds:.1f} s" for gap in end.gaps[:5])
            detail = f"{len(end.gaps)} gaps ({places}); the rest is embedded"
            self._damage(entry, "damaged", "damaged", detail, end.gaps)

    def _damage(self, entry: Entry, state: State, reason: str, detail: str, gaps: tuple[Gap, ...]) -> None:
        """Tell of a video that decoding found wanting, and write it down: a scan looks at a few of its frames only."""
        self.problems.append((entry.path, state, detail))
        self.library.catalogue.mark(entry.path, state, reason, detail, gaps)


def _duration(entry: Entry) -> float:
    return float(entry.metadata.get("duration_seconds") or 1.0)
