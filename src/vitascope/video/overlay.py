"""Cut-outs as people look at them: a film with the objects painted on, a sheet of single frames; and their masks' files.

This module is the `Drawing` that `engine.predict` asks for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitascope.video.masks import encode_rle, read_mask
from vitascope.video.writer import VideoWriter, as_frames, move_into_place, overlay_masks, temporary_beside
from vitascope.video.writer import write_mask_png as write_mask

__all__ = ["encode_rle", "read_mask", "tile", "write_film", "write_mask", "write_sheet"]

TILE_PIXELS = 360  # width of a picture of the sheet
COLUMNS = 3
SMALL_PIXELS = 160  # a frame of a shorter side would be hidden by a text that can be read
LINE_COLOUR = (255, 232, 64)  # of an object's outline: seen on light and on dark


def write_film(path: str | os.PathLike[str], pictures: Iterable[tuple[float, Any, Any, str]], fps: float) -> None:
    """Writes an mp4 of frames with their objects painted on.

    Args:
        path: The file; there when all pictures are through, or not at all.
        pictures: For each frame its time in seconds, the frame uint8 `[3, H, W]`, its mask uint8 `[H, W]`, and a text.
        fps: Gives the duration of the last frame.
    """
    with VideoWriter(path, fps, crf=23) as writer:
        for seconds, frame, mask, text in pictures:
            writer.write(labelled(painted(frame, mask), text), seconds)


def painted(frame: Any, mask: Any) -> np.ndarray:
    """A frame uint8 `[3, H, W]` with the objects of a mask uint8 `[H, W]` painted on and outlined, a new array.

    Example:
        >>> mask = np.zeros((6, 6), np.uint8)
        >>> mask[2:5, 2:5] = 1
        >>> painted(np.full((3, 6, 6), 100, np.uint8), mask)[0, 2:5, 2:5].tolist()
        [[255, 255, 255], [255, 114, 255], [255, 255, 255]]
    """
    frame, mask = np.array(as_frames(frame)[0]), np.asarray(mask)
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    if not len(rows):
        return frame
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # an object is small, a frame is large
    part = mask[box]
    inside = overlay_masks(frame[(slice(None), *box)], part[None])[0]
    around = np.pad(part, 1)
    is_edge = np.zeros(part.shape, bool)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        is_edge |= around[dy : dy + part.shape[0], dx : dx + part.shape[1]] != part
    inside[:, is_edge & (part > 0)] = np.array(LINE_COLOUR, np.uint8)[:, None]
    frame[(slice(None), *box)] = inside
    return frame


def labelled(frame: Any, text: str) -> np.ndarray:
    """A frame uint8 `[3, H, W]` with a text in its top left corner, as large as the frame asks for; none in a small one."""
    frame = np.array(as_frames(frame)[0])
    if not text or min(frame.shape[1:]) < SMALL_PIXELS:
        return frame
    font = ImageFont.load_default(max(11, frame.shape[1] // 26))
    left, top, right, bottom = (int(side) for side in font.getbbox(text))
    height, width = min(bottom + 6, frame.shape[1]), min(right + 10, frame.shape[2])
    corner = Image.fromarray(np.ascontiguousarray(frame[:, :height, :width].transpose(1, 2, 0) // 4))
    ImageDraw.Draw(corner).text((5, 2), text, font=font, fill=(255, 255, 255))
    frame[:, :height, :width] = np.asarray(corner).transpose(2, 0, 1)
    return frame


def tile(frame: Any, mask: Any) -> np.ndarray:
    """A small picture for the sheet, uint8 `[3, h, w]`: scaled first, so that the outline is one pixel wide."""
    frame, mask = as_frames(frame)[0], np.asarray(mask)
    size = (TILE_PIXELS, max(1, round(mask.shape[0] * TILE_PIXELS / mask.shape[1])))
    small = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))).resize(size, Image.Resampling.BOX)
    small_mask = Image.fromarray(np.ascontiguousarray(mask)).resize(size, Image.Resampling.NEAREST)
    return painted(np.asarray(small).transpose(2, 0, 1), np.asarray(small_mask))


def write_sheet(path: str | os.PathLike[str], tiles: list[tuple[np.ndarray, str]]) -> None:
    """Writes a PNG with pictures of one size in rows, each with its text below; whole or not at all."""
    path, font, line = Path(path), ImageFont.load_default(14), 24
    height, width = tiles[0][0].shape[1:] if tiles else (1, TILE_PIXELS)
    columns = min(COLUMNS, max(1, len(tiles)))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + 8) + 8, max(1, rows) * (height + line + 8) + 8), (24, 26, 30))
    draw = ImageDraw.Draw(sheet)
    for i, (picture, text) in enumerate(tiles):
        x, y = 8 + i % columns * (width + 8), 8 + i // columns * (height + line + 8)
        sheet.paste(Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))), (x, y))
        draw.text((x + 2, y + height + 3), text, font=font, fill=(232, 234, 238))
    temporary = temporary_beside(path)
    try:
        sheet.save(temporary, format="PNG")
        move_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
