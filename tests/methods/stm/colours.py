"""A network made by hand that tells objects by their colour, and films of coloured squares on it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vitascope.methods.stm.model import STRIDE, MaskNetwork, Query

GREY, RED, GREEN, BLUE, YELLOW = (90, 90, 90), (230, 30, 30), (30, 225, 30), (30, 30, 225), (230, 225, 30)


class ColourNetwork(MaskNetwork):
    """A token's key is its mean colour, its value how much of it is the object: tokens go by their like in memory."""

    key_width, value_width, scale = 3, 1, 400.0

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.memorised, self.decoded = 0, 0
        self.eval()

    def encode_query(self, frames: Tensor) -> Query:
        colour = functional.avg_pool2d(frames, STRIDE)
        return Query(colour, colour, (colour,), ())

    def encode_memory(self, frames: Tensor, masks: Tensor, others: Tensor, query: Query) -> tuple[Tensor, Tensor]:
        self.memorised += len(masks)
        return query.key.expand(len(masks), -1, -1, -1), functional.avg_pool2d(masks, STRIDE)

    def bias(self, keys: Tensor) -> Tensor:
        return -keys.square().sum(1) * self.scale / 2

    def decode(self, read: Tensor, query: Query) -> Tensor:
        self.decoded += len(read)
        logit = functional.interpolate(30 * (read - 0.5), scale_factor=STRIDE)
        return torch.cat([-logit / 2, logit / 2], 1)


def film(*squares: tuple[tuple[int, int], tuple[int, int, int]], ground=GREY, height=96, width=128) -> Tensor:
    """A frame uint8 `[3, H, W]`: squares of 2 x 2 tokens at (row, column) in tokens, on a ground with a pattern.

    The pattern has mean 0 in each token, so that keys do not see it; each colour of the ground has its own.
    """
    generator = torch.Generator().manual_seed(sum(ground))
    rows, columns = height // 8 + 2, width // 8 + 2
    signs = torch.randint(0, 2, (rows // 2, columns), generator=generator).mul(2).sub(1).repeat_interleave(2, 0)
    signs[1::2] *= -1
    pattern = 24 * signs.repeat_interleave(8, 0).repeat_interleave(8, 1)[:height, :width]
    frame = (torch.tensor(ground)[:, None, None] + pattern).to(torch.uint8)
    for (row, column), colour in squares:
        frame[:, STRIDE * row : STRIDE * (row + 2), STRIDE * column : STRIDE * (column + 2)] = torch.tensor(
            colour, dtype=torch.uint8
        )[:, None, None]
    return frame


def square(row: int, column: int, height=96, width=128) -> Tensor:
    """The mask of one square, bool `[H, W]`."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[STRIDE * row : STRIDE * (row + 2), STRIDE * column : STRIDE * (column + 2)] = True
    return mask
