"""What a run writes while it trains: metrics that are the same in every repetition, timings, and progress for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from vitascope.store import atomic

LEAST_STEPS = 20  # that tell how long steps wait


class Status(NamedTuple):
    """Where a run is; given to `progress` after each step."""

    stage: str
    step: int  # completed, over all stages
    total: int
    loss: float | None
    seconds_left: float | None


class Log:
    """The files of a run: `metrics.jsonl`, `timing.jsonl` and, if asked for, TensorBoard events.

    A line of metrics holds no time of day and no duration: after a kill and a resume the file is byte for byte that of
    the unbroken run. Lines of steps after `step` are dropped when a run is resumed. A line of timing holds what a step
    took and how much of it was waiting for data, on average since the line before.

    Args:
        run_dir: Folder of the run.
        step: Steps done so far.
        tensorboard: Whether to write event files, too.
        show: Called with each `Status`.

    Raises:
        ImportError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self, run_dir: Path, step: int, tensorboard: bool = False, show: Callable[[Status], Any] | None = None
    ) -> None:
        self.metrics_path, self.timing_path = run_dir / "metrics.jsonl", run_dir / "timing.jsonl"
        keep_lines(self.metrics_path, step)
        keep_lines(self.timing_path, step)
        self._events = open_events(run_dir, step) if tensorboard else None
        self._show = show
        self._start: tuple[int, float] | None = None
        self._took: list[tuple[float, float]] = []  # of each step since the last line

    def took(self, wait_seconds: float, seconds: float) -> None:
        """Note what a step took, and how much of it was waiting for data."""
        self._took.append((wait_seconds, seconds))

    def write(self, metrics: dict[str, Any]) -> None:
        """Add one line to each file; `metrics` holds `step`, and `took` was called for it."""
        wait_seconds, seconds = (sum(values) / len(values) for values in zip(*self._took))
        self._took.clear()
        timing = {"step": metrics["step"], "wait_seconds": wait_seconds, "seconds": seconds}
        lines = ((self.metrics_path, metrics), (self.timing_path, timing))
        for path, line in lines:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if self._events is not None:
            for name, value in metrics.items():
                if isinstance(value, float):
                    self._events.add_scalar(f"{metrics['stage']}/{name}", value, metrics["step"])

    def progress(self, stage: str, step: int, goal: int, loss: float | None) -> None:
        """Show where the run is; the time left is unknown at the first step, which includes starting up."""
        now, left = time.monotonic(), None
        if self._start is None:
            self._start = (step, now)
        elif step > self._start[0]:
            left = (goal - step) * (now - self._start[1]) / (step - self._start[0])
        if self._show is not None:
            self._show(Status(stage, step, goal, loss, left))

    def sync(self) -> None:
        """Have the metrics on the disk, before a checkpoint that relies on them."""
        if self.metrics_path.exists():
            atomic.sync(self.metrics_path)

    def close(self) -> None:
        """Close the event files."""
        if self._events is not None:
            self._events.close()


def keep_lines(path: Path, step: int) -> None:
    """Drop the lines of a file after `step`, and a last one that was cut short; whole or not at all."""
    if not path.exists():
        return
    before = path.read_bytes()
    kept = b"".join(line for line in before.splitlines(keepends=True) if _is_up_to(line, step))
    if kept != before:
        atomic.write_bytes(path, kept)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics, the oldest first; [] before the first one."""
    return _lines(Path(run_dir) / "metrics.jsonl")


def read_timing(run_dir: Path) -> list[dict[str, float]]:
    """Return the lines of a run's timing, the oldest first; [] before the first one."""
    return _lines(Path(run_dir) / "timing.jsonl")


def share_waited(timing: list[dict[str, float]]) -> float | None:
    """Return the share of their time that steps waited for data, or None if there are too few to tell.

    The first third is left out: processes start, and each video is met for the first time.

    Example:
        >>> share_waited([{"step": step, "wait_seconds": 30 / step, "seconds": 4.0} for step in range(10, 50, 10)])
        0.21875
    """
    first, last = (timing[0]["step"], timing[-1]["step"]) if timing else (0, 0)
    if last - first < LEAST_STEPS:
        return None
    later = [line for line in timing if line["step"] > first + (last - first) / 3]
    return sum(line["wait_seconds"] for line in later) / sum(line["seconds"] for line in later)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _is_up_to(line: bytes, step: int) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False


def open_events(run_dir: Path, step: int) -> Any:
    """Return a TensorBoard writer.

    Raises:
        ImportError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard=True needs TensorBoard; install it with: pip install 'vitascope[tensorboard]'"
        ) from error
    return SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1)


class Progress:
    """Shows a `Status` on standard error: one line that renews itself on a terminal, else a line every 10 s.

    Example:
        >>> Progress(sys.stdout)(Status("pretrain", 5, 100, 0.25, 3661.0))
        pretrain: 5/100 (5%), loss 0.25, 1:01:01 left
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self._is_terminal = self.stream.isatty()
        self._last_seconds = float("-inf")

    def __call__(self, status: Status) -> None:
        now, is_end = time.monotonic(), status.step == status.total
        if now - self._last_seconds < (0.2 if self._is_terminal else 10.0) and not is_end:
            return
        self._last_seconds = now
        text = describe(status)
        if self._is_terminal:
            text = f"\r\x1b[K{text}"
        print(text, end="\n" if is_end or not self._is_terminal else "", file=self.stream, flush=True)


def describe(status: Status) -> str:
    """Return a status as one line."""
    text = f"{status.stage}: {status.step}/{status.total} ({100 * status.step // status.total}%)"
    if status.loss is not None:
        text += f", loss {status.loss:.4g}"
    if status.seconds_left is not None:
        minutes, seconds = divmod(round(status.seconds_left), 60)
        text += f", {minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
    return text
