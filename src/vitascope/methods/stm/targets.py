"""What the network should say: label maps as distributions, and which objects of a clip can be followed at all."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

VOID = 255  # pixels of an unknown object: background to the memory, and not counted by the loss


def one_hot(labels: Tensor, num_objects: int) -> Tensor:
    """Each object's mask.

    Args:
        labels: Integers `[..., H, W]`; 0 and everything above `num_objects` (so `VOID` too) is no object.
        num_objects: `O`.

    Returns:
        float32 `[..., O, H, W]`.

    Example:
        >>> one_hot(torch.tensor([[0, 2], [1, 255]]), 2).tolist()
        [[[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]
    """
    ids = torch.arange(1, num_objects + 1, device=labels.device)
    return (labels.unsqueeze(-3) == ids[:, None, None]).float()


def keep_objects(
    masks: np.ndarray, max_objects: int, min_pixels: int, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Number the objects that the first frame shows from 1, at most `max_objects`, drawn; what else there is, is background.

    An object that the first frame does not show cannot be followed: were it left in, it would be taught as noise (spec 8,
    trap 12). Void stays void.

    Args:
        masks: uint8 `[T, H, W]` of any ids.
        max_objects: Most objects that are kept.
        min_pixels: Fewest pixels that an object has in the first frame.
        rng: Which are kept, and in which order.

    Returns:
        uint8 `[T, H, W]` of ids 0 to n and `VOID`, and n, which may be 0.

    Example:
        >>> masks = np.array([[[7, 7, 0]], [[7, 9, 255]]], np.uint8)
        >>> labels, count = keep_objects(masks, 2, 1, np.random.default_rng(0))
        >>> labels.tolist(), count
        ([[[1, 1, 0]], [[1, 0, 255]]], 1)
    """
    ids, counts = np.unique(masks[0], return_counts=True)
    shown = [i for i, count in zip(ids, counts, strict=True) if i not in (0, VOID) and count >= min_pixels]
    kept = rng.permutation(shown)[:max_objects]
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    for number, old in enumerate(kept, 1):
        table[old] = number
    return table[masks], len(kept)
