"""Frames of videos and the flow between them, kept by the library, in memory, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vitascope.methods.mme.motion import View
from vitascope.structures import Record
from vitascope.video.flow import DenseFlow, FlowMethod, grey
from vitascope.video.footage import Film, Footage
from vitascope.video.grid_flow import GridFlow


class Flow(NamedTuple):
    """Flow from each frame to the next one, as `in_view` takes it."""

    values: np.ndarray  # [P, h, w, 2]
    per_frame: tuple[float, float] = (1.0, 1.0)
    step: int = 1

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


class FlowFilm:
    """One video that is open, and its flow.

    Args:
        film: The video.
        motion: File with its flow, or none.
    """

    def __init__(self, film: Film, motion: str = "") -> None:
        self._film, self._motion = film, motion
        self.times_seconds, self.frames = film.times_seconds, film.frames

    def flows(self, numbers: np.ndarray, view: View) -> np.ndarray | None:
        """Flow from each frame to the next one of the video, float32 `[R, H, W, 2]` in a view; None if none is kept.

        NaN where it is not known.
        """
        flow, first = self._film.beside, 0
        if flow is None and self._motion:
            first = int(numbers[0])
            flow = kept_flow(self._motion, self._film.size, first, int(numbers[-1]) + 1)
        if flow is None:
            return None
        return in_view(flow.values, numbers - first, view, flow.per_frame, flow.step)


class FlowFootage:
    """The videos of a data set, as one process reads them, with their flow.

    Args:
        short_side: Short side of the frames, in pixels.
        flow: How flow is made of videos in memory that the library keeps none of; None for no flow at all.
        memory_mb: For decoded videos and their flow.
    """

    def __init__(self, short_side: int, flow: FlowMethod | None, memory_mb: int = 0) -> None:
        self.flow = flow
        beside = {"beside": self._flow_of, "beside_bytes": 4} if flow else {}
        self._footage = Footage(short_side, memory_mb, **beside)

    @contextmanager
    def opened(self, record: Record) -> Iterator[FlowFilm]:
        """The video of a record.

        Raises:
            VideoError: It cannot be read.
        """
        with self._footage.opened(record) as film:
            yield FlowFilm(film, record.motion if self.flow else "")

    def _flow_of(self, record: Record, frames: Tensor) -> Flow:
        """All flow of a video, in 16 bits."""
        if record.motion:
            flow = kept_flow(record.motion, tuple(frames.shape[-2:]))
            return flow._replace(values=flow.values.astype(np.float16))
        greys, between = grey(frames.numpy()), DenseFlow(self.flow)
        pairs = [between(a, b) for a, b in zip(greys, greys[1:])]
        return Flow(np.asarray(pairs, np.float16).reshape(-1, *greys.shape[1:], 2))


def kept_flow(path: str, frame_size: tuple[int, int], first: int = 0, end: int | None = None) -> Flow:
    """The flow that a file keeps of a video, of its pairs of frames `[first, end)`, for frames of a height and width."""
    kept = GridFlow.open(path)
    height, width = frame_size
    values = kept.read(first, kept.num_pairs if end is None else min(end, kept.num_pairs))
    return Flow(values, (kept.width / width, kept.height / height), kept.step)


def in_view(
    values: np.ndarray, rows: np.ndarray, view: View, flow_per_frame: tuple[float, float], step: int
) -> np.ndarray:
    """Flow that lies on a grid of the whole frame, at every pixel of a view, in its pixels.

    Args:
        values: `[P, h, w, 2]`: at the centres of cells of `step` pixels; displacements in the pixels that cells are of.
        rows: Which of them, `[R]`; one past the end is unknown.
        view: Of the frame.
        flow_per_frame: Pixels that the flow is in, over pixels of the frame, along x and y.
        step: Side of a cell.

    Returns:
        float32 `[R, H, W, 2]`, NaN where unknown.
    """
    ax, ay = flow_per_frame
    scale = np.array([1 / (ax * view.scale_x), 1 / (ay * view.scale_y)], np.float32)
    out = np.full((len(rows), view.height, view.width, 2), np.nan, np.float32)
    for place, row in enumerate(rows):
        if row < len(values):
            out[place] = view.warp(values[row].astype(np.float32), ax / step, ay / step) * scale
    return out
