"""Ranks, recall and average precision equal a literal version that sorts and counts."""

import numpy as np
import pytest

from vitascope.metrics.retrieval import (
    chance_at,
    chance_of_mean_average_precision,
    join,
    mean_average_precision,
    rank,
    recall_at,
)


def literal(cosines, label, gallery_labels):
    """The place of the first of the class, the average precision, how many are of it, and how many there are."""
    entries = [(c, name == label) for c, name in zip(cosines.tolist(), gallery_labels.tolist()) if c > -np.inf]
    entries.sort(key=lambda entry: (-entry[0], entry[1]))  # of equal ones those of another class first
    places = [place for place, (_, is_own) in enumerate(entries, 1) if is_own]
    precisions = [sum(is_own for _, is_own in entries[:place]) / place for place in places]
    precision = sum(precisions) / len(precisions) if precisions else 0.0
    return places[0] if places else 0, precision, len(places), len(entries)


def drawn(seed, num_levels=None, left_out=0.0):
    """Random likenesses, of `num_levels` levels only so that many are equal, and labels of which some are absent."""
    rng = np.random.default_rng(seed)
    count, size = int(rng.integers(1, 12)), int(rng.integers(1, 60))
    cosines = rng.standard_normal((count, size)).astype(np.float32)
    if num_levels:
        cosines = rng.integers(0, num_levels, cosines.shape).astype(np.float32)
    cosines[rng.random(cosines.shape) < left_out] = -np.inf
    return cosines, rng.integers(0, 6, count), rng.integers(0, 5, size)


@pytest.mark.parametrize("num_levels", [None, 1, 3, 20])
@pytest.mark.parametrize("left_out", [0.0, 0.3, 1.0])
def test_ranks_equal_the_literal_version(num_levels, left_out):
    for seed in range(30):
        cosines, labels, gallery_labels = drawn(seed, num_levels, left_out)
        before, found = cosines.copy(), rank(cosines, labels, gallery_labels)
        rows = [literal(row, label, gallery_labels) for row, label in zip(cosines, labels)]
        first, precision, relevant, compared = map(list, zip(*rows))
        assert found.first.tolist() == first
        assert (found.relevant.tolist(), found.compared.tolist()) == (relevant, compared)
        np.testing.assert_allclose(found.precision, precision, atol=1e-12)
        for k in (1, 5, 10, 20, 50):
            assert recall_at(found, k) == np.mean([0 < place <= k for place in first])
        assert mean_average_precision(found) == pytest.approx(np.mean(precision))
        assert (cosines == before).all()


def test_the_order_of_the_gallery_changes_nothing():
    cosines, labels, gallery_labels = drawn(3, num_levels=3, left_out=0.2)
    order = np.random.default_rng(0).permutation(len(gallery_labels))
    one, other = rank(cosines, labels, gallery_labels), rank(cosines[:, order], labels, gallery_labels[order])
    assert one.first.tolist() == other.first.tolist() and one.precision.tolist() == other.precision.tolist()


def test_features_that_tell_nothing_apart_earn_nothing():
    found = rank(np.ones((4, 20)), np.arange(4), np.arange(20) % 4)
    assert recall_at(found, 1) == 0 and found.first.tolist() == [16] * 4


def test_of_a_single_class_everything_is_right_and_so_it_is_by_chance():
    found = rank(np.random.default_rng(0).random((3, 9)), np.zeros(3, int), np.zeros(9, int))
    assert recall_at(found, 1) == mean_average_precision(found) == chance_at(found, 1) == 1.0
    assert chance_of_mean_average_precision(found) == pytest.approx(1.0)


def test_a_class_that_is_absent_counts_as_not_found():
    found = rank(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 7]), np.array([0, 1]))
    assert (recall_at(found, 1), recall_at(found, 50), mean_average_precision(found)) == (0.5, 0.5, 0.5)
    assert chance_at(found, 1) == 0.25 and chance_at(found, 50) == 0.5
    assert chance_of_mean_average_precision(found) == 0.375


def test_precision_is_by_hand():
    found = rank(np.array([[0.9, 0.8, 0.7, 0.6, 0.5]]), np.array([1]), np.array([1, 0, 1, 0, 1]))
    assert found.precision[0] == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)


def test_chance_is_what_random_order_gives():
    rng = np.random.default_rng(0)
    labels, gallery_labels = np.array([0, 1]), np.repeat([0, 1, 2], [3, 6, 11])
    rounds = [rank(rng.random((2, 20)), labels, gallery_labels) for _ in range(4000)]
    for k in (1, 5, 10, 20):
        assert chance_at(rounds[0], k) == pytest.approx(np.mean([recall_at(found, k) for found in rounds]), abs=0.015)
    drawn_precision = np.mean([mean_average_precision(found) for found in rounds])
    assert chance_of_mean_average_precision(rounds[0]) == pytest.approx(drawn_precision, abs=0.008)


def test_blocks_together_are_the_whole():
    cosines, labels, gallery_labels = drawn(5)
    parts = join([rank(cosines[i : i + 2], labels[i : i + 2], gallery_labels) for i in range(0, len(labels), 2)])
    whole = rank(cosines, labels, gallery_labels)
    assert parts.first.tolist() == whole.first.tolist() and parts.precision.tolist() == whole.precision.tolist()


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match=r"cosines \[2, 3\] must be \[2, 4\]"):
        rank(np.zeros((2, 3)), np.zeros(2), np.zeros(4))
    with pytest.raises(ValueError, match="cosines of 1 queries are NaN"):
        rank(np.array([[np.nan, 0.0], [0.0, 1.0]]), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match=r"k \(0\) must be > 0"):
        recall_at(rank(np.zeros((1, 1)), np.zeros(1), np.zeros(1)), 0)
    with pytest.raises(ValueError, match="hold no query"):
        recall_at(rank(np.zeros((0, 1)), np.zeros(0), np.zeros(1)), 1)
