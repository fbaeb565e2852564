"""What the header of a video file says."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import islice

import av
import numpy as np

from vitascope.structures import VideoError
from vitascope.video.container import OpenVideo, video_error

_FIRST_PACKETS = 64  # within which the first frame comes, where the header says that it is turned


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The facts of one video file.

    Attributes:
        path: The file, as it was given.
        codec: FFmpeg's name of the codec, e.g. `h264`.
        container: FFmpeg's name of the container, e.g. `mov,mp4,m4a,3gp,3g2,mj2`.
        width: Pixels as displayed: upright, and square.
        height: Pixels as displayed.
        duration_seconds: As declared; 0 when the header does not say.
        start_seconds: Time of the first frame on the container's clock.
        time_base: Seconds a tick, e.g. `1/12800`.
        average_fps: Frames a second over the whole file, as far as the header tells; 0 when unknown.
        real_fps: The lowest rate at which all times that were seen fall on a frame; 0 when unknown.
        is_variable_rate: None while it is not known: it takes the frame index to tell.
        rotation_degrees: 0, 90, 180 or 270, clockwise; what was done to the stored picture, after mirroring, to display it.
        is_mirrored: Whether the stored picture is mirrored left to right first.
        num_frames: None when the header does not say.
        has_audio: Whether there is a sound track.
        pixel_format: FFmpeg's name, e.g. `yuv420p`.
        bit_depth: Bits a colour component.
    """

    path: str
    codec: str
    container: str
    width: int
    height: int
    duration_seconds: float
    start_seconds: float
    time_base: str
    average_fps: float
    real_fps: float
    is_variable_rate: bool | None
    rotation_degrees: int
    is_mirrored: bool
    num_frames: int | None
    has_audio: bool
    pixel_format: str
    bit_depth: int


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Reads the header of a video file, and no more than that.

    Where the header holds a rotation the first frame is decoded: only frames tell its exact form.

    Raises:
        VideoError: `missing`, `empty`, `not_a_video`, `no_video_stream`, `unsupported`, `damaged` or `too_large`.

    Example:
        >>> probe("nothing.mp4")
        Traceback (most recent call last):
        vitascope.structures.VideoError: nothing.mp4: missing: no such file; local files only, no URLs
    """
    opened = OpenVideo(path)
    try:
        return describe(opened)
    finally:
        opened.close()


def describe(opened: OpenVideo) -> VideoInfo:
    """Like `probe`, of a file just opened; where the header holds a rotation the file is reopened."""
    try:
        matrix = _display_matrix(opened) if opened.may_be_turned else None
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise video_error(opened.path, error) from error
    rotation_degrees, is_mirrored = orientation(matrix) if matrix is not None else (0, False)
    container, stream = opened.container, opened.stream
    codec, tick = stream.codec_context, stream.time_base
    width, height = square_size(codec.width, codec.height, stream.sample_aspect_ratio)
    if rotation_degrees in (90, 270):
        width, height = height, width
    pixels = codec.format
    if pixels is None:
        raise VideoError(
            opened.path, "unsupported", "its pixel format cannot be told; convert it, e.g. to H.264 in mp4"
        )
    if stream.duration is not None:
        duration_seconds = float(stream.duration * tick)
    else:
        duration_seconds = (container.duration or 0) / av.time_base
    return VideoInfo(
        path=opened.path,
        codec=codec.name,
        container=container.format.name,
        width=width,
        height=height,
        duration_seconds=max(duration_seconds, 0.0),
        start_seconds=float((stream.start_time or 0) * tick),
        time_base=f"{tick.numerator}/{tick.denominator}",
        average_fps=float(stream.average_rate or 0),
        real_fps=float(stream.base_rate or 0),
        is_variable_rate=None,
        rotation_degrees=rotation_degrees,
        is_mirrored=is_mirrored,
        num_frames=stream.frames or None,
        has_audio=bool(container.streams.audio),
        pixel_format=pixels.name,
        bit_depth=max((component.bits for component in pixels.components), default=8),
    )


def square_size(width: int, height: int, pixel_aspect: float | None) -> tuple[int, int]:
    """Width and height with square pixels: the width is stretched or shrunk, as players do.

    Example:
        >>> square_size(720, 576, 16 / 15), square_size(640, 360, None)
        ((768, 576), (640, 360))
    """
    aspect = float(pixel_aspect or 1)
    return max(1, round(width * aspect)), height


def orientation(matrix: np.ndarray) -> tuple[int, bool]:
    """Clockwise rotation in degrees and mirroring that a display matrix `[9]` asks for.

    Angles between the right ones go to the nearest.

    Example:
        >>> orientation(np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]))
        (90, False)
    """
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if (a, b) == (0, 0):
        return 0, False
    is_mirrored = a * d - b * c < 0
    radians = math.atan2(-b, -a) if is_mirrored else math.atan2(b, a)
    return round(math.degrees(radians) / 90) % 4 * 90, is_mirrored


def _display_matrix(opened: OpenVideo) -> np.ndarray | None:
    """The display matrix int32 `[9]` of the first frame, if there is one."""
    for packet in islice(opened.packets(), _FIRST_PACKETS):
        try:
            frame = next(iter(opened.stream.decode(packet)), None)
        except av.error.FFmpegError:
            continue
        if frame is not None:
            break
    else:
        frame = next(iter(_flushed(opened)), None)
    opened.reopen()
    data = frame.side_data if frame is not None else {}
    kind = av.sidedata.sidedata.Type.DISPLAYMATRIX
    return np.frombuffer(bytes(data[kind]), np.int32) if kind in data else None


def _flushed(opened: OpenVideo) -> list[av.VideoFrame]:
    try:
        return opened.stream.decode(None)
    except av.error.FFmpegError:
        return []
