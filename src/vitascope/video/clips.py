"""Which instants of a video make a clip; pure functions in seconds, and one reader of many overlapping windows.

A clip is `num_frames` sampling instants, `stride_seconds` apart; at instant `t` the video shows its last frame with
presentation time <= `t`. Functions work on the stretch `[first_seconds, last_seconds]`, both ends included: by default
from the first frame of the video (0) to its last one, whose presentation time is the last valid instant. The span of a
clip is `(num_frames - 1) * stride_seconds`. Every function says what happens to instants past `last_seconds` by `end`:

- `repeat_last`: they become `last_seconds`, so the last frame is repeated;
- `wrap`: the first of them becomes `first_seconds` and the clip goes on from there, as often as needed;
- `error`: they raise `ValueError`.

Instants within a nanosecond of `last_seconds` count as `last_seconds`. Times are float64.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vitascope.structures import Clip, VideoError

if TYPE_CHECKING:
    from torch import Tensor

End = Literal["repeat_last", "wrap", "error"]
TOLERANCE_SECONDS = 1e-9  # rounding of sums and products of times


def dense_times(
    start_seconds: float,
    num_frames: int,
    stride_seconds: float,
    last_seconds: float,
    *,
    first_seconds: float = 0.0,
    end: End = "repeat_last",
) -> np.ndarray:
    """Instants of the clip that starts at `start_seconds`: `start_seconds + i * stride_seconds`.

    Args:
        start_seconds: First instant, in `[first_seconds, last_seconds]`.
        num_frames: Number of instants, > 0.
        stride_seconds: Their distance, > 0.
        last_seconds: Last valid instant of the stretch.
        first_seconds: First valid instant of the stretch.
        end: What happens past `last_seconds`, see the module.

    Returns:
        float64 `[T]`.

    Raises:
        ValueError: An argument is out of its range, or the clip passes the end and `end` is `error`.

    Example:
        >>> dense_times(2.0, 4, 1.0, last_seconds=3.0).tolist()
        [2.0, 3.0, 3.0, 3.0]
        >>> dense_times(2.0, 4, 1.0, last_seconds=3.0, end="wrap").tolist()
        [2.0, 3.0, 0.0, 1.0]
    """
    _check(num_frames, stride_seconds, first_seconds, last_seconds)
    if not first_seconds <= start_seconds <= last_seconds + TOLERANCE_SECONDS:
        raise ValueError(f"start_seconds ({start_seconds}) must be between {first_seconds} and {last_seconds}")
    starts = np.array([start_seconds], np.float64)
    return _finish(starts, num_frames, stride_seconds, first_seconds, last_seconds, end)[0]  # [T]


def uniform_times(
    num_clips: int,
    num_frames: int,
    stride_seconds: float,
    last_seconds: float,
    *,
    first_seconds: float = 0.0,
    end: End = "repeat_last",
) -> np.ndarray:
    """Instants of clips that are spread evenly: the first starts at the first valid instant, the last ends at the last.

    One clip is put in the middle. Where the stretch is shorter than a clip, all start at `first_seconds`. With
    `num_frames=1` this gives single frames spread over the stretch.

    Args:
        num_clips: Number of clips, > 0.
        num_frames: As in `dense_times`, and so are the rest.
        stride_seconds: Distance of two instants.
        last_seconds: Last valid instant.
        first_seconds: First valid instant.
        end: What happens past `last_seconds`, see the module.

    Returns:
        float64 `[S, T]`.

    Raises:
        ValueError: As `dense_times`.

    Example:
        >>> uniform_times(3, 2, 1.0, last_seconds=5.0).tolist()
        [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    """
    _check(num_frames, stride_seconds, first_seconds, last_seconds)
    if num_clips < 1:
        raise ValueError(f"num_clips ({num_clips}) must be > 0")
    latest = _latest_start(num_frames, stride_seconds, first_seconds, last_seconds)
    middle = np.array([(first_seconds + latest) / 2])
    starts = middle if num_clips == 1 else np.linspace(first_seconds, latest, num_clips)
    return _finish(starts, num_frames, stride_seconds, first_seconds, last_seconds, end)  # [S, T]


def random_times(
    rng: np.random.Generator,
    num_clips: int,
    num_frames: int,
    stride_seconds: float,
    last_seconds: float,
    *,
    first_seconds: float = 0.0,
    end: End = "repeat_last",
) -> np.ndarray:
    """Instants of clips whose starts are drawn independently and uniformly from all that fit into the stretch.

    Where the stretch is shorter than a clip, all start at `first_seconds`.

    Args:
        rng: Source of the randomness; one draw a clip.
        num_clips: Number of clips, > 0.
        num_frames: As in `dense_times`, and so are the rest.
        stride_seconds: Distance of two instants.
        last_seconds: Last valid instant.
        first_seconds: First valid instant.
        end: What happens past `last_seconds`, see the module.

    Returns:
        float64 `[S, T]`, in the order drawn.

    Raises:
        ValueError: As `dense_times`.

    Example:
        >>> times = random_times(np.random.default_rng(0), 100, 2, 0.5, last_seconds=5.0)
        >>> times.shape, bool(times.min() >= 0), bool(times.max() <= 5)
        ((100, 2), True, True)
    """
    _check(num_frames, stride_seconds, first_seconds, last_seconds)
    if num_clips < 1:
        raise ValueError(f"num_clips ({num_clips}) must be > 0")
    latest = _latest_start(num_frames, stride_seconds, first_seconds, last_seconds)
    starts = rng.uniform(first_seconds, latest, num_clips)
    return _finish(starts, num_frames, stride_seconds, first_seconds, last_seconds, end)  # [S, T]


def sliding_times(
    num_frames: int,
    stride_seconds: float,
    hop_seconds: float,
    last_seconds: float,
    *,
    first_seconds: float = 0.0,
    end: End = "repeat_last",
) -> np.ndarray:
    """Instants of windows that start every `hop_seconds` from `first_seconds` on.

    There are as many windows as it takes for the last one to reach `last_seconds`, so only the last may pass the end.
    With `end="error"` none may: the windows are the ones that fit as a whole, and it is an error if not one does.

    Args:
        num_frames: As in `dense_times`, and so are the rest.
        stride_seconds: Distance of two instants.
        hop_seconds: Distance of two windows, > 0.
        last_seconds: Last valid instant.
        first_seconds: First valid instant.
        end: What happens past `last_seconds`, see the module.

    Returns:
        float64 `[S, T]`, sorted.

    Raises:
        ValueError: An argument is out of its range, or no window fits and `end` is `error`.

    Example:
        >>> sliding_times(2, 1.0, 2.0, last_seconds=4.0).tolist()
        [[0.0, 1.0], [2.0, 3.0], [4.0, 4.0]]
        >>> sliding_times(2, 1.0, 2.0, last_seconds=4.0, end="error").tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    _check(num_frames, stride_seconds, first_seconds, last_seconds)
    if not hop_seconds > 0:
        raise ValueError(f"hop_seconds ({hop_seconds}) must be > 0")
    room = last_seconds - first_seconds - (num_frames - 1) * stride_seconds
    if end == "error":
        hops = max(0, int(np.floor((room + TOLERANCE_SECONDS) / hop_seconds)))
    else:  # where the hop is longer than the window, none may start past the end
        hops = max(0, int(np.ceil((room - TOLERANCE_SECONDS) / hop_seconds)))
        hops = min(hops, int(np.floor((last_seconds - first_seconds + TOLERANCE_SECONDS) / hop_seconds)))
    starts = np.minimum(first_seconds + np.arange(hops + 1) * hop_seconds, last_seconds)
    return _finish(starts, num_frames, stride_seconds, first_seconds, last_seconds, end)  # [S, T]


def pair_times(
    rng: np.random.Generator,
    num_frames: int,
    stride_seconds: float,
    max_distance_seconds: float,
    last_seconds: float,
    *,
    first_seconds: float = 0.0,
    end: End = "repeat_last",
) -> tuple[np.ndarray, np.ndarray]:
    """Instants of two clips whose starts (so also their centres) are at most `max_distance_seconds` apart.

    The first start is uniform over all that fit; the second is uniform over those of them that are near enough.

    Args:
        rng: Source of the randomness; two draws.
        num_frames: As in `dense_times`, and so are the rest.
        stride_seconds: Distance of two instants.
        max_distance_seconds: >= 0; 0 gives the same clip twice, infinity two independent clips.
        last_seconds: Last valid instant.
        first_seconds: First valid instant.
        end: What happens past `last_seconds`, see the module.

    Returns:
        Two float64 `[T]`.

    Raises:
        ValueError: As `dense_times`.

    Example:
        >>> a, b = pair_times(np.random.default_rng(0), 16, 0.1, 1.0, last_seconds=60.0)
        >>> bool(abs(a[0] - b[0]) <= 1.0)
        True
    """
    _check(num_frames, stride_seconds, first_seconds, last_seconds)
    if not max_distance_seconds >= 0:
        raise ValueError(f"max_distance_seconds ({max_distance_seconds}) must be >= 0")
    latest = _latest_start(num_frames, stride_seconds, first_seconds, last_seconds)
    one = rng.uniform(first_seconds, latest)
    near = max(first_seconds, one - max_distance_seconds), min(latest, one + max_distance_seconds)
    starts = np.array([one, rng.uniform(*near)])
    times = _finish(starts, num_frames, stride_seconds, first_seconds, last_seconds, end)  # [2, T]
    return times[0], times[1]


def _check(num_frames: int, stride_seconds: float, first_seconds: float, last_seconds: float) -> None:
    if num_frames < 1:
        raise ValueError(f"num_frames ({num_frames}) must be > 0")
    if not 0 < stride_seconds < np.inf:
        raise ValueError(f"stride_seconds ({stride_seconds}) must be > 0 and finite")
    if not 0 <= first_seconds <= last_seconds < np.inf:
        raise ValueError(f"first_seconds ({first_seconds}) must be >= 0 and <= last_seconds ({last_seconds})")


def _latest_start(num_frames: int, stride_seconds: float, first_seconds: float, last_seconds: float) -> float:
    return max(first_seconds, last_seconds - (num_frames - 1) * stride_seconds)


def _finish(
    starts: np.ndarray, num_frames: int, stride_seconds: float, first_seconds: float, last_seconds: float, end: End
) -> np.ndarray:
    """Instants `[S, T]` of the clips that begin at `starts` `[S]`, with the end policy applied."""
    steps = np.arange(num_frames)
    times = starts[:, None] + steps * stride_seconds  # [S, T]
    past = times > last_seconds + TOLERANCE_SECONDS
    if end == "wrap":
        num_before = (~past).sum(1, keepdims=True)  # [S, 1]
        loop = int((last_seconds - first_seconds + TOLERANCE_SECONDS) / stride_seconds) + 1
        times = np.where(past, first_seconds + (steps - num_before) % loop * stride_seconds, times)
    elif end == "error" and past.any():
        clip = times[past.any(1)][0]
        raise ValueError(
            f"the clip from {clip[0]:.3f} to {clip[-1]:.3f} s passes the last frame at {last_seconds:.3f} s; "
            "shorten it, or choose end='repeat_last' or 'wrap'"
        )
    elif end not in ("repeat_last", "wrap", "error"):
        raise ValueError(f"end ({end!r}) must be one of repeat_last, wrap, error")
    return np.minimum(times, last_seconds)


def read_windows(
    reader: Any, times: np.ndarray, size: int | tuple[int, int] | None = None
) -> Iterator[tuple[int, Clip]]:
    """Reads many windows of one video in one forward pass: what overlaps is decoded once.

    Windows come as soon as their last frame is decoded. A frame is kept only while a window waits for it, so memory
    grows with the overlap of the windows and not with the video. A window with an instant in a stretch that cannot be
    decoded does not come: the caller sees which by their absence, and where in `reader.gaps`.

    Args:
        reader: A `VideoReader`; used are `index.times_seconds`, `iterate` and `gaps`.
        times: float64 `[S, T]`, the instants of each window, in any order; each >= 0.
        size: As in `VideoReader.iterate`.

    Yields:
        `(s, clip)`, `clip` for row `s` of `times`: uint8 frames `[T, C, H, W]` and their presentation times. By the
        last instant, rows with the same one in the order of `times`.

    Raises:
        ValueError: `times` is not `[S, T]` of finite numbers.
        VideoError: An instant is outside of the video (`out_of_range`), or the reader's own.
    """
    times = np.asarray(times, np.float64)
    if times.ndim != 2 or times.size == 0 or not np.isfinite(times).all():
        raise ValueError(f"times {list(times.shape)} must be finite [S, T] with S and T > 0")
    pts = reader.index.times_seconds
    shown = np.searchsorted(pts, times + TOLERANCE_SECONDS, side="right") - 1  # [S, T] frame at each instant
    if shown.min() < 0 or times.max() > max(reader.duration_seconds, pts[-1]) + TOLERANCE_SECONDS:
        raise VideoError(
            str(getattr(reader, "path", "")),
            "out_of_range",
            f"instants from {times.min():.3f} to {times.max():.3f} s asked, the video is {reader.duration_seconds:.3f} s",
        )
    last = shown.max(1)  # [S] the frame that completes each window
    waiting = deque(np.argsort(last, kind="stable").tolist())
    uses = np.bincount(shown.ravel(), minlength=len(pts))  # [N] how many instants still wait for each frame
    kept: dict[int, Tensor] = {}
    between = np.r_[0.0, (pts[1:] + pts[:-1]) / 2, pts[-1] + 1]  # frame i starts in [between[i], between[i + 1])
    for first, stop in _runs(np.flatnonzero(uses)):
        for seconds, frame in reader.iterate(float(between[first]), float(between[stop + 1]), size=size):
            number = int(np.searchsorted(between, seconds, side="right")) - 1
            if uses[number]:
                kept[number] = frame
            while waiting and last[waiting[0]] <= number:
                yield from _take(waiting.popleft(), shown, pts, kept, uses)
        while waiting and last[waiting[0]] <= stop:  # the end of the run was not decoded
            yield from _take(waiting.popleft(), shown, pts, kept, uses)


def _runs(needed: np.ndarray) -> list[tuple[int, int]]:
    """Groups frame numbers, sorted, into stretches without a pause: (first, last) of each.

    Between stretches the reader decides whether to decode on or to seek; it converts no frame that nobody asked for.
    """
    breaks = np.flatnonzero(np.diff(needed) > 1)
    firsts, lasts = np.r_[0, breaks + 1], np.r_[breaks, len(needed) - 1]
    return [(int(needed[a]), int(needed[b])) for a, b in zip(firsts, lasts, strict=True)]


def _take(
    window: int, shown: np.ndarray, pts: np.ndarray, kept: dict[int, Tensor], uses: np.ndarray
) -> Iterator[tuple[int, Clip]]:
    """Yields the window if all its frames were decoded, and forgets the frames that no other window waits for."""
    import torch

    numbers = shown[window].tolist()
    if all(number in kept for number in numbers):
        yield window, Clip(torch.stack([kept[number] for number in numbers]), pts[shown[window]])
    np.subtract.at(uses, shown[window], 1)
    for number in set(numbers):
        if not uses[number]:
            kept.pop(number, None)
