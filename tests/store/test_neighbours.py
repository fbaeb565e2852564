"""Exact neighbours: the highest in a fixed order, equal vectors alike, however many blocks."""

import numpy as np
import pytest

from vitascope.store import neighbours
from vitascope.store.neighbours import Exact, top, unit


@pytest.mark.parametrize("num_levels", [2, 5, 1000])
def test_the_top_equals_a_stable_sort(num_levels):
    rng = np.random.default_rng(num_levels)
    for k in (1, 4, 30, 99):
        scores = rng.integers(0, num_levels, (7, 30)).astype(np.float32)
        scores[0, rng.random(30) < 0.5] = -np.inf
        assert top(scores, k).tolist() == np.argsort(-scores, axis=1, kind="stable")[:, :k].tolist()


def test_of_nothing_nothing_is_at_the_top():
    assert top(np.zeros((3, 0)), 5).shape == (3, 0)
    assert top(np.zeros((0, 9)), 5).shape == (0, 5)


@pytest.mark.parametrize("block", [1, 500, 2**24])
def test_cosines_are_those_of_the_vectors_whatever_the_blocks(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK_VALUES", block)
    rng = np.random.default_rng(0)
    values, queries = rng.standard_normal((101, 8)), rng.standard_normal((13, 8))
    blocks = list(Exact(values).cosines(queries))
    assert [first for first, _ in blocks] == list(range(0, 13, max(1, min(block // 101, 13))))
    lengths = np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(values, axis=1))
    np.testing.assert_allclose(np.concatenate([c for _, c in blocks]), queries @ values.T / lengths, atol=1e-6)


@pytest.mark.parametrize(("count", "width"), [(1003, 512), (777, 13), (5, 3)])
def test_equal_vectors_are_equally_near(count, width):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((count, width), np.float32)
    values[[count // 2, count - 1]] = values[0]
    cosines = next(cosines for _, cosines in Exact(values).cosines(rng.standard_normal((37, width))))
    assert (cosines[:, [count // 2, count - 1]] == cosines[:, :1]).all()
    assert np.unique(unit(values), axis=0).shape[0] == count - 2


def test_zeros_are_like_nothing():
    cosines = next(cosines for _, cosines in Exact(np.zeros((2, 3))).cosines(np.ones((1, 3))))
    assert cosines.tolist() == [[0.0, 0.0]]
