"""What the classifier should say of a clip: its class, or a mixture of two."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_labels(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Class numbers as probabilities: `1 - smoothing` at the class, and `smoothing` spread over all of them.

    Args:
        labels: int64 `[B]`.
        num_classes: `K`.
        smoothing: In [0, 1).

    Returns:
        float32 `[B, K]`, rows sum to 1.

    Example:
        >>> soft_labels(torch.tensor([1]), 2, 0.5).tolist()
        [[0.25, 0.75]]
    """
    return F.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


def mixed_labels(labels: Tensor, shares: Tensor) -> Tensor:
    """Labels of mixed clips: of each its own by its share, and the rest of its partner's, last with first.

    Args:
        labels: `[B, K]`.
        shares: `[B]`, what is left of each clip.

    Returns:
        `[B, K]`.

    Example:
        >>> mixed_labels(torch.eye(2), torch.tensor([1.0, 0.75])).tolist()
        [[1.0, 0.0], [0.25, 0.75]]
    """
    shares = shares[:, None].to(labels)
    return labels * shares + labels.flip(0) * (1 - shares)


def shares_of(blends: Tensor, boxes: Tensor, size: int) -> Tensor:
    """What is left of each clip: its blend, or where a box of the partner's pixels lies over it the area beside the box.

    Args:
        blends: float `[B]`.
        boxes: int64 `[B, 4]`, `xyxy` in pixels, all 0 for none.
        size: Height and width of the clips.

    Returns:
        float32 `[B]`.

    Example:
        >>> shares_of(torch.tensor([0.7, 1.0]), torch.tensor([[0, 0, 0, 0], [0, 0, 4, 2]]), 4).round(decimals=3).tolist()
        [0.699999988079071, 0.5]
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return torch.where(areas > 0, 1 - areas / size**2, blends.float())
