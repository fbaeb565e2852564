"""Metrics of localization against loops that follow the rule step by step, and against cases worked out by hand."""

import numpy as np
import pytest

from vitascope.metrics import localization
from vitascope.metrics.localization import (
    Detections,
    FrameIoU,
    Truth,
    average_precisions,
    average_recall,
    segment_iou,
    video_average_precision,
)

TENTHS = [k / 10 for k in range(1, 10)]


def truth(*rows):
    """From rows of video, label, start, end."""
    columns = np.array(rows, np.float64).reshape(-1, 4)
    return Truth(columns[:, 0].astype(np.int64), columns[:, 1].astype(np.int64), columns[:, 2:4])


def detections(*rows):
    """From rows of video, label, start, end, score."""
    columns = np.array(rows, np.float64).reshape(-1, 5)
    return Detections(columns[:, 0].astype(np.int64), columns[:, 1].astype(np.int64), columns[:, 2:4], columns[:, 4])


def literal_iou(a, b):
    shared = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union > 0 else 0.0


def falling(values, ties):
    """Places of values from the highest on; the official code reverses an ascending sort."""
    places = range(len(values))
    if ties == "reverse":
        return sorted(places, key=lambda i: values[i])[::-1]
    return sorted(places, key=lambda i: -values[i])


def literal_precision(true, found, limit, ties):
    """AP of one class: rows of (video, start, end) and of (video, start, end, score)."""
    taken, hits = set(), []
    for p in falling([row[3] for row in found], ties):
        same_video = [g for g, row in enumerate(true) if row[0] == found[p][0]]
        ious = [literal_iou(true[g][1:], found[p][1:3]) for g in same_video]
        is_hit = False
        for place in falling(ious, ties):
            if ious[place] < limit:
                break
            if same_video[place] not in taken:
                taken.add(same_video[place])
                is_hit = True
                break
        hits.append(is_hit)
    recalls, precisions = [0.0], [0.0]
    for n in range(1, len(hits) + 1):
        recalls.append(sum(hits[:n]) / len(true))
        precisions.append(sum(hits[:n]) / n)
    recalls, precisions = [*recalls, 1.0], [*precisions, 0.0]
    for n in range(len(precisions) - 2, -1, -1):
        precisions[n] = max(precisions[n], precisions[n + 1])
    return sum((recalls[n] - recalls[n - 1]) * precisions[n] for n in range(1, len(recalls)))


def literal_precisions(true, found, limits, num_classes, ties):
    result = np.full((num_classes, len(limits)), np.nan)
    for label in range(num_classes):
        ours = [(row[0], row[2], row[3]) for row in true if row[1] == label]
        theirs = [(row[0], row[2], row[3], row[4]) for row in found if row[1] == label]
        if ours:
            result[label] = [literal_precision(ours, theirs, limit, ties) for limit in limits]
    return result


def drawn(random):
    """A random set: few times and scores, so that IoUs and scores tie; segments of no length; classes without truth."""
    num_videos, num_classes = random.integers(1, 5), int(random.integers(1, 5))
    is_coarse = random.random() < 0.7

    def rows(count, num_videos):
        start = random.integers(0, 12, count) if is_coarse else 10 * random.random(count)
        length = random.integers(0, 6, count) if is_coarse else 5 * random.random(count)
        video, label = random.integers(0, num_videos, count), random.integers(0, num_classes, count)
        return np.stack([video, label, start, start + length], 1).astype(np.float64)

    true = rows(random.integers(0, 25), num_videos)
    found = rows(random.integers(0, 60), num_videos + 1)  # one video that the truth does not have
    scores = random.integers(-2, 5, len(found)) if random.random() < 0.6 else random.normal(size=len(found))
    return true.tolist(), np.concatenate([found, scores[:, None]], 1).tolist(), num_classes


@pytest.mark.parametrize("ties", ["input", "reverse"])
def test_average_precision_is_that_of_the_literal_rule_on_200_random_sets(ties):
    random, num_tied, num_zero = np.random.default_rng(0), 0, 0
    for _ in range(200):
        true, found, num_classes = drawn(random)
        ours = average_precisions(truth(*true), detections(*found), TENTHS, num_classes, ties)
        theirs = literal_precisions(true, found, TENTHS, num_classes, ties)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12, equal_nan=True)
        num_tied += len({row[4] for row in found}) < len(found)
        num_zero += any(row[2] == row[3] for row in found) and any(row[2] == row[3] for row in true)
    assert num_tied > 100 and num_zero > 50  # the sets are as hard as they are meant to be


def test_pairs_met_in_small_blocks_give_the_same(monkeypatch):
    random = np.random.default_rng(1)
    for _ in range(20):
        true, found, num_classes = drawn(random)
        whole = average_precisions(truth(*true), detections(*found), TENTHS, num_classes)
        with monkeypatch.context() as patch:
            patch.setattr(localization, "PAIRS_AT_ONCE", 3)
            parts = average_precisions(truth(*true), detections(*found), TENTHS, num_classes)
        np.testing.assert_array_equal(parts, whole)


def test_a_second_prediction_takes_the_next_best_segment():
    true = truth((0, 0, 0, 10), (0, 0, 10, 16))
    found = detections((0, 0, 0, 12, 0.9), (0, 0, 1, 14, 0.8))  # both overlap the first most
    assert average_precisions(true, found, [0.2], 1)[0, 0] == 1.0


def test_a_tie_of_scores_goes_by_the_order_of_the_input():
    true, found = truth((0, 0, 0, 10)), detections((0, 0, 0, 10, 0.5), (0, 0, 50, 60, 0.5))
    assert average_precisions(true, found, [0.5], 1)[0, 0] == 1.0
    assert average_precisions(true, found, [0.5], 1, ties="reverse")[0, 0] == 0.5


def test_segments_of_no_length_are_never_found():
    true, found = truth((0, 0, 5, 5)), detections((0, 0, 5, 5, 1.0))
    assert average_precisions(true, found, [0.1], 1)[0, 0] == 0.0
    assert segment_iou(np.array([5.0, 5.0]), np.array([5.0, 5.0])) == 0


def test_iou_at_the_threshold_counts():
    true, found = truth((0, 0, 0, 10)), detections((0, 0, 0, 3, 1.0))
    assert average_precisions(true, found, [3 / 10, 0.31], 1).tolist() == [[1.0, 0.0]]


def test_a_class_without_truth_is_nan_and_one_without_predictions_is_0():
    result = average_precisions(truth((0, 0, 0, 1)), detections((0, 1, 0, 1, 1.0)), [0.5], 3)
    assert result[0, 0] == 0 and np.isnan(result[1:]).all()


def test_nothing_at_all_is_nan():
    assert np.isnan(average_precisions(truth(), detections(), [0.5], 2)).all()
    assert np.isnan(average_recall(truth(), detections((0, 0, 0, 1, 1.0)), [0.5], [1])).all()


@pytest.mark.parametrize(
    ("true", "found", "limits", "told"),
    [
        (truth((0, 0, 5, 4)), detections(), [0.5], r"truth: segment 0 \(5 to 4\) must not end before it begins"),
        (truth(), detections((0, 0, 0, np.nan, 1)), [0.5], "detections: times and scores must be finite"),
        (truth(), detections((0, 0, 0, 1, np.nan)), [0.5], "detections: times and scores must be finite"),
        (truth((0, 2, 0, 1)), detections(), [0.5], r"labels \(2 to 2\) must be >= 0 and < num_classes \(2\)"),
        (truth(), detections(), [0.0], r"thresholds \(\[0.0\]\) must be at least one number > 0 and <= 1"),
        (truth(), detections(), [], "thresholds"),
        (truth()._replace(label=np.zeros(1)), detections(), [0.5], "truth: columns video, label, times are of shapes"),
    ],
)
def test_what_cannot_be_judged_is_refused(true, found, limits, told):
    with pytest.raises(ValueError, match=told):
        average_precisions(true, found, limits, 2)


def test_an_unknown_order_of_ties_is_refused():
    with pytest.raises(ValueError, match="ties \\('first'\\) must be 'input' or 'reverse'"):
        average_precisions(truth(), detections(), [0.5], 1, ties="first")


def literal_recall(true, found, limits, count):
    videos = {row[0] for row in true}
    found = [row for row in found if row[0] in videos]
    kept = {}
    for video in videos:
        own = [row for row in found if row[0] == video]
        own = [own[p] for p in falling([row[4] for row in own], "input")]
        kept[video] = own[: int(len(own) * count * len(videos) / max(len(found), 1))]
    shares = []
    for limit in limits:
        covered = [any(literal_iou(row[2:], p[2:4]) >= limit for p in kept[row[0]]) for row in true]
        shares.append(sum(covered) / len(true))
    return sum(shares) / len(shares)


def test_recall_of_proposals_is_that_of_the_literal_rule():
    random, limits = np.random.default_rng(2), [0.5, 0.7, 0.9]
    for _ in range(50):
        true, found, _ = drawn(random)
        if true:
            ours = average_recall(truth(*true), detections(*found), limits, [1, 2, 5, 1000])
            theirs = [literal_recall(true, found, limits, count) for count in (1, 2, 5, 1000)]
            np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_recall_is_blind_to_classes_and_counts_proposals_a_video():
    true = truth((0, 0, 0, 10), (1, 1, 0, 10))
    found = detections((0, 1, 0, 10, 0.1), (0, 0, 50, 60, 0.9), (1, 0, 0, 10, 0.5), (1, 0, 70, 80, 0.2))
    assert average_recall(true, found, [0.5], [1, 2]).tolist() == [0.5, 1.0]


def test_a_count_of_0_proposals_is_refused():
    with pytest.raises(ValueError, match=r"counts \(\[0\]\) must all be > 0"):
        average_recall(truth((0, 0, 0, 1)), detections(), [0.5], [0])


def test_frames_are_summed_over_the_data_set_and_averaged_over_videos():
    overlap = FrameIoU()
    overlap.add(np.array([True] * 6), np.array([True] * 6))  # a long video, all right, without background
    overlap.add(np.array([True, False, False]), np.array([False, True, False]))
    assert overlap.foreground == pytest.approx(6 / 8) and overlap.background == pytest.approx(1 / 3)
    assert overlap.mean == pytest.approx((6 / 8 + 1 / 3) / 2)
    assert overlap.per_video == pytest.approx({"foreground": 0.5, "background": 1 / 3, "mean": (0.5 + 1 / 3) / 2})


def test_frames_of_nothing_are_nan_and_others_than_bool_are_refused():
    assert np.isnan(FrameIoU().foreground) and np.isnan(FrameIoU().per_video["background"])
    with pytest.raises(ValueError, match=r"predicted \(int64 \[2\]\) and true \(bool \[3\]\)"):
        FrameIoU().add(np.zeros(2, np.int64), np.zeros(3, bool))


def test_video_precision_is_the_mean_precision_at_the_videos_of_the_class():
    random = np.random.default_rng(3)
    for _ in range(20):
        labels, scores = random.random((12, 3)) < 0.4, random.integers(0, 5, (12, 3)).astype(float)
        for column, value in enumerate(video_average_precision(labels, scores)):
            order = sorted(range(12), key=lambda n: (-scores[n, column], labels[n, column]))
            hits = [bool(labels[n, column]) for n in order]
            shares = [sum(hits[: n + 1]) / (n + 1) for n in range(12) if hits[n]]
            np.testing.assert_allclose(value, np.mean(shares) if shares else np.nan)


def test_video_precision_of_equal_scores_does_not_depend_on_the_order_of_videos():
    labels = np.array([[True], [False], [False], [False]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        assert video_average_precision(labels[order], np.full((4, 1), -np.inf))[0] == 0.25


def test_video_scores_that_are_nan_are_refused():
    with pytest.raises(ValueError, match="scores of 1 videos are NaN"):
        video_average_precision(np.array([[True]]), np.array([[np.nan]]))
