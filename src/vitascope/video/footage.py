"""Frames of many videos, read when asked for; small videos may be kept in memory, decoded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitascope.structures import Record, VideoError
from vitascope.video.asked import output_size
from vitascope.video.index import FrameIndex
from vitascope.video.reader import VideoReader

MAX_INDICES = 1000  # frame indices kept per process; one of a 10 s video takes about 2 KB
LARGEST_SHARE = 0.25  # of the memory, that one video may take


class Film:
    """One video that is open.

    Args:
        times_seconds: When each of its frames is shown, `[T]`.
        size: Height and width of the frames that are given.
        source: Reads frames of it; or all frames, uint8 `[T, C, H, W]`.
        beside: What is kept in memory beside all frames.
    """

    def __init__(
        self, times_seconds: np.ndarray, size: tuple[int, int], source: VideoReader | Tensor, beside: Any = None
    ) -> None:
        self.times_seconds, self.size, self.beside = times_seconds, size, beside
        self._source = source

    def frames(self, numbers: np.ndarray) -> Tensor:
        """Frames by their numbers, in any order and of any shape; each is decoded once.

        Returns:
            uint8 `[*shape, C, H, W]`.

        Raises:
            VideoError: One of them cannot be read.
        """
        if isinstance(self._source, Tensor):
            return self._source[torch.from_numpy(numbers)]
        return self._source.frames_at(numbers.ravel().tolist(), self.size).frames.unflatten(0, numbers.shape)


class Footage:
    """The videos of a data set, as one process reads them.

    A video is kept in memory if all of it can be decoded, it takes no more than a quarter of the memory, and there is room.
    What is kept stays: training draws videos in random order, and to forget one for another would be to decode whole videos
    again and again where they do not all fit.

    Args:
        short_side: Short side of the frames, in pixels.
        memory_mb: For decoded videos.
        beside: Makes what is kept beside a video in memory, from its record and all its frames uint8 `[T, C, H, W]`; it
            has `nbytes`.
        beside_bytes: What that takes for a pixel of a frame, at most.

    Example:
        >>> with Footage(64).opened(Record("nothing.mp4")) as film:
        ...     film.frames(np.arange(8))
        Traceback (most recent call last):
        vitascope.structures.VideoError: nothing.mp4: missing: no such file; local files only, no URLs
    """

    def __init__(
        self,
        short_side: int,
        memory_mb: int = 0,
        beside: Callable[[Record, Tensor], Any] | None = None,
        beside_bytes: int = 0,
    ) -> None:
        self.short_side, self.memory_bytes = short_side, memory_mb * 2**20
        self.beside, self.bytes_per_pixel = beside, 3 + beside_bytes
        self._indices: dict[str, FrameIndex] = {}  # by path: a video is demuxed once, not at every draw
        self._kept: dict[str, Film] = {}
        self._used = 0
        self._unfit: set[str] = set()  # no room, or damaged: tried once

    @contextmanager
    def opened(self, record: Record) -> Iterator[Film]:
        """The video of a record.

        Raises:
            VideoError: It cannot be read.
        """
        if self.memory_bytes and record.path not in self._kept and record.path not in self._unfit:
            self._try_to_keep(record)
        if record.path in self._kept:
            yield self._kept[record.path]
            return
        with self._reader(record.path) as reader:  # a fresh one: what was met before must not matter
            yield Film(reader.index.times_seconds, self._size(reader), reader)

    def _try_to_keep(self, record: Record) -> None:
        with self._reader(record.path) as reader:
            times, size = reader.index.times_seconds, self._size(reader)
            num_bytes = len(times) * math.prod(size) * self.bytes_per_pixel
            if num_bytes > min(LARGEST_SHARE * self.memory_bytes, self.memory_bytes - self._used):
                self._unfit.add(record.path)
                return
            try:
                frames = reader.frames_at(range(len(times)), size).frames
            except VideoError:  # the frames that are asked for may be whole
                self._unfit.add(record.path)
                return
        beside = self.beside(record, frames) if self.beside else None
        self._kept[record.path] = Film(times, size, frames, beside)
        self._used += frames.nbytes + (0 if beside is None else beside.nbytes)

    @contextmanager
    def _reader(self, path: str) -> Iterator[VideoReader]:
        with VideoReader(path, index=self._indices.get(path)) as reader:
            if path not in self._indices and len(self._indices) >= MAX_INDICES:
                self._indices.pop(next(iter(self._indices)))
            self._indices[path] = reader.index
            yield reader

    def _size(self, reader: VideoReader) -> tuple[int, int]:
        return output_size((reader.info.height, reader.info.width), self.short_side)
