"""Non-maximum suppression of segments: of proposals that overlap, the best keeps its score and the others lose theirs."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Suppression = Literal["gaussian", "linear", "hard"]
LEAST_LENGTH = 1e-12  # seconds; keeps the tIoU of two segments without length at 0, not 0/0

GONE = -np.inf  # score of what has been kept or dropped


def soft_nms(
    times: np.ndarray,
    scores: np.ndarray,
    method: Suppression = "gaussian",
    *,
    sigma: float = 0.3,
    threshold: float = 0.7,
    min_score: float = 0.001,
    max_kept: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the best segment, lower the scores of those that overlap it, and repeat with what is left.

    A score is multiplied by `exp(-tIoU^2 / sigma)` (gaussian, at any overlap), by `1 - tIoU` (linear), or the segment is
    dropped (hard), the latter two from a tIoU of `threshold` on. Of equal scores the one that was given first is better.

    Args:
        times: Segments in seconds, float `[P, 2]`.
        scores: Float `[P]`; >= 0 unless `method` is hard, as a decay would raise negative ones.
        method: What an overlap does.
        sigma: Width of the gaussian.
        threshold: Least tIoU that linear and hard suppression act on.
        min_score: Segments whose score is below it, at first or by decay, are dropped.
        max_kept: Stop after so many; None keeps all.

    Returns:
        Places of the kept, int64 `[M]`, best first, and their scores at that time, float64 `[M]`.

    Raises:
        ValueError: A shape, a time, a score or a parameter is not as said.

    Example:
        >>> times = np.array([[0.0, 4.0], [1.0, 4.0], [8.0, 9.0]])
        >>> kept, scores = soft_nms(times, np.array([0.9, 0.8, 0.5]))
        >>> kept.tolist(), scores.round(3).tolist()
        ([0, 2, 1], [0.9, 0.5, 0.123])
    """
    times, scores = np.asarray(times, np.float64), np.asarray(scores, np.float64)
    _check(times, scores, method, sigma, max_kept)
    order = np.argsort(times[:, 0], kind="stable")
    order = order[scores[order] >= min_score]
    left, (starts, ends) = scores[order], times[order].T.copy()
    # starts ascend, and so does the latest end so far: whatever overlaps a segment lies in one slice
    latest = np.maximum.accumulate(ends)
    firsts, stops = np.searchsorted(latest, starts, "right"), np.searchsorted(starts, ends, "left")
    kept, kept_scores = [], []
    most = len(order) if max_kept is None else min(max_kept, len(order))
    while len(kept) < most and (score := left.max()) >= min_score and score > GONE:
        equal = np.flatnonzero(left == score)
        best = equal[order[equal].argmin()]
        kept.append(order[best])
        kept_scores.append(score)
        near = slice(firsts[best], stops[best])
        left[best] = GONE
        _lower(left[near], _iou(starts[near], ends[near], starts[best], ends[best]), method, sigma, threshold)
    return np.array(kept, np.int64), np.array(kept_scores, np.float64)


def _iou(starts: np.ndarray, ends: np.ndarray, start: float, end: float) -> np.ndarray:
    shared = np.maximum(np.minimum(ends, end) - np.maximum(starts, start), 0.0)
    return shared / np.maximum(ends - starts + (end - start) - shared, LEAST_LENGTH)


def _lower(scores: np.ndarray, iou: np.ndarray, method: Suppression, sigma: float, threshold: float) -> None:
    if method == "hard":
        scores[iou >= threshold] = GONE
        return
    factors = np.exp(iou * iou / -sigma) if method == "gaussian" else np.where(iou >= threshold, 1 - iou, 1.0)
    np.multiply(scores, factors, out=scores, where=scores > GONE)


def _check(times: np.ndarray, scores: np.ndarray, method: str, sigma: float, max_kept: int | None) -> None:
    if times.ndim != 2 or times.shape[1:] != (2,) or scores.shape != times.shape[:1]:
        raise ValueError(f"times {list(times.shape)} and scores {list(scores.shape)} must be [P, 2] and [P]")
    if not (np.isfinite(times).all() and (times[:, 1] >= times[:, 0]).all()):
        raise ValueError("times must be finite, and no segment may end before it starts")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite; leave out what has none")
    if method not in get_args(Suppression):
        raise ValueError(f"method ({method!r}) must be one of {', '.join(get_args(Suppression))}")
    if method != "hard" and (scores < 0).any():
        raise ValueError(f"scores (least {scores.min():.4g}) must be >= 0 for {method} suppression; clip or shift them")
    if not sigma > 0:
        raise ValueError(f"sigma ({sigma}) must be > 0")
    if max_kept is not None and max_kept < 1:
        raise ValueError(f"max_kept ({max_kept}) must be >= 1, or None for all")
