"""Suppression of overlapping segments, against a version that is written as it is read."""

import math
import time

import numpy as np
import pytest

from vitascope.methods.cbp_vlp.nms import soft_nms


def literal_nms(times, scores, method, sigma, threshold, min_score, max_kept):
    left = [(i, *times[i], scores[i]) for i in range(len(times)) if scores[i] >= min_score]
    kept = []
    while left and (max_kept is None or len(kept) < max_kept):
        best = max(left, key=lambda row: (row[3], -row[0]))
        kept.append((best[0], best[3]))
        others = []
        for i, start, end, score in left:
            if i == best[0]:
                continue
            shared = max(0.0, min(end, best[2]) - max(start, best[1]))
            union = (end - start) + (best[2] - best[1]) - shared
            iou = shared / union if union > 0 else 0.0
            if method == "gaussian":
                score *= math.exp(-(iou**2) / sigma)
            elif method == "linear" and iou >= threshold:
                score *= 1 - iou
            elif method == "hard" and iou >= threshold:
                continue
            if score >= min_score:
                others.append((i, start, end, score))
        left = others
    return kept


def random_set(rng, count):
    starts = rng.uniform(0, 60, count)
    times = np.stack([starts, starts + rng.exponential(6, count)], 1)
    times[rng.random(count) < 0.1, 1] = 90.0  # long ones, with one end
    scores = rng.random(count)
    if rng.random() < 0.5:
        scores = scores.round(1)  # many ties
    if rng.random() < 0.3:
        times = times.round()  # segments that touch, are equal, are empty
    return times, scores


@pytest.mark.parametrize("method", ["gaussian", "linear", "hard"])
def test_suppression_is_that_of_a_literal_version(method):
    rng = np.random.default_rng(0)
    for _ in range(200):
        times, scores = random_set(rng, int(rng.integers(0, 60)))
        how = {
            "sigma": float(rng.uniform(0.1, 0.8)),
            "threshold": float(rng.choice([0.3, 0.5, 0.7])),
            "min_score": float(rng.choice([0.0, 0.001, 0.2])),
            "max_kept": None if rng.random() < 0.5 else int(rng.integers(1, 20)),
        }
        kept, kept_scores = soft_nms(times, scores, method, **how)
        expected = literal_nms(times.tolist(), scores.tolist(), method, **how)
        assert kept.tolist() == [i for i, _ in expected]
        np.testing.assert_allclose(kept_scores, [score for _, score in expected], rtol=1e-12)


def test_scores_descend_and_no_segment_comes_twice():
    rng = np.random.default_rng(1)
    times, scores = random_set(rng, 500)
    kept, kept_scores = soft_nms(times, scores, min_score=0.0)
    assert sorted(kept.tolist()) == list(range(500))
    assert (np.diff(kept_scores) <= 0).all()


def test_segments_that_touch_do_not_lower_each_other():
    kept, scores = soft_nms(np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]), np.array([0.5, 0.9, 0.7]))
    assert kept.tolist() == [1, 2, 0]
    assert scores.tolist() == [0.9, 0.7, 0.5]


def test_hard_suppression_drops_at_the_threshold_itself():
    times, scores = np.array([[0.0, 2.0], [0.0, 1.0]]), np.array([0.9, 0.8])  # tIoU 0.5
    assert soft_nms(times, scores, "hard", threshold=0.5)[0].tolist() == [0]
    assert soft_nms(times, scores, "hard", threshold=0.51)[0].tolist() == [0, 1]


def test_no_segments_keep_none():
    kept, scores = soft_nms(np.zeros((0, 2)), np.zeros(0))
    assert kept.shape == (0,) and kept.dtype == np.int64 and scores.shape == (0,)


def test_five_thousand_proposals_are_limited_to_200_within_50_ms():
    rng = np.random.default_rng(2)
    starts = rng.uniform(0, 1500, 5000)
    times = np.stack([starts, starts + rng.uniform(0.5, 300, 5000)], 1)
    scores = rng.random(5000)
    seconds = []
    for _ in range(5):
        begin = time.thread_time()  # of this thread: the machine may be busy
        kept, _ = soft_nms(times, scores, max_kept=200)
        seconds.append(time.thread_time() - begin)
    assert len(kept) == 200
    assert min(seconds) <= 0.05


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scores": np.array([-0.1, 0.2])}, r"scores \(least -0.1\) must be >= 0 for gaussian suppression"),
        ({"scores": np.array([np.nan, 0.2])}, "scores must be finite"),
        ({"times": np.array([[1.0, 0.0], [0.0, 1.0]])}, "no segment may end before it starts"),
        ({"times": np.array([[0.0, np.inf], [0.0, 1.0]])}, "times must be finite"),
        ({"scores": np.array([0.2])}, r"times \[2, 2\] and scores \[1\] must be"),
        ({"method": "soft"}, r"method \('soft'\) must be one of gaussian, linear, hard"),
        ({"sigma": 0.0}, r"sigma \(0.0\) must be > 0"),
        ({"max_kept": 0}, r"max_kept \(0\) must be >= 1"),
    ],
)
def test_what_cannot_be_suppressed_is_refused(change, says):
    given = {"times": np.array([[0.0, 1.0], [0.0, 1.0]]), "scores": np.array([0.1, 0.2])} | change
    with pytest.raises(ValueError, match=says):
        soft_nms(**given)


def test_hard_suppression_takes_negative_scores():
    kept, _ = soft_nms(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([-2.0, -1.0]), "hard", min_score=-np.inf)
    assert kept.tolist() == [1]
