"""Curves -> proposals: the gate, runs, contrast, and times that are those of the video."""

import numpy as np
import pytest

from vitascope.methods.cbp_vlp.proposals import contrast, fine_steps, gated_classes, propose, runs_above, torn


def snippets(count, seconds=0.64):
    return np.arange(count)[:, None] * seconds + [0.0, seconds]


def literal_contrast(curve, start, end, outer):
    """The specification's formula, read aloud: the end is exclusive, `int` cuts towards 0."""
    n, last = end - start, len(curve) - 1
    inner = sum(curve[start:end]) / n
    left = list(range(max(0, int(start - outer * n)), start))
    right = list(range(end, min(last, int(end - 1 + outer * n)) + 1))
    around = [curve[i] for i in left + right]
    return inner - (sum(around) / len(around) if around else 0.0)


def test_contrast_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    for _ in range(100):
        curve = rng.random(int(rng.integers(1, 200)))
        marks = np.sort(rng.integers(0, len(curve) + 1, (20, 2)), axis=1)
        runs = marks[marks[:, 0] < marks[:, 1]]
        outer = float(rng.choice([0.1, 0.25, 0.3, 1.0]))
        expected = [literal_contrast(curve.tolist(), start, end, outer) for start, end in runs.tolist()]
        np.testing.assert_allclose(contrast(curve, runs, outer), expected, atol=1e-9)


def test_a_run_over_everything_is_compared_with_nothing():
    assert contrast(np.array([0.2, 0.4]), np.array([[0, 2]])) == pytest.approx([0.3])


def test_runs_are_those_of_a_plain_walk():
    rng = np.random.default_rng(1)
    for _ in range(100):
        curve, is_torn = rng.random(int(rng.integers(1, 60))), rng.random(60) < 0.2
        runs, start = [], None
        for i, value in enumerate(curve):
            if start is not None and (value <= 0.4 or is_torn[i]):
                runs.append([start, i])
                start = None
            if start is None and value > 0.4:
                start = i
        runs += [[start, len(curve)]] if start is not None else []
        assert runs_above(curve, 0.4, is_torn[: len(curve)]).tolist() == runs


def test_a_run_of_one_step_at_either_end_is_found():
    assert runs_above(np.array([1.0, 0.0, 1.0]), 0.5).tolist() == [[0, 1], [2, 3]]


def test_relative_gate_keeps_both_classes_of_a_two_class_video():
    scores = np.array([0.49, 0.48, 0.03])
    assert gated_classes(scores, 0.85) == [0, 1]
    assert gated_classes(scores, 0.85, "absolute") == [0]  # the best stays, whatever its score
    assert gated_classes(np.array([0.9, 0.86, 0.2]), 0.85, "absolute") == [0, 1]


def test_the_class_with_index_0_alone_is_found():
    found = propose(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), np.array([0.9, 0.1]), snippets(3), ["a", "b"])
    assert found.labels == ("a",)


def test_an_edge_lies_where_the_interpolated_curve_crosses_the_threshold():
    curve = np.array([0, 0, 0, 1, 1, 1, 0, 0, 0, 0.0])[:, None]
    found = propose(curve, np.array([0.8]), snippets(10, 1.0), ["a"], thresholds=(0.5,), upsample=100)
    assert found.times_seconds.tolist() == [pytest.approx([3.0, 6.0], abs=0.011)]


def test_a_score_is_contrast_and_a_share_of_the_videos_score():
    curve = np.array([0.0, 0.2, 0.8, 1.0, 0.8, 0.8, 0.4])
    found = propose(curve[:, None], np.array([0.7]), snippets(7), ["a"], thresholds=(0.5,), upsample=1, gamma=0.3)
    assert found.scores.tolist() == [pytest.approx(literal_contrast(curve.tolist(), 2, 6, 0.25) + 0.3 * 0.7)]


def test_a_proposal_reaches_the_ends_of_the_video_and_not_past_them():
    curve = np.array([1.0, 0.2, 0.0, 0.3, 1.0])[:, None]
    found = propose(curve, np.array([0.8]), snippets(5), ["a"], duration_seconds=3.1)
    assert sorted(found.times_seconds.ravel().tolist())[::3] == [0.0, 3.1]
    later = propose(curve, np.array([0.8]), snippets(5), ["a"])
    assert later.times_seconds.max() == pytest.approx(3.2)


def test_the_curve_is_held_and_not_extrapolated_beyond_the_last_snippet():
    # falling from 1 to 0.5: extrapolated by half a snippet it would be 0.25 at the end, below the threshold
    curve = np.array([0.0, 1.0, 0.5])[:, None]
    found = propose(curve, np.array([0.8]), snippets(3, 1.0), ["a"], normalise="none")
    assert found.times_seconds[0, 1] == 3.0


def test_times_are_those_of_the_snippets_at_a_variable_rate():
    times = np.array([[0, 1], [1, 2], [2, 6], [6, 10], [10, 11], [11, 12.0]])
    curve = np.array([0, 0, 1, 1, 0, 0.0])[:, None]
    found = propose(curve, np.array([0.8]), times, ["a"], thresholds=(0.5,), upsample=200)
    # halfway between the centres 1.5 and 4, and between 8 and 10.5
    assert found.times_seconds.tolist() == [pytest.approx([2.75, 9.25], abs=0.02)]


def test_overlapping_snippets_share_the_time_among_them():
    times = np.arange(20)[:, None] * 0.25 + [0.0, 1.0]
    steps = fine_steps(times, 4)
    assert steps.shape == (80, 2)
    assert (steps[1:, 0] == steps[:-1, 1]).all() and (np.diff(steps) > 0).all()
    assert steps[0, 0] == 0.0 and steps[-1, 1] == times[-1, 1]
    assert (np.abs(steps.mean(1) - np.repeat(times.mean(1), 4)) <= 0.5).all()


def test_a_last_snippet_that_was_moved_back_to_fit_is_taken():
    times = np.array([[0.0, 2.0], [2.0, 4.0], [3.0, 5.0]])
    steps = fine_steps(times, 2)
    assert steps[:, 0].tolist() == [0.0, 1.0, 2.0, 2.75, 3.5, 4.25]


def test_a_proposal_does_not_cross_what_was_not_seen():
    times = np.array([[0, 1], [1, 2], [62, 63], [63, 64], [64, 65.0]])
    curve = np.array([1, 1, 1, 1, 0.0])[:, None]
    found = propose(curve, np.array([0.8]), times, ["a"])
    assert sorted(found.times_seconds[:, 0].tolist()) == [0.0, 62.0]
    assert found.times_seconds[:, 1].min() == 2.0
    assert torn(times, 3).sum() == 1


def test_a_flat_curve_is_all_or_nothing_by_its_value():
    whole = propose(np.ones((4, 1)), np.array([1.0]), snippets(4), ["a"])
    assert whole.times_seconds.tolist() == [pytest.approx([0.0, 2.56])]
    assert propose(np.full((4, 1), 0.05), np.array([1.0]), snippets(4), ["a"]).labels == ()


def test_one_snippet_is_enough():
    found = propose(np.array([[0.9, 0.1]]), np.array([0.9, 0.1]), snippets(1), ["a", "b"])
    assert found.labels == ("a",) and found.times_seconds.tolist() == [[0.0, 0.64]]


def test_no_snippets_give_no_proposals():
    found = propose(np.zeros((0, 2)), np.array([0.9, 0.1]), np.zeros((0, 2)), ["a", "b"])
    assert found.labels == () and found.times_seconds.shape == (0, 2) and found.scores.shape == (0,)


def test_more_thresholds_give_proposals_within_proposals():
    curve = np.array([0, 0.3, 0.6, 1.0, 0.6, 0.3, 0.0])[:, None]
    one = propose(curve, np.array([0.8]), snippets(7), ["a"], thresholds=(0.5,))
    many = propose(curve, np.array([0.8]), snippets(7), ["a"], thresholds=(0.1, 0.5, 0.8), min_score=0.0)
    assert len(one.labels) == 1 and len(many.labels) == 3
    lengths = np.sort(np.diff(many.times_seconds).ravel())
    assert lengths[0] < lengths[1] < lengths[2]
    assert lengths[1] == pytest.approx(np.diff(one.times_seconds)[0, 0])


def test_equal_runs_of_several_thresholds_count_once():
    curve = np.array([0, 0, 1, 1, 0, 0.0])[:, None]
    found = propose(curve, np.array([0.8]), snippets(6), ["a"], thresholds=(0.4, 0.5), upsample=1, min_score=0.0)
    assert len(found.labels) == 1


def test_a_run_that_stands_out_negatively_is_left_out():
    # without normalising, and with a low threshold, the run's surroundings are above its mean
    curve = np.array([0.9, 0.0, 0.2, 0.0, 0.9])[:, None]
    how = {"thresholds": (0.1,), "normalise": "none", "upsample": 1, "outer": 2.0, "gamma": 0.0}
    found = propose(curve, np.array([0.5]), snippets(5, 1.0), ["a"], **how)
    assert [2.0, 3.0] not in found.times_seconds.tolist() and len(found.labels) == 2
    assert (found.scores > 0).all()


def test_scores_descend_over_all_classes_and_are_capped():
    rng = np.random.default_rng(2)
    curves = rng.random((300, 3))
    found = propose(curves, np.array([0.5, 0.45, 0.48]), snippets(300), ["a", "b", "c"], max_proposals=40)
    assert len(found.labels) == len(found.scores) == 40
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.labels) == {"a", "b", "c"}


def test_scores_may_be_measured_on_the_probabilities_themselves():
    curve = np.array([0.1, 0.1, 0.3, 0.3, 0.1, 0.1])[:, None]
    stretched = propose(curve, np.array([0.0]), snippets(6), ["a"], upsample=1)
    plain = propose(curve, np.array([0.0]), snippets(6), ["a"], upsample=1, score_from="probabilities")
    assert stretched.scores.tolist() == pytest.approx([1.0]) and plain.scores.tolist() == pytest.approx([0.2])


def test_overlapping_snippets_that_all_end_with_the_video_are_taken():
    times = np.stack([np.arange(6) * 0.5, np.minimum(np.arange(6) * 0.5 + 2, 3.0)], 1)
    found = propose(np.array([[0.0], [0.1], [0.1], [0.1], [1.0], [1.0]]), np.array([1.0]), times, ["a"])
    assert len(found.labels) == 1
    assert found.times_seconds[0, 1] == 3.0 and 2.0 < found.times_seconds[0, 0] < 2.75


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"probabilities": np.zeros((3, 1))}, r"probabilities \[3, 1\] and video_scores \[2\] must be"),
        ({"probabilities": np.full((3, 2), np.nan)}, "probabilities must be finite"),
        ({"video_scores": np.array([np.nan, 0])}, "video_scores must be finite"),
        ({"times_seconds": snippets(3)[::-1]}, "times_seconds must be stretches in order of time"),
        ({"times_seconds": np.zeros((3, 2))}, "times_seconds must be stretches in order of time"),
        ({"gate": "both"}, r"gate \('both'\) must be one of relative, absolute"),
        ({"normalise": "minmax"}, r"normalise \('minmax'\) must be one of video_minmax, none"),
        ({"score_from": "logits"}, r"score_from \('logits'\) must be one of normalised, probabilities"),
        ({"thresholds": ()}, r"thresholds \(\) must name at least one value"),
        ({"upsample": 0}, r"upsample \(0\) must be >= 1"),
        ({"max_proposals": 0}, r"max_proposals \(0\) must be >= 1"),
    ],
)
def test_what_gives_no_proposals_is_refused(change, says):
    given = {
        "probabilities": np.eye(3)[:, :2],
        "video_scores": np.array([0.9, 0.8]),
        "times_seconds": snippets(3),
        "classes": ["a", "b"],
    }
    with pytest.raises(ValueError, match=says):
        propose(**(given | change))
