"""How near the members of a query's class are to it: recall among the nearest `k`, and mean average precision.

Entries of a gallery are ranked by their cosine with a query, the highest first. Of equal cosines those of another class
come first, so that the order of the gallery changes nothing, and features that tell nothing apart earn nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where each of `Q` queries finds its class.

    Attributes:
        first: int64 `[Q]`, the place of the nearest entry of its class, counted from 1; 0 where there is none.
        precision: float64 `[Q]`, the average precision: the mean, over all entries of its class, of the share of its
            class among the entries up to and with that one; 0 where there is none.
        relevant: int64 `[Q]`, how many entries of its class there are.
        compared: int64 `[Q]`, how many entries there are.
    """

    first: np.ndarray
    precision: np.ndarray
    relevant: np.ndarray
    compared: np.ndarray


def rank(cosines: np.ndarray, labels: np.ndarray, gallery_labels: np.ndarray) -> Ranks:
    """Look where queries find their class among the entries of a gallery.

    Args:
        cosines: float `[Q, N]`, or any other likeness; -inf where an entry is left out for a query.
        labels: int `[Q]`, the classes of the queries.
        gallery_labels: int `[N]`, the classes of the entries.

    Raises:
        ValueError: The arrays do not fit, or hold NaN.

    Example:
        >>> found = rank(np.array([[0.9, 0.8, 0.7, 0.1]]), np.array([1]), np.array([0, 1, 0, 1]))
        >>> found.first.tolist(), found.precision.tolist()  # (1/2 + 2/4) / 2
        ([2], [0.5])
    """
    cosines, labels, gallery_labels = np.asarray(cosines), np.asarray(labels), np.asarray(gallery_labels)
    if cosines.shape != (len(labels), len(gallery_labels)):
        raise ValueError(
            f"cosines {list(cosines.shape)} must be {[len(labels), len(gallery_labels)]}, a row for each of the labels "
            "and a column for each of the gallery's"
        )
    if np.isnan(cosines).any():
        raise ValueError(f"cosines of {int(np.isnan(cosines).any(1).sum())} queries are NaN; they must be numbers")
    ordered = np.sort(cosines, axis=1)
    compared = ordered.shape[1] - _places(ordered, np.full((len(labels), 1), -np.inf), "right")[:, 0]
    first, relevant = np.zeros(len(labels), np.int64), np.zeros(len(labels), np.int64)
    precision = np.zeros(len(labels))
    for label in np.unique(labels):
        rows, columns = np.flatnonzero(labels == label), np.flatnonzero(gallery_labels == label)
        own = np.sort(cosines[np.ix_(rows, columns)], axis=1)  # [q, P]
        # how many entries, and how many of the class, are as near as each of the class
        near = ordered.shape[1] - _places(ordered[rows], own, "left")
        near_own = own.shape[1] - _places(own, own, "left")
        place = np.arange(own.shape[1], 0, -1)  # among the class, ascending cosines: the last is the nearest
        places = place + near - near_own  # among all
        counts = own > -np.inf
        relevant[rows] = counts.sum(1)
        precision[rows] = (counts * place / places).sum(1) / np.maximum(relevant[rows], 1)
        if own.shape[1]:
            first[rows] = counts[:, -1] * places[:, -1]
    return Ranks(first, precision, relevant, compared)


def join(ranks: Sequence[Ranks]) -> Ranks:
    """Return the ranks of several blocks of queries as those of one."""
    columns = ((one.first, one.precision, one.relevant, one.compared) for one in ranks)
    return Ranks(*map(np.concatenate, zip(*columns)))


def recall_at(ranks: Ranks, k: int) -> float:
    """R@k: the share of queries of whose class at least one entry is among the `k` nearest.

    A query whose class is not there counts as not found.

    Raises:
        ValueError: `k` is not > 0, or there is no query.

    Example:
        >>> found = rank(np.array([[0.9, 0.8], [0.9, 0.8]]), np.array([0, 1]), np.array([0, 1]))
        >>> recall_at(found, 1), recall_at(found, 2)
        (0.5, 1.0)
    """
    _check(ranks, k)
    return float(((ranks.first > 0) & (ranks.first <= k)).mean())


def chance_at(ranks: Ranks, k: int) -> float:
    """What R@k would be on average if the entries came in random order.

    Example:
        >>> found = rank(np.array([[0.9, 0.8, 0.1, 0.0]]), np.array([0]), np.array([0, 1, 1, 1]))
        >>> chance_at(found, 1), chance_at(found, 2)
        (0.25, 0.5)
    """
    _check(ranks, k)
    missed = np.ones(len(ranks.first))
    for drawn in range(k):
        others = ranks.compared - ranks.relevant - drawn
        missed *= np.maximum(others, 0) / np.maximum(ranks.compared - drawn, 1)
    return float((1 - missed)[ranks.relevant > 0].sum() / len(missed))


def mean_average_precision(ranks: Ranks) -> float:
    """MAP: the mean over the queries of `Ranks.precision`, over the whole gallery.

    A query whose class is not there counts as 0.
    """
    _check(ranks, 1)
    return float(ranks.precision.mean())


def chance_of_mean_average_precision(ranks: Ranks) -> float:
    """What mAP would be on average if the entries came in random order.

    At place `k` of `N` stands one of the `P` of the class with the chance `P / N`, and each before it is then of the
    class with the chance `(P - 1) / (N - 1)`.

    Example:
        >>> found = rank(np.array([[0.9, 0.8]]), np.array([0]), np.array([0, 1]))
        >>> chance_of_mean_average_precision(found)  # (1 + 1/2) / 2
        0.75
    """
    _check(ranks, 1)
    harmonic = np.cumsum(1 / np.arange(1, max(1, ranks.compared.max()) + 1))
    count = np.maximum(ranks.compared, 1)
    others = (ranks.relevant - 1) / np.maximum(count - 1, 1)
    precision = others + harmonic[count - 1] / count * (1 - others)
    return float(precision[ranks.relevant > 0].sum() / len(precision))


def _places(ordered: np.ndarray, values: np.ndarray, side: str) -> np.ndarray:
    """`np.searchsorted` row by row: `[Q, N]` ascending, `[Q, P]` -> int64 `[Q, P]`."""
    places = np.empty(values.shape, np.int64)
    for row, among, sought in zip(places, ordered, values):
        row[:] = np.searchsorted(among, sought, side)
    return places


def _check(ranks: Ranks, k: int) -> None:
    if k < 1:
        raise ValueError(f"k ({k}) must be > 0")
    if not len(ranks.first):
        raise ValueError("ranks hold no query; at least one is needed")
