"""Predictions and targets -> named scalars."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pixel_loss(predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """VideoMAE's loss (eq. 1): the mean squared error over all values of all masked tokens, in float32.

    A model that only knows each patch's mean scores about 1, because targets have unit variance.

    Args:
        predictions: `[B, N_masked, D]`.
        targets: `[B, N_masked, D]`.

    Returns:
        `loss`: scalar.

    Example:
        >>> import torch
        >>> float(pixel_loss(torch.zeros(1, 2, 4), torch.full((1, 2, 4), 2.0))["loss"])
        4.0
    """
    return {"loss": F.mse_loss(predictions.float(), targets)}
