"""Exact nearest neighbours by cosine: what a search of the library and the measure of retrieval both compare with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK_VALUES = 2**24  # cosines held at once, 64 MB


def unit(values: np.ndarray) -> np.ndarray:
    """Return rows `[N, D]` as float32 of unit length; a row of zeros stays zeros.

    Example:
        >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    values = values.astype(np.float32)
    length = np.sqrt(np.einsum("nd,nd->n", values, values))
    length[length == 0] = 1
    values /= length[:, None]
    return values


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the places of the `k` highest scores of each row, the highest first; of equal ones the first comes first.

    Args:
        scores: `[Q, N]`, without NaN.
        k: > 0; all come back if there are no more.

    Returns:
        int64 `[Q, min(k, N)]`.

    Example:
        >>> top(np.array([[0.1, 0.9, 0.5, 0.9, 0.5]]), 3).tolist()
        [[1, 3, 2]]
    """
    k = min(k, scores.shape[1])
    if k == 0:
        return np.zeros((len(scores), 0), np.int64)
    rows = np.empty((len(scores), k), np.int64)
    for row, values in zip(rows, scores):
        cut = np.partition(values, len(values) - k)[len(values) - k]  # the k-th highest
        above = np.flatnonzero(values > cut)
        row[: len(above)] = above[np.argsort(-values[above], kind="stable")]
        row[len(above) :] = np.flatnonzero(values == cut)[: k - len(above)]
    return rows


class Exact:
    """Vectors `[N, D]` in memory, with which queries are compared one and all.

    Equal vectors have equal cosines. A matrix product alone does not promise that: it rounds by the place of a column
    (of 1003 columns of width 512, two equal ones differed for half of the queries).

    Attributes:
        values: float32 `[N, D]`, of unit length.

    Example:
        >>> list(Exact(np.array([[2.0, 0.0], [0.0, 3.0]])).cosines(np.array([[5.0, 0.0]])))
        [(0, array([[1., 0.]], dtype=float32))]
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = unit(values)
        self._later, self._first = _twins(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def cosines(self, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield `(first, cosines)` for stretches of the queries `[Q, D]`: the number of the first, and float32 `[q, N]`.

        However many there are, only about 64 MB of cosines are held, or those of one query.
        """
        size = max(1, BLOCK_VALUES // max(1, len(self.values)))
        for first in range(0, len(queries), size):
            cosines = unit(queries[first : first + size]) @ self.values.T  # [q, N]
            cosines[:, self._later] = cosines[:, self._first]
            yield first, cosines


def _twins(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that equal an earlier one, and for each the first that it equals."""
    seen: dict[int, int] = {}
    first = np.array([seen.setdefault(hash(row.tobytes()), number) for number, row in enumerate(values)], np.int64)
    later = np.flatnonzero(first != np.arange(len(values)))
    later = later[(values[later] == values[first[later]]).all(1)]
    return later, first[later]
