"""Masks from files: PNG images of object ids, and the run-length code of COCO.

`writer.write_mask_png` is the other side of `read_mask`.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import Image

from vitascope.video.asked import MAX_SIDE

PNG = b"\x89PNG\r\n\x1a\n"
KINDS = {
    b"\xff\xd8": "a JPEG",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"RIFF": "a WebP or AVI",
    b"II*": "a TIFF",
    b"MM": "a TIFF",
}
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # colour types of PNG
ALLOWED = (
    "a mask is a palette PNG or a grey PNG of at most 8 bits whose pixel values are object ids, 0 being background"
)


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a mask of object ids: a palette PNG (its indices), a grey PNG of at most 8 bits, or a black and white one.

    Pixel values are kept as they are stored: a palette's colours mean nothing, and white of a 1-bit image is object 1.

    Returns:
        uint8 `[H, W]`, 0 is background.

    Raises:
        ValueError: There is no such file, it is no PNG, it has 16 bits, it is an image of colours, or it is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[0, 7]], np.uint8)).save(f"{folder}/0.png")
        ...     read_mask(f"{folder}/0.png").tolist()
        [[0, 7]]
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; name the PNG image that holds the mask") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; {ALLOWED}") from error
    depth = _checked_depth(path, data)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            mask = np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: the PNG cannot be decoded ({error}); write it again from its source") from error
    if data[25] == GREY and depth in (2, 4):  # spread over 0 to 255 by the decoder
        mask //= 255 // (2**depth - 1)
    return mask.astype(np.uint8)


def _checked_depth(path: str, data: bytes) -> int:
    """Bits of a pixel, read from the header of a PNG that may be a mask."""
    if not data:
        raise ValueError(f"{path}: the file has 0 bytes; {ALLOWED}")
    if not data.startswith(PNG):
        kind = next((name for start, name in KINDS.items() if data.startswith(start)), "no image that can hold ids")
        loss = "; JPEG is lossy and breeds ids that nobody drew, so export the mask again" if kind == "a JPEG" else ""
        raise ValueError(f"{path}: this is {kind}, not a PNG{loss}; {ALLOWED}")
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ValueError(f"{path}: the PNG is cut off within its header; write it again from its source")
    depth, colours = data[24], data[25]
    if colours in (RGB, GREY_ALPHA, RGB_ALPHA):
        name = {RGB: "RGB", GREY_ALPHA: "grey with alpha", RGB_ALPHA: "RGBA"}[colours]
        raise ValueError(
            f"{path}: the PNG is {name}, an image of colours, not of ids; save it as a palette (indexed) or 8-bit grey "
            "PNG whose pixel values are the object ids, even if its colours are those of a palette"
        )
    if depth > 8:
        raise ValueError(f"{path}: the PNG has {depth} bits a pixel; save it with 8 bits: {ALLOWED}")
    return depth


def encode_rle(mask: Any) -> dict[str, Any]:
    """Packs the mask of one object into COCO's compressed run-length code.

    The pixels are read column by column; the lengths of the runs, beginning with one of background (maybe 0), are
    written as differences to the last run of the same kind, from the fourth on, each in groups of 5 bits, the lowest
    first: a bit 0x20 says that more follow, the highest bit of the last group is the sign, and 48 makes it a letter.

    Args:
        mask: bool `[H, W]`.

    Returns:
        `{"size": [H, W], "counts": str}`.

    Raises:
        ValueError: The mask is not bool `[H, W]`, or has no pixel.

    Example:
        >>> encode_rle(np.array([[False, True], [False, True]]))
        {'size': [2, 2], 'counts': '22'}
    """
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.ndim != 2 or not mask.size:
        raise ValueError(f"mask ({mask.dtype} {list(mask.shape)}) must be bool [H, W] with at least one pixel")
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    borders = np.concatenate([[0] * (1 + bool(pixels[0])), changes, [pixels.size]])
    counts = np.diff(borders)
    values = counts.copy()
    values[3:] -= counts[1:-2]
    shifted = values[:, None] >> np.arange(0, 65, 5).clip(max=63)  # before each group of 5 bits  [N, 13]
    groups, rest = shifted[:, :-1] & 31, shifted[:, 1:]
    goes_on = np.where(groups & 16, rest != -1, rest != 0)
    is_written = np.concatenate([np.ones((len(values), 1), bool), np.logical_and.accumulate(goes_on, 1)[:, :-1]], 1)
    letters = (groups + 32 * goes_on + 48)[is_written]
    return {"size": [int(side) for side in mask.shape], "counts": letters.astype(np.uint8).tobytes().decode("ascii")}


def decode_rle(code: dict[str, Any]) -> np.ndarray:
    """Unpacks COCO's run-length code, compressed (`counts` a string) or not (a list of lengths).

    Returns:
        bool `[H, W]`.

    Raises:
        ValueError: The code is not as said, or its runs do not fill the image.

    Example:
        >>> decode_rle({"size": [2, 2], "counts": "22"}).tolist()
        [[False, True], [False, True]]
    """
    try:
        (height, width), counts = (int(side) for side in code["size"]), code["counts"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"rle ({code!r:.60}) must be {{'size': [H, W], 'counts': str or list}}") from None
    runs = _runs(counts) if isinstance(counts, (str, bytes)) else np.asarray(counts, np.int64)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"rle: size {[height, width]} must have sides of 1 to {MAX_SIDE} pixels")
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"rle: the runs add up to {runs.sum()} pixels, but size {[height, width]} has {height * width}"
        )
    is_object = np.arange(len(runs)) % 2 == 1
    return np.repeat(is_object, runs).reshape(width, height).T.copy()


def _runs(counts: str | bytes) -> np.ndarray:
    """The lengths of the runs that a compressed string tells."""
    data = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    letters = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if not len(letters) or (letters < 0).any() or (letters > 63).any() or letters[-1] & 32:
        raise ValueError(f"rle counts ({counts!r:.40}) must be letters from '0' to 'o' that end with a whole number")
    is_last = (letters & 32) == 0
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 12:
        raise ValueError(f"rle counts ({counts!r:.40}) has a number of more than 60 bits")
    places = np.arange(len(letters)) - np.repeat(starts, lengths)
    values = np.add.reduceat((letters & 31) << 5 * places, starts)
    values -= np.where(letters[ends] & 16, 1 << 5 * lengths, 0)
    values[1::2] = np.cumsum(values[1::2])  # each run of a kind is told by its difference to the one before
    values[2::2] = np.cumsum(values[2::2])
    return values
