"""Where in a video the clips of a sample lie: pure functions, all in seconds (spec 1.2).

A clip is told by its centre. Centres lie in `[C, T - C]`, `C` being the length of a clip and `T` that of the video, or in
the parts of it that a guide allows. A source of numbers in `[0, 1)` is given, so that any generator can be used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

Mode = Literal["hico", "fixed", "simclr", "cvrl"]
MODES: tuple[Mode, ...] = ("hico", "fixed", "simclr", "cvrl")

GAP_POWER = 3  # of CVRL's gap; with 1 its clips would be distributed just as SimCLR's
ROUNDING_FRAMES = 1e-6


class Sampling(NamedTuple):
    """How clips are drawn.

    | mode | clips | |
    | --- | --- | --- |
    | `hico` | i, j, k | j within a distance of i that grows with training; k anywhere (spec 1.2) |
    | `fixed` | i, j, k | the same with the largest distance from the start |
    | `simclr` | 2 | each anywhere |
    | `cvrl` | 2 | near gaps are likelier: density `(1 - gap / room) ** 3`, after CVRL (Qian et al., 2021) |

    Attributes:
        clip_seconds: Length of a clip; officially 16 frames, 4 apart at 30 a second.
        delta_seconds: Largest distance of the centres of i and j at the start and at the end of training.
        topic_min_gap_seconds: Least distance of the centre of k from those of i and j; officially 0.
        mode: One of the table.
    """

    clip_seconds: float = 64 / 30
    delta_seconds: tuple[float, float] = (0.0, 1.0)
    topic_min_gap_seconds: float = 0.0
    mode: Mode = "hico"

    @property
    def num_clips(self) -> int:
        return 3 if self.mode in ("hico", "fixed") else 2

    def delta_at(self, progress: float) -> float:
        """Largest distance of i and j at a position of training in [0, 1)."""
        first, last = self.delta_seconds
        return last if self.mode == "fixed" else first + (last - first) * progress


def domain(duration_seconds: float, clip_seconds: float) -> tuple[float, float]:
    """First and last centre; of a video shorter than two clips the one centre `clip_seconds`.

    Example:
        >>> domain(10.0, 2.0), domain(3.0, 2.0)
        ((2.0, 8.0), (2.0, 2.0))
    """
    return clip_seconds, max(clip_seconds, duration_seconds - clip_seconds)


def place(pieces: np.ndarray, share: float) -> float:
    """The point at a share in [0, 1) of stretches laid end to end.

    Args:
        pieces: float64 `[P, 2]`, in order and apart, P > 0.
        share: Where.

    Example:
        >>> place(np.array([[0.0, 1.0], [5.0, 8.0]]), 0.5)
        6.0
    """
    lengths = pieces[:, 1] - pieces[:, 0]
    before = np.cumsum(lengths) - lengths  # [P]
    at = lengths.sum() * share
    piece = int(np.searchsorted(before, at, side="right")) - 1 if lengths.any() else int(len(pieces) * share)
    return float(min(pieces[piece, 0] + (at - before[piece]), pieces[piece, 1]))


def piece_around(pieces: np.ndarray, centre: float) -> tuple[float, float]:
    """The stretch that holds a centre drawn by `place`."""
    low, high = pieces[max(0, int(np.searchsorted(pieces[:, 0], centre, side="right")) - 1)]
    return float(low), float(high)


def beside(pieces: np.ndarray, first: float, last: float) -> np.ndarray:
    """The stretches without what lies between `first` and `last`; if nothing is left, the point farthest from there.

    Example:
        >>> beside(np.array([[0.0, 10.0]]), 4.0, 5.0).tolist()
        [[0.0, 4.0], [5.0, 10.0]]
        >>> beside(np.array([[0.0, 10.0]]), -1.0, 12.0).tolist()
        [[0.0, 0.0]]
    """
    left = np.stack([pieces[:, 0], np.minimum(pieces[:, 1], first)], 1)
    right = np.stack([np.maximum(pieces[:, 0], last), pieces[:, 1]], 1)
    both = np.concatenate([left, right])
    both = both[both[:, 0] < both[:, 1]]
    if len(both):
        return both[np.argsort(both[:, 0])]
    low, high, middle = pieces[0, 0], pieces[-1, 1], (first + last) / 2
    return np.full((1, 2), low if middle - low >= high - middle else high)


def draw_centres(
    duration_seconds: float,
    progress: float,
    sampling: Sampling,
    uniform: Callable[[], float],
    pieces: np.ndarray | None = None,
) -> np.ndarray:
    """Draws the centres of the clips of one sample.

    In the modes of three clips four numbers are used, the third for nothing: there the official sampler draws a third
    clip around j, which k then replaces.

    Args:
        duration_seconds: Of the video.
        progress: Position within training, in [0, 1).
        sampling: How.
        uniform: Gives the next number in [0, 1).
        pieces: Where centres may lie, float64 `[P, 2]`, in order; i and j lie in the same piece. All of `domain` where
            None or empty.

    Returns:
        float64 `[S]`, in seconds.

    Example:
        >>> import random
        >>> draw_centres(60.0, 0.5, Sampling(), random.Random(0).random).round(3).tolist()
        [49.196, 49.454, 16.564]
    """
    if pieces is None or not len(pieces):
        pieces = np.array([domain(duration_seconds, sampling.clip_seconds)])
    if sampling.mode == "simclr":
        return np.array([place(pieces, uniform()), place(pieces, uniform())])
    if sampling.mode == "cvrl":
        gap = 1 - (1 - uniform()) ** (1 / (GAP_POWER + 1))  # as a share of all there is
        first = (1 - gap) * uniform()
        return np.array([place(pieces, first), place(pieces, first + gap)])
    i = place(pieces, uniform())
    j = draw_near(i, sampling.delta_at(progress), piece_around(pieces, i), uniform)
    uniform()
    gap = sampling.topic_min_gap_seconds
    return np.array([i, j, place(beside(pieces, min(i, j) - gap, max(i, j) + gap) if gap else pieces, uniform())])


def draw_near(centre: float, delta: float, piece: tuple[float, float], uniform: Callable[[], float]) -> float:
    """A point within `delta` of a centre and within a stretch.

    Example:
        >>> draw_near(3.0, 1.0, (2.5, 9.0), lambda: 0.0)
        2.5
    """
    low, high = max(centre - delta, piece[0]), min(centre + delta, piece[1])
    return low + (high - low) * uniform()


def window(centre: float, clip_seconds: float, duration_seconds: float) -> tuple[float, float]:
    """Start and end of a clip, within the video.

    Example:
        >>> window(2.0, 2.0, 2.5)
        (1.0, 2.5)
    """
    return max(centre - clip_seconds / 2, 0.0), min(centre + clip_seconds / 2, duration_seconds)


def frame_numbers(start: float, end: float, fps: float, num_available: int, num_frames: int) -> np.ndarray:
    """Frames of a window of a video of constant rate: points spread from its first frame to the one behind its last.

    Both ends count, so officially frames are 4.27 apart and not 4. A window behind the video's end repeats the last frame.

    Args:
        start: In seconds.
        end: In seconds.
        fps: Frames per second.
        num_available: Frames of the video, > 0.
        num_frames: Frames of the clip.

    Returns:
        int64 `[T]`.

    Example:
        >>> frame_numbers(1.0, 1.0 + 64 / 30, 30, 300, 16)[:6].tolist()
        [30, 34, 38, 42, 47, 51]
        >>> frame_numbers(1.0666, 0.8, 30, 24, 2).tolist()
        [23, 23]
    """
    first = int(start * fps + ROUNDING_FRAMES)
    behind = min(int(end * fps + ROUNDING_FRAMES), num_available)
    return np.linspace(first, behind, num_frames).clip(0, max(behind, 1) - 1).astype(np.int64)


def frames_shown(start: float, end: float, times_seconds: np.ndarray, num_frames: int) -> np.ndarray:
    """Frames of a window of a video of any rate: those shown at instants spread from its start to its end.

    Args:
        start: In seconds.
        end: In seconds.
        times_seconds: When each frame is shown, `[N]`.
        num_frames: Frames of the clip.

    Returns:
        int64 `[T]`.

    Example:
        >>> frames_shown(0.5, 2.0, np.array([0.0, 1.0, 1.1, 1.2, 5.0]), 4).tolist()
        [0, 1, 3, 3]
    """
    last = int(np.searchsorted(times_seconds, end - ROUNDING_FRAMES)) - 1  # starts before the end
    shown = np.searchsorted(times_seconds, np.linspace(start, end, num_frames) + ROUNDING_FRAMES, side="right") - 1
    return shown.clip(0, max(last, 0))
