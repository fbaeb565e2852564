"""The snippets of a video: clips of a fixed number of frames, end to end as a stream, or a few spread over a stretch."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from vitascope.structures import Gap, Record
from vitascope.video.clips import dense_times, read_windows, sliding_times, uniform_times
from vitascope.video.index import FrameIndex
from vitascope.video.reader import VideoReader
from vitascope.video.sampling import stretch


class Snippets:
    """The snippets of one video or of one stretch of it; every frame is decoded at most once, memory does not grow.

    Args:
        record: The video, and optionally a stretch of it.
        num_frames: Frames of a snippet, > 0.
        stride_frames: Their distance in frames at `fps`, > 0.
        hop_seconds: Distance of two snippets; None sets them end to end.
        size: Short side of the frames, in pixels.
        index: The video's frame index as `FrameIndex.to_bytes` gave it; made by reading the packets otherwise.
        fps: Rate at which the stride counts; None for the video's average rate.

    Raises:
        VideoError: The video cannot be opened.
    """

    def __init__(
        self,
        record: Record,
        num_frames: int,
        stride_frames: int,
        hop_seconds: float | None = None,
        size: int | None = None,
        index: bytes | None = None,
        fps: float | None = None,
    ) -> None:
        kept = None if index is None else FrameIndex.from_bytes(index)
        self._reader, self._size = VideoReader(record.path, index=kept), size
        times = self._reader.index.times_seconds
        self.fps = self._reader.index.fps
        self.stride_seconds = stride_frames / (fps or self.fps)
        self.window_seconds = num_frames * self.stride_seconds
        first = min(max(record.start_seconds or 0.0, 0.0), float(times[-1]))
        last = float(times[-1]) if record.end_seconds is None else min(record.end_seconds, float(times[-1]))
        self.hop_seconds = hop_seconds or self.window_seconds
        self._instants = sliding_times(
            num_frames, self.stride_seconds, self.hop_seconds, max(first, last), first_seconds=first
        )  # [S, T]
        self._end = min(self._reader.duration_seconds, record.end_seconds or np.inf)

    def __len__(self) -> int:
        return len(self._instants)

    def __iter__(self) -> Iterator[tuple[tuple[float, float], object]]:
        """Give `((start_seconds, end_seconds), frames uint8 [T, C, H, W])`; what cannot be decoded is left out."""
        with self._reader as reader:
            for row, clip in read_windows(reader, self._instants, self._size):
                start = float(self._instants[row, 0])
                yield (start, max(start, min(start + self.window_seconds, self._end))), clip.frames

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The stretches met so far that cannot be decoded."""
        return self._reader.gaps


def film_strip(path: str | os.PathLike, start_seconds: float, end_seconds: float, count: int, size: int) -> np.ndarray:
    """Frames spread evenly over a stretch, for pictures: uint8 `[count, C, H, W]` of short side `size` pixels."""
    with VideoReader(path) as reader:
        last = min(end_seconds, float(reader.index.times_seconds[-1]))
        times = np.linspace(min(start_seconds, last), last, count)
        return reader.frames_at_seconds(times, size=size).frames.numpy()


def snippet_at(
    path: str | os.PathLike,
    seconds: float,
    num_frames: int,
    stride_frames: int,
    size: int | None = None,
    fps: float | None = None,
) -> object:
    """The one snippet that starts at a moment, its last frame repeated at the end: uint8 `[T, C, H, W]`.

    The stride counts at `fps`, or at the video's average rate if it is None.

    Raises:
        VideoError: `out_of_range` for a moment outside the video; else as `VideoReader`.
    """
    with VideoReader(path) as reader:
        start = reader.frames_at_seconds([seconds], size=size).times_seconds[0]
        last = float(reader.index.times_seconds[-1])
        stride_seconds = stride_frames / (fps or reader.index.fps)
        return reader.frames_at_seconds(dense_times(start, num_frames, stride_seconds, last), size=size).frames


def spread_clips(
    record: Record,
    num_frames: int,
    stride_frames: int,
    size: int | None = None,
    num_clips: int = 1,
    fps: float | None = None,
) -> object:
    """Clips spread evenly over a record: uint8 `[V, T, C, H, W]`, `V` at most `num_clips`.

    One is in the middle. A record that is shorter than a clip gives one, its last frame repeated.

    Args:
        record: The video, or a stretch of it.
        num_frames: Frames of a clip, > 0.
        stride_frames: Their distance in frames at `fps`, > 0.
        size: Short side of the frames, in pixels.
        num_clips: > 0.
        fps: Rate at which the stride counts; None for the video's average rate.

    Raises:
        VideoError: The video, or a frame that is asked for, cannot be read, or the record's stretch holds no frame.
    """
    with VideoReader(record.path) as reader:
        pts = reader.index.times_seconds
        first, end = stretch(record, pts)
        times = uniform_times(
            num_clips,
            num_frames,
            stride_frames / (fps or reader.index.fps),
            float(pts[end - 1]),
            first_seconds=float(pts[first]),
        )
        times = np.unique(times, axis=0)  # [V, T]
        clips = reader.frames_at_seconds(times.ravel(), size=size).frames
    return clips.unflatten(0, times.shape)  # [V, T, C, H, W]
