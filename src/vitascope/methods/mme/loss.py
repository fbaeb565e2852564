"""Predictions and targets -> named scalars."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RELEASE_WIDTH = 32  # of the released position target: its loss counts as much for any number of steps


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


def motion_loss(
    predictions: dict[str, Tensor],
    targets: dict[str, Tensor],
    weights: Tensor | None = None,
    *,
    visibility_weight: float = 0.1,
    sum_loss: bool = False,
    num_shape_steps: int = 1,
) -> dict[str, Tensor]:
    """MME's loss (its section 3.2): squared errors of position and shape, averaged over the two, and the visibility term.

    With `sum_loss` it is that of the released code (specification, 1.8): over all masked tokens, seen or not, the shape's
    errors are summed over a token's values (and averaged over its steps), the position's summed and brought to 32 values.
    Without it all errors are averages over what counts, so that position and shape weigh the same.

    Args:
        predictions: By name (`position`, `shape`, `visibility`), `[B, M, D]` each.
        targets: By the same names; that of visibility is 0 or 1.
        weights: Which position values count, `[B, M, D]`; None for all.
        visibility_weight: Of the binary cross-entropy of visibility, which is part of the total only.
        sum_loss: See above.
        num_shape_steps: Steps over which the shape's sum is averaged.

    Returns:
        `loss` and its parts by name, scalars; each is a mean over the B samples.

    Example:
        >>> said, true = {"position": torch.zeros(1, 2, 4)}, {"position": torch.full((1, 2, 4), 2.0)}
        >>> float(motion_loss(said, true, torch.tensor([1.0, 0.0]).view(1, 2, 1).expand(1, 2, 4))["loss"])
        4.0
    """
    parts = {}
    if "position" in predictions:
        errors = (predictions["position"].float() - targets["position"]).square()
        weights = torch.ones_like(errors) if weights is None else weights
        if sum_loss:
            parts["position"] = (weights * errors).mean() * RELEASE_WIDTH
        else:
            counted = weights.sum((1, 2)).clamp(min=1)
            parts["position"] = ((weights * errors).sum((1, 2)) / counted).mean()
    if "shape" in predictions:
        errors = (predictions["shape"].float() - targets["shape"]).square()
        parts["shape"] = errors.sum(-1).mean() / num_shape_steps if sum_loss else errors.mean()
    total = sum(parts.values()) / max(len(parts), 1)
    if "visibility" in predictions:
        logits = predictions["visibility"].float()
        parts["visibility"] = F.binary_cross_entropy_with_logits(logits, targets["visibility"].float())
        total = total + (visibility_weight if len(parts) > 1 else 1.0) * parts["visibility"]
    return {"loss": total, **parts}
