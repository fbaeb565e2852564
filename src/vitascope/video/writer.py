"""Frames -> files: H.264 mp4 that plays in a browser, PNG sequences, palette masks; and pictures of masks and labels.

Everything here takes numpy arrays, or whatever `np.asarray` takes (a torch tensor too), and never imports torch.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageDraw, ImageFont

CLOCK = 90_000  # ticks a second of a variable-rate file


class VideoWriter:
    """Writes frames to an H.264 mp4 (yuv420p, index in front) that browsers play; a context manager.

    The file appears under its name when the block ends without an error, complete and synced, or not at all: until
    then it is a hidden temporary file in the same folder. One thread and the same frames give the same bytes.

    An odd height or width is padded by one row or column, a copy of the last, because 4:2:0 video has even sizes: no
    pixel is lost, and the file is one pixel larger. Colours are BT.601 limited range, tagged as such: that is also
    what readers assume that ignore the tag.

    Args:
        path: The file to write, by convention `.mp4`; replaced if it exists.
        fps: Frames per second, a float or an exact `Fraction(30000, 1001)`. With `times_seconds` it gives only the
            duration of the last frame.
        crf: Quality, 0 (lossless in yuv420p) to 51 (worst).
        gop: Largest distance of two key frames in frames; None leaves it to the encoder (250).
        num_threads: Of the encoder. More than one makes other bytes.

    Raises:
        ValueError: An argument is out of its range, or no frame was written.

    Example:
        >>> import tempfile
        >>> frames = np.zeros((4, 3, 31, 48), np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with VideoWriter(f"{folder}/a.mp4", 25) as writer:
        ...         writer.write(frames)
        ...     with av.open(f"{folder}/a.mp4") as file:
        ...         print([(frame.time, frame.width, frame.height) for frame in file.decode()][:2])
        [(0.0, 48, 32), (0.04, 48, 32)]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float | Fraction,
        *,
        crf: int = 18,
        gop: int | None = None,
        num_threads: int = 1,
    ) -> None:
        if not 0 < fps <= 1000:
            raise ValueError(f"fps ({fps}) must be > 0 and <= 1000")
        if not 0 <= crf <= 51:
            raise ValueError(f"crf ({crf}) must be between 0 (best) and 51")
        if gop is not None and gop < 1:
            raise ValueError(f"gop ({gop}) must be >= 1, or None for the encoder's choice")
        if num_threads < 1:
            raise ValueError(f"num_threads ({num_threads}) must be >= 1")
        self.path = Path(path)
        self.fps = Fraction(fps).limit_denominator(100_000)
        self.num_frames = 0
        self._options = {"crf": str(crf), "preset": "veryfast", "x264-params": "mbtree=0"} | (
            {"g": str(gop)} if gop else {}
        )
        self._num_threads = num_threads
        self._temporary: Path | None = None
        self._size: tuple[int, int] | None = None  # H, W as given
        self._last_pts = -1

    def __enter__(self) -> VideoWriter:
        self._temporary = temporary_beside(self.path)
        try:
            # bitexact leaves out the library's version and the clock, so the bytes depend on the frames alone; the edit
            # list counts in movie_timescale, whose default of 1/1000 s would shift a start that is not 0
            options = {"movflags": "+faststart", "fflags": "+bitexact", "movie_timescale": str(CLOCK)}
            self._container = av.open(str(self._temporary), "w", format="mp4", options=options)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        self._reformatter = VideoReformatter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self.num_frames == 0:
                raise ValueError(f"no frame was written to {self.path}; write at least one inside the block")
            if kind is None:
                self._container.mux(self._stream.encode(None))
                self._container.close()
                move_into_place(self._temporary, self.path)
        finally:
            self._container.close()
            self._temporary.unlink(missing_ok=True)

    def write(self, frames: Any, times_seconds: Any = None) -> None:
        """Adds frames.

        Args:
            frames: uint8 RGB `[T, C, H, W]`, or one frame `[C, H, W]`; the size of the first call holds for all.
            times_seconds: Presentation times, `[T]` or one number, strictly increasing over all calls and >= 0, kept to
                1/90000 s. Given in every call or in none; without them frame `i` is shown at `i / fps`.

        Raises:
            ValueError: Shape, dtype or times are not as said.
            RuntimeError: Outside of the `with` block.
        """
        if self._temporary is None:
            raise RuntimeError("write() outside of the block; use `with VideoWriter(path, fps) as writer:`")
        frames = as_frames(frames)
        is_variable = times_seconds is not None
        if self._size is None:
            self._open_stream(frames.shape[2:], is_variable)
        if frames.shape[2:] != self._size:
            raise ValueError(f"frames are {frames.shape[2:]} (H, W), but the first ones were {self._size}")
        if is_variable != self._is_variable:
            raise ValueError("times_seconds must be given in every call of write() or in none")
        for frame, pts in zip(frames, self._pts(len(frames), times_seconds), strict=True):
            self._encode(frame, pts)

    def _open_stream(self, size: tuple[int, int], is_variable: bool) -> None:
        self._size, self._is_variable = size, is_variable
        self._stream = stream = self._container.add_stream("libx264", rate=self.fps, options=self._options)
        stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, CLOCK) if is_variable else 1 / self.fps
        codec.thread_count = self._num_threads
        codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range = 6, 6, 6, 1  # BT.601, limited

    def _pts(self, count: int, times_seconds: Any) -> list[int]:
        if times_seconds is None:
            return list(range(self.num_frames, self.num_frames + count))
        times = np.atleast_1d(np.asarray(times_seconds, np.float64))
        if times.shape != (count,):
            raise ValueError(f"times_seconds has shape {times.shape}, but there are {count} frames")
        pts = [int(value) for value in np.rint(times * CLOCK)] if np.isfinite(times).all() else [-1]
        if np.any(np.diff([self._last_pts, *pts]) <= 0):
            raise ValueError("times_seconds must be finite, >= 0 and strictly increasing by at least 1/90000 s")
        return pts

    def _encode(self, frame: np.ndarray, pts: int) -> None:
        height, width = self._size
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.transpose(1, 2, 0)), format="rgb24")
        picture = self._reformatter.reformat(
            picture, format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", threads=1
        )
        codec = self._stream.codec_context
        picture.pts, picture.time_base = pts, codec.time_base
        picture.duration = max(1, round(1 / (self.fps * codec.time_base)))
        self._container.mux(self._stream.encode(picture))
        self._last_pts, self.num_frames = pts, self.num_frames + 1


def temporary_beside(path: Path) -> Path:
    """Makes an empty hidden file in the folder of `path`, so that a rename onto `path` is atomic."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    return Path(name)


def move_into_place(temporary: Path, path: Path) -> None:
    """Syncs a finished temporary file and renames it to `path`."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files; the owner expects ordinary ones
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def as_frames(frames: Any) -> np.ndarray:
    """Checks uint8 RGB `[T, C, H, W]` or `[C, H, W]` and returns it as a numpy array `[T, C, H, W]`."""
    frames = np.asarray(frames)
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape[2:]:
        raise ValueError(f"frames ({frames.dtype} {list(frames.shape)}) must be uint8 RGB [T, 3, H, W] or [3, H, W]")
    return frames


def voc_palette() -> np.ndarray:
    """The 256 colours of PASCAL VOC and DAVIS masks, uint8 `[256, 3]`.

    Bit `3k + c` of an index is bit `7 - k` of its channel `c`, so that near indices get far colours.

    Example:
        >>> voc_palette()[:4].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for channel in range(3):
        for k in range(3):
            colours[:, channel] |= (index >> (3 * k + channel) & 1) << (7 - k)
    return colours.astype(np.uint8)


def write_png_sequence(folder: str | os.PathLike[str], frames: Any, pattern: str = "{:05d}.png") -> list[Path]:
    """Writes each frame as a PNG file and returns the files; the folder is made.

    Args:
        folder: Where to.
        frames: uint8 RGB `[T, C, H, W]`.
        pattern: Name of frame `i`, formatted with `i` from 0.

    Raises:
        ValueError: The frames are not as said, or the pattern gives two frames one name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in write_png_sequence(folder, np.zeros((2, 3, 4, 4), np.uint8))]
        ['00000.png', '00001.png']
    """
    frames = as_frames(frames)
    paths = [Path(folder) / pattern.format(i) for i in range(len(frames))]
    if len(set(paths)) < len(paths):
        raise ValueError(f"pattern ({pattern!r}) gives two frames one name; use a field such as {{:05d}}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path, frame in zip(paths, frames, strict=True):
        _save_png(Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))), path)
    return paths


def write_mask_png(path: str | os.PathLike[str], mask: Any) -> None:
    """Writes a mask of object ids, uint8 `[H, W]`, as a palette PNG that DAVIS tools read back index for index.

    Raises:
        ValueError: The mask is not uint8 `[H, W]`.

    Example:
        >>> import tempfile
        >>> mask = np.array([[0, 1], [2, 255]], np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_mask_png(f"{folder}/0.png", mask)
        ...     np.asarray(Image.open(f"{folder}/0.png")).tolist()
        [[0, 1], [2, 255]]
    """
    mask = np.asarray(mask)
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"mask ({mask.dtype} {list(mask.shape)}) must be uint8 [H, W]")
    image = Image.fromarray(np.ascontiguousarray(mask))
    image.putpalette(voc_palette().tobytes())  # turns the grey image into an indexed one, values unchanged
    _save_png(image, Path(path))


def _save_png(image: Image.Image, path: Path) -> None:
    temporary = temporary_beside(path)
    try:
        image.save(temporary, format="PNG")
        move_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def overlay_masks(frames: Any, masks: Any, alpha: float = 0.5) -> np.ndarray:
    """Paints objects over frames in the colours of `voc_palette`; background pixels stay as they are.

    Args:
        frames: uint8 RGB `[T, C, H, W]`.
        masks: uint8 `[T, H, W]` of object ids, 0 is background.
        alpha: Share of the object's colour, in [0, 1].

    Returns:
        uint8 `[T, C, H, W]`, a new array.

    Raises:
        ValueError: Shapes, dtypes or alpha are not as said.

    Example:
        >>> frames, masks = np.full((1, 3, 1, 2), 100, np.uint8), np.array([[[0, 1]]], np.uint8)
        >>> overlay_masks(frames, masks)[0, :, 0].tolist()
        [[100, 114], [100, 50], [100, 50]]
    """
    frames, masks = as_frames(frames), np.asarray(masks)
    if masks.dtype != np.uint8 or masks.shape != (len(frames), *frames.shape[2:]):
        expected = [len(frames), *frames.shape[2:]]
        raise ValueError(f"masks ({masks.dtype} {list(masks.shape)}) must be uint8 {expected}, as the frames")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha ({alpha}) must be between 0 and 1")
    colours = np.moveaxis(voc_palette()[masks], -1, 1)  # [T, C, H, W]
    mixed = np.rint((1 - alpha) * frames.astype(np.float32) + alpha * colours).astype(np.uint8)
    return np.where(masks[:, None] > 0, mixed, frames)


def overlay_labels(frames: Any, texts: Sequence[str]) -> np.ndarray:
    """Writes one text into the top left corner of each frame, white on a black strip.

    Args:
        frames: uint8 RGB `[T, C, H, W]`.
        texts: One for each frame; an empty one leaves its frame as it is. What does not fit is cut off.

    Returns:
        uint8 `[T, C, H, W]`, a new array.

    Raises:
        ValueError: The frames are not as said, or there are not as many texts as frames.

    Example:
        >>> bool(overlay_labels(np.zeros((1, 3, 20, 60), np.uint8), ["jump"]).any())
        True
    """
    frames = as_frames(frames).copy()
    if isinstance(texts, str) or len(texts) != len(frames):
        raise ValueError(f"texts ({texts!r:.60}) must be a list of {len(frames)} strings, one for each frame")
    font = ImageFont.load_default()
    for frame, text in zip(frames, texts, strict=True):
        if text:
            image = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
            draw = ImageDraw.Draw(image)
            left, top, right, bottom = draw.textbbox((3, 2), text, font=font)
            draw.rectangle((0, 0, right + 2, bottom + 2), fill=(0, 0, 0))
            draw.text((3, 2), text, font=font, fill=(255, 255, 255))
            frame[:] = np.asarray(image).transpose(2, 0, 1)
    return frames
