"""What a caller may ask of a reader: frames by number, in a size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitascope.structures import VideoError

MAX_SIDE = 16384  # pixels of one frame's side, as stored and as displayed

Size = int | tuple[int, int] | None  # None for the native size, the short side in pixels, or (height, width)


def output_size(native: tuple[int, int], size: Size) -> tuple[int, int]:
    """Height and width of the pictures that are asked for.

    Args:
        native: Height and width of the source.
        size: As `Size` says.

    Raises:
        ValueError: A side is not in 1 to 16384.

    Example:
        >>> output_size((480, 854), 240)
        (240, 427)
    """
    height, width = native
    if isinstance(size, int):
        short = min(height, width)
        height, width = (round(side * size / short) for side in (height, width))
    elif size is not None:
        height, width = (int(side) for side in size)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"size ({size}) must give sides of 1 to {MAX_SIDE} pixels")
    return height, width


def positions_of(path: str, indices: Sequence[int], count: int) -> np.ndarray:
    """The frame numbers `[T]` that are asked for, int64, each of which is there.

    Raises:
        VideoError: `out_of_range`.
    """
    wanted = np.asarray(indices, np.int64).reshape(-1)
    outside = wanted[(wanted < 0) | (wanted >= count)]
    if len(outside):
        detail = f"frame {outside[0]} was asked for; there are frames 0 to {count - 1}"
        raise VideoError(path, "out_of_range", detail)
    return wanted
