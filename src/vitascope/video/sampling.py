"""Which frames of a video make a clip, by their numbers: the rules of the papers that count frames and not seconds."""

from __future__ import annotations

import numpy as np

from vitascope.structures import Record, VideoError


def clip_indices(num_available: int, num_frames: int, stride_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Frames of a clip that starts anywhere: `num_frames` frames, `stride_frames` apart, all within the video.

    A clip covers `num_frames * stride_frames` frames. In a video of fewer it starts at 0 and, where the next step would
    pass the end, stays where it is.

    Args:
        num_available: Frames of the video.
        num_frames: Frames of the clip.
        stride_frames: Distance of two of them.
        rng: Where the start comes from.

    Returns:
        int64 `[T]`.

    Example:
        >>> clip_indices(5, num_frames=4, stride_frames=2, rng=np.random.default_rng(0)).tolist()
        [0, 2, 4, 4]
    """
    covered = num_frames * stride_frames
    steps = np.arange(num_frames) * stride_frames
    if num_available >= covered:
        return int(rng.integers(num_available - covered + 1)) + steps
    return np.minimum(steps, (num_available - 1) // stride_frames * stride_frames)


def stretch(record: Record, times_seconds: np.ndarray) -> tuple[int, int]:
    """Frames `[first, end)` of a record, given when each frame of its video is shown.

    Raises:
        VideoError: No frame is shown in that time.

    Example:
        >>> stretch(Record("a.mp4", start_seconds=0.5, end_seconds=1.5), np.array([0.0, 0.5, 1.0, 1.5, 2.0]))
        (1, 3)
    """
    first, end = 0, len(times_seconds)
    if record.start_seconds is not None:
        first = int(np.searchsorted(times_seconds, record.start_seconds - 1e-6))
    if record.end_seconds is not None:
        end = int(np.searchsorted(times_seconds, record.end_seconds - 1e-6))
    if first >= end:
        last = times_seconds[-1] if len(times_seconds) else 0.0
        raise VideoError(
            record.path,
            "out_of_range",
            f"no frame is shown in [{record.start_seconds}, {record.end_seconds}) seconds; the last is at {last:.3f}",
        )
    return first, end
