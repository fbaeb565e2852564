"""Which class a clip shows: accuracies, the confusion of classes, and many views of one clip as one answer."""

from __future__ import annotations

import math

import numpy as np


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of samples whose class is among the `k` of the highest score.

    Of classes with equal scores the first ones come first, so a model that tells nothing apart earns nothing.

    Args:
        scores: `[S, K]`, higher is more likely.
        labels: int `[S]`, in 0..K-1.
        k: How many classes count.

    Raises:
        ValueError: The arrays do not fit, hold nothing or hold NaN, or `k` is not > 0.

    Example:
        >>> top_k_accuracy(np.array([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]]), np.array([1, 0]))
        0.5
    """
    if k < 1:
        raise ValueError(f"k ({k}) must be > 0")
    _check(scores, labels)
    return float((_places(scores, labels) < k).mean())


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """How often each class was taken for each.

    Args:
        labels: The true classes, int `[S]`.
        predictions: int `[S]`.
        num_classes: `K`.

    Returns:
        int64 `[K, K]`: row the true class, column the predicted one.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    for name, values in (("labels", labels), ("predictions", predictions)):
        if len(values) and not (np.min(values) >= 0 and np.max(values) < num_classes):
            raise ValueError(f"{name} ({np.min(values)} to {np.max(values)}) must be in 0..{num_classes - 1}")
    if len(labels) != len(predictions):
        raise ValueError(f"labels ({len(labels)}) and predictions ({len(predictions)}) must be as many")
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predictions, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_class_accuracy(confusion: np.ndarray) -> float:
    """The mean over the classes that have samples of the share that was told right; each class weighs the same.

    Args:
        confusion: int `[K, K]` as `confusion_matrix` gives it.

    Example:
        >>> mean_class_accuracy(np.array([[9, 0, 0], [1, 0, 0], [0, 0, 0]]))
        0.5
    """
    totals = confusion.sum(1)
    if not totals.any():
        raise ValueError("confusion holds no sample; at least one is needed")
    return float((np.diag(confusion)[totals > 0] / totals[totals > 0]).mean())


def merge_views(logits: np.ndarray, samples: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One answer a sample: softmax of each view, then the mean over its views.

    A view that comes twice counts once, its first row: samplers that fill up their last batch repeat some.

    Args:
        logits: `[R, K]`, a row a view of a sample.
        samples: int `[R]`, which sample a row is of.
        views: int `[R]`, which view of it, e.g. clip number times crops plus crop number.

    Returns:
        The samples, sorted int `[S]`, and their probabilities float64 `[S, K]`.

    Example:
        >>> rows = np.log([[0.8, 0.2], [0.4, 0.6], [0.4, 0.6]])
        >>> merge_views(rows, np.array([7, 7, 7]), np.array([0, 1, 1]))[1].round(3).tolist()
        [[0.6, 0.4]]
    """
    if not len(logits) == len(samples) == len(views):
        raise ValueError(f"logits ({len(logits)}), samples ({len(samples)}) and views ({len(views)}) must be as many")
    first = np.unique(np.stack([samples, views], 1), axis=0, return_index=True)[1]
    names, places = np.unique(samples[first], return_inverse=True)
    probabilities = np.zeros((len(names), logits.shape[1]))
    np.add.at(probabilities, places, softmax(logits[first]))
    return names, probabilities / np.bincount(places)[:, None]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Exponentials that sum to one along the last axis, float64.

    Example:
        >>> softmax(np.array([1000.0, 1000.0])).tolist()
        [0.5, 0.5]
    """
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def wilson_interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share by Wilson's score: 95% by default; it does not shrink to a point at 0 or 1.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927. It takes samples to be
    independent.

    Example:
        >>> low, high = wilson_interval(40, 80)
        >>> round(low, 3), round(high, 3)
        (0.393, 0.607)
    """
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"correct ({correct}) must be in 0..total, and total ({total}) > 0")
    share, spread = correct / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(
    correct: np.ndarray, groups: np.ndarray, num_draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """95% interval of a share when samples come in groups: whole groups are drawn with replacement, percentiles taken.

    Samples of one group (segments of one recording) are alike, so that counting them one by one promises too much.

    Args:
        correct: bool `[S]`.
        groups: int `[S]`.
        num_draws: How often the groups are drawn.
        seed: Of the draws.

    Example:
        >>> bootstrap_interval(np.array([True, True, False, False]), np.array([0, 0, 1, 1]))
        (0.0, 1.0)
    """
    places = np.unique(groups, return_inverse=True)[1]
    sizes, hits = np.bincount(places), np.bincount(places, weights=np.asarray(correct, np.float64))
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(num_draws, len(sizes)))  # [draws, groups]
    low, high = np.percentile(hits[drawn].sum(1) / sizes[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


def _check(scores: np.ndarray, labels: np.ndarray) -> None:
    if scores.ndim != 2 or not scores.size or len(scores) != len(labels):
        raise ValueError(f"scores ({list(scores.shape)}) must be [S, K] with a row for each of {len(labels)} labels")
    if np.isnan(scores).any():
        raise ValueError(f"scores of {int(np.isnan(scores).any(1).sum())} samples are NaN; they must be numbers")
    if not (labels.min() >= 0 and labels.max() < scores.shape[1]):
        raise ValueError(f"labels ({labels.min()} to {labels.max()}) must be in 0..{scores.shape[1] - 1}")


def _places(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the true one, int `[S]`."""
    own = scores[np.arange(len(labels)), labels][:, None]  # [S, 1]
    before = np.arange(scores.shape[1]) < np.asarray(labels)[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(1)
