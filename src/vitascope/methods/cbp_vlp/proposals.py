"""Probabilities of snippets -> dated actions: which classes, which stretches, how good each is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from vitascope.methods.cbp_vlp.nms import Suppression, soft_nms
from vitascope.structures import Segments

Gate = Literal["relative", "absolute"]
Normalise = Literal["video_minmax", "none"]
ScoreFrom = Literal["normalised", "probabilities"]
FLAT = 1e-9  # a curve that varies less is flat, and cannot be stretched to [0, 1]


def propose(
    probabilities: np.ndarray,
    video_scores: np.ndarray,
    times_seconds: np.ndarray,
    classes: Sequence[str],
    *,
    class_gate: float = 0.85,
    gate: Gate = "relative",
    max_proposals: int = 200,
    duration_seconds: float | None = None,
    **how: Any,
) -> Segments:
    """Return the actions of one video, best first.

    Args:
        probabilities: Float `[S, K]`.
        video_scores: How much each class is in the video, float `[K]`.
        times_seconds: Stretches of the snippets, float `[S, 2]`, in order of time; they may overlap.
        classes: `K` names.
        class_gate: Least video score of a class.
        gate: relative: as a share of the greatest video score, so that both classes of a 0.5/0.5 video stay; absolute: as
            it is. The class with the greatest score always stays.
        max_proposals: Most of a video.
        duration_seconds: Of the video; proposals are cut at its end. None takes the end of the last snippet.
        **how: Named arguments of `proposals_of`: how a class is cut into proposals.

    Raises:
        ValueError: Shapes do not agree, a value is not finite, times are not in order, or a parameter is out of range.

    Example:
        >>> curve = np.array([[0.0], [0.1], [0.9], [1.0], [0.1]])
        >>> times = np.arange(5)[:, None] * 0.64 + [0, 0.64]
        >>> found = propose(curve, np.array([0.8]), times, ["jump"])
        >>> found.labels, found.times_seconds.round(2).tolist(), found.scores.round(2).tolist()
        (('jump',), [[1.25, 2.64]], [0.74])
    """
    probabilities, video_scores = np.asarray(probabilities, np.float64), np.asarray(video_scores, np.float64)
    times = np.asarray(times_seconds, np.float64).reshape(-1, 2)
    _check_arrays(probabilities, video_scores, times, classes)
    if max_proposals < 1:
        raise ValueError(f"max_proposals ({max_proposals}) must be >= 1")
    end_seconds = times[:, 1].max(initial=0.0) if duration_seconds is None else duration_seconds
    rows: list[tuple[float, int, float, float]] = []  # score, class, start, end
    for k in gated_classes(video_scores, class_gate, gate) if len(times) else []:
        found, scores = proposals_of(probabilities[:, k], video_scores[k], times, end_seconds, max_proposals, **how)
        rows += [(score, k, start, end) for score, (start, end) in zip(scores.tolist(), found.tolist())]
    rows = sorted(rows, key=lambda row: (-row[0], *row[1:]))[:max_proposals]
    return Segments(
        np.array([row[2:] for row in rows], np.float64).reshape(-1, 2),
        tuple(classes[row[1]] for row in rows),
        np.array([row[0] for row in rows], np.float64),
    )


def proposals_of(
    curve: np.ndarray,
    video_score: float,
    times: np.ndarray,
    end_seconds: float,
    max_kept: int,
    *,
    normalise: Normalise = "video_minmax",
    thresholds: Sequence[float] = (0.45,),
    upsample: int = 24,
    score_from: ScoreFrom = "normalised",
    outer: float = 0.25,
    gamma: float = 0.2,
    nms: Suppression = "gaussian",
    sigma: float = 0.3,
    nms_threshold: float = 0.7,
    min_score: float = 0.001,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the proposals of one class, float64 `[M, 2]`, and their scores, float64 `[M]`, best first.

    The curve is drawn finer, stretched to [0, 1], and cut at each threshold; a maximal run above one is a proposal. Its
    score is its `contrast` and `gamma` times the video's score. One that stands out so little that this is negative is
    left out: no suppression could lower it.

    Args:
        curve: Probabilities of the class, float `[S]`.
        video_score: How much it is in the video.
        times: Stretches of the snippets, float64 `[S, 2]`.
        end_seconds: Where proposals are cut off.
        max_kept: Most proposals.
        normalise: Stretch the curve from 0 at its least to 1 at its greatest value, or leave it, as one that is flat.
        thresholds: More than one give proposals within proposals.
        upsample: Steps a snippet.
        score_from: The curve whose contrast counts: the one that is cut, or the probabilities as they came.
        outer: Width of what lies around a run, on each side, as a share of its length.
        gamma: Weight of the video's score.
        nms: Suppression of what overlaps, see `soft_nms`, as for `sigma`, `nms_threshold` and `min_score`.
    """
    _check_settings(normalise, thresholds, upsample, score_from)
    steps, is_torn = fine_steps(times, upsample), torn(times, upsample)
    # beyond the outer centres the curve is held: extrapolating it would invent values
    plain = np.interp(steps.mean(1), times.mean(1), curve)
    fine = _stretched(plain, curve) if normalise == "video_minmax" else plain
    runs = np.unique(np.concatenate([runs_above(fine, level, is_torn) for level in thresholds]), axis=0)
    found = np.clip(np.stack([steps[runs[:, 0], 0], steps[runs[:, 1] - 1, 1]], 1), 0.0, end_seconds)
    scores = contrast(fine if score_from == "normalised" else plain, runs, outer) + gamma * video_score
    is_good = (scores >= 0) & (found[:, 1] > found[:, 0])
    found, scores = found[is_good], scores[is_good]
    how = {"sigma": sigma, "threshold": nms_threshold, "min_score": min_score, "max_kept": max_kept}
    kept, scores = soft_nms(found, scores, nms, **how)
    return found[kept], scores


def gated_classes(video_scores: np.ndarray, class_gate: float, gate: Gate = "relative") -> list[int]:
    """Return which classes are in a video; at least the one with the greatest score.

    Example:
        >>> gated_classes(np.array([0.48, 0.03, 0.49]), 0.85), gated_classes(np.array([0.48, 0.03, 0.49]), 0.85, "absolute")
        ([0, 2], [2])
    """
    if gate not in get_args(Gate):
        raise ValueError(f"gate ({gate!r}) must be one of {', '.join(get_args(Gate))}")
    best = int(video_scores.argmax())
    least = class_gate * video_scores[best] if gate == "relative" else class_gate
    return [k for k in range(len(video_scores)) if k == best or video_scores[k] >= least]


def fine_steps(times: np.ndarray, upsample: int) -> np.ndarray:
    """Split each snippet's own part of the time into equal steps, float64 `[S * upsample, 2]`.

    Where snippets overlap each takes its half of the overlap; what lies between two belongs to neither.

    Example:
        >>> fine_steps(np.array([[0.0, 2.0], [1.0, 3.0], [5.0, 6.0]]), 1).tolist()
        [[0.0, 1.5], [1.5, 3.0], [5.0, 6.0]]
    """
    middle = (times[:-1, 1] + times[1:, 0]) / 2
    starts = np.concatenate([times[:1, 0], np.maximum(times[1:, 0], middle)])
    ends = np.concatenate([np.minimum(times[:-1, 1], middle), times[-1:, 1]])
    marks = starts[:, None] + (ends - starts)[:, None] * np.arange(upsample + 1) / upsample
    marks[:, -1] = ends  # to the bit, so that neighbours touch
    return np.stack([marks[:, :-1], marks[:, 1:]], -1).reshape(-1, 2)


def torn(times: np.ndarray, upsample: int) -> np.ndarray:
    """Tell of each fine step whether more than a usual snippet's length before it was not seen, bool `[S * upsample]`.

    Example:
        >>> torn(np.array([[0.0, 1.0], [1.2, 2.0], [60.0, 61.0]]), 1).tolist()
        [False, False, True]
    """
    is_torn = np.zeros((len(times), upsample), bool)
    if len(times):
        is_torn[1:, 0] = times[1:, 0] - times[:-1, 1] > np.median(times[:, 1] - times[:, 0])
    return is_torn.reshape(-1)


def runs_above(curve: np.ndarray, threshold: float, is_torn: np.ndarray | None = None) -> np.ndarray:
    """Return the maximal runs of steps above a threshold, int64 `[R, 2]`, half-open.

    Args:
        curve: Float `[N]`.
        threshold: A step on it is not above it.
        is_torn: Steps that do not go on with a run but begin another, bool `[N]`.

    Example:
        >>> runs_above(np.array([0.9, 0.2, 0.8, 0.7]), 0.5).tolist()
        [[0, 1], [2, 4]]
    """
    is_above = np.concatenate([[False], curve > threshold, [False]])
    is_cut = np.zeros(len(curve) + 1, bool)
    if is_torn is not None:
        is_cut[:-1] = is_torn
    starts = np.flatnonzero(is_above[1:] & (~is_above[:-1] | is_cut))
    ends = np.flatnonzero(is_above[:-1] & (~is_above[1:] | is_cut))
    return np.stack([starts, ends], 1).astype(np.int64)


def contrast(curve: np.ndarray, runs: np.ndarray, outer: float = 0.25) -> np.ndarray:
    """Return of each run its mean less the mean of what lies around it (outer-inner contrast), float64 `[R]`.

    Of a run `[s, e)` of `n` steps, `[int(s - outer n), s)` and `[e, int(e - 1 + outer n)]` lie around it, as far as the
    curve goes; where nothing does, that mean is 0.

    Example:
        >>> contrast(np.array([0.0, 0.2, 0.8, 1.0, 0.8, 0.8, 0.4]), np.array([[2, 6]])).round(3).tolist()
        [0.55]
    """
    sums, (starts, ends) = np.concatenate([[0.0], np.cumsum(curve)]), runs.T
    reach = outer * (ends - starts)
    first = np.maximum(0, np.floor(starts - reach).astype(np.int64))
    stop = np.minimum(len(curve) - 1, np.floor(ends - 1 + reach).astype(np.int64)) + 1
    count = starts - first + stop - ends
    around = (sums[starts] - sums[first] + sums[stop] - sums[ends]) / np.maximum(count, 1)
    return (sums[ends] - sums[starts]) / (ends - starts) - around


def _stretched(curve: np.ndarray, values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return curve if high - low < FLAT else (curve - low) / (high - low)


def _check_arrays(probabilities: np.ndarray, video_scores: np.ndarray, times: np.ndarray, classes) -> None:
    expected = (len(times), len(classes))
    if not classes or probabilities.shape != expected or video_scores.shape != expected[1:]:
        raise ValueError(
            f"probabilities {list(probabilities.shape)} and video_scores {list(video_scores.shape)} must be [S, K] and [K] "
            f"with S the number of times ({expected[0]}) and K of classes ({expected[1]}, at least 1)"
        )
    for name, values in (("probabilities", probabilities), ("video_scores", video_scores), ("times_seconds", times)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite; training that went wrong gives NaN")
    # where snippets overlap, several end where the video does
    if (times[:, 1] <= times[:, 0]).any() or (np.diff(times[:, 0]) <= 0).any() or (np.diff(times[:, 1]) < 0).any():
        raise ValueError(
            "times_seconds must be stretches in order of time, each beginning after the last one and not ending before it"
        )


def _check_settings(normalise: str, thresholds: Sequence[float], upsample: int, score_from: str) -> None:
    for name, value, allowed in (("normalise", normalise, Normalise), ("score_from", score_from, ScoreFrom)):
        if value not in get_args(allowed):
            raise ValueError(f"{name} ({value!r}) must be one of {', '.join(get_args(allowed))}")
    if upsample < 1:
        raise ValueError(f"upsample ({upsample}) must be >= 1")
    if not len(thresholds):
        raise ValueError("thresholds () must name at least one value")
