"""A folder of still frames that is read like a video."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from vitascope.structures import Clip, VideoError
from vitascope.video.asked import Size, output_size, positions_of

if TYPE_CHECKING:
    import torch

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # those of 8 bits


class FrameFolder:
    """Reads the images of one folder as the frames of a video, in the natural order of their names (2 before 10).

    Images are `.jpg`, `.jpeg`, `.png` and `.webp` files; other and hidden files are left out. Opening reads the header
    of the first one; each image is decoded when it is asked for and then forgotten. Frames are uint8 RGB, turned as
    their EXIF data says, and all of one size.

    Args:
        folder: A folder that holds the images itself.
        fps: Frames per second: frame `i` is shown from `i / fps`.

    Raises:
        VideoError: `missing`, `not_a_video` (a file), `empty` (no image), `unsupported` (two images of one name,
            16-bit images, frames of several sizes) or `damaged`, of an image; later `out_of_range`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("10.png", "9.png", "notes.txt"):
        ...         Image.new("RGB", (6, 4)).save(f"{folder}/{name}", format="PNG")
        ...     with FrameFolder(folder) as frames:
        ...         frames.names, frames.size, [(seconds, list(frame.shape)) for seconds, frame in frames.iterate()]
        (('9', '10'), (4, 6), [(0.0, [3, 4, 6]), (0.04, [3, 4, 6])])
    """

    def __init__(self, folder: str | os.PathLike[str], *, fps: float = 25.0) -> None:
        if not 0 < fps <= 1000:
            raise ValueError(f"fps ({fps}) must be > 0 and <= 1000")
        self.path, self.fps = os.fspath(folder), float(fps)
        if not os.path.exists(self.path):
            raise VideoError(self.path, "missing", "no such folder; name a folder of images")
        if not os.path.isdir(self.path):
            raise VideoError(self.path, "not_a_video", "a file, not a folder of images; name the folder that holds it")
        self._files = image_files(self.path)
        if not self._files:
            detail = f"the folder holds no image; frames are files {', '.join(EXTENSIONS)} in the folder itself"
            raise VideoError(self.path, "empty", detail)
        self.names = tuple(file.stem for file in self._files)
        _refuse_twins(self.path, self._files)
        self.size = self._first_size()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def duration_seconds(self) -> float:
        """From the first frame's start to the last frame's end."""
        return len(self) / self.fps

    def frames_at(self, indices: Sequence[int], size: Size = None) -> Clip:
        """The frames with these numbers, in the order asked.

        Args:
            indices: Frame numbers `[T]` in 0 to `len(self) - 1`, in any order, repetitions welcome.
            size: None for the native size, the short side in pixels, or (height, width).

        Raises:
            VideoError: `out_of_range`, `unsupported` or `damaged`.
        """
        import torch

        wanted = positions_of(self.path, indices, len(self))
        positions, inverse = np.unique(wanted, return_inverse=True)
        frames = np.empty((len(positions), 3, *output_size(self.size, size)), np.uint8)
        for position, out in zip(positions.tolist(), frames):
            out[:] = self._picture(position, size)
        return Clip(torch.from_numpy(frames[inverse]), wanted / self.fps)  # [T, C, H, W]

    def iterate(
        self, start_seconds: float = 0.0, end_seconds: float | None = None, size: Size = None
    ) -> Iterator[tuple[float, torch.Tensor]]:
        """Yields time and picture, uint8 `[C, H, W]`, of the frames that start in `[start_seconds, end_seconds)`.

        Raises:
            VideoError: `unsupported` or `damaged`, naming the frame.
        """
        import torch

        times = np.arange(len(self)) / self.fps
        first = np.searchsorted(times, start_seconds - 1e-6)
        last = len(times) if end_seconds is None else np.searchsorted(times, end_seconds - 1e-6)
        for position in range(int(first), int(last)):
            yield float(times[position]), torch.from_numpy(self._picture(position, size))  # [C, H, W]

    def close(self) -> None:
        """Does nothing, as no file stays open; a video's reader has it too."""

    def __enter__(self) -> FrameFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _first_size(self) -> tuple[int, int]:
        first = self._files[0]
        try:
            with Image.open(first) as image:
                width, height = image.size
                turned = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 lie on their side
        except Exception as error:
            raise self._damaged(first, error) from error
        return (width, height) if turned else (height, width)

    def _picture(self, position: int, size: Size) -> np.ndarray:
        """One frame, uint8 `[C, H, W]`; scaled by area (bilinear when enlarging)."""
        file = self._files[position]
        try:
            with Image.open(file) as image:
                mode, image = image.mode, ImageOps.exif_transpose(image)
                picture = image.convert("RGB") if mode in MODES else None
        except Exception as error:  # what a decoder raises on damaged bytes is any kind of exception
            raise self._damaged(file, error) from error
        if picture is None:
            detail = f"{file.name} has pixels of kind {mode}, more than 8 bits; convert the frames to 8-bit images"
            raise VideoError(self.path, "unsupported", detail)
        if picture.size != self.size[::-1]:
            here, first = f"{picture.width}x{picture.height}", f"{self.size[1]}x{self.size[0]}"
            detail = f"{file.name} is {here}, but {self._files[0].name} is {first}; make all frames of one size"
            raise VideoError(self.path, "unsupported", detail)
        height, width = output_size(self.size, size)
        if (height, width) != self.size:
            shrinks = height <= self.size[0] and width <= self.size[1]
            method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
            picture = picture.resize((width, height), method)
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))

    def _damaged(self, file: Path, error: Exception) -> VideoError:
        detail = f"the image {file.name} cannot be decoded ({error}); copy it again from its source"
        return VideoError(self.path, "damaged", detail)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The images that lie in a folder, hidden ones left out, in the natural order of their names.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("f10.jpg", "f9.JPG", "._f9.jpg", "f.txt"):
        ...         Path(folder, name).touch()
        ...     [file.name for file in image_files(folder)]
        ['f9.JPG', 'f10.jpg']
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name[0] != "." and entry.is_file()]
    images = [name for name in names if os.path.splitext(name)[1].lower() in EXTENSIONS]
    return [Path(folder, name) for name in sorted(images, key=natural_key)]


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key that sorts runs of digits as numbers.

    Example:
        >>> sorted(["b", "a10", "a9", "a"], key=natural_key)
        ['a', 'a9', 'a10', 'b']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts], name


def _refuse_twins(path: str, files: list[Path]) -> None:
    """Frames are known by their names without extension: masks are named after them."""
    seen: dict[str, Path] = {}
    for file in files:
        twin = seen.setdefault(file.stem, file)
        if twin is not file:
            detail = f"{twin.name} and {file.name} are two frames of one name; keep one of them, or rename it"
            raise VideoError(path, "unsupported", detail)
