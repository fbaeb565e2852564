"""A quick look at a whole file: can it be read, and where not."""

from __future__ import annotations

import os
from dataclasses import replace

import av
import numpy as np

from vitascope.structures import Gap, VideoError
from vitascope.video.container import OpenVideo, video_error
from vitascope.video.decode import Converter, Decoder, gaps_of, lost_gaps, merged
from vitascope.video.index import FrameIndex, build_from
from vitascope.video.probe import VideoInfo, describe

_SAMPLES = 4  # seek points at which a frame is decoded


def check(path: str | os.PathLike[str], *, deep: bool = False) -> tuple[VideoInfo, FrameIndex, tuple[Gap, ...]]:
    """Opens a file, indexes it and decodes a few frames spread over it.

    Args:
        path: A local video file.
        deep: Decode every frame instead.

    Returns:
        The facts (number of frames, duration and kind of rate as the index has them), the frame index, and the gaps met.

    Raises:
        VideoError: The file cannot be opened, or no frame that was tried can be shown.

    Example:
        >>> check("nothing.mp4")
        Traceback (most recent call last):
        vitascope.structures.VideoError: nothing.mp4: missing: no such file; local files only, no URLs
    """
    opened = OpenVideo(path)
    try:
        info = describe(opened)
        index = build_from(opened)
        info = complete(info, index)
        decoder, converter, every = Decoder(opened, index), Converter(info), np.arange(len(index))
        positions = every if deep else _samples(index)
        if _num_shown(decoder, converter, positions) == 0 and _num_shown(decoder, converter, every) == 0:
            raise VideoError(
                info.path, "damaged", f"none of its {len(index)} frames can be decoded; copy it again from its source"
            )
        decoder.close()
    except (av.error.FFmpegError, OSError, MemoryError) as error:
        raise video_error(opened.path, error) from error
    finally:
        opened.close()
    return info, index, merged(gaps_of(decoder.missing, index), lost_gaps(index))


def complete(info: VideoInfo, index: FrameIndex) -> VideoInfo:
    """The facts of the header, with what only the frame index knows."""
    return replace(
        info, num_frames=len(index), duration_seconds=index.duration_seconds, is_variable_rate=index.is_variable_rate
    )


def _samples(index: FrameIndex) -> np.ndarray:
    """The first frame and some key frames: those cost one decoded frame each."""
    starts = np.unique(np.append(0, index.seek_positions[index.seek_positions < len(index)]))
    return starts[np.unique(np.linspace(0, len(starts) - 1, _SAMPLES).round().astype(int))]


def _num_shown(decoder: Decoder, converter: Converter, positions: np.ndarray) -> int:
    """How many frames can be decoded; the first of them is also converted."""
    num_shown = 0
    for position in positions.tolist():
        frame = decoder.frame_at(position)
        if frame is not None and num_shown == 0:
            converter.write(frame, np.empty((3, *converter.native_size), np.uint8))
        num_shown += frame is not None
    return num_shown
