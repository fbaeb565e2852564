"""Where a video changes from one shot to the next: hard cuts, dissolves, and fades through a flat picture.

Works on thumbnails of 36 x 64 pixels in luma and colour differences (YCbCr, BT.601, 0..255). The distance of two
pictures is the mean absolute difference of a pixel, added over the three planes.

- A hard cut is a frame unlike the ones before it, much more so than its neighbours are unlike each other (so strong
  motion is none), and all of the next few are unlike all of the last few (so a flash is none) also in structure (so a
  change of exposure is none).
- A jump cut, after which the same camera shows the same place at another time, is a hard cut too. It changes less, and
  leaves most of the structure; so it must stand out from the largest of its neighbours' changes, not from the median,
  and so must the change of structure.
- A dissolve is a stretch whose middle is about the mean of its ends, which differ: mixing two pictures halves the
  variance, or, where one of them is much brighter, moves in a straight line between them, as motion does not.
- A fade is a stretch whose ends have a picture and whose middle has none, reached step by step.

The numbers below were set on synthetic worlds and looked at on real clips; `tests/video/test_cuts.py` holds what they
reach.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from vitascope.video.reader import VideoReader

Kind = Literal["cut", "dissolve", "fade"]

THUMBNAIL = (36, 64)  # pixels; not the video's aspect, which does not matter here
POOL = 4  # gradual changes are sought on means of 4 x 4 pixels: 9 x 16, less moved by motion
CORE_FRAMES, MARGIN_FRAMES = 512, 160  # the video is worked on in pieces that overlap by twice the margin

MIN_DISTANCE = 8.0  # of two pictures for a hard cut
MIN_CONTRAST = 2.7  # distance over a cut, against the median distance of neighbours there plus NOISE
NOISE, STILL = 2.0, 0.5  # distances that noise makes; at most STILL is a repeated frame
NEIGHBOURS_SECONDS = 0.4  # on each side
MAX_LIKENESS = 0.7  # correlation of luma over a hard cut
MIN_JUMP_DISTANCE, MIN_JUMP_CONTRAST, JUMP_NOISE = 4.0, 2.5, 1.0  # of jump cuts, against the largest of the neighbours
MAX_JUMP_LIKENESS = 0.95
FLASH_FRAMES = 3

HALF_SECONDS = (0.12, 0.16, 0.2, 0.27, 0.35, 0.45, 0.6, 0.8, 1.0)  # half lengths of gradual changes
MAX_HALF_FRAMES = 64
MIN_GRADUAL_DISTANCE = 12.0
MAX_GRADUAL_LIKENESS = 0.6
MAX_STEP = 0.6  # the largest step between two frames of a gradual change, as a share of the whole
MAX_DISSOLVE_COST = 1.0  # share of the variance left in the middle, plus what a mix of the ends does not explain
MAX_STRAIGHT_RESIDUE, MIN_STRAIGHT_DISTANCE = 0.1, 20.0
MAX_FADE_VARIANCE, MIN_FADE_DEVIATION = 0.06, 6.0
MIN_FILL = 0.6


@dataclass(frozen=True, slots=True)
class Cuts:
    """Shot boundaries in order of time.

    Attributes:
        times_seconds: float64 `[N]`; for a hard cut the time of the first frame of the shot that comes, else the middle.
        spans_seconds: float64 `[N, 2]`, where both shots show: from the last frame of the old one alone to the first
            of the new one alone; for a hard cut both are its time.
        kinds: `N` of `cut`, `dissolve`, `fade`.
    """

    times_seconds: np.ndarray
    spans_seconds: np.ndarray
    kinds: tuple[Kind, ...]

    def __len__(self) -> int:
        return len(self.kinds)


def spans_cut(start_seconds: float, end_seconds: float, cuts: Cuts) -> bool:
    """Whether the clip `[start_seconds, end_seconds)` shows more than one shot.

    Example:
        >>> cuts = Cuts(np.array([2.0]), np.array([[2.0, 2.0]]), ("cut",))
        >>> [spans_cut(*clip, cuts) for clip in ((0.0, 2.0), (1.5, 2.5), (2.0, 4.0))]
        [False, True, False]
    """
    first, last = cuts.spans_seconds.T
    return bool(np.any((start_seconds < last) & (first < end_seconds)))


def find_cuts(video: str | os.PathLike[str] | VideoReader) -> Cuts:
    """Finds the shot boundaries of a video in one pass, with memory that does not grow with its length.

    Over a stretch that cannot be decoded, the frames before and after it count as neighbours.

    Args:
        video: A file, or a reader, which stays open.

    Raises:
        VideoError: The file cannot be read.
    """
    from vitascope.video.reader import VideoReader  # imports torch

    if not isinstance(video, VideoReader):
        with VideoReader(video) as reader:
            return find_cuts(reader)
    return cuts_among(
        ((seconds, picture.numpy()) for seconds, picture in video.iterate(size=THUMBNAIL)), video.index.fps
    )


def cuts_among(thumbnails: Iterator[tuple[float, np.ndarray]], fps: float) -> Cuts:
    """Finds the shot boundaries among pictures that come one after the other, each is taken once.

    Args:
        thumbnails: Time and picture, uint8 RGB `[C, 36, 64]`, in order of time.
        fps: Pictures per second, about.
    """
    return _join(_pieces(thumbnails), fps)


def cuts_of(frames: Any, times_seconds: Any) -> Cuts:
    """Finds the shot boundaries of pictures in memory, as `find_cuts` does in a file.

    Args:
        frames: uint8 RGB `[T, C, H, W]`, H >= 36 and W >= 64; best are thumbnails of exactly that size.
        times_seconds: Their times, increasing, `[T]`.

    Raises:
        ValueError: Shapes or dtype are not as said.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shots = rng.integers(0, 256, (2, 1, 3, 36, 64), np.uint8).repeat(20, 1).reshape(40, 3, 36, 64)
        >>> cuts_of(shots, np.arange(40) / 20).times_seconds.tolist()
        [1.0]
    """
    frames, times = np.asarray(frames), np.asarray(times_seconds, np.float64)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or times.shape != frames.shape[:1]:
        raise ValueError(f"frames ({frames.dtype} {list(frames.shape)}) must be uint8 [T, 3, H, W], times_seconds [T]")
    if frames.shape[2] < THUMBNAIL[0] or frames.shape[3] < THUMBNAIL[1]:
        raise ValueError(f"frames ({frames.shape[2]} x {frames.shape[3]}) must be at least 36 x 64 pixels")
    fps = 1 / float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    return _join(_pieces((float(t), _shrink(frame)) for t, frame in zip(times, frames, strict=True)), fps)


class _Piece(NamedTuple):
    """A stretch of the video with its margins: what is found in `[first, stop)` counts."""

    times: np.ndarray  # [T]
    pictures: np.ndarray  # uint8 [T, C, H, W]
    first: int
    stop: int


class _Found(NamedTuple):
    middle: int  # frame number
    half: int  # frames; 0 for a hard cut
    kind: Kind
    cost: float


def _pieces(pictures: Iterator[tuple[float, np.ndarray]]) -> Iterator[_Piece]:
    buffer: list[tuple[float, np.ndarray]] = []
    first = 0
    for item in pictures:
        buffer.append(item)
        if len(buffer) == first + CORE_FRAMES + MARGIN_FRAMES:
            yield _piece(buffer, first, first + CORE_FRAMES)
            done = max(0, first + CORE_FRAMES - MARGIN_FRAMES)
            buffer, first = buffer[done:], first + CORE_FRAMES - done
    yield _piece(buffer, first, len(buffer))


def _piece(buffer: list[tuple[float, np.ndarray]], first: int, stop: int) -> _Piece:
    pictures = np.stack([picture for _, picture in buffer]) if buffer else np.zeros((0, 3, *THUMBNAIL), np.uint8)
    return _Piece(np.array([seconds for seconds, _ in buffer]), pictures, first, stop)


def _join(pieces: Iterator[_Piece], fps: float) -> Cuts:
    times, spans, kinds = [], [], []
    for piece in pieces:
        for found in _find(_planes(piece.pictures), fps):
            if piece.first <= found.middle < piece.stop:
                times.append(piece.times[found.middle])
                spans.append(piece.times[[found.middle - found.half, found.middle + found.half]])
                kinds.append(found.kind)
    return Cuts(np.array(times, np.float64), np.array(spans, np.float64).reshape(-1, 2), tuple(kinds))


def _find(planes: np.ndarray, fps: float) -> list[_Found]:
    """All boundaries within `[T, C, H, W]` YCbCr, in order; gradual ones may touch neither a hard cut nor another."""
    if len(planes) < 2:
        return []
    hard = _hard_cuts(planes, max(4, round(NEIGHBOURS_SECONDS * min(fps, 80))))
    is_free = np.ones(len(planes), bool)  # frame t and its step from t - 1 belong to no boundary yet
    is_free[[found.middle for found in hard]] = False
    chosen = []
    for found in sorted(_gradual(planes, fps), key=lambda found: found.cost):
        stretch = slice(found.middle - found.half + 1, found.middle + found.half + 1)
        if is_free[stretch].all():
            is_free[stretch] = False
            chosen.append(found)
    return sorted(hard + chosen)


def _hard_cuts(planes: np.ndarray, window: int) -> list[_Found]:
    steps = np.r_[0, _distance(planes[1:], planes[:-1])]  # [T] from the frame before
    candidates = []
    for t in np.flatnonzero(steps >= MIN_JUMP_DISTANCE):
        around = np.r_[steps[max(1, t - window) : t], steps[t + 1 : t + 1 + window]]
        around = around[around > STILL]  # repeated frames say nothing about the motion
        median, largest = (np.median(around), around.max()) if len(around) else (0, 0)
        level = max(MIN_CONTRAST * (median + NOISE), MIN_DISTANCE)
        jump_level = max(MIN_JUMP_CONTRAST * (largest + JUMP_NOISE), MIN_JUMP_DISTANCE)
        if steps[t] < min(level, jump_level):
            continue
        distance, likeness = _over(planes, int(t))
        is_cut = min(steps[t], distance) >= level and likeness < MAX_LIKENESS
        is_jump = min(steps[t], distance) >= jump_level and likeness < _jump_likeness(planes, int(t), window)
        if is_cut or is_jump:
            candidates.append(int(t))
    found: list[_Found] = []
    for t in sorted(candidates, key=lambda t: -steps[t]):  # of a cut with a mixed frame in it, the larger step
        if all(abs(t - other.middle) > FLASH_FRAMES for other in found):
            found.append(_Found(t, 0, "cut", 0.0))
    return found


def _over(planes: np.ndarray, t: int) -> tuple[float, float]:
    """How unlike the few frames from `t` on are to the few before: least distance and largest likeness of a pair."""
    before, after = planes[max(0, t - 1 - FLASH_FRAMES) : t], planes[t : t + 1 + FLASH_FRAMES]
    pairs = before[:, None], after[None]  # [a, 1, C, H, W], [1, b, C, H, W]
    return float(_distance(*pairs).min()), float(_likeness(*pairs).max())


def _jump_likeness(planes: np.ndarray, t: int, window: int) -> float:
    """The likeness below which the structure changes at `t` by much more than between any two neighbours nearby."""
    if not FLASH_FRAMES < t < len(planes) - FLASH_FRAMES:
        return -1.0  # nothing to compare with
    parts = planes[max(0, t - window) : t], planes[t : t + 1 + window]
    least = min(float(_likeness(part[1:], part[:-1]).min()) for part in parts)
    return min(1 - MIN_JUMP_CONTRAST * (1 - least), MAX_JUMP_LIKENESS)


def _gradual(planes: np.ndarray, fps: float) -> Iterator[_Found]:
    """Dissolves and fades of all lengths around all frames; those of one change overlap, the best has the least cost."""
    small = planes.reshape(*planes.shape[:2], THUMBNAIL[0] // POOL, POOL, THUMBNAIL[1] // POOL, POOL).mean((3, 5))
    steps, variance = np.r_[0, _distance(small[1:], small[:-1])], planes[:, 0].var((1, 2))  # [T]
    halves = sorted({min(max(2, round(fps * seconds)), MAX_HALF_FRAMES) for seconds in HALF_SECONDS})
    kinds: tuple[Kind, ...] = ("dissolve", "fade")
    best: dict[tuple[int, Kind], _Found] = {}
    for half in halves:
        if len(small) <= 2 * half:
            break
        costs, is_filled = _tests(small, steps, variance, half)  # [2, M], [M]
        for kind, at in zip(*np.nonzero(costs < np.inf), strict=True):
            found = _Found(int(at) + half, half, kinds[kind], float(costs[kind, at]))
            if is_filled[at]:  # the longest one that the change fills
                best[found.middle, found.kind] = found
            best.setdefault((found.middle, found.kind), found)
    yield from best.values()


def _tests(small: np.ndarray, steps: np.ndarray, variance: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Tests all stretches of `2 * half` steps: `[2, M]` costs as dissolve and as fade, `[M]` if the change fills it."""
    first, middle, last = small[: -2 * half], small[half:-half], small[2 * half :]  # [M, C, h, w]
    whole = _distance(first, last)  # [M]
    way = _distance(first, middle) + _distance(middle, last)
    near, count = half - half // 2, len(whole)  # quarters of the way, and what of each a mix of the ends leaves over
    late = 2 * half - near
    points = ((near, small[near:][:count]), (half, middle), (late, small[late:][:count]))
    rests = [_distance(point, first + (last - first) * (at / (2 * half))) for at, point in points]
    residue = sum(rests) / 3 / (whole + 1e-6)
    ends = (variance[: -2 * half] + variance[2 * half :]) / 2 + 1
    share = variance[half:-half] / ends  # of the variance that the middle has left
    largest = np.lib.stride_tricks.sliding_window_view(steps[1:], 2 * half).max(1)  # [M]
    differs = (whole >= MIN_GRADUAL_DISTANCE) & (_likeness(first, last) < MAX_GRADUAL_LIKENESS)
    is_straight = (residue <= MAX_STRAIGHT_RESIDUE) & (whole >= MIN_STRAIGHT_DISTANCE)
    is_mixed = (share + residue <= MAX_DISSOLVE_COST) | is_straight
    is_dissolve = differs & is_mixed & (largest <= MAX_STEP * whole)
    deviation = np.sqrt(np.minimum(variance[: -2 * half], variance[2 * half :]))
    is_fade = (share <= MAX_FADE_VARIANCE) & (deviation >= MIN_FADE_DEVIATION) & (largest <= MAX_STEP * way / 2)
    # variance dips as a parabola: half way to the ends 3/4 of the dip are left, whatever its depth, if the ends are the
    # ends of the change, and less if they lie beyond
    quarters = (variance[near:][:count] + variance[late:][:count]) / 2 / ends
    is_filled = 1 - quarters >= MIN_FILL * (1 - share)
    costs = np.where(is_dissolve, 1 + share + residue, np.inf), np.where(is_fade, share, np.inf)  # fades go first
    return np.stack(costs), is_filled


def _planes(pictures: np.ndarray) -> np.ndarray:
    """RGB uint8 `[T, C, H, W]` -> YCbCr float32 without the offset of the colours."""
    red, green, blue = (pictures[:, c].astype(np.float32) for c in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([luma, 0.564 * (blue - luma), 0.713 * (red - luma)], 1)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b).mean((-1, -2)).sum(-1)


def _likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of luma; where there is hardly a picture it goes to 0."""
    a, b = (x[..., 0, :, :] - x[..., 0, :, :].mean((-1, -2), keepdims=True) for x in (a, b))
    return (a * b).mean((-1, -2)) / np.sqrt((a * a).mean((-1, -2)) * (b * b).mean((-1, -2)) + 16)


def _shrink(frame: np.ndarray) -> np.ndarray:
    """Means of nearly equal blocks: `[C, H, W]` -> `[C, 36, 64]`."""
    rows, columns = (np.arange(n + 1) * size // n for n, size in zip(THUMBNAIL, frame.shape[1:], strict=True))
    total = np.add.reduceat(np.add.reduceat(frame.astype(np.float32), rows[:-1], 1), columns[:-1], 2)
    return np.rint(total / (np.diff(rows)[:, None] * np.diff(columns))).astype(np.uint8)
