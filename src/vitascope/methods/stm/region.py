"""Only the part of a frame where an object can be is read and decoded: an object that was seen a moment ago is not far."""

from __future__ import annotations

from torch import Tensor

from vitascope.methods.stm.memory import Tokens
from vitascope.methods.stm.model import STRIDE, MaskNetwork, Query, padding

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the padded frame

CONTEXT = 3  # tokens; see `decode_region`
ROOM = 0.5  # on each side of a mask's box, for an object to move, in its longer sides
LEAST_ROOM = 2 * STRIDE
WORTH = 0.6  # share of the frame up to which a part of it is decoded


def decode_region(network: MaskNetwork, memory: Tokens, query: Query, box: Box, context: int = CONTEXT) -> Tensor:
    """Foreground probability of one object, read and decoded within a box alone: an approximation of the whole frame's.

    If the query's skips were not asked for before, they are computed for that part alone.

    Args:
        network: Of any size.
        memory: Of the object.
        query: Of the frame.
        box: Within the padded frame; enlarged to whole tokens of 16 pixels.
        context: Tokens beyond the box on every side that are decoded with it; from 7 on nothing changes within the box.

    Returns:
        Probabilities `[1, H, W]`, 0 outside the box.

    Raises:
        ValueError: The box is empty or not within the frame.
    """
    height, width = query.key.shape[-2:]
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width * STRIDE and 0 <= y0 < y1 <= height * STRIDE):
        raise ValueError(
            f"box {tuple(box)} must lie within the padded frame, {width * STRIDE} x {height * STRIDE} pixels"
        )
    top, bottom, left, right = y0 // STRIDE, -(-y1 // STRIDE), x0 // STRIDE, -(-x1 // STRIDE)
    rows = slice(max(top - context, 0), min(bottom + context, height))
    columns = slice(max(left - context, 0), min(right + context, width))
    there = query.window(rows, columns)
    part = network.foreground(network.read(memory.keys, memory.values, there.key, memory.bias), there)
    whole = part.new_zeros(len(part), height * STRIDE, width * STRIDE)
    dy, dx = rows.start * STRIDE, columns.start * STRIDE
    whole[..., top * STRIDE : bottom * STRIDE, left * STRIDE : right * STRIDE] = part[
        ..., top * STRIDE - dy : bottom * STRIDE - dy, left * STRIDE - dx : right * STRIDE - dx
    ]
    return whole


def around(mask: Tensor, frames: int = 1, context: int = CONTEXT) -> Box | None:
    """Where an object can be that had the mask `[H, W]` so many frames before; None where that is most of the frame.

    Example:
        >>> import torch
        >>> mask = torch.zeros(320, 480)
        >>> mask[100:140, 200:260] = 1
        >>> around(mask)  # 60 x 40 pixels, and 32 on each side
        (160, 64, 304, 176)
    """
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    left, _, top, _ = padding(*mask.shape)
    (y0, y1), (x0, x1) = ((int(line[0]), int(line[-1]) + 1) for line in (rows, columns))
    room = int(max(LEAST_ROOM, ROOM * max(y1 - y0, x1 - x0)) * frames)
    high, wide = (-(-side // STRIDE) for side in mask.shape)  # these and the next four are tokens
    top, bottom = max((y0 + top - room) // STRIDE, 0), min(-(-(y1 + top + room) // STRIDE), high)
    left, right = max((x0 + left - room) // STRIDE, 0), min(-(-(x1 + left + room) // STRIDE), wide)
    rows_decoded = min(bottom + context, high) - max(top - context, 0)
    columns_decoded = min(right + context, wide) - max(left - context, 0)
    if rows_decoded * columns_decoded > WORTH * high * wide:
        return None
    return left * STRIDE, top * STRIDE, right * STRIDE, bottom * STRIDE


def reaches_edge(probability: Tensor, box: Box) -> bool:
    """Whether what was found `[1, H, W]` within a box goes on beyond it, as far as the frame does."""
    x0, y0, x1, y1 = box
    high, wide = probability.shape[-2:]
    found = probability[0, y0:y1, x0:x1] > 0.5
    edges = ((y0 > 0, found[0]), (y1 < high, found[-1]), (x0 > 0, found[:, 0]), (x1 < wide, found[:, -1]))
    return any(is_inner and bool(edge.any()) for is_inner, edge in edges)
