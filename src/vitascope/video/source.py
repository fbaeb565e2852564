"""A video file or a folder of frames as one thing: frames by number, names, times, and what cannot be decoded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from vitascope.structures import Gap, VideoError
from vitascope.video.frames import FrameFolder
from vitascope.video.masks import read_mask
from vitascope.video.reader import VideoReader

if TYPE_CHECKING:
    import torch

MOST_OBJECTS = 32  # in one mask; more are the work of smoothing, not of a person
HIGHEST_ID = 254


class FrameSource:
    """The frames of a video file, or of a folder of images; a context manager.

    Frames may be asked for in any order; a frame after the last one costs no seek. May be used by one thread at a time.

    Args:
        path: A local file or folder.
        fps: Frames per second of a folder; a file knows its own times.

    Raises:
        VideoError: It cannot be opened.

    Attributes:
        size: Height and width of every frame, as shown.
        times_seconds: When each frame is shown, float64 `[N]`.
        fps: On average.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float = 25.0) -> None:
        self.path = os.fspath(path)
        self._missing: set[int] = set()
        if os.path.isdir(self.path):
            self._reader: FrameFolder | VideoReader = FrameFolder(self.path, fps=fps)
            self.size, self.fps = self._reader.size, self._reader.fps
            self.times_seconds = np.arange(len(self._reader)) / self.fps
        else:
            self._reader = VideoReader(self.path)
            info, index = self._reader.info, self._reader.index
            self.size, self.fps, self.times_seconds = (info.height, info.width), index.fps, index.times_seconds

    def __len__(self) -> int:
        return len(self._reader)

    @property
    def duration_seconds(self) -> float:
        """From the first frame's start to the last frame's end."""
        return self._reader.duration_seconds

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The stretches met so far that cannot be decoded."""
        if isinstance(self._reader, VideoReader):
            return self._reader.gaps
        ends = np.append(self.times_seconds[1:], self.duration_seconds)
        return tuple(Gap(float(self.times_seconds[i]), float(ends[i]), self.name(i)) for i in sorted(self._missing))

    def name(self, number: int) -> str:
        """The name of a frame's mask: the image's own, or the number with five digits, more where there are more frames."""
        if isinstance(self._reader, FrameFolder):
            return self._reader.names[number]
        return f"{number:0{max(5, len(str(len(self) - 1)))}d}"

    def frame(self, number: int) -> torch.Tensor | None:
        """A frame, uint8 `[3, H, W]`, or None where it cannot be decoded.

        Raises:
            VideoError: Any other reason than damage.
        """
        try:
            return self._reader.frames_at([number]).frames[0]
        except VideoError as error:
            if error.reason != "damaged":
                raise
            self._missing.add(number)
            return None

    def number_at(self, seconds: float) -> int:
        """The number of the frame that is shown at a time.

        Raises:
            VideoError: `out_of_range`, or `damaged` where the frame cannot be decoded.
        """
        if not 0 <= seconds < self.duration_seconds:
            detail = f"{seconds:g} s was asked for; the video is shown from 0 to {self.duration_seconds:.6g} s"
            raise VideoError(self.path, "out_of_range", detail)
        number = int(np.searchsorted(self.times_seconds, seconds + 1e-6, side="right")) - 1
        if self.frame(number) is None:
            detail = f"no frame can be decoded at {seconds:g} s; give a mask of another moment and its time"
            raise VideoError(self.path, "damaged", detail)
        return number

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._reader.close()

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def first_masks(
    path: str | os.PathLike[str], size: tuple[int, int], object_id: int | None = None
) -> dict[int, np.ndarray]:
    """The objects of a mask that holds for a frame: id -> bool `[H, W]`.

    A mask of black and white (0 and 255) is object 1.

    Args:
        path: A PNG, see `read_mask`.
        size: Height and width of the frame.
        object_id: Only this object; None for all.

    Raises:
        ValueError: The mask cannot be read, is of another size, is empty, has an id above 254 or more than 32 ids, or
            lacks `object_id`.
    """
    mask = read_mask(path)
    if mask.shape != tuple(size):
        here, there = f"{mask.shape[1]}x{mask.shape[0]}", f"{size[1]}x{size[0]}"
        raise ValueError(f"{path}: the mask is {here} pixels, but the frames are {there}; draw it at the frames' size")
    ids = [int(value) for value in np.unique(mask) if value]
    if ids == [255]:
        mask, ids = mask // 255, [1]
    if not ids:
        raise ValueError(f"{path}: the mask is empty, every pixel is 0; paint the object with its id, for example 1")
    if len(ids) > MOST_OBJECTS:
        raise ValueError(
            f"{path}: the mask holds {len(ids)} ids, at most {MOST_OBJECTS} are allowed; it may have been smoothed or "
            "resized, which breeds ids that nobody drew: export it without"
        )
    if ids[-1] > HIGHEST_ID:
        raise ValueError(
            f"{path}: the mask holds id {ids[-1]} beside others; ids are 1 to {HIGHEST_ID}: paint that object "
            "with a free one (255 is one object only in a mask of black and white)"
        )
    if object_id is not None and object_id not in ids:
        raise ValueError(f"{path}: object {object_id} is not in the mask; it holds {', '.join(map(str, ids))}")
    return {o: mask == o for o in (ids if object_id is None else [object_id])}


def keep_apart(video: str | os.PathLike[str], mask: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """A mask in a folder of frames would be taken for a frame, and so would what is written there.

    Raises:
        ValueError: `mask` or `out` is among the frames.
    """
    if not os.path.isdir(video):
        return
    frames = os.path.realpath(video)
    if os.path.realpath(os.path.dirname(mask) or ".") == frames:
        raise ValueError(f"{mask}: the mask lies among the frames of {video}; put it elsewhere, or it is taken for one")
    if os.path.realpath(out) == frames:
        raise ValueError(f"{out}: the result would be written among the frames; name another folder")
