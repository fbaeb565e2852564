"""Logits and targets -> named scalars."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def classification_loss(logits: Tensor, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy with soft targets in float32, and how often the clip's own class comes first.

    Args:
        logits: `[B, K]`.
        targets: Probabilities `[B, K]`.
        labels: int64 `[B]`.

    Returns:
        `loss`, `accuracy`: scalars.

    Example:
        >>> import torch
        >>> out = classification_loss(torch.zeros(1, 4), torch.full((1, 4), 0.25), torch.tensor([0]))
        >>> round(float(out["loss"]), 4), float(out["accuracy"])
        (1.3863, 1.0)
    """
    return {
        "loss": F.cross_entropy(logits.float(), targets),
        "accuracy": (logits.argmax(1) == labels).float().mean(),
    }
