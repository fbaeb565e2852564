"""Frames and flow of videos, read when asked for; small videos may be kept in memory, decoded and with their flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from vitascope.methods.mme.motion import View
from vitascope.structures import Record
from vitascope.video.flow import DenseFlow, FlowMethod, grey
from vitascope.video.grid_flow import GridFlow
from vitascope.video.index import FrameIndex
from vitascope.video.reader import VideoReader

MAX_INDICES = 1000  # frame indices kept per process; one of a 10 s video takes about 2 KB
LARGEST_SHARE = 0.25  # of the memory, that one video may take


class Footage:
    """The videos of a data set, as one process reads them.

    Args:
        short_side: Short side of the frames, in pixels.
        flow: The flow that is kept with videos in memory; None for none.
        memory_mb: For decoded videos; the oldest are forgotten first.
    """

    def __init__(self, short_side: int, flow: FlowMethod | None, memory_mb: int = 0) -> None:
        self.short_side, self.flow, self.memory_bytes = short_side, flow, memory_mb * 2**20
        self._indices: dict[str, FrameIndex] = {}  # by path: a video is demuxed once, not at every draw
        self._kept: dict[str, Kept] = {}

    @contextmanager
    def opened(self, record: Record) -> Iterator[Film]:
        """One video.

        Raises:
            VideoError: It cannot be read.
        """
        kept = self._kept.get(record.path)
        if kept is not None:
            yield kept
            return
        with VideoReader(record.path, index=self._indices.get(record.path)) as reader:
            self._remember(record.path, reader.index)
            film = Film(reader, self.short_side, record.motion if self.flow else "")
            yield self._keep(record.path, film) if self._fits(film) else film

    def _remember(self, path: str, index: FrameIndex) -> None:
        if path not in self._indices and len(self._indices) >= MAX_INDICES:
            self._indices.pop(next(iter(self._indices)))
        self._indices[path] = index

    def _fits(self, film: Film) -> bool:
        return film.num_bytes(bool(self.flow)) <= LARGEST_SHARE * self.memory_bytes

    def _keep(self, path: str, film: Film) -> Kept:
        self._kept[path] = kept = Kept(film, self.flow)
        while sum(kept.size_bytes for kept in self._kept.values()) > self.memory_bytes:
            self._kept.pop(next(iter(self._kept)))
        return kept


class Film:
    """One video that is open.

    Args:
        reader: Of it.
        short_side: Of the frames that are given.
        motion: File with its flow, or none.
    """

    def __init__(self, reader: VideoReader, short_side: int, motion: str = "") -> None:
        self.reader, self.short_side, self.motion = reader, short_side, motion
        self.times_seconds = reader.index.times_seconds

    def frames(self, numbers: np.ndarray) -> Tensor:
        """Frames uint8 `[R, C, H, W]`."""
        return self.reader.frames_at(numbers.tolist(), size=self.short_side).frames

    def flows(self, numbers: np.ndarray, view: View) -> np.ndarray | None:
        """Flow from each frame to the next one of the video, float32 `[R, H, W, 2]` in a view; None if none is kept.

        NaN where it is not known.
        """
        if not self.motion:
            return None
        kept = GridFlow.open(self.motion)
        frame = self.frame_size
        values = kept.read(int(numbers[0]), min(int(numbers[-1]) + 1, kept.num_pairs))
        per_frame = kept.width / frame[1], kept.height / frame[0]
        return in_view(values, numbers - numbers[0], view, per_frame, kept.step)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames that are given."""
        info = self.reader.info
        scale = self.short_side / min(info.height, info.width)
        return max(1, round(info.height * scale)), max(1, round(info.width * scale))

    def num_bytes(self, with_flow: bool) -> int:
        """Memory of all frames, and of their flow in 16 bits."""
        height, width = self.frame_size
        return len(self.times_seconds) * height * width * (7 if with_flow else 3)


class Kept:
    """One video in memory: all frames, and the flow between them.

    Args:
        film: The video.
        flow: How flow is made, where the film has none; None for none.
    """

    def __init__(self, film: Film, flow: FlowMethod | None) -> None:
        self.times_seconds = film.times_seconds
        self._frames = film.frames(np.arange(len(film.times_seconds)))
        self._flows: np.ndarray | None = None
        if flow and not film.motion:
            greys, between = grey(self._frames.numpy()), DenseFlow(flow)
            pairs = [between(a, b) for a, b in zip(greys, greys[1:])]
            self._flows = np.asarray(pairs, np.float16).reshape(-1, *greys.shape[1:], 2)
        self._step, self._per_frame = 1, (1.0, 1.0)
        if flow and film.motion:
            kept = GridFlow.open(film.motion)
            height, width = self._frames.shape[-2:]
            self._flows, self._step = kept.read(0, kept.num_pairs).astype(np.float16), kept.step
            self._per_frame = kept.width / width, kept.height / height
        self.size_bytes = self._frames.nbytes + (0 if self._flows is None else self._flows.nbytes)

    def frames(self, numbers: np.ndarray) -> Tensor:
        """As a `Film`."""
        return self._frames[torch.from_numpy(np.asarray(numbers, np.int64))]

    def flows(self, numbers: np.ndarray, view: View) -> np.ndarray | None:
        """As a `Film`."""
        if self._flows is None:
            return None
        return in_view(self._flows, np.asarray(numbers), view, self._per_frame, self._step)


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
