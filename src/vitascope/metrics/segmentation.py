"""Region similarity J and boundary accuracy F of DAVIS, and the statistics of both over time.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016; all numbers
are those of the official scorer of DAVIS 2017 to the last bit. Only the box around both masks is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np


def region_similarity(truth: np.ndarray, prediction: np.ndarray) -> float:
    """J: intersection over union; 1 where both masks are empty.

    Args:
        truth: bool `[H, W]`.
        prediction: bool `[H, W]`.

    Raises:
        ValueError: A mask is not bool `[H, W]`, or the sizes differ.

    Example:
        >>> region_similarity(np.array([[True, True, False]]), np.array([[False, True, True]]))
        0.3333333333333333
    """
    return _region(*_cropped(*_as_bytes(truth, prediction)))


def boundary_accuracy(truth: np.ndarray, prediction: np.ndarray, bound: float = 0.008) -> float:
    """F: harmonic mean of the precision and recall of the boundaries, within a tolerance.

    A boundary pixel is matched where the other boundary comes as near as `ceil(bound * diagonal)` pixels. Two empty
    boundaries give 1; one, 0. The image's own border is no boundary.

    Args:
        truth: bool `[H, W]`.
        prediction: bool `[H, W]`.
        bound: Tolerance as a share of the image's diagonal, in (0, 1).

    Raises:
        ValueError: A mask is not bool `[H, W]`, the sizes differ, or `bound` is out of its range.

    Example:
        >>> square = np.zeros((20, 20), bool)
        >>> square[5:10, 5:10] = True
        >>> boundary_accuracy(square, np.roll(square, 1, 0)), boundary_accuracy(square, ~(square | ~square))
        (1.0, 0.0)
    """
    return _boundary(*_cropped(*_as_bytes(truth, prediction)), tolerance_pixels(truth.shape, bound))


def object_scores(truth: np.ndarray, prediction: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """J and F of each object in one frame.

    Args:
        truth: uint8 `[H, W]` of object ids.
        prediction: The same of the result; an id that it lacks is an empty mask.
        ids: The objects that count, `O` ids in 1 to 255.

    Returns:
        float64 `[O, 2]`, J and F.

    Raises:
        ValueError: A mask is not uint8 `[H, W]`, or the sizes differ.

    Example:
        >>> object_scores(np.array([[0, 1, 2]], np.uint8), np.array([[0, 1, 1]], np.uint8), [1, 2]).tolist()
        [[0.5, 1.0], [0.0, 0.0]]
    """
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
            raise ValueError(f"{name} ({mask.dtype} {list(mask.shape)}) must be uint8 [H, W] of object ids")
    _check_sizes(truth, prediction)
    radius = tolerance_pixels(truth.shape)
    scores = np.empty((len(ids), 2))
    for row, number in zip(scores, ids):
        ours, theirs = (cv2.compare(mask, int(number), cv2.CMP_EQ) for mask in (truth, prediction))
        ours, theirs = _cropped(ours, theirs)
        row[:] = _region(ours, theirs), _boundary(ours, theirs, radius)
    return scores  # [O, 2]


def statistics(values: np.ndarray, davis_compat: bool = False) -> tuple[float, float, float]:
    """Mean, recall and decay of one object's J or F over the frames.

    Recall is the share of frames above 0.5. Decay is the mean of the first quarter less that of the last one; the
    quarters share the frames at their borders, as in the official scorer.

    Args:
        values: `[T]`, one for each frame.
        davis_compat: Repeat a bug of the official scorer, which counts frames modulo 256 where it cuts the quarters, so
            that the decay of longer videos is of other frames. It is nan where such a quarter has no frame.

    Raises:
        ValueError: There is no value, or there are several axes.

    Example:
        >>> [round(value, 3) for value in statistics(np.linspace(1, 0, 400))]
        [0.5, 0.5, 0.749]
        >>> [round(value, 3) for value in statistics(np.linspace(1, 0, 400), davis_compat=True)]
        [0.5, 0.5, 0.108]
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values ({list(values.shape)}) must be [T] with at least one frame")
    borders = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(np.int64) - 1
    if davis_compat:
        borders %= 256
    first, last = values[borders[0] : borders[1] + 1], values[borders[3] : borders[4] + 1]
    decay = first.mean() - last.mean() if len(first) and len(last) else math.nan
    return float(values.mean()), float((values > 0.5).mean()), float(decay)


def object_ids(mask: np.ndarray) -> list[int]:
    """The ids that a mask uint8 `[H, W]` holds, without 0, in order.

    Example:
        >>> object_ids(np.array([[0, 3], [3, 1]], np.uint8))
        [1, 3]
    """
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()
    return [int(number) for number in np.flatnonzero(counts) if number]


def tolerance_pixels(size: Sequence[int], bound: float = 0.008) -> int:
    """How far boundaries of an image of this size (H, W) may lie apart.

    Example:
        >>> tolerance_pixels((480, 854)), tolerance_pixels((240, 427))
        (8, 4)
    """
    if not 0 < bound < 1:
        raise ValueError(f"bound ({bound}) must be > 0 and < 1, a share of the image's diagonal")
    height, width = size
    return math.ceil(bound * math.sqrt(height * height + width * width))


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Where a mask uint8 `[H, W]` differs from its right, lower or lower right neighbour; not 0 there, same shape.

    Example:
        >>> boundary_map(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.uint8)).tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    edges = np.zeros_like(mask)
    np.bitwise_xor(mask[:, :-1], mask[:, 1:], out=edges[:, :-1])
    edges[:-1] |= mask[:-1] ^ mask[1:]
    edges[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edges


def dilate(edges: np.ndarray, radius: int) -> np.ndarray:
    """Widens a map uint8 `[H, W]` by the disk of all offsets with dx² + dy² <= radius².

    The disk is the union of a few rectangles, and widening by a rectangle is separable: at a radius of 8 that is six of
    them in place of 197 offsets.

    Example:
        >>> dilate(np.eye(1, 5, 2, dtype=np.uint8), 1).tolist()
        [[0, 1, 1, 1, 0]]
    """
    corners = {math.isqrt(radius * radius - dy * dy): dy for dy in range(radius + 1)}  # half width -> half height
    widened = [cv2.dilate(edges, np.ones((2 * dy + 1, 2 * dx + 1), np.uint8)) for dx, dy in corners.items()]
    result = widened[0]
    for other in widened[1:]:
        result = np.bitwise_or(result, other, out=result)
    return result


def _as_bytes(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask.dtype != bool or mask.ndim != 2 or not mask.size:
            raise ValueError(f"{name} ({mask.dtype} {list(mask.shape)}) must be bool [H, W]")
    _check_sizes(truth, prediction)
    return np.ascontiguousarray(truth).view(np.uint8), np.ascontiguousarray(prediction).view(np.uint8)


def _check_sizes(truth: np.ndarray, prediction: np.ndarray) -> None:
    if truth.shape != prediction.shape:
        ours, theirs = ("{1}x{0}".format(*mask.shape) for mask in (truth, prediction))
        raise ValueError(f"prediction is {theirs}, but truth is {ours}; both must have one size")


def _cropped(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks within the box around them, and one pixel more, which holds all boundary pixels."""
    left, top, width, height = cv2.boundingRect(cv2.bitwise_or(truth, prediction))
    rows, columns = slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)
    return truth[rows, columns], prediction[rows, columns]


def _region(truth: np.ndarray, prediction: np.ndarray) -> float:
    union = cv2.countNonZero(cv2.bitwise_or(truth, prediction))
    return cv2.countNonZero(cv2.bitwise_and(truth, prediction)) / union if union else 1.0


def _boundary(truth: np.ndarray, prediction: np.ndarray, radius: int) -> float:
    ours, theirs = boundary_map(truth), boundary_map(prediction)
    num_ours, num_theirs = cv2.countNonZero(ours), cv2.countNonZero(theirs)
    if not num_ours or not num_theirs:
        return float(num_ours == num_theirs)
    precision = cv2.countNonZero(cv2.bitwise_and(theirs, dilate(ours, radius))) / num_theirs
    recall = cv2.countNonZero(cv2.bitwise_and(ours, dilate(theirs, radius))) / num_ours
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
