"""The index of a video's shots: where it changes from one to the next, and what it looks like twice a second.

Both come from one pass over thumbnails of 36 x 64 pixels. A look is told by 136 numbers of 8 bits: the luma of 8 x 8 parts
of the frame, and the square roots of the shares of its pixels in 8 hues x 3 saturations x 3 brightnesses.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vitascope.structures import Gap
from vitascope.video.cuts import THUMBNAIL, Cuts, cuts_among

HOP_SECONDS = 0.5  # from one look to the next
PARTS = 8  # of each side, whose luma is kept
BINS = (8, 3, 3)  # of hue, saturation, brightness
WIDTH = PARTS**2 + BINS[0] * BINS[1] * BINS[2]
VERSION = 1
KINDS = ("cut", "dissolve", "fade")

_ROWS, _COLUMNS = (np.arange(PARTS) * side // PARTS for side in THUMBNAIL)
_PIXELS = np.outer(np.diff(_ROWS, append=THUMBNAIL[0]), np.diff(_COLUMNS, append=THUMBNAIL[1]))


@dataclass(frozen=True, slots=True)
class ShotIndex:
    """What is known of a video's shots.

    Attributes:
        cuts: The shot boundaries.
        times_seconds: When it was looked at, float64 `[M]`.
        looks: What was seen then, uint8 `[M, 136]`, as `look` makes it.
    """

    cuts: Cuts
    times_seconds: np.ndarray
    looks: np.ndarray

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, about 16 kB for each minute of video."""
        kinds = np.array([KINDS.index(kind) for kind in self.cuts.kinds], np.uint8)
        with open(path, "wb") as file:
            np.savez_compressed(
                file,
                version=np.array(VERSION),
                cut_seconds=self.cuts.times_seconds,
                cut_spans=self.cuts.spans_seconds,
                cut_kinds=kinds,
                look_seconds=self.times_seconds,
                looks=self.looks,
            )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ShotIndex:
        """The index that `save` wrote.

        Raises:
            ValueError: The file is no such index.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                data = {name: file[name] for name in file.files}
            version = int(data["version"])
            cuts = Cuts(data["cut_seconds"], data["cut_spans"], tuple(KINDS[k] for k in data["cut_kinds"]))
            index = cls(cuts, data["look_seconds"], data["looks"])
        except (OSError, KeyError, IndexError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is no index of shots ({error}); run `vitascope index shots` again") from error
        count, width = len(index.cuts), (len(index.times_seconds), WIDTH)
        shapes = index.cuts.times_seconds.shape, index.cuts.spans_seconds.shape, index.looks.shape
        if version != VERSION or shapes != ((count,), (count, 2), width):
            raise ValueError(f"{path} is an index of shots of another kind; run `vitascope index shots` again")
        return index


def look(picture: np.ndarray) -> np.ndarray:
    """What a picture looks like, for comparison: uint8 `[C, 36, 64]` RGB -> uint8 `[136]`.

    Example:
        >>> grey = np.full((3, 36, 64), 100, np.uint8)
        >>> look(grey)[:64].tolist() == [100] * 64, sorted(set(look(grey)[64:].tolist()))
        (True, [0, 255])
    """
    rgb = picture.reshape(3, -1).astype(np.int32)
    luma = (rgb[0] * 299 + rgb[1] * 587 + rgb[2] * 114).reshape(THUMBNAIL)
    parts = np.add.reduceat(np.add.reduceat(luma, _ROWS, 0), _COLUMNS, 1) / (_PIXELS * 1000)
    value, chroma = rgb.max(0), rgb.max(0) - rgb.min(0)
    red, green, blue = rgb
    safe = np.maximum(chroma, 1)
    sector = np.where(  # hue in sixths of the circle, from 0 to 6
        value == red,
        (green - blue) / safe % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = np.where(chroma > 0, sector * (BINS[0] / 6), 0).astype(int) % BINS[0]
    saturation = chroma * BINS[1] // (value + 1)
    cell = (hue * BINS[1] + saturation) * BINS[2] + value * BINS[2] // 256
    shares = np.bincount(cell, minlength=WIDTH - PARTS**2) / rgb.shape[1]
    return np.rint(np.r_[parts.ravel(), 255 * np.sqrt(shares)]).astype(np.uint8)


def index_shots(
    video: str | os.PathLike[str], path: str | os.PathLike[str], *, index: bytes | None = None
) -> tuple[int, tuple[Gap, ...]]:
    """Finds the shots of a video in one pass, with memory that hardly grows with its length, and writes them to `path`.

    Args:
        video: A local file.
        path: The file to write, for `ShotIndex.open`.
        index: The video's frame index, as `FrameIndex.to_bytes` gave it; made otherwise.

    Returns:
        The number of shot boundaries, and the stretches of the video that cannot be decoded.

    Raises:
        VideoError: The video cannot be read.
    """
    from vitascope.video.index import FrameIndex
    from vitascope.video.reader import VideoReader  # imports torch

    times: list[float] = []
    looks: list[np.ndarray] = []

    def looked_at() -> Iterator[tuple[float, np.ndarray]]:
        due = 0.0
        for seconds, frame in reader.iterate(size=THUMBNAIL):
            picture = frame.numpy()
            if seconds > due - 1e-6:
                times.append(seconds)
                looks.append(look(picture))
                due = HOP_SECONDS * (int(seconds / HOP_SECONDS + 1e-6) + 1)
            yield seconds, picture

    with VideoReader(video, index=None if index is None else FrameIndex.from_bytes(index)) as reader:
        cuts = cuts_among(looked_at(), reader.index.fps)
        seen = np.array(looks, np.uint8).reshape(-1, WIDTH)
        ShotIndex(cuts, np.array(times, np.float64), seen).save(path)
        return len(cuts), reader.gaps
