"""Motion as people look at it: tracks painted on a frame, histograms of gradients as glyphs, and sheets of such pictures.

The hue of a track is the direction in which it goes, as on `direction_wheel`; a dot is where it starts; steps that are not
seen are thin and grey. The frame below is grey and dim, so that colours are told apart on light video and on dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

TRUE_RGB = (64, 224, 96)
PREDICTED_RGB = (255, 64, 255)
UNSEEN_RGB = (165, 165, 165)
HUES = (0, 55, 150, 220, 360)  # in degrees, of moves to the right, down, left, up: four that have names
SATURATIONS = (0.78, 0.85, 0.8, 0.62, 0.78)  # a full blue is dark on a dark frame
STILL_PIXELS = 0.5  # a track that never gets so far from its start has no direction worth a colour
DARKEST, BRIGHTEST = 10, 110  # grey of the frame below the tracks
SHIFT = 4  # cv2 takes points in sixteenths of a pixel
FARTHEST = 4  # frame sides that a track is followed beyond the frame: far outside, cv2's integers overflow
LONG_STEPS = 3  # distances of tracks from which on a track is long
CLEAR_PIXELS = 24  # distance of tracks at which two of them at each place can be told apart
FAINT_SHARE = 0.02  # of the strongest edge: weaker ones are noise
SHEET_PIXELS = 1888  # rows are broken where they would be wider
SMALLEST_PIXELS = 96  # height of a picture on a sheet
GAP_PIXELS, LINE_PIXELS, WHEEL_PIXELS, LEGEND_PIXELS = 6, 26, 72, 320
PAPER_RGB, INK_RGB = (24, 26, 30), (232, 234, 238)
LEGEND = "colour of a track: where it goes\ndot: where it starts\nthin and grey: not seen"


def draw_tracks(
    frame: Any, positions: Any, seen: Any, scale: int = 2, rgb: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Paints tracks on their first frame; of long ones that would cover each other only every 2nd or 4th, of all a dot.

    Args:
        frame: uint8 `[C, H, W]`, C 1 or 3.
        positions: Of each track, x and y in pixels of the frame, float `[L + 1, K, 2]`; pixel centres are whole numbers.
        seen: Whether each step is seen, bool `[L, K]`.
        scale: Pixels of the picture to one of the frame.
        rgb: One colour for all tracks, instead of that of their direction.

    Returns:
        uint8 `[3, H * scale, W * scale]`.

    Raises:
        ValueError: Shapes or dtypes are not as said, or a position is not finite.

    Example:
        >>> positions = np.array([[[2.0, 2.0]], [[6.0, 2.0]]])
        >>> picture = draw_tracks(np.zeros((3, 8, 8), np.uint8), positions, np.array([[True]]), scale=4)
        >>> picture.shape, picture[:, 10, 10].tolist() == direction_colours(positions[1] - positions[0])[0].tolist()
        ((3, 32, 32), True)
    """
    picture, points, moves = _prepared(frame, positions, seen, scale)
    seen, is_still, apart = np.asarray(seen), moves < STILL_PIXELS, _distance(picture, len(moves))
    if rgb is None:
        colours = direction_colours(points[-1] - points[0])
        colours[is_still] = UNSEEN_RGB
    else:
        colours = np.tile(np.array(rgb, np.uint8), (len(moves), 1))
    is_drawn, width = _is_drawn(points, apart, every=1), _line_width(picture, apart)
    _paint_steps(picture, points, ~seen & ~is_still & is_drawn, np.tile(UNSEEN_RGB, (len(moves), 1)), 1)
    _paint_steps(picture, points, seen & ~is_still & is_drawn, colours, width)
    _paint_dots(picture, points[0], colours, np.where(is_still, width, 2 * width + 1))
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def draw_predicted_tracks(frame: Any, positions: Any, seen: Any, predicted: Any, scale: int = 2) -> np.ndarray:
    """Paints true tracks (broad, `TRUE_RGB`) and, on top, what was predicted of them (narrow, `PREDICTED_RGB`).

    Where tracks are dense, every 2nd along x and y is painted, and fewer of the long ones. Steps that are not seen have no truth: the true ones are thin
    and grey, the predicted ones are left out.

    Args:
        frame: uint8 `[C, H, W]`, C 1 or 3.
        positions: True positions, float `[L + 1, K, 2]`, as `draw_tracks` takes them.
        seen: Whether each step is seen, bool `[L, K]`.
        predicted: Predicted positions, float `[L + 1, K, 2]`.
        scale: Pixels of the picture to one of the frame.

    Returns:
        uint8 `[3, H * scale, W * scale]`.

    Raises:
        ValueError: Shapes or dtypes are not as said, or a position is not finite.
    """
    if np.shape(predicted) != np.shape(positions):
        raise ValueError(f"predicted {list(np.shape(predicted))} must be {list(np.shape(positions))}, as positions are")
    picture, points, moves = _prepared(frame, positions, seen, scale)
    _, predicted_points, predicted_moves = _prepared(frame, predicted, seen, scale)
    seen, count, apart = np.asarray(seen), len(moves), _distance(picture, len(moves))
    every = 1 if apart >= CLEAR_PIXELS else 2
    width = _line_width(picture, apart)
    is_drawn = _is_drawn(points, apart, every)  # by the truth: predictions that are too long shall not hide
    is_moving = is_drawn & (moves >= STILL_PIXELS)
    _paint_steps(picture, points, ~seen & is_moving, np.tile(UNSEEN_RGB, (count, 1)), 1)
    _paint_steps(picture, points, seen & is_moving, np.tile(TRUE_RGB, (count, 1)), 2 * width + 1)
    is_moving = is_drawn & (predicted_moves >= STILL_PIXELS)
    _paint_steps(picture, predicted_points, seen & is_moving, np.tile(PREDICTED_RGB, (count, 1)), width)
    _paint_dots(picture, points[0][is_drawn], np.tile(INK_RGB, (count, 1)), np.full(count, width + 1))
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def draw_hog(cells: Any, cell: int, scale: int = 2, strongest: float | None = None) -> np.ndarray:
    """Draws a histogram of gradients: in each cell a line for each bin, along the edge, as bright as it is strong.

    Args:
        cells: Strength of each direction of the gradient, float `[bins, h, w]`; bin `b` is the angle `b * pi / bins`, x to
            the right and y down. Negative ones, of normalised or predicted histograms, are not drawn.
        cell: Pixels of a side of a cell.
        scale: Pixels of the picture to one of the frame.
        strongest: What is drawn at full brightness, for pictures to be compared; by default what 1 in 50 cells exceed.

    Returns:
        uint8 `[3, h * cell * scale, w * cell * scale]`.

    Raises:
        ValueError: `cells` has another shape or is not finite, or a size is not positive.

    Example:
        >>> cells = np.zeros((9, 1, 1))
        >>> cells[0] = 1  # the gradient is horizontal: the edge is upright
        >>> picture = draw_hog(cells, cell=8, scale=2)
        >>> picture[0, 4, 7:9].tolist(), picture[0, 7, 4:6].tolist()
        ([255, 255], [0, 0])
    """
    cells = np.asarray(cells, np.float32)
    if cells.ndim != 3 or 0 in cells.shape or not np.isfinite(cells).all():
        raise ValueError(f"cells {list(cells.shape)} must be finite numbers [bins, h, w], none of the sizes 0")
    if cell < 1 or scale < 1:
        raise ValueError(f"cell ({cell}) and scale ({scale}) must be >= 1")
    bins, h, w = cells.shape
    side = cell * scale
    strongest = float(np.quantile(cells.max(0), 0.98)) if strongest is None else float(strongest)
    strength = np.clip(cells / max(strongest, 1e-12), 0, 1)
    strength = np.where(strength < FAINT_SHARE, 0, np.sqrt(strength))  # as the eye sees it
    picture = np.zeros((h, side, w, side), np.float32)
    for one, line in zip(strength, _edge_lines(bins, side)):
        np.maximum(picture, one[:, None, :, None] * line[:, None, :], out=picture)
    grey = np.rint(picture.reshape(h * side, w * side) * 255).astype(np.uint8)
    return np.repeat(grey[None], 3, 0)


def direction_colours(moves: Any) -> np.ndarray:
    """Colours of directions, uint8 `[K, 3]` for moves `[K, 2]`: red to the right, yellow down, green to the left, blue up.

    Example:
        >>> direction_colours([[1, 0], [9, 0], [0, -1]]).tolist()
        [[255, 56, 56], [255, 56, 56], [97, 150, 255]]
    """
    moves = np.asarray(moves, np.float64).reshape(-1, 2)
    if not len(moves):
        return np.zeros((0, 3), np.uint8)
    angle = np.degrees(np.arctan2(moves[:, 1], moves[:, 0])) % 360
    hue, saturation = (np.interp(angle, (0, 90, 180, 270, 360), values) for values in (HUES, SATURATIONS))
    hsv = np.stack([hue, saturation, np.ones(len(hue))], -1).astype(np.float32)
    return np.rint(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] * 255).astype(np.uint8)


def direction_wheel(size: int) -> np.ndarray:
    """The legend of `direction_colours`: a ring whose places have the colours of the ways to them, uint8 `[3, size, size]`."""
    y, x = np.mgrid[: 4 * size, : 4 * size] - (4 * size - 1) / 2
    ring = direction_colours(np.stack([x, y], -1)).reshape(4 * size, 4 * size, 3)
    radius = np.hypot(x, y) / (2 * size)
    ring[(radius > 1) | (radius < 0.35)] = PAPER_RGB
    return np.ascontiguousarray(cv2.resize(ring, (size, size), interpolation=cv2.INTER_AREA).transpose(2, 0, 1))


def contact_sheet(rows: Sequence[tuple[str, Any]]) -> np.ndarray:
    """Rows of pictures below their names, and the legend of the colours: one picture for a file.

    Pictures keep their size, except that very small ones are enlarged and very wide ones reduced; a row that is wider than
    `SHEET_PIXELS` goes on in the next line.

    Args:
        rows: Names and pictures uint8 `[T, C, H, W]`, C 1 or 3; the rows may differ in all sizes.

    Returns:
        uint8 `[3, H, W]`.

    Raises:
        ValueError: There is no row, or one has another shape or dtype.

    Example:
        >>> contact_sheet([("input", np.zeros((8, 3, 112, 112), np.uint8))]).shape
        (3, 234, 950)
    """
    if not rows:
        raise ValueError("rows (none) must hold at least one row of pictures")
    drawn = [(" ".join(name.split()), _row(name, pictures)) for name, pictures in rows]
    font = ImageFont.load_default(15)
    inner = max(LEGEND_PIXELS, *(max(row.shape[1], int(font.getlength(name))) for name, row in drawn))
    height = sum(row.shape[0] + LINE_PIXELS + GAP_PIXELS for _, row in drawn) + WHEEL_PIXELS + 3 * GAP_PIXELS
    sheet = Image.new("RGB", (inner + 2 * GAP_PIXELS, height), PAPER_RGB)
    pen, y = ImageDraw.Draw(sheet), GAP_PIXELS
    for name, row in drawn:
        pen.text((GAP_PIXELS, y + 3), name, font=font, fill=INK_RGB)
        sheet.paste(Image.fromarray(row), (GAP_PIXELS, y + LINE_PIXELS))
        y += row.shape[0] + LINE_PIXELS + GAP_PIXELS
    sheet.paste(Image.fromarray(direction_wheel(WHEEL_PIXELS).transpose(1, 2, 0)), (GAP_PIXELS, y + GAP_PIXELS))
    pen.multiline_text((2 * GAP_PIXELS + WHEEL_PIXELS + 6, y + GAP_PIXELS + 6), LEGEND, font=font, fill=INK_RGB)
    return np.ascontiguousarray(np.asarray(sheet).transpose(2, 0, 1))


def _prepared(frame: Any, positions: Any, seen: Any, scale: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The dimmed picture `[H, W, 3]`, the points as cv2 takes them, and how far each track gets from its start, in pixels."""
    frame, positions, seen = np.asarray(frame), np.asarray(positions, np.float64), np.asarray(seen)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[0] not in (1, 3) or 0 in frame.shape:
        raise ValueError(f"frame ({frame.dtype} {list(frame.shape)}) must be uint8 [C, H, W] with C 1 or 3")
    if positions.ndim != 3 or positions.shape[2] != 2 or len(positions) < 2:
        raise ValueError(f"positions {list(positions.shape)} must be [L + 1, K, 2] with at least one step")
    if seen.dtype != bool or seen.shape != (len(positions) - 1, positions.shape[1]):
        raise ValueError(
            f"seen ({seen.dtype} {list(seen.shape)}) must be bool {[len(positions) - 1, positions.shape[1]]}: [L, K]"
        )
    if not np.isfinite(positions).all():
        raise ValueError("positions must be finite; the model that predicted them has diverged, or a flow is broken")
    if scale < 1:
        raise ValueError(f"scale ({scale}) must be >= 1")
    height, width = frame.shape[1:]
    limit = FARTHEST * max(height, width)
    points = (np.clip(positions, -limit, limit) + 0.5) * scale - 0.5
    moves = np.linalg.norm(positions - positions[:1], axis=-1).max(0)
    grey = (
        cv2.cvtColor(np.ascontiguousarray(frame.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
        if len(frame) == 3
        else frame[0]
    )
    dim = (DARKEST + grey * ((BRIGHTEST - DARKEST) / 255)).astype(np.uint8)
    large = cv2.resize(dim, (width * scale, height * scale), interpolation=cv2.INTER_LINEAR)
    return np.repeat(large[:, :, None], 3, 2), np.rint(points * 2**SHIFT).astype(np.int32), moves


def _distance(picture: np.ndarray, count: int) -> float:
    """Of neighbouring tracks, in pixels of the picture."""
    return float(np.sqrt(picture.shape[0] * picture.shape[1] / max(count, 1)))


def _line_width(picture: np.ndarray, apart: float) -> int:
    """Broad enough for a report, where pictures are small, and narrow enough for tracks `apart` pixels from each other."""
    return int(np.clip(round(min(apart / 8, min(picture.shape[:2]) / 112)), 1, 4))


def _is_drawn(points: np.ndarray, apart: float, every: int) -> np.ndarray:
    """Which tracks are drawn, bool `[K]`: of long ones that are close, every 2nd or 4th along x and y, of all every `every`-th."""
    lengths = np.linalg.norm(points - points[:1], axis=-1).max(0) / 2**SHIFT / apart
    if apart < CLEAR_PIXELS:
        every = np.maximum(every, np.select([lengths > 2 * LONG_STEPS, lengths > LONG_STEPS], [4, 2], 1))[:, None]
    place = (points[0] / 2**SHIFT // apart).astype(np.int64)
    return (place % every == every // 2).all(1)


def _paint_steps(picture: np.ndarray, points: np.ndarray, shown: np.ndarray, colours: np.ndarray, width: int) -> None:
    """Paints the steps `shown` `[L, K]`, long tracks over short ones."""
    length = np.abs(points - points[:1]).max((0, 2))
    for k in np.argsort(length):
        steps = np.flatnonzero(shown[:, k])
        lines = np.stack([points[steps, k], points[steps + 1, k]], 1)  # [steps, 2, 2]
        colour = tuple(int(c) for c in colours[k])
        cv2.polylines(picture, list(lines), False, colour, width, cv2.LINE_AA, SHIFT)


def _paint_dots(picture: np.ndarray, points: np.ndarray, colours: np.ndarray, sizes: np.ndarray) -> None:
    for (x, y), colour, size in zip(points.tolist(), colours.tolist(), sizes.tolist()):
        cv2.circle(picture, (x, y), int(size * 2 ** (SHIFT - 1)), colour, -1, cv2.LINE_AA, SHIFT)


def _edge_lines(bins: int, side: int) -> np.ndarray:
    """For each bin a line through the middle of a cell, perpendicular to its gradient: float32 in [0, 1] `[bins, side, side]`."""
    lines = np.zeros((bins, side, side), np.uint8)
    middle, reach = (side - 1) / 2, max(side / 2 - 1, 0.5)
    for b, line in enumerate(lines):
        angle = b * np.pi / bins
        way = np.array([-np.sin(angle), np.cos(angle)]) * reach
        ends = np.rint((middle + np.stack([-way, way])) * 2**SHIFT).astype(np.int32)
        cv2.polylines(line, [ends], False, 255, max(1, round(side / 10)), cv2.LINE_AA, SHIFT)
    return lines.astype(np.float32) / 255


def _row(name: str, pictures: Any) -> np.ndarray:
    """Pictures side by side, in as many lines as they need: uint8 `[H, W, 3]`."""
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or 0 in pictures.shape:
        raise ValueError(
            f"pictures of row {name!r} ({pictures.dtype} {list(pictures.shape)}) must be uint8 [T, C, H, W] with C 1 or 3"
        )
    count, _, height, width = pictures.shape
    factor = min(max(1, -(-SMALLEST_PIXELS // height)), max(SHEET_PIXELS / width, 1 / height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    columns = min(count, max(1, (SHEET_PIXELS + GAP_PIXELS) // (size[0] + GAP_PIXELS)))
    lines = -(-count // columns)
    columns = -(-count // lines)
    row = np.empty(
        (lines * (size[1] + GAP_PIXELS) - GAP_PIXELS, columns * (size[0] + GAP_PIXELS) - GAP_PIXELS, 3), np.uint8
    )
    row[:] = PAPER_RGB
    for i, picture in enumerate(pictures):
        y, x = i // columns * (size[1] + GAP_PIXELS), i % columns * (size[0] + GAP_PIXELS)
        rgb = np.ascontiguousarray(np.broadcast_to(picture, (3, height, width)).transpose(1, 2, 0))
        row[y : y + size[1], x : x + size[0]] = cv2.resize(rgb, size, interpolation=how)
    return row
