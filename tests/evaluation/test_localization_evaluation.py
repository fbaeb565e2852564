"""Localization: what is judged under which protocol, what is left out and said, and the rows that the field printed."""

import json
import pickle

import numpy as np
import pytest

from vitascope.datasets.annotations import read_annotations, read_predictions
from vitascope.evaluation.localization import evaluate
from vitascope.evaluation.localization_protocols import PROTOCOLS
from vitascope.evaluation.localization_run import evaluate_localization
from vitascope.methods.cbp_vlp.nms import soft_nms
from vitascope.structures import Annotation, Segments, Table

PLAIN = PROTOCOLS["plain"]


def segments(*rows):
    """From rows of label, start, end, and score or nothing."""
    scores = np.array([row[3] for row in rows], float) if rows and len(rows[0]) == 4 else None
    return Segments(np.array([row[1:3] for row in rows], float).reshape(-1, 2), tuple(row[0] for row in rows), scores)


def annotation(name, *rows, **how):
    return Annotation(name, segments=segments(*rows), **how)


RUN = annotation("a", ("run", 0, 10))
FOUND = {"a": segments(("run", 0, 10, 0.9))}


def test_what_is_found_exactly_scores_1_and_is_told():
    result = evaluate([RUN], FOUND, "plain")
    assert set(result.map.values()) == {1.0} and list(result.map) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert result.average == {"0.1:0.7": 1.0, "0.1:0.5": 1.0, "0.3:0.7": 1.0} and result.main == "0.1:0.7"
    assert (result.num_videos, result.num_segments, result.num_predictions) == (1, 1, 1)
    assert result.video_map == 1.0 and result.recall[1] == 1.0 and result.dropped == {} and result.notes == ()
    assert "Protocol plain: all splits, 1 videos judged" in result.told and "in seconds" in result.told


def test_averages_are_over_their_own_thresholds():
    found = {"a": segments(("run", 0, 4.5, 0.9))}  # IoU 0.45
    result = evaluate([RUN], found, "plain")
    assert result.average == pytest.approx({"0.1:0.7": 4 / 7, "0.1:0.5": 4 / 5, "0.3:0.7": 2 / 5})
    (row,) = result.by_class
    assert (row.label, row.num_segments) == ("run", 1) and row.precisions == (1, 1, 1, 1, 0, 0, 0)
    assert row.average == pytest.approx(4 / 7)


def test_json_has_the_map_and_the_protocols_own_average():
    told = evaluate([RUN], {"a": segments(("run", 0, 4.5, 0.9))}, "actionformer_212").to_json()
    assert told["map"] == {"0.3": 1.0, "0.4": 1.0, "0.5": 0.0, "0.6": 0.0, "0.7": 0.0}
    assert told["average"] == pytest.approx(0.4) and told["average_range"] == "0.3:0.7"
    assert told["protocol"] == "actionformer_212" and told["num_videos"] == 1
    assert told["by_class"][0]["precisions"]["0.5"] == 0.0
    json.dumps(told, allow_nan=False)


def test_thresholds_of_activitynet_are_exact():
    assert PROTOCOLS["anet13"].thresholds == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert list(evaluate([RUN], FOUND, "anet12").average) == ["0.5:0.95"]


def test_the_report_holds_the_figures_and_names_the_protocol():
    report = evaluate([RUN], FOUND, "co2_grid_212").report(facts={"seed": 0})
    assert "protocol co2_grid_212, 1 videos" in report.parts[0] and report.facts == {"seed": 0}
    tables = {part.title: part for part in report.parts if isinstance(part, Table)}
    assert ("average 0.1:0.7", 100.0) in tables["mAP"].rows and tables["Classes"].rows[0][:2] == ("run", 1)
    assert "The protocol is of 212 videos, but 1 were judged." in report.parts
    assert "rounded to steps of 0.64 s" in report.parts[-1]


def test_the_split_is_judged_by_any_of_its_names_and_the_rest_left_out():
    truth = [annotation("a", ("run", 0, 10), split="Val"), annotation("b", ("jump", 0, 10), split="training")]
    found = FOUND | {"b": segments(("jump", 0, 10, 0.9))}
    result = evaluate(truth, found, "anet13")
    assert result.num_videos == 1 and [row.label for row in result.by_class] == ["run"]
    assert result.dropped == {"videos of other splits": 1, "predictions for videos that are not judged": 1}
    assert evaluate(truth, found, "anet13", split="train").by_class[0].label == "jump"
    assert evaluate(truth, found, "anet13", split="").num_videos == 2


def test_a_split_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="no video of the split test; its splits are 'training'"):
        evaluate([annotation("b", ("run", 0, 1), split="training")], FOUND, "co2_grid_212")


def test_on_the_grid_times_are_rounded_and_segments_may_vanish():
    truth = [annotation("a", ("run", 0.1, 6.3), ("run", 20.0, 20.2))]  # 0 to 10 steps, and none
    found = {"a": segments(("run", 0.0, 6.4, 0.9))}
    result = evaluate(truth, found, "co2_grid_212")
    assert result.num_segments == 2 and set(result.map.values()) == {0.5}
    exact = evaluate(
        [annotation("a", ("run", 0.1, 6.3))], found, PLAIN._replace(thresholds=(0.99,), averages=((0.9, 1.0),))
    )
    assert exact.map[0.99] == 0.0


def test_true_segments_of_no_length_are_dropped_and_counted():
    result = evaluate([annotation("a", ("run", 0, 10), ("run", 5, 5.0005), ("jump", 7, 7))], FOUND, "plain")
    assert result.map[0.5] == 1.0 and result.dropped == {"true segments of no length": 2}
    assert [row.label for row in result.by_class] == ["run"]


def test_repeated_true_segments_count_once_where_the_protocol_says_so():
    truth = [annotation("a", ("run", 0, 10), ("run", 0.0005, 10), ("jump", 0, 10), ("run", 0, 11))]
    result = evaluate(truth, FOUND, "actionformer_212")
    assert result.num_segments == 3 and result.dropped == {"true segments that repeat another": 1}
    assert evaluate(truth, FOUND, "plain").num_segments == 4


def test_predictions_on_ambiguous_stretches_are_dropped_whatever_their_class():
    truth = [
        annotation("a", ("run", 0, 10), ("jump", 20, 30), split="test", ambiguous_seconds=np.array([[40.0, 50.0]])),
        annotation("b", ("run", 40, 50), split="test"),
    ]
    found = {
        "a": segments(("run", 0, 10, 0.5), ("run", 49, 60, 0.9), ("jump", 41, 42, 0.9), ("run", 50.1, 60, 0.1)),
        "b": segments(("run", 40, 50, 0.4)),
    }
    result = evaluate(truth, found, "co2_grid_212")
    assert result.dropped == {"predictions that overlap an ambiguous stretch": 2} and result.num_predictions == 3
    assert evaluate(truth, found, "basnet_seconds_210").num_predictions == 5
    bare = [annotation("a", ("run", 0, 10), split="test")]
    assert "no list of them was given" in " ".join(evaluate(bare, FOUND, "co2_grid_212").notes)
    other = annotation("c", ("run", 0, 10), split="train", ambiguous_seconds=np.array([[4.0, 5.0]]))
    told = " ".join(evaluate([*bare, other], FOUND, "co2_grid_212").notes)
    assert "the list of them names none of the judged videos" in told


def test_a_list_of_ambiguous_stretches_of_other_videos_is_told(tmp_path):
    one = {"subset": "test", "annotations": [{"segment": [0, 10], "label": "run"}]}
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": one}}))
    (tmp_path / "found.json").write_text(json.dumps({"a": [{"label": "run", "score": 1, "segment": [0, 10]}]}))
    (tmp_path / "list.txt").write_text("b 1 2\n")
    files = tmp_path / "gt.json", tmp_path / "found.json", "co2_grid_212"
    told = " ".join(evaluate_localization(*files, ambiguous=tmp_path / "list.txt").notes)
    assert "names none of the judged videos" in told and "no list" not in told
    (tmp_path / "list.txt").write_text("a 20 30\n")
    assert "ambiguous" not in " ".join(evaluate_localization(*files, ambiguous=tmp_path / "list.txt").notes)


def test_ids_are_compared_without_the_prefix_of_activitynet_on_either_side():
    name, found = "abcdefghijk", FOUND["a"]
    for ours in (name, f"v_{name}"):
        for theirs in (name, f"v_{name}"):
            assert evaluate([annotation(ours, ("run", 0, 10))], {theirs: found}, "plain").map[0.5] == 1.0
    truth = [RUN, annotation(f"v_{name}", ("run", 0, 10))]
    assert evaluate(truth, FOUND, "plain", blocked=[f"v_{name}"]).num_videos == 1
    assert evaluate(truth, FOUND, "plain", blocked=[name]).num_videos == 1
    with pytest.raises(ValueError, match=f"predictions have '{name}' with and without a leading v_"):
        evaluate(truth, {name: found, f"v_{name}": found}, "plain")


def test_labels_without_a_time_are_told():
    truth = [
        Annotation("a", ("run", "jump"), segments(("run", 0, 10))),
        Annotation("b", ("nothing",), segments()),
        annotation("c", ("jump", 0, 1)),
    ]
    told = " ".join(evaluate(truth, FOUND, "plain").notes)
    assert "1 of the judged videos have labels without a time, such as 'jump' of 'a'" in told
    assert "without a time" not in " ".join(evaluate([RUN, *truth[1:]], FOUND, "plain").notes)


def test_a_video_tagged_nothing_counts_in_either_layout(tmp_path):
    (tmp_path / "gt.csv").write_text("video,labels,start,end\na,run,0,10\nb,nothing,,\n")
    one = {"annotations": [{"label": "run", "segment": [0, 10]}]}
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": one, "b": {"annotations": []}}}))
    row = {"label": "run", "score": 0.5, "segment": [0, 10]}
    (tmp_path / "found.json").write_text(json.dumps({"a": [row], "b": [row | {"score": 0.9}]}))
    for name in ("gt.csv", "gt.json"):
        result = evaluate_localization(tmp_path / name, tmp_path / "found.json")
        assert (result.num_videos, result.map[0.5]) == (2, 0.5)


def test_classes_by_number_are_judged_by_a_list_of_their_names(tmp_path):
    rows = [{"label": name, "segment": [0, 10]} for name in ("run", "jump")]
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": {"annotations": rows}}}))
    found = [{"label_id": number, "score": 0.5, "segment": [0, 10 * number]} for number in (1, 2)]
    (tmp_path / "found.json").write_text(json.dumps({"results": {"a": found}}))
    columns = {
        "video-id": ["a", "a"],
        "t-start": [0.0, 0.0],
        "t-end": [10.0, 20.0],
        "label": [1, 2],
        "score": [0.5] * 2,
    }
    (tmp_path / "found.pkl").write_bytes(pickle.dumps(columns))
    for name in ("found.json", "found.pkl"):
        files = tmp_path / "gt.json", tmp_path / name
        (tmp_path / "names.txt").write_text("swim\nrun\njump\n\n")
        result = evaluate_localization(*files, classes=tmp_path / "names.txt", out=tmp_path / "out")
        assert {row.label: row.precisions[-1] for row in result.by_class} == {"run": 1.0, "jump": 0.0}
        with pytest.raises(ValueError, match="give the names of the classes"):
            evaluate_localization(*files)
    assert "names.txt" in (tmp_path / "out" / "report.html").read_text()
    for content, line in (("swim\n\nrun\njump\n", 2), ("", 1)):
        (tmp_path / "names.txt").write_text(content)
        with pytest.raises(ValueError, match=rf"names.txt, line {line}: empty; it must be the name of a class"):
            evaluate_localization(*files, classes=tmp_path / "names.txt")


def test_videos_without_predictions_count_unless_they_are_skipped():
    truth = [RUN, annotation("b", ("run", 0, 10)), annotation("c")]
    result = evaluate(truth, FOUND, "plain")
    assert result.map[0.5] == 0.5 and result.num_videos == 3 and result.recall[1] == 0.5
    assert result.notes == ("Videos without predictions, in which nothing counts as found: 2.",)
    result = evaluate(truth, FOUND, "plain", missing="skip")
    assert result.map[0.5] == 1.0 and result.num_videos == 1 and result.dropped == {"videos without predictions": 2}
    listed = FOUND | {"b": segments(), "c": segments()}  # as our own files have them
    assert evaluate(truth, listed, "plain", missing="skip") == result


def test_no_predictions_at_all_find_nothing():
    for found in ({}, {"a": segments()}):
        result = evaluate([RUN], found, "plain")
        assert result.map[0.1] == 0.0 and result.video_map is None and result.num_predictions == 0
    with pytest.raises(ValueError, match="none of the 1 videos to judge has predictions"):
        evaluate([RUN], {}, "plain", missing="skip")


def test_predictions_in_a_video_without_segments_are_false_positives():
    found = {"c": segments(("run", 0, 10, 0.9))} | {"a": segments(("run", 0, 10, 0.5))}
    assert evaluate([RUN, annotation("c")], found, "plain").map[0.5] == 0.5


def test_unknown_videos_are_an_error_dropped_or_false_positives():
    found = {"b": segments(("run", 0, 10, 0.99))} | FOUND
    with pytest.raises(
        ValueError, match="for 1 of 2 videos that the truth does not have, such as 'b': correct the ids"
    ):
        evaluate([RUN], found, "plain")
    result = evaluate([RUN], found, "plain", unknown="drop")
    assert result.map[0.5] == 1.0
    assert result.dropped == {"predictions for videos that the truth does not have": 1}
    result = evaluate([RUN], found, "plain", unknown="false_positive")
    assert result.map[0.5] == 0.5 and result.dropped == {}
    assert "All predictions for 'b'" in result.notes[0] and "are false positives" in result.notes[0]
    assert evaluate([RUN], found, "anet13").map[0.5] == 0.5


def test_ids_that_have_nothing_in_common_are_refused_under_every_protocol():
    with pytest.raises(
        ValueError, match="none of the 1 videos with predictions is among the 1 to judge: 'x.mp4' is not"
    ):
        evaluate([RUN], {"x.mp4": FOUND["a"]}, "anet13")


def test_a_video_that_the_protocol_leaves_out_is_as_one_that_the_truth_has_not():
    faulty = "video_test_0000270"
    found = FOUND | {faulty: segments(("run", 0, 10, 0.99))}
    for truth in ([RUN], [RUN, annotation(faulty, ("run", 0, 10))]):
        assert evaluate(truth, found, "basnet_seconds_210").map[0.5] == 0.5
        assert evaluate(truth, found, "basnet_seconds_210", unknown="drop").map[0.5] == 1.0


def test_unknown_labels_are_an_error_that_names_the_nearest_or_dropped():
    found = {"a": segments(("run", 0, 10, 0.9), ("rum", 0, 10, 0.9))}
    for protocol in ("plain", "anet13"):
        with pytest.raises(ValueError, match=r"such as 'rum' \(1 predictions\), near which is 'run'"):
            evaluate([RUN], found, protocol)
    result = evaluate([RUN], found, "plain", unknown="drop")
    assert result.map[0.5] == 1.0
    assert result.dropped == {"predictions of labels that the truth does not have": 1}


def test_classes_that_only_other_videos_have_are_left_out():
    truth = [annotation("a", ("run", 0, 10), split="test"), annotation("b", ("jump", 0, 1), split="train")]
    found = {"a": segments(("run", 0, 10, 0.9), ("jump", 0, 10, 0.95))}
    result = evaluate(truth, found, "co2_grid_212")
    assert result.map[0.5] == 1.0
    assert result.dropped["predictions of classes that the judged videos do not have"] == 1


def test_blocked_videos_are_dropped_on_both_sides():
    truth, found = [RUN, annotation("b", ("run", 0, 10))], FOUND | {"b": segments(("run", 50, 60, 0.99))}
    result = evaluate(truth, found, "anet13", blocked=["b", "not there"])
    assert result.map[0.5] == 1.0 and result.num_videos == 1
    assert result.dropped == {"videos that are blocked": 1, "predictions for videos that are not judged": 1}
    assert evaluate([RUN], found, "anet13", blocked=["b"]).map[0.5] == 1.0


def test_videos_with_tags_only_are_left_out_and_alone_refused():
    tagged = Annotation("t", labels=("run",))
    result = evaluate([RUN, tagged], FOUND, "plain")
    assert result.num_videos == 1 and result.dropped == {"videos whose segments are not known": 1}
    with pytest.raises(
        ValueError, match=r"of 1 videos none is left to judge \(1 videos whose segments are not known\)"
    ):
        evaluate([tagged], FOUND, "plain")


def test_predictions_without_scores_rank_as_they_come():
    found = {"a": segments(("run", 0, 10), ("run", 50, 60))}
    result = evaluate([RUN], found, "plain")
    assert result.map[0.5] == 1.0 and result.video_map is None
    assert result.notes == ("The predictions have no scores: all are equal, and rank as they come.",)
    mixed = FOUND | {"b": segments(("run", 0, 10))}
    with pytest.raises(ValueError, match="predictions of 1 of 2 videos have no scores, such as those for 'b'"):
        evaluate([RUN, annotation("b")], mixed, "plain")


def test_videos_are_told_by_the_best_score_of_their_segments():
    truth = [Annotation("a", ("run",), segments(("run", 0, 1))), Annotation("b", ("jump",), segments(("jump", 0, 1)))]
    found = {"a": segments(("run", 5, 6, 0.1), ("run", 7, 8, 0.9)), "b": segments(("run", 0, 1, 0.5))}
    result = evaluate(truth, found, "plain")
    assert {row.label: row.video_precision for row in result.by_class} == {"run": 1.0, "jump": 0.5}
    assert result.video_map == 0.75  # jump is said of none: the video that lacks it comes first


@pytest.mark.parametrize(
    ("truth", "found", "how", "told"),
    [
        ([RUN], FOUND, {"protocol": "thumos"}, r"protocol \(thumos\) must be one of: plain, basnet_seconds_210"),
        (
            [RUN],
            FOUND,
            {"protocol": PLAIN._replace(thresholds=(0.9,))},
            r"protocol plain averages over 0.1:0.7, which has none of its thresholds \(0.9\)",
        ),
        ([RUN], FOUND, {"unknown": "ignore"}, r"unknown \(ignore\) must be error, drop or false_positive"),
        ([RUN], FOUND, {"missing": "drop"}, r"missing \(drop\) count or skip"),
        ([RUN, RUN], FOUND, {}, "the truth has 'a' more than once"),
        ([annotation("a")], FOUND, {}, "the truth of the 1 videos to judge has no segment"),
        ([], FOUND, {}, r"of 0 videos none is left to judge \(the truth is empty\)"),
        ([RUN], {"a": segments(("run", 3, 1, 0.5))}, {}, "the prediction for 'a' has a segment from 3 to 1 s"),
        ([RUN], {"a": segments(("run", 0, 1, np.nan))}, {}, r"the prediction for 'a' has scores \[1\] that must be 1 finite"),
        ([annotation("a", ("run", 0, np.inf))], FOUND, {}, "the truth of 'a' has a segment from 0 to inf s"),
        ([RUN], {"a": Segments(np.zeros((2, 2)), ("run",))}, {}, r"has times \[2, 2\] for 1 labels"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_in_a_sentence(truth, found, how, told):
    with pytest.raises(ValueError, match=told):
        evaluate(truth, found, **{"protocol": "plain"} | how)


def test_files_are_judged_and_reported(tmp_path):
    one = {"subset": "validation", "annotations": [{"segment": ["0.0", "10.0"], "label": "run"}]}
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": one, "b": one}}))
    row = {"label": "run", "score": 0.9, "segment": [0, 10]}
    (tmp_path / "found.json").write_text(json.dumps({"results": {"a": [row], "b": [row]}}))
    (tmp_path / "blocked.txt").write_text("b\n\n")
    result = evaluate_localization(
        tmp_path / "gt.json", tmp_path / "found.json", "anet13", blocked=tmp_path / "blocked.txt", out=tmp_path / "out"
    )
    assert result.num_videos == 1 and result.average["0.5:0.95"] == 1.0
    assert "protocol anet13, 1 videos" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(ValueError, match="cannot be read as a list of ids, one a line"):
        evaluate_localization(tmp_path / "gt.json", tmp_path / "found.json", blocked=tmp_path / "none.txt")


# Published detections of a real model: 0.1, 0.3, 0.5, 0.7, and the averages 0.1:0.5, 0.3:0.7, 0.1:0.7, in percent.
ROWS = {
    "basnet_seconds_210": (69.10, 54.24, 33.94, 12.47, 53.00, 33.70, 42.96),
    "seconds_212": (68.34, 53.60, 33.48, 12.23, 52.37, 33.25, 42.43),
    "co2_grid_212": (68.08, 54.06, 37.15, 12.37, 53.60, 34.84, 43.62),
    "soft_nms": (69.27, 54.17, 33.53, 12.18, 52.91, 33.42, 42.80),
    "hard_nms": (67.40, 52.83, 32.16, 10.71, 51.49, 32.05, 41.36),
    "oracle_labels": (70.14, 54.91, 34.23, 12.50, 53.70, 34.04, 43.49),
}
SECONDS_212 = PROTOCOLS["basnet_seconds_210"]._replace(name="seconds_212", left_out=frozenset(), num_videos=212)


@pytest.fixture(scope="module")
def published(shared_data):
    """Truth of 210 videos, truth of 212, and the detections."""
    folder = shared_data / "tal-annotations"
    if not folder.is_dir():
        pytest.skip("the annotations and detections of THUMOS14 are absent: tal-annotations of the development data")
    truths = [read_annotations(folder / name) for name in ("thumos14_gt_basnet.json", "wtalc-thumos14reduced")]
    return *truths, read_predictions(folder / "pmil_detections_test.json")


def row(result):
    averages = [result.average[name] for name in ("0.1:0.5", "0.3:0.7", "0.1:0.7")]
    return tuple(round(100 * value, 2) for value in [*(result.map[limit] for limit in (0.1, 0.3, 0.5, 0.7)), *averages])


def test_published_detections_give_the_printed_row_of_210_videos_from_either_truth(published):
    truth_210, truth_212, found = published
    for truth in (truth_210, truth_212):
        result = evaluate(truth, found, "basnet_seconds_210")
        assert row(result) == ROWS["basnet_seconds_210"]
        assert (result.num_videos, result.num_segments, result.num_predictions) == (210, 3311, 31587)


def test_published_detections_give_the_printed_rows_of_212_videos(published):
    _, truth, found = published
    for protocol in (SECONDS_212, "co2_grid_212"):
        result = evaluate(truth, found, protocol)
        assert row(result) == ROWS[result.protocol] and (result.num_videos, result.num_segments) == (212, 3358)
        assert "ambiguous" not in " ".join(result.dropped)  # the detections honour the list already


def test_published_detections_under_known_tags_give_the_printed_row(published):
    truth, _, found = published
    tags = {item.id: set(item.segments.labels) for item in truth}
    kept = {name: chosen(item, [label in tags.get(name, ()) for label in item.labels]) for name, item in found.items()}
    assert row(evaluate(truth, kept, "basnet_seconds_210")) == ROWS["oracle_labels"]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("soft_nms", {"method": "gaussian", "sigma": 0.3, "min_score": 1e-15}),
        ("hard_nms", {"method": "hard", "threshold": 0.45, "min_score": -np.inf}),
    ],
)
def test_published_detections_after_suppression_give_the_printed_row(published, name, how):
    truth, _, found = published
    suppressed = {}
    for video, item in found.items():
        scores = np.maximum(item.scores, 0.0) if name == "soft_nms" else item.scores
        labels = np.array(item.labels)
        times, classes, values = [np.zeros((0, 2))], [], [np.zeros(0)]
        for label in dict.fromkeys(item.labels):
            places = np.flatnonzero(labels == label)
            kept, decayed = soft_nms(item.times_seconds[places], scores[places], **how)
            times.append(item.times_seconds[places[kept]])
            classes += [label] * len(kept)
            values.append(decayed)
        suppressed[video] = Segments(np.concatenate(times), tuple(classes), np.concatenate(values))
    assert row(evaluate(truth, suppressed, "basnet_seconds_210")) == ROWS[name]


def test_true_segments_on_the_grid_of_snippets_are_far_from_perfect_at_high_overlap(published):
    random, found = np.random.default_rng(0), {}
    truth = [item for item in published[0] if item.split == "test"]
    for item in truth:
        steps = np.rint(item.segments.times_seconds / 0.64)
        steps[:, 1] = np.maximum(steps[:, 1], steps[:, 0] + 1)
        found[item.id] = Segments(0.64 * steps, item.segments.labels, random.random(len(steps)))
    printed = (99.9, 99.4, 97.4, 88.7, 99.1, 95.9, 97.0)  # by scores that are not told
    np.testing.assert_allclose(row(evaluate(truth, found, "basnet_seconds_210")), printed, atol=0.5)


def chosen(item, which):
    which = np.array(which, bool)
    labels = tuple(label for label, is_kept in zip(item.labels, which) if is_kept)
    return Segments(item.times_seconds[which], labels, item.scores[which])
