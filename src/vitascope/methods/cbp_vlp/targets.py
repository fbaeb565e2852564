"""Probabilities of snippets and tags of videos -> what is taken as known of each snippet.

Pseudo-labels are 1 (the action is there), 0 (it is not), -1 (uncertain, or padding). Section 1.6 of the specification.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Normalise = Literal["none", "video_minmax"]
Background = Literal["none", "zero", "class"]

FLAT = 1e-6  # a curve that varies less than this over a video has no shape to stretch


def topk_mean(logits: Tensor, mask: Tensor, ratio: float = 8) -> Tensor:
    """The mean of each class's highest values over time, of `max(1, T_valid // ratio)` snippets.

    Args:
        logits: `[B, T, K]`.
        mask: Which snippets are real, bool `[B, T]`.
        ratio: The share of a video that counts is one in this many.

    Returns:
        `[B, K]`; 0 for a video without a real snippet.

    Example:
        >>> logits = torch.tensor([[[1.0], [4.0], [3.0], [9.0]]])
        >>> topk_mean(logits, torch.tensor([[True, True, True, False]]), ratio=1.5)
        tensor([[3.5000]])
    """
    valid = mask.sum(1)  # [B]
    counts = (valid // ratio).long().clamp(min=1).minimum(valid)  # [B]
    highest = logits.masked_fill(~mask[..., None], -torch.inf).topk(int(counts.max().clamp(min=1)), dim=1).values
    ranks = torch.arange(highest.shape[1], device=logits.device)
    chosen = (ranks < counts[:, None])[..., None]  # [B, k, 1]
    return highest.masked_fill(~chosen, 0).sum(1) / counts.clamp(min=1)[:, None]


def thresholds(
    high: float,
    low: float,
    num_classes: int,
    background: Background = "none",
    normalise: Normalise = "none",
    scale: bool = False,
) -> tuple[float, float]:
    """The two thresholds of pseudo-labels, after a look at whether any probability can pass them.

    A softmax over K classes and nothing else gives none of them less than 1/K on a snippet that shows none: with K <= 10
    the paper's 0.1 finds no background. A background class, or the stretch of each video's own curve, lifts that floor.

    Args:
        high: Above it an action that is tagged is there.
        low: Below it, it is not.
        num_classes: K.
        background: What the softmax has beside the classes.
        normalise: As `pseudo_labels` takes it.
        scale: Raise the thresholds over the floor where they lie under it, `low` to 1.5/K, instead of refusing.

    Raises:
        ValueError: The thresholds are out of order, or nothing can be below `low`.

    Example:
        >>> thresholds(0.3, 0.1, num_classes=20)
        (0.3, 0.1)
        >>> thresholds(0.3, 0.1, num_classes=3, scale=True)
        (0.75, 0.5)
    """
    if not 0 < low < high < 1:
        raise ValueError(f"pseudo-label thresholds (high {high}, low {low}) must be 0 < low < high < 1")
    if background != "none" or normalise != "none" or 1 / num_classes < low:
        return high, low
    if not scale or num_classes == 1:
        raise ValueError(
            f"low ({low}) must be > 1/{num_classes}: {num_classes} classes without a background class leave none of them "
            "a smaller probability on a snippet without action, so that no background is found; use background 'class', "
            "normalise 'video_minmax', or from 2 classes on scaled thresholds"
        )
    low = 1.5 / num_classes
    return (high if high > low else (1 + low) / 2), low


def pseudo_labels(
    p: Tensor, y: Tensor, mask: Tensor, high: float = 0.3, low: float = 0.1, normalise: Normalise = "none"
) -> Tensor:
    """What a teacher takes as known: 1 if `p > high` and the action is tagged, 0 if `p < low` or it is not, else -1.

    A video without any tag is background from end to end.

    Args:
        p: The teacher's probabilities `[B, T, K]`.
        y: The tags `[B, K]`, bool or 0 and 1.
        mask: Which snippets are real, bool `[B, T]`.
        high: The upper threshold.
        low: The lower one.
        normalise: `video_minmax` stretches each class's curve over [0, 1] in each video; a flat one stays as it is.

    Returns:
        int8 `[B, T, K]`; -1 on padding.

    Raises:
        ValueError: `normalise` is not one of the two.

    Example:
        >>> p = torch.tensor([[[0.9, 0.9], [0.2, 0.05], [0.05, 0.9]]])
        >>> pseudo_labels(p, torch.tensor([[True, False]]), torch.ones(1, 3, dtype=torch.bool)).tolist()
        [[[1, 0], [-1, 0], [0, 0]]]
    """
    if normalise not in ("none", "video_minmax"):
        raise ValueError(f"normalise ({normalise}) must be none or video_minmax")
    if normalise == "video_minmax":
        p = _stretched(p, mask)
    tagged = y.bool()[:, None]  # [B, 1, K]
    labels = torch.full(p.shape, -1, dtype=torch.int8, device=p.device)
    labels[(p > high) & tagged] = 1
    labels[(p < low) | ~tagged] = 0
    labels[~mask] = -1
    return labels


def confident(labels: Tensor) -> Tensor:
    """The snippets of which every class is known: `[B, T, K]` -> bool `[B, T]`."""
    return (labels >= 0).all(-1)


def coverage(labels: Tensor, mask: Tensor) -> dict[str, float]:
    """Shares of the real snippets that are confident foreground, confident background, and neither.

    Args:
        labels: `[B, T, K]`.
        mask: Which snippets are real, bool `[B, T]`.

    Returns:
        `foreground`, `background` and `uncertain`: they sum to 1, or are all 0 if there is no snippet.

    Example:
        >>> coverage(torch.tensor([[[1, 0], [0, 0], [-1, 0], [-1, -1]]]), torch.tensor([[True, True, True, False]]))
        {'foreground': 0.3333333333333333, 'background': 0.3333333333333333, 'uncertain': 0.3333333333333333}
    """
    sure = confident(labels) & mask
    foreground = (sure & (labels == 1).any(-1)).sum().item()
    background = sure.sum().item() - foreground
    total = mask.sum().item()
    counts = {"foreground": foreground, "background": background, "uncertain": total - foreground - background}
    return {name: count / max(1, total) for name, count in counts.items()}


def _stretched(p: Tensor, mask: Tensor) -> Tensor:
    padding = ~mask[..., None]
    lowest = p.masked_fill(padding, torch.inf).amin(1, keepdim=True)
    span = p.masked_fill(padding, -torch.inf).amax(1, keepdim=True) - lowest  # [B, 1, K]
    return torch.where(span > FLAT, (p - lowest) / span.clamp(min=FLAT), p)
