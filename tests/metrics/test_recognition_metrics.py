"""Accuracies, confusion and merged views equal slow loops written from their definitions."""

import math

import numpy as np
import pytest

from vitascope.metrics.recognition import (
    bootstrap_interval,
    confusion_matrix,
    mean_class_accuracy,
    merge_views,
    softmax,
    top_k_accuracy,
    wilson_interval,
)


def slow_top_k(scores, labels, k):
    hits = 0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda place: (-row[place], place))
        hits += label in order[:k]
    return hits / len(labels)


def slow_merge(logits, samples, views):
    """Keep the first row of each (sample, view), average the softmaxes of each sample."""
    seen, of_sample = set(), {}
    for row, sample, view in zip(logits.tolist(), samples.tolist(), views.tolist(), strict=True):
        if (sample, view) in seen:
            continue
        seen.add((sample, view))
        powers = [math.exp(value) for value in row]
        of_sample.setdefault(sample, []).append([power / sum(powers) for power in powers])
    names = sorted(of_sample)
    return names, [[sum(column) / len(of_sample[n]) for column in zip(*of_sample[n], strict=True)] for n in names]


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_equals_the_slow_loop_with_ties(k):
    rng = np.random.default_rng(k)
    scores, labels = rng.integers(0, 4, (200, 7)).astype(float), rng.integers(0, 7, 200)
    assert top_k_accuracy(scores, labels, k) == slow_top_k(scores, labels, k)


def test_a_model_that_tells_nothing_apart_earns_only_the_first_class():
    assert top_k_accuracy(np.zeros((4, 4)), np.arange(4)) == 0.25
    assert top_k_accuracy(np.full((4, 4), -np.inf), np.arange(4)) == 0.25


@pytest.mark.parametrize(
    ("scores", "labels", "k", "told"),
    [
        (np.zeros((2, 3)), np.array([0, 3]), 1, r"labels \(0 to 3\) must be in 0..2"),
        (np.zeros((2, 3)), np.array([0]), 1, r"scores \(\[2, 3\]\) must be \[S, K\]"),
        (np.full((1, 3), np.nan), np.array([0]), 1, "scores of 1 samples are NaN"),
        (np.zeros((1, 3)), np.array([0]), 0, r"k \(0\) must be > 0"),
    ],
)
def test_what_does_not_fit_is_an_error(scores, labels, k, told):
    with pytest.raises(ValueError, match=told):
        top_k_accuracy(scores, labels, k)


def test_confusion_equals_the_slow_loop():
    rng = np.random.default_rng(0)
    labels, told = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    slow = np.zeros((5, 5), int)
    for label, answer in zip(labels, told, strict=True):
        slow[label, answer] += 1
    found = confusion_matrix(labels, told, 5)
    assert np.array_equal(found, slow)
    accuracies = [np.mean(told[labels == name] == name) for name in range(5)]
    assert mean_class_accuracy(found) == pytest.approx(np.mean(accuracies), abs=1e-12)


def test_a_class_without_samples_has_no_say_in_the_mean():
    assert mean_class_accuracy(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 2]])) == 0.75
    with pytest.raises(ValueError, match="holds no sample"):
        mean_class_accuracy(np.zeros((2, 2), int))


def test_merged_views_equal_the_slow_loop_and_duplicates_count_once():
    """P18: shuffled rows of random logits, some views missing, some there twice with other values."""
    rng = np.random.default_rng(0)
    pairs = [(sample, view) for sample in range(40) for view in range(21) if rng.random() < 0.9]
    pairs += [pairs[i] for i in rng.integers(0, len(pairs), 60)]
    samples, views = np.array([pairs[i] for i in rng.permutation(len(pairs))]).T
    logits, labels = rng.normal(size=(len(pairs), 10)) * 2, rng.integers(0, 10, 40)
    names, probabilities = merge_views(logits, samples, views)
    slow_names, slow = slow_merge(logits, samples, views)
    assert names.tolist() == slow_names
    np.testing.assert_allclose(probabilities, slow, atol=1e-12)
    for k in (1, 5):
        assert top_k_accuracy(probabilities, labels, k) == slow_top_k(np.array(slow), labels, k)


def test_softmax_does_not_overflow():
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4 - 1]])), [[0.7310586, 0.2689414]], atol=1e-6)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (40, 80), (3, 7)])
def test_wilsons_ends_are_where_the_score_test_turns(correct, total):
    """Each end p solves |share - p| = z sqrt(p (1 - p) / n)."""
    share = correct / total
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= share <= high <= 1 and low < high
    for end in (low, high):
        assert abs(share - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / total), abs=1e-9)


def test_the_bootstrap_over_groups_is_wider_than_over_samples():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 20)
    correct = np.repeat(rng.random(10) < 0.5, 20)  # a whole group is right or wrong
    low, high = bootstrap_interval(correct, groups)
    alone = bootstrap_interval(correct, np.arange(200))
    assert high - low > 2.5 * (alone[1] - alone[0])
    assert bootstrap_interval(correct, groups) == (low, high)
