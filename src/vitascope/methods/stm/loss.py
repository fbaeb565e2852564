"""Outputs and targets -> losses."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vitascope.methods.stm.targets import VOID

Kind = Literal["cross_entropy", "hardest_and_overlap"]
SMOOTH = 1.0  # pixels added to both sides of the overlap's fraction, so that it is defined for empty masks


def mask_loss(logits: Tensor, labels: Tensor, kind: Kind = "cross_entropy", hardest: float = 0.4) -> dict[str, Tensor]:
    """Loss of the frames of clips that were segmented.

    `cross_entropy` is the paper's: over the aggregated channels, mean over pixels. `hardest_and_overlap` takes only
    the share `hardest` of each frame's pixels whose loss is highest, and adds one minus the soft overlap (Dice) of each
    channel but the background: objects that cover few pixels count as much as large ones.

    Args:
        logits: `[B, T, K, H, W]`, aggregated.
        labels: int64 `[B, T, H, W]`, below K or `VOID`, which is not counted.
        kind: Which loss.
        hardest: Share of the pixels, in (0, 1].

    Returns:
        `loss`, a mean over clips and frames, and its terms.
    """
    b, t, k, h, w = logits.shape
    flat, target = logits.flatten(0, 1).float(), labels.flatten(0, 1)
    entropy = functional.cross_entropy(flat, target, ignore_index=VOID, reduction="none").flatten(1)  # [B * T, pixels]
    if kind == "cross_entropy":
        counted = (target != VOID).flatten(1).sum(1).clamp(min=1)
        loss = (entropy.sum(1) / counted).mean()
        return {"loss": loss, "cross_entropy": loss.detach()}
    worst = entropy.topk(max(1, int(hardest * h * w)), dim=1).values.mean(1).mean()
    overlap = (1 - dice(flat, target)).mean()
    return {"loss": worst + overlap, "cross_entropy": worst.detach(), "overlap": overlap.detach()}


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Soft overlap of each object channel with its mask, mean over those that either has: `[N]` from `[N, K, H, W]`."""
    counted = (labels != VOID)[:, None]
    probabilities = logits.softmax(1)[:, 1:] * counted
    masks = torch.stack([labels == channel for channel in range(1, logits.shape[1])], 1).to(probabilities.dtype)
    both = (probabilities * masks).flatten(2).sum(2)
    either = (probabilities + masks).flatten(2).sum(2)
    value = (2 * both + SMOOTH) / (either + SMOOTH)  # [N, O]
    is_there = (either > 0.5 * SMOOTH).to(value.dtype)  # an unused channel says 1e-7 everywhere: no object at all
    return ((value * is_there).sum(1) + (1 - is_there.amax(1))) / is_there.sum(1).clamp(min=1)
