import json
import pickle

import numpy as np
import pytest

from vitascope.datasets.annotations import read_annotations, read_predictions, video_id
from vitascope.datasets.tags import read_tags


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def plain(annotation):
    segments = annotation.segments
    times = None if segments is None else segments.times_seconds.tolist()
    return annotation.id, annotation.labels, times, None if segments is None else segments.labels, annotation.split


def objects(items):
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array


DATABASE = {
    "a": {
        "subset": "train",
        "annotations": [{"segment": ["18.6", "24.8"], "label": "B"}, {"segment": [1, 2.5], "label": "A"}],
    },
    "b": {"subset": "test", "duration": 30, "fps": 25.0, "annotations": [{"segment": [3, 3], "label": "B"}]},
}
ONE = ("a", ("B", "A"), [[18.6, 24.8], [1.0, 2.5]], ("B", "A"), "train")
TWO = ("b", ("B",), [[3.0, 3.0]], ("B",), "test")


@pytest.fixture
def arrays(tmp_path):
    """W-TALC's folder, with texts as bytes and lists as objects."""

    def make(**changed):
        content = {
            "videoname": np.array([b"a", b"b"]),
            "subset": np.array([b"train", b"test"]),
            "labels": objects([[b"B", b"A"], [b"B"]]),
            "labels_all": objects([[b"B", b"C"], []]),
            "segments": objects([[[18.6, 24.8], [1, 2.5]], [[3.0, 3.0]]]),
            "duration": np.array([[40.0], [30.0]]),
            "original_fps": np.array([30.0, 25.0]),
            "classlist": np.array([b"A", b"B"]),
        } | changed
        for name, array in content.items():
            if array is not None:
                np.save(tmp_path / f"{name}.npy", array)
        return tmp_path

    return make


def test_a_database_with_times_as_texts_is_read(tmp_path):
    found = read_annotations(write(tmp_path / "gt.json", {"database": DATABASE}))
    assert [plain(known) for known in found] == [ONE, TWO]
    assert (found[0].duration_seconds, found[0].fps) == (None, None)
    assert (found[1].duration_seconds, found[1].fps) == (30.0, 25.0)


def test_labels_without_times_are_tags(tmp_path):
    database = {"a": {"annotations": [{"label": "A"}]}, "b": {"annotations": []}}
    found = read_annotations(write(tmp_path / "a.json", {"database": database}))
    assert found[0].labels == ("A",) and found[0].segments is None
    assert found[1].labels == () and found[1].segments.times_seconds.shape == (0, 2)


def test_one_label_without_a_time_takes_none_from_the_others(tmp_path):
    rows = [{"label": "run", "segment": [0, 10]}, {"label": "jump"}, {"label": "run"}]
    json_file = write(tmp_path / "a.json", {"database": {"a": {"annotations": rows}}})
    csv_file = write(tmp_path / "a.csv", "video,labels,start,end\na,run,0,10\na,jump,,\na,run,,\n")
    for file in (json_file, csv_file):
        assert [plain(known) for known in read_annotations(file)] == [("a", ("run", "jump"), [[0, 10]], ("run",), "")]


def test_no_split_is_not_a_split_of_that_name(tmp_path):
    database = {"a": {"subset": None, "annotations": []}}
    assert read_annotations(write(tmp_path / "a.json", {"database": database}))[0].split == ""


def test_splits_and_lists_choose_videos(tmp_path):
    file, ids = write(tmp_path / "gt.json", {"database": DATABASE}), write(tmp_path / "ids.txt", "b\n\nc\n")
    assert [known.id for known in read_annotations(file, split="test")] == ["b"]
    assert [known.id for known in read_annotations(file, only=ids)] == ["b"]
    with pytest.raises(ValueError, match="its splits are test, train"):
        read_annotations(file, split="validation")


def test_times_by_video_take_split_and_rate_from_the_csv_beside(tmp_path):
    video = {"duration_second": 14.07, "duration_frame": 418, "feature_frame": 400}
    rows = [{"segment": [0.5, 9], "label": "A"}]
    write(
        tmp_path / "video_info_new.csv",
        "video,numFrame,seconds,fps,rfps,subset,featureFrame\nv_---9CpRcKoU,418,14.07,30.0,29.7,training,400\n",
    )
    file = write(tmp_path / "anet_anno_action.json", {"v_---9CpRcKoU": video | {"annotations": rows}})
    for path in (file, tmp_path):
        (found,) = read_annotations(path)
        assert plain(found) == ("---9CpRcKoU", ("A",), [[0.5, 9.0]], ("A",), "training")
        assert (found.duration_seconds, found.fps) == (14.07, 30.0)


def test_parallel_arrays_are_read(arrays):
    found = read_annotations(arrays(), labels="segments")
    assert [plain(known) for known in found] == [ONE, TWO]
    assert [(known.duration_seconds, known.fps) for known in found] == [(40.0, 30.0), (30.0, 25.0)]


def test_official_labels_stand_before_those_of_segments_but_not_when_empty(arrays):
    found = read_annotations(arrays())
    assert [known.labels for known in found] == [("B", "C"), ("B",)]
    assert found[0].segments.labels == ("B", "A")


def test_parallel_arrays_of_activitynet_have_no_rates(arrays):
    found = read_annotations(
        arrays(original_fps=None, duration=np.array([40.0, 30.0]), videoname=np.array(["v_---9CpRcKoU", "b"]))
    )
    assert found[0].id == "---9CpRcKoU" and found[0].fps is None and found[1].duration_seconds == 30.0


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"subset": np.array([b"train"])}, "subset.npy has 1 entries, must have 2"),
        ({"labels": objects([[b"B"], [b"B"]])}, "a: 1 labels, but 2 segments"),
        ({"segments": objects([[[1, 2], [5, 4]], [[3, 3]]])}, r"segment \(5.0, 4.0\) ends before it starts"),
        ({"videoname": np.array([b"a", b"a"])}, "'a'.* is there twice"),
        ({"duration": np.array([[np.nan], [1]])}, "duration .* must be a number"),
    ],
)
def test_parallel_arrays_that_do_not_fit_are_refused(arrays, changed, message):
    with pytest.raises(ValueError, match=message):
        read_annotations(arrays(**changed))


def test_a_folder_of_texts_is_read_with_its_ambiguous_stretches(tmp_path):
    write(tmp_path / "B_test.txt", "v1  5.0 7.5\nv2 1 2\n")
    write(tmp_path / "A_test.txt", "v1\t0.5 1\n")
    write(tmp_path / "A_val.txt", "v3  3 4\n")
    write(tmp_path / "Ambiguous_test.txt", "v1  0.0 1.4\nv1  9 10\nv9  1 2\n")
    write(tmp_path / "detclasslist.txt", "7 A\n")
    found = read_annotations(tmp_path)
    assert [plain(known) for known in found] == [
        ("v1", ("A", "B"), [[0.5, 1.0], [5.0, 7.5]], ("A", "B"), "test"),
        ("v2", ("B",), [[1.0, 2.0]], ("B",), "test"),
        ("v3", ("A",), [[3.0, 4.0]], ("A",), "val"),
    ]
    assert found[0].ambiguous_seconds.tolist() == [[0.0, 1.4], [9.0, 10.0]]
    assert found[1].ambiguous_seconds is None


def test_another_list_of_ambiguous_stretches_can_be_given(tmp_path):
    file = write(tmp_path / "gt.json", {"database": DATABASE})
    found = read_annotations(file, ambiguous=write(tmp_path / "list.txt", "b  1 2\n"))
    assert found[0].ambiguous_seconds is None and found[1].ambiguous_seconds.tolist() == [[1.0, 2.0]]
    with pytest.raises(ValueError, match="list.txt, line 1: 'b 1' must be a video, a start and an end"):
        read_annotations(file, ambiguous=write(tmp_path / "list.txt", "b 1\n"))


def test_lists_name_a_video_of_tags_with_and_without_the_prefix_of_activitynet(tmp_path):
    file = write(tmp_path / "a.csv", "video,labels,start,end\nv_abcdefghijk,run,0,10\nb,run,0,10\n")
    for name in ("v_abcdefghijk", "abcdefghijk"):
        ids, stretches = write(tmp_path / "ids.txt", name), write(tmp_path / "list.txt", f"{name} 1 2\n")
        (found,) = read_annotations(file, only=ids, ambiguous=stretches)
        assert found.id == "v_abcdefghijk" and found.ambiguous_seconds.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "content, message",
    [
        ({"database": {"a": {"annotations": [{"segment": [1], "label": "A"}]}}}, "must be a start and an end"),
        (
            {"database": {"a": {"annotations": [{"segment": [1, "x"], "label": "A"}]}}},
            r"segment \('x'\) must be a number",
        ),
        ({"database": {"a": {"annotations": [{"segment": [4, 3], "label": "A"}]}}}, "ends before it starts"),
        ({"database": {"a": {"annotations": [{"segment": [1, 2]}]}}}, "objects with 'label'"),
        ({"database": {"v_---9CpRcKoU": {}, "---9CpRcKoU": {}}}, "is there twice"),
        ({"results": {}}, "of no layout that is known"),
        ([1], "of no layout that is known"),
        ("<xml>", "is not JSON"),
    ],
)
def test_json_of_another_form_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_annotations(write(tmp_path / "a.json", content))


def test_an_unknown_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="of no layout that is known; give JSON with `database`"):
        read_annotations(tmp_path)


def test_ids_lose_only_the_prefix_of_activitynet():
    assert (
        video_id("v_---9CpRcKoU") == "---9CpRcKoU" and video_id("b'a'") == "a" and video_id(np.bytes_(b"v_a")) == "v_a"
    )


def test_tags_are_read_from_csv_and_jsonl_alike(tmp_path):
    rows = "video,labels,start,end,split,duration,fps\na.mp4,A|B,1,2.5,train,40,30\na.mp4,C,3,4,,,\nb.mp4,,,,test,,\nc.mp4,B;A,,,,,\n"
    lines = [
        {"video": "a.mp4", "labels": ["A", "B"], "start": 1, "end": 2.5, "split": "train", "duration": 40, "fps": 30},
        {"video": "a.mp4", "labels": ["C"], "start": 3, "end": 4},
        {"video": "b.mp4", "split": "test"},
        {"video": "c.mp4", "labels": ["B", "A"]},
    ]
    files = write(tmp_path / "a.csv", rows), write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    for file in files:
        found = read_annotations(file)
        assert [plain(known) for known in found] == [
            ("a.mp4", ("A", "B", "C"), [[1.0, 2.5], [1.0, 2.5], [3.0, 4.0]], ("A", "B", "C"), "train"),
            ("b.mp4", (), None, None, "test"),
            ("c.mp4", ("B", "A"), None, None, ""),
        ]
        assert (found[0].duration_seconds, found[0].fps) == (40.0, 30.0)


def test_where_times_are_given_a_video_tagged_nothing_is_known_to_have_none(tmp_path):
    rows = "video,labels,start,end\na,run,0,10\nb,nothing,,\nc,,,\nd,run,,\n"
    _, shows_none, *others = read_tags(write(tmp_path / "a.csv", rows))
    assert plain(shows_none) == ("b", ("nothing",), [], (), "")
    assert all(known.segments is None for known in others)
    tags = read_tags(write(tmp_path / "a.csv", "video,labels\na,run\nb,nothing\n"))
    assert [known.segments for known in tags] == [None, None]


@pytest.mark.parametrize(
    "rows, message",
    [
        ("video,labels\na,nothing|run\n", r"line 2: labels \(nothing|run\) of 'a': nothing stands alone"),
        ("video,labels\na,run\na,nothing\n", r"line 3: labels \(run|nothing\) of 'a': nothing stands alone"),
        ("video,labels,start,end\na,nothing,3,4\n", "line 2: .* nothing stands alone and without times"),
        ("video,label\na,b\n", "line 1: unknown column 'label'"),
        ("video,labels,duration\na,b,x\n", "line 2: duration .'x'. must be seconds >= 0"),
        ("video,labels,duration\na,b,3\na,c,4\n", "line 3: duration .4.0. is 3.0 in an earlier row of 'a'"),
        ("video,labels,start,end\na,b,3,\n", "line 2: start .3.0., end .None.: give both"),
        ("video,labels,start,end\na,,3,4\n", "line 2: .*and a label"),
    ],
)
def test_tags_of_another_form_are_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read_tags(write(tmp_path / "a.csv", rows))


def test_predictions_are_read_leniently_and_in_order(tmp_path):
    results = {
        "v_---9CpRcKoU": [
            {"label": "A", "score": 0.25, "segment": ["1.5", 2]},
            {"label": "B", "score": 0.75, "segment": [0, 9]},
        ],
        "b'b'": [],
    }
    for content in ({"results": results}, {"version": "x", "external_data": {}, "results": results}, results):
        found = read_predictions(write(tmp_path / "a.json", content))
        assert list(found) == ["---9CpRcKoU", "b"]
        one = found["---9CpRcKoU"]
        assert (one.labels, one.scores.tolist()) == (("A", "B"), [0.25, 0.75])
        assert one.times_seconds.tolist() == [[1.5, 2.0], [0.0, 9.0]]
        assert found["b"].times_seconds.shape == (0, 2) and found["b"].scores.shape == (0,)


def test_predictions_by_number_need_the_names(tmp_path):
    file = write(tmp_path / "a.json", {"results": {"a": [{"label_id": 1, "score": 0.5, "segment": [1, 2]}]}})
    assert read_predictions(file, ("A", "B"))["a"].labels == ("B",)
    with pytest.raises(ValueError, match=r"a: label \(1\) is no name; give the names of the classes"):
        read_predictions(file)
    with pytest.raises(ValueError, match="it must be 0 to 0"):
        read_predictions(file, ("A",))


def test_a_pickle_of_actionformer_is_read(tmp_path):
    content = {
        "video-id": ["a", "b", "a"],
        "t-start": np.array([1, 2, 3], np.float32),
        "t-end": np.array([4, 5, 6], np.float32),
        "label": np.array([0, 1, 1]),
        "score": np.array([0.5, 0.25, 0.125], np.float32),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    found = read_predictions(tmp_path / "a.pkl", ("A", "B"))
    assert found["a"].times_seconds.tolist() == [[1.0, 4.0], [3.0, 6.0]] and found["a"].labels == ("A", "B")
    assert found["b"].scores.tolist() == [0.25]


@pytest.mark.parametrize(
    "row, message",
    [
        ({"label": "A", "score": 1, "segment": [1, None]}, "must be finite numbers"),
        ({"label": "A", "score": float("nan"), "segment": [1, 2]}, "must be finite numbers"),
        ({"label": "A", "score": 1, "segment": [1, 2, 3]}, "two numbers each"),
        ({"label": "A", "score": 1}, "must be objects with"),
        ({"label": None, "score": 1, "segment": [1, 2]}, "is no name"),
    ],
)
def test_predictions_of_another_form_are_refused(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read_predictions(write(tmp_path / "a.json", {"results": {"a": [row]}}))


def test_scores_are_given_for_all_segments_or_for_none(tmp_path):
    rows = [{"label": "A", "segment": [1, 2]}, {"label": "A", "segment": [1, 2]}]
    assert read_predictions(write(tmp_path / "a.json", {"a": rows}))["a"].scores is None
    with pytest.raises(ValueError, match="1 of 2 predictions have a score"):
        read_predictions(write(tmp_path / "a.json", {"a": [rows[0], rows[1] | {"score": 1}]}))


def test_thumos_has_the_known_numbers_in_both_forms(shared_data):
    folder = shared_data / "tal-annotations"
    texts = read_annotations(folder / "thumos14_gt_basnet.json")
    arrays = read_annotations(folder / "wtalc-thumos14reduced", labels="segments")
    counts = [sum(len(known.segments.labels) for known in found) for found in (texts, arrays)]
    assert (len(texts), len(arrays), counts) == (410, 412, [3007 + 3311, 3007 + 3358])
    test = read_annotations(folder / "wtalc-thumos14reduced", split="test", only=folder / "split_test.txt")
    assert len(test) == 210 and sum(len(known.segments.labels) for known in test) == 3311
    official = read_annotations(folder / "wtalc-thumos14reduced")
    differ = [set(one.labels) != set(other.labels) for one, other in zip(official, arrays, strict=True)]
    assert sum(differ) == 8 + 20 - 1  # one of the test videos has no official labels, and gets those of its segments
    assert sum(known.ambiguous_seconds is not None for known in official) == 36


def test_real_predictions_and_recordings_are_read(shared_data):
    found = read_predictions(shared_data / "tal-annotations" / "pmil_detections_test.json")
    assert len(found) == 212 and sum(len(one.labels) for one in found.values()) == 31587
    recordings = read_annotations(shared_data / "fir-untrimmed" / "annotations.json")
    assert len(recordings) == 7 and sum(len(known.segments.labels) for known in recordings) == 94
    assert recordings[0].duration_seconds == 75.68
