"""Frames of a video by number or by time: exact, or a typed error, or a reported gap."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Literal

import av
import numpy as np
import torch

from vitascope.structures import Clip, Gap, VideoError
from vitascope.video.asked import Size, positions_of
from vitascope.video.check import complete
from vitascope.video.container import OpenVideo, video_error
from vitascope.video.decode import Converter, Decoder, gaps_of, lost_gaps, merged
from vitascope.video.index import FrameIndex, build
from vitascope.video.probe import VideoInfo, describe


class VideoReader:
    """Reads one local video file by true presentation time.

    Opening reads the header; the frame index is made when first needed. Frames are uint8 RGB, upright, with square pixels. Memory is
    that of the frames asked for, a few frames in the decoder, and the index (16 bytes a frame). One reader serves one thread and one
    process: open another after a fork.

    Args:
        path: A local file.
        num_threads: Threads that decode; more than one helps in one pass through a large video and delays scattered reading.
        index: The index of this file, if it was kept.

    Raises:
        VideoError: `missing`, `empty`, `not_a_video`, `no_video_stream`, `unsupported` or `too_large`; later `damaged` and
            `out_of_range`.

    Example:
        >>> VideoReader("nothing.mp4")
        Traceback (most recent call last):
        vitascope.structures.VideoError: nothing.mp4: missing: no such file; local files only, no URLs
    """

    def __init__(self, path: str | os.PathLike[str], *, num_threads: int = 1, index: FrameIndex | None = None) -> None:
        if num_threads < 1:
            raise ValueError(f"num_threads ({num_threads}) must be > 0")
        self.path = os.fspath(path)
        self._opened: OpenVideo | None = OpenVideo(self.path, num_threads)
        try:
            self._info = describe(self._opened)
        except BaseException:
            self._opened.close()
            raise
        self._converter = Converter(self._info)
        self._index, self._decoder = index, None

    @property
    def info(self) -> VideoInfo:
        """The facts of the file; number of frames, duration and kind of rate are exact once the index is there."""
        return self._info if self._index is None else complete(self._info, self._index)

    @property
    def index(self) -> FrameIndex:
        """The frame index, made at the first call."""
        if self._index is None:
            self._index = build(self.path)
        return self._index

    def __len__(self) -> int:
        return len(self.index)

    @property
    def duration_seconds(self) -> float:
        """From the first frame's start to the last frame's end."""
        return self.index.duration_seconds

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The stretches met so far that cannot be decoded."""
        if self._index is None:
            return ()
        missing = self._decoder.missing if self._decoder is not None else set()
        return merged(gaps_of(missing, self.index), lost_gaps(self.index))

    def frames_at(self, indices: Sequence[int], size: Size = None, missing: Literal["error", "drop"] = "error") -> Clip:
        """The frames with these numbers, in the order asked.

        Each frame is decoded once, in the order of the file, with as few seeks as possible.

        Args:
            indices: Frame numbers `[T]` in 0 to `len(self) - 1`, in any order, repetitions welcome.
            size: None for the native size, the short side in pixels, or (height, width).
            missing: What to do about frames that cannot be decoded: raise, or leave them out and name them in `Clip.gaps`.

        Raises:
            VideoError: `out_of_range` or `damaged`.
        """
        if missing not in ("error", "drop"):
            raise ValueError(f"missing ({missing!r}) must be 'error' or 'drop'")
        wanted = positions_of(self.path, indices, len(self))
        positions, inverse = np.unique(wanted, return_inverse=True)
        frames = np.empty((len(positions), 3, *self._converter.size(size)), np.uint8)
        asked = frozenset(positions.tolist())
        is_there = np.array(
            [self._read(position, out, asked) for position, out in zip(positions.tolist(), frames)], bool
        )
        gaps = gaps_of(set(positions[~is_there].tolist()), self.index)
        if gaps and missing == "error":
            raise VideoError(self.path, "damaged", _sentence(gaps))
        if not np.array_equal(positions, wanted):
            kept = is_there[inverse]
            frames, wanted = frames[inverse[kept]], wanted[kept]
        elif gaps:
            frames, wanted = frames[is_there], wanted[is_there]
        return Clip(torch.from_numpy(frames), self.index.times_seconds[wanted], gaps)  # [T, C, H, W]

    def frames_at_seconds(
        self, times_seconds: Sequence[float], size: Size = None, missing: Literal["error", "drop"] = "error"
    ) -> Clip:
        """The frames shown at these times `[T]`: for each the last frame that starts at or before it.

        `Clip.times_seconds` tells when those frames start.

        Raises:
            VideoError: `out_of_range` for a time before 0 or at or behind the end; `damaged`.
        """
        times = np.asarray(times_seconds, float).reshape(-1)
        outside = times[~((times >= 0) & (times < self.duration_seconds))]
        if len(outside):
            detail = f"{outside[0]:.6g} s was asked for; the video is shown from 0 to {self.duration_seconds:.6g} s"
            raise VideoError(self.path, "out_of_range", detail)
        holes = [
            gap for gap in lost_gaps(self.index) if np.any((gap.start_seconds <= times) & (times < gap.end_seconds))
        ]
        if not holes:
            return self.frames_at(self.index.frames_at_seconds(times), size, missing)
        if missing == "error":
            raise VideoError(self.path, "damaged", _sentence(tuple(holes)))
        kept = ~np.any([(gap.start_seconds <= times) & (times < gap.end_seconds) for gap in holes], axis=0)
        clip = self.frames_at(self.index.frames_at_seconds(times[kept]), size, missing)
        return Clip(clip.frames, clip.times_seconds, merged(clip.gaps, tuple(holes)))

    def iterate(
        self, start_seconds: float = 0.0, end_seconds: float | None = None, size: Size = None
    ) -> Iterator[tuple[float, torch.Tensor]]:
        """Yields time and picture, uint8 `[C, H, W]`, of the frames that start in `[start_seconds, end_seconds)`.

        Frames that cannot be decoded are left out; `gaps` tells their times.
        """
        times, shape = self.index.times_seconds, (3, *self._converter.size(size))
        first = np.searchsorted(times, start_seconds - 1e-6)
        last = len(times) if end_seconds is None else np.searchsorted(times, end_seconds - 1e-6)
        for position in range(int(first), int(last)):
            out = np.empty(shape, np.uint8)
            if self._read(position, out):
                yield float(times[position]), torch.from_numpy(out)  # [C, H, W]

    def close(self) -> None:
        """Closes the file; may be called twice."""
        if self._decoder is not None:
            self._decoder.close()
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, position: int, out: np.ndarray, asked: frozenset[int] | None = None) -> bool:
        """Fills `out` with the frame at a position, one of those asked for; False where it cannot be decoded."""
        if self._opened is None:
            raise ValueError(f"{self.path}: the reader is closed; open another")
        if self._decoder is None:
            self._decoder = Decoder(self._opened, self.index)
        try:
            frame = self._decoder.frame_at(position, asked)
            if frame is None:
                return False
            self._converter.write(frame, out)
        except (av.error.FFmpegError, OSError, MemoryError) as error:
            raise video_error(self.path, error) from error
        return True


def _sentence(gaps: tuple[Gap, ...]) -> str:
    stretches = ", ".join(f"{gap.start_seconds:.3f} to {gap.end_seconds:.3f} s" for gap in gaps[:5])
    more = f" and {len(gaps) - 5} more stretches" if len(gaps) > 5 else ""
    return f"the frames at {stretches}{more} cannot be decoded; ask with missing='drop' for the rest"
