"""How well segments in time are found: average precision at temporal IoU, recall of proposals, overlap of frames.

The rule is that of the ActivityNet detection task. Predictions of one class are pooled over all videos, best score first.
At every threshold each in its turn takes, among the true segments of its video and class that are still free and overlap
it with at least that IoU, the one of highest IoU; without any it is a false positive. Intervals are half-open, without any
added 1; two segments without length have IoU 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

Ties = Literal["input", "reverse"]
PAIRS_AT_ONCE = 1_000_000  # bounds the memory of overlaps at about 80 MB


class Truth(NamedTuple):
    """True segments: `video` int64 `[G]`, `label` int64 `[G]` from 0, `times` float64 `[G, 2]`."""

    video: np.ndarray
    label: np.ndarray
    times: np.ndarray


class Detections(NamedTuple):
    """Predicted segments: `video` int64 `[P]`, `label` int64 `[P]` from 0, `times` float64 `[P, 2]`, `scores` float64 `[P]`."""

    video: np.ndarray
    label: np.ndarray
    times: np.ndarray
    scores: np.ndarray


class _Pairs(NamedTuple):
    """Segments that overlap, sorted by detection, then by falling IoU, then by the order of the truth."""

    detection: np.ndarray
    truth: np.ndarray
    iou: np.ndarray


def average_precisions(
    truth: Truth, detections: Detections, thresholds: Sequence[float], num_classes: int, ties: Ties = "input"
) -> np.ndarray:
    """Average precision of every class at every threshold of IoU, by the rule of ActivityNet.

    Precision is made falling from the right and summed over the steps of recall.

    Args:
        truth: What is there.
        detections: What was found; every class and video it names may be without truth.
        thresholds: Of IoU, each > 0 and <= 1; `>=` counts as found.
        num_classes: Labels are below it.
        ties: Which of equal scores, and of true segments of equal IoU, comes first: the first of the input, or the last
            (which is what the official code gives with sorts that are stable).

    Returns:
        float64 `[K, len(thresholds)]`; NaN for a class without truth.

    Raises:
        ValueError: Arrays do not fit, a number is not finite, a segment ends before it begins, or a label or a threshold
            is out of range.

    Example:
        >>> truth = Truth(np.array([0, 0]), np.array([0, 0]), np.array([[0.0, 10], [20, 30]]))
        >>> found = Detections(np.array([0, 0]), np.array([0, 0]), np.array([[0.0, 8], [50, 60]]), np.array([0.9, 0.5]))
        >>> average_precisions(truth, found, [0.5, 0.9], num_classes=2).tolist()
        [[0.5, 0.0], [nan, nan]]
    """
    limits = _checked(truth, detections, thresholds, num_classes)
    if ties not in ("input", "reverse"):
        raise ValueError(f"ties ({ties!r}) must be 'input' or 'reverse'")
    if ties == "reverse":
        truth, detections = _taken(truth, slice(None, None, -1)), _taken(detections, slice(None, None, -1))
    detections = _taken(detections, np.argsort(-detections.scores, kind="stable"))
    pairs = _pairs(truth, detections, limits.min(), (truth.label, detections.label))
    by_class = np.argsort(detections.label, kind="stable")
    borders = np.searchsorted(detections.label[by_class], np.arange(num_classes + 1))
    counts = np.bincount(truth.label, minlength=num_classes)
    result = np.full((num_classes, len(limits)), np.nan)
    for column, limit in enumerate(limits):
        found = _found(pairs, limit, len(detections.label), len(truth.label))[by_class]
        for label in np.flatnonzero(counts):
            result[label, column] = _area(found[borders[label] : borders[label + 1]], counts[label])
    return result  # [K, thresholds]


def average_recall(
    truth: Truth, detections: Detections, thresholds: Sequence[float], counts: Sequence[int]
) -> np.ndarray:
    """AR@AN: the share of true segments that some proposal covers, whatever its class, mean over the thresholds.

    For `count` proposals a video on average each video keeps the same share of its own, the best by score; where there are
    not so many, all count. A proposal may cover several true segments.

    Args:
        truth: What is there; its videos are those over which the average number is taken.
        detections: Proposals; those of other videos do not count.
        thresholds: Of IoU, each > 0 and <= 1.
        counts: Average numbers of proposals a video, each > 0.

    Returns:
        float64 `[len(counts)]`; NaN without truth.

    Raises:
        ValueError: As `average_precisions`, or a count is not > 0.

    Example:
        >>> truth = Truth(np.array([0, 0]), np.array([0, 1]), np.array([[0.0, 10], [20, 30]]))
        >>> found = Detections(np.array([0, 0]), np.array([0, 0]), np.array([[0.0, 10], [20, 30]]), np.array([0.9, 0.5]))
        >>> average_recall(truth, found, [0.5, 0.75], [1, 2]).tolist()
        [0.5, 1.0]
    """
    limits = _checked(truth, detections, thresholds, None)
    wanted = [int(count) for count in counts]
    if any(count < 1 for count in wanted):
        raise ValueError(f"counts ({wanted}) must all be > 0")
    if not len(truth.label):
        return np.full(len(wanted), np.nan)
    videos = np.unique(truth.video)
    detections = _taken(detections, np.isin(detections.video, videos))
    detections = _taken(detections, np.lexsort((-detections.scores, detections.video)))
    begin = np.searchsorted(detections.video, detections.video)
    have = np.searchsorted(detections.video, detections.video, "right") - begin
    place = np.arange(len(begin)) - begin  # among the proposals of its video, the best is 0
    pairs = _pairs(truth, detections, limits.min())
    recalls = np.empty(len(wanted))
    for number, count in enumerate(wanted):
        keep = have * count * len(videos) // max(len(place), 1)
        kept = (place < keep)[pairs.detection]
        best = np.zeros(len(truth.label))
        np.maximum.at(best, pairs.truth[kept], pairs.iou[kept])
        recalls[number] = (best >= limits[:, None]).mean()
    return recalls


class FrameIoU:
    """Overlap of predicted and true frames, of foreground and of background, summed over the data set.

    Example:
        >>> overlap = FrameIoU()
        >>> overlap.add(np.array([True, True, False, False]), np.array([True, False, False, False]))
        >>> overlap.foreground, round(overlap.background, 3), round(overlap.mean, 3)
        (0.5, 0.667, 0.583)
    """

    def __init__(self) -> None:
        self._counts: list[tuple[int, int, int, int]] = []  # intersection and union of foreground, then of background

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Count the frames of one class in one video, both bool `[T]`.

        Raises:
            ValueError: They are not bool, or not of one length.
        """
        predicted, true = np.asarray(predicted), np.asarray(true)
        if predicted.dtype != bool or true.dtype != bool or predicted.ndim != 1 or predicted.shape != true.shape:
            raise ValueError(
                f"predicted ({predicted.dtype} {list(predicted.shape)}) and true ({true.dtype} {list(true.shape)}) must "
                "both be bool [T] of one length"
            )
        both, either = int((predicted & true).sum()), int((predicted | true).sum())
        self._counts.append((both, either, len(true) - either, len(true) - both))

    @property
    def foreground(self) -> float:
        """IoU of foreground over all frames; NaN where no frame is it."""
        return self._total(0)

    @property
    def background(self) -> float:
        """IoU of background over all frames; NaN where no frame is it."""
        return self._total(2)

    @property
    def mean(self) -> float:
        """The mean of foreground and background."""
        return (self.foreground + self.background) / 2

    @property
    def per_video(self) -> dict[str, float]:
        """`foreground`, `background` and their `mean`, each averaged over what was added: a long video weighs no more."""
        shares = []
        for column in (0, 2):
            known = [row[column] / row[column + 1] for row in self._counts if row[column + 1]]
            shares.append(float(np.mean(known)) if known else float("nan"))
        return {"foreground": shares[0], "background": shares[1], "mean": (shares[0] + shares[1]) / 2}

    def _total(self, column: int) -> float:
        union = sum(row[column + 1] for row in self._counts)
        return sum(row[column] for row in self._counts) / union if union else float("nan")


def video_average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision, without interpolation, of telling which videos show a class.

    Of equal scores videos without the class come first, so that the order of videos changes nothing.

    Args:
        labels: bool `[N, K]`, whether the video shows the class.
        scores: float `[N, K]`; -inf where nothing is said.

    Returns:
        float64 `[K]`; NaN for a class that no video shows.

    Raises:
        ValueError: The arrays do not fit, or a score is NaN.

    Example:
        >>> labels = np.array([[True, False], [False, False], [True, False]])
        >>> video_average_precision(labels, np.array([[0.9, 0], [0.8, 0], [0.7, 0]])).round(3).tolist()  # (1/1 + 2/3) / 2
        [0.833, nan]
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    if labels.dtype != bool or labels.ndim != 2 or labels.shape != scores.shape:
        raise ValueError(
            f"labels ({labels.dtype} {list(labels.shape)}) must be bool [N, K] and scores {list(scores.shape)} of its shape"
        )
    if np.isnan(scores).any():
        raise ValueError(f"scores of {int(np.isnan(scores).any(1).sum())} videos are NaN; they must be numbers")
    result = np.full(labels.shape[1], np.nan)
    for column in np.flatnonzero(labels.any(0)):
        is_class = labels[np.lexsort((labels[:, column], -scores[:, column])), column]
        places = np.flatnonzero(is_class) + 1
        result[column] = (np.arange(1, len(places) + 1) / places).mean()
    return result


def segment_iou(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """IoU of segments `[..., 2]` with segments `[..., 2]`, by broadcasting; 0 where neither has a length.

    Example:
        >>> segment_iou(np.array([0.0, 10]), np.array([[5.0, 15], [10, 20], [3, 3]])).round(3).tolist()
        [0.333, 0.0, 0.0]
    """
    starts, ends = np.maximum(ours[..., 0], theirs[..., 0]), np.minimum(ours[..., 1], theirs[..., 1])
    shared = np.clip(ends - starts, 0, None)
    union = (theirs[..., 1] - theirs[..., 0]) + (ours[..., 1] - ours[..., 0]) - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)


def _found(pairs: _Pairs, limit: float, num_detections: int, num_truth: int) -> np.ndarray:
    """Which detections are true positives at one threshold, bool `[P]`; detections are numbered best first.

    That each in turn takes its best free segment is a stable matching in which every true segment prefers the detection
    of better score. So all may ask at once and be turned away by a better one, which gives the same result whatever the
    order, in a few vectorised rounds.
    """
    near = pairs.iou >= limit
    detection, truth = pairs.detection[near], pairs.truth[near]
    first = np.flatnonzero(np.diff(detection, prepend=-1))
    asks, end = (
        np.zeros(num_detections, np.int64),
        np.zeros(num_detections, np.int64),
    )  # its next pair, and its last + 1
    asks[detection[first]], end[detection[first]] = first, np.append(first[1:], len(detection))
    taken = np.full(num_truth, num_detections)  # by which detection; by none
    asking = detection[first]
    while len(asking):
        target = truth[asks[asking]]
        before = taken[target]
        np.minimum.at(taken, target, asking)
        after = taken[target]
        turned_away = np.concatenate([asking[after != asking], before[(before < num_detections) & (after != before)]])
        turned_away = np.unique(turned_away)  # one may have been displaced by several at once
        asks[turned_away] += 1
        asking = turned_away[asks[turned_away] < end[turned_away]]
    found = np.zeros(num_detections, bool)
    found[taken[taken < num_detections]] = True
    return found


def _area(found: np.ndarray, count: int) -> float:
    """Area under precision over recall for one class: `found` bool `[P]`, best first, of `count` true segments."""
    places = np.flatnonzero(found) + 1
    precision = np.arange(1, len(places) + 1) / places  # where recall rises; between, precision only falls
    return float(np.maximum.accumulate(precision[::-1]).sum() / count)


def _pairs(
    truth: Truth, detections: Detections, lowest: float, labels: tuple[np.ndarray, np.ndarray] | None = None
) -> _Pairs:
    """All pairs of one video, and of one of `labels` if these are given, with an IoU of at least `lowest`."""
    _, video = np.unique(np.concatenate([truth.video, detections.video]), return_inverse=True)
    groups = video if labels is None else np.concatenate(labels) * (len(video) + 1) + video
    ours, theirs = groups[: len(truth.video)], groups[len(truth.video) :]
    by_group = np.argsort(ours, kind="stable")
    begin = np.searchsorted(ours[by_group], theirs)
    sizes = np.searchsorted(ours[by_group], theirs, "right") - begin
    parts = [part for part in _blocks(truth, detections, by_group, begin, sizes, lowest)]
    return _Pairs(*map(np.concatenate, zip(*parts)))


def _blocks(
    truth: Truth, detections: Detections, by_group: np.ndarray, begin: np.ndarray, sizes: np.ndarray, lowest: float
) -> Iterator[_Pairs]:
    """The pairs of some detections at a time; detection `p` meets `by_group[begin[p] : begin[p] + sizes[p]]`."""
    yield _Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    have = np.flatnonzero(sizes)
    total = np.cumsum(sizes[have])
    block = total // PAIRS_AT_ONCE
    for part in np.split(have, np.flatnonzero(np.diff(block)) + 1):
        detection = np.repeat(part, sizes[part])
        within = np.arange(len(detection)) - np.repeat(np.cumsum(sizes[part]) - sizes[part], sizes[part])
        number = by_group[begin[detection] + within]
        iou = segment_iou(detections.times[detection], truth.times[number])
        near = np.flatnonzero(iou >= lowest)
        near = near[np.lexsort((-iou[near], detection[near]))]
        yield _Pairs(detection[near], number[near], iou[near])


def _taken(rows: Truth | Detections, which: np.ndarray | slice) -> Truth | Detections:
    return type(rows)(*(column[which] for column in rows))


def _checked(truth: Truth, detections: Detections, thresholds: Sequence[float], num_classes: int | None) -> np.ndarray:
    """The thresholds as float64, once everything is found to fit."""
    for name, rows in (("truth", truth), ("detections", detections)):
        count = len(rows.video)
        shapes = [list(np.shape(column)) for column in rows]
        wanted = [[count], [count], [count, 2], [count]][: len(rows)]
        if shapes != wanted:
            raise ValueError(f"{name}: columns {', '.join(rows._fields)} are of shapes {shapes}; they must be {wanted}")
        if not all(np.isfinite(column).all() for column in rows[2:]):
            raise ValueError(f"{name}: times and scores must be finite numbers, but some are NaN or infinite")
        backwards = np.flatnonzero(rows.times[:, 1] < rows.times[:, 0])
        if len(backwards):
            start, end = rows.times[backwards[0]]
            raise ValueError(f"{name}: segment {backwards[0]} ({start:g} to {end:g}) must not end before it begins")
        if num_classes is not None and count and not 0 <= rows.label.min() <= rows.label.max() < num_classes:
            raise ValueError(
                f"{name}: labels ({rows.label.min()} to {rows.label.max()}) must be >= 0 and < num_classes ({num_classes})"
            )
    limits = np.asarray(thresholds, np.float64)
    if limits.ndim != 1 or not len(limits) or not ((limits > 0) & (limits <= 1)).all():
        raise ValueError(f"thresholds ({list(thresholds)}) must be at least one number > 0 and <= 1")
    return limits
