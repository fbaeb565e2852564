"""Shape: histograms of oriented gradients, cell by cell, and what of them a moving point meets (specification, 1.5).

Unlike the released extractor the Sobel filters have no random bias, and a phase that lies exactly on a bin keeps all of its
magnitude. Values are of the scale of the images: an edge of height `a` through a cell of an image in [0, 1] gives about `a`.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Normalisation = Literal["none", "l2hys", "standard"]

NUM_BINS = 9
CHUNK_PIXELS = (
    1 << 18
)  # gradients of so many pixels stay in the cache: half the time of 48 images of 224 pixels at once
CLIP = 0.2  # of L2-Hys
FLOOR = 0.01  # an edge of two or three grey levels: what is weaker is noise, which no normalisation should blow up


@torch.no_grad()
def hog_cells(images: Tensor, cell: int, bins: int = NUM_BINS) -> Tensor:
    """Histograms of gradient directions over the complete cells of images, each channel by itself.

    Sobel gradients with repeated edges; their magnitude is split linearly between the two nearest of `bins` unsigned
    directions over 180 degrees and averaged over each cell. Bin 0 holds horizontal gradients, that is vertical edges.

    Args:
        images: float `[M, C, H, W]`.
        cell: Side of a cell in pixels.
        bins: Directions.

    Returns:
        float32 `[M, C, bins, H // cell, W // cell]`.

    Raises:
        ValueError: No complete cell fits, or there is no bin.

    Example:
        >>> ramp = torch.arange(32.0).expand(1, 1, 16, 32)
        >>> hog_cells(ramp, 8)[0, 0, :, 0, 1].tolist()
        [8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    if images.ndim != 4 or not 0 < cell <= min(images.shape[-2:]):
        raise ValueError(f"images {list(images.shape)} must be [M, C, H, W], no side below cell ({cell}), which is > 0")
    if bins < 1:
        raise ValueError(f"bins ({bins}) must be > 0")
    height, width = images.shape[-2:]
    flat = images.reshape(-1, height, width)
    chunks = flat.split(max(1, CHUNK_PIXELS // (height * width)))
    cells = torch.cat([_histograms(chunk.float(), cell, bins) for chunk in chunks])  # [M * C, bins, h, w]
    return cells.view(*images.shape[:2], *cells.shape[1:])


def _histograms(images: Tensor, cell: int, bins: int) -> Tensor:
    """Of images `[M, H, W]`, `[M, bins, h, w]`.

    A magnitude's share in bin b is the hat max(0, 1 - |phase - b|), which is ramp(b - 1) - ramp(b) with ramp(b) =
    min(max(phase - b, 0), 1): one clamp a bin, and adding where the released code overwrites comes by itself.
    """
    gx, gy = _sobel(images)
    h, w = images.shape[1] // cell, images.shape[2] // cell
    gx, gy = (g[:, : h * cell, : w * cell].contiguous() for g in (gx, gy))
    phase = torch.atan2(gy, gx).mul_(bins / torch.pi).remainder_(bins)  # [M, H, W]
    magnitude = gx.square_().addcmul_(gy, gy).sqrt_()
    sums = images.new_empty(bins + 1, len(images), h, w * cell)  # of rows of a cell: all, then ramp by ramp
    share = torch.empty_like(phase)
    torch.sum(magnitude.view(-1, h, cell, w * cell), 2, out=sums[0])
    for b in range(bins):
        torch.sub(phase, b, out=share).clamp_(0, 1).mul_(magnitude)
        torch.sum(share.view(-1, h, cell, w * cell), 2, out=sums[b + 1])
    ramps = sums.view(bins + 1, -1, h, w, cell).sum(-1).div_(cell * cell)
    first = ramps[:1] - ramps[1:2] + ramps[-1:]  # bin 0 is also reached from the last one
    return torch.cat([first, ramps[1:-1] - ramps[2:]]).clamp_(min=0).transpose(0, 1)  # [M, bins, h, w]


def _sobel(images: Tensor) -> tuple[Tensor, Tensor]:
    """Left minus right and top minus bottom, each weighted 1-2-1 across; `[M, H, W]` twice."""
    padded = F.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = padded[..., :-2] - padded[..., 2:]
    down = padded[:, :-2] - padded[:, 2:]
    gx = (across[:, :-2] + across[:, 2:]).add_(across[:, 1:-1], alpha=2)
    gy = (down[..., :-2] + down[..., 2:]).add_(down[..., 1:-1], alpha=2)
    return gx, gy


def normalise_cells(values: Tensor, kind: Normalisation, floor: float = FLOOR) -> Tensor:
    """Bring histograms to one scale, each vector by itself.

    Args:
        values: float `[..., F]`.
        kind: `none`; `l2hys`: to length 1, cut at 0.2, to length 1 again; `standard`: to mean 0 and variance 1.
        floor: Added in squares to the length or spread, so that what is weaker stays weak.

    Returns:
        `[..., F]`.

    Raises:
        ValueError: No such kind.

    Example:
        >>> normalise_cells(torch.tensor([1.0, 3.0]), "standard").round(decimals=2).tolist()
        [-1.0, 1.0]
    """
    if kind not in get_args(Normalisation):
        raise ValueError(f"kind ({kind!r}) must be one of {', '.join(get_args(Normalisation))}")
    if kind == "none":
        return values
    if kind == "standard":
        centred = values - values.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + floor**2).sqrt()
    length = values.norm(dim=-1, keepdim=True)
    cut = F.normalize(F.normalize(values, dim=-1).clamp(max=CLIP), dim=-1)
    return cut * length / (length.square() + floor**2).sqrt()  # the floor once: twice would lift what is weak again


def along_tracks(cells: Tensor, positions: Tensor, cell: int) -> Tensor:
    """The histogram of the cell in which each point of each track lies; of a point outside, of the nearest cell.

    Args:
        cells: Of the frames that the tracks run through, float `[S, L, F, h, w]`.
        positions: x and y in pixels, whole at the middle of a pixel, `[S, L, K, 2]`.
        cell: Side of a cell in pixels.

    Returns:
        `[S, L, K, F]`.

    Raises:
        ValueError: Shapes do not belong together.

    Example:
        >>> cells = torch.arange(4.0).view(1, 1, 1, 2, 2)
        >>> along_tracks(cells, torch.tensor([[[[7.4, 0.0], [7.6, 0.0], [3.0, 99.0]]]]), 8)[0, 0, :, 0].tolist()
        [0.0, 1.0, 2.0]
    """
    if cells.ndim != 5 or positions.ndim != 4 or positions.shape[:2] != cells.shape[:2] or positions.shape[-1] != 2:
        raise ValueError(
            f"cells {list(cells.shape)} must be [S, L, F, h, w], positions {list(positions.shape)} [S, L, K, 2]"
        )
    h, w = cells.shape[-2:]
    column, row = ((positions + 0.5) / cell).floor().long().unbind(-1)  # pixel x spans [x - 0.5, x + 0.5)
    place = row.clamp(0, h - 1) * w + column.clamp(0, w - 1)  # [S, L, K]
    by_place = cells.flatten(3).transpose(2, 3)  # [S, L, h * w, F]
    return by_place.gather(2, place[..., None].expand(*place.shape, cells.shape[2]))


def flip_cells(cells: Tensor) -> Tensor:
    """What `hog_cells` gives of the images mirrored left to right, where cells fill their width.

    Args:
        cells: `[..., bins, h, w]`.

    Returns:
        `[..., bins, h, w]`: columns reversed, bin b where bin `(bins - b) % bins` was.

    Example:
        >>> flip_cells(torch.arange(3.0).view(3, 1, 1)).flatten().tolist()
        [0.0, 2.0, 1.0]
    """
    bins = cells.shape[-3]
    return cells.flip(-1).index_select(-3, -torch.arange(bins, device=cells.device) % bins)
