"""Between the frames' own size and the one at which the network works."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def small_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width at which the network works, aspect kept.

    Example:
        >>> small_size(480, 854, 240)
        (240, 427)
    """
    if short_side is None:
        return height, width
    factor = short_side / min(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def small_frame(frame: Tensor, short_side: int | None, dtype: torch.dtype) -> Tensor:
    """A frame uint8 `[3, H, W]` as `[1, 3, h, w]` in [0, 1]."""
    size = small_size(*frame.shape[1:], short_side)
    image = frame[None].to(torch.float32) / 255
    if image.shape[-2:] != size:
        image = functional.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
    return image.to(dtype)


def small_mask(mask: Tensor, short_side: int | None) -> Tensor:
    """A bool mask `[H, W]` as probabilities `[h, w]`: soft edges where it was resized, so that small objects stay."""
    size = small_size(*mask.shape, short_side)
    image = mask[None, None].to(torch.float32)
    if image.shape[-2:] != size:
        image = functional.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
    return image[0, 0].clamp(0, 1)


def labels_of(probabilities: Tensor, ids: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Ids of the most probable objects, uint8 `[H, W]`: probabilities are enlarged, not labels.

    Args:
        probabilities: `[1 + O, h, w]`, the background first.
        ids: Of the `O` objects.
        size: H and W.

    Example:
        >>> labels_of(torch.tensor([[[0.9, 0.2]], [[0.1, 0.8]]]), [7], (1, 2)).tolist()
        [[0, 7]]
    """

    def enlarge(channel: Tensor) -> Tensor:
        if channel.shape == size:
            return channel
        return functional.interpolate(channel[None, None], size, mode="bilinear", align_corners=False)[0, 0]

    best = enlarge(probabilities[0]).clone()
    labels = torch.zeros(size, dtype=torch.uint8, device=best.device)
    for object_id, channel in zip(ids, probabilities[1:], strict=True):  # one at a time: 254 frames do not fit
        if float(channel.max()) > 1 / len(probabilities):  # else it is the most probable nowhere, as all add to 1
            enlarged = enlarge(channel)
            labels[enlarged > best] = object_id
            best = torch.maximum(best, enlarged)
    return labels.cpu().numpy()
