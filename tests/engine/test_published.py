"""Timelines from features that others have published: which videos are learned from, what is left out, and what is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from localize_toy import TINY, tools

from vitascope.engine.describe import held_out, listed
from vitascope.engine.localize import localize
from vitascope.engine.published import find
from vitascope.evaluation.localization import evaluate
from vitascope.store.timelines import read_timelines
from vitascope.structures import NOTHING, Annotation, Record, Segments

SNIPPETS, WIDTH, STEP = 40, 6, 0.64
CLASSES = ("dive", "golf")


def vectors_of(label, start, end, seed):
    """Vectors that tell which action a snippet shows."""
    values = np.random.default_rng(seed).normal(0, 0.1, (SNIPPETS, WIDTH)).astype(np.float32)
    values[start:end, CLASSES.index(label)] += 2
    return values


def write_data_set(home, count=8):
    """`gt.json` and `features/{train,test}/ID.npy`, of which every other video is for testing."""
    database = {}
    for i in range(count):
        split, label, start = ("train", "test")[i % 2], CLASSES[i // 2 % 2], 5 + 2 * i
        times = [str(start * STEP), str((start + 10) * STEP)]
        name = f"video_{split}_{i:07d}"
        database[name] = {"subset": split, "annotations": [{"segment": times, "label": label}]}
        folder = home / "features" / split
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", vectors_of(label, start, start + 10, i))
    (home / "gt.json").write_text(json.dumps({"database": database}))
    return home / "gt.json"


def learn(home, **how):
    changes = [*(change for change in TINY if not change.startswith("hop_seconds")), "cbp=transformer"]
    settings = {"device": "cpu"}
    encoder = f"files:{home / 'features'}"
    return localize(
        home / "gt.json", (), tools(), out=home / "out", encoder=encoder, changes=changes, settings=settings, **how
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    home = tmp_path_factory.mktemp("published")
    write_data_set(home)
    return home, learn(home)


def test_actions_are_found_in_the_test_videos_from_the_tags_of_the_others_without_any_video(learned):
    home, summary = learned
    assert (summary.num_videos, summary.num_tagged, summary.problems) == (8, 4, ())
    found = read_timelines(home / "out" / "timelines.json")
    truth = tools().annotations.read_annotations(home / "gt.json")
    judged = evaluate(truth, found, "plain", split="test", unknown="drop")
    assert judged.num_videos == 4 and judged.map[0.5] > 0.9


def test_the_pages_of_videos_that_are_not_there_show_what_was_found_beside_the_truth(learned):
    home, _ = learned
    page = (home / "out" / "pages" / "video_test_0000001.html").read_text()
    assert "row truth" in page and "row found" in page and "data:image/" not in page


def test_a_run_that_learned_from_published_features_finds_actions_in_others_of_its_folder(learned, tmp_path):
    home, summary = learned
    found = localize(None, ["video_test_0000003"], tools(), run=summary.run, library=summary.library, out=tmp_path)
    assert found.num_videos == 1 and found.num_segments >= 1


def test_videos_without_or_with_wrong_features_are_told_and_the_others_learned_from(tmp_path):
    write_data_set(tmp_path, 12)
    train = tmp_path / "features" / "train"
    (train / "video_train_0000000.npy").unlink()
    np.save(train / "video_train_0000002.npy", np.zeros((SNIPPETS, WIDTH + 1), np.float32))
    (train / "video_train_0000004.npy").write_bytes(b"nonsense")
    content = json.loads((tmp_path / "gt.json").read_text())
    content["database"]["video_train_0000006"]["duration"] = 100.0
    (tmp_path / "gt.json").write_text(json.dumps(content))
    summary = learn(tmp_path, pages=False)
    told = {path.rsplit("/", 1)[-1]: detail for path, detail in summary.problems}
    assert sorted(told) == ["features", *(f"video_train_000000{i}" for i in (0, 2, 4))] and summary.num_videos == 9
    assert told["video_train_0000000"].endswith("has no features of video_train_0000000")
    assert "7 wide, others 6" in told["video_train_0000002"]
    assert "video_train_0000004" in told["video_train_0000004"]
    assert "video_train_0000006: 40 rows" in told["features"] and "the video lasts 100.0 s" in told["features"]
    assert told["features"].endswith("give fps, stride and window, in a manifest.json there")


def test_a_training_video_without_any_action_is_told_from_one_that_nobody_has_looked_at():
    known = [
        Annotation("a", (), Segments(np.zeros((0, 2)), ()), "train"),
        Annotation("b", ("dive",), None, "train"),
        Annotation("c", (), None, "train"),
        Annotation("d", ("dive",), None, "test"),
    ]
    found = {record.id: record.labels for record in listed(known, Path("nowhere").absolute(), tools())}
    assert found == {"a": (NOTHING,), "b": ("dive",), "c": (), "d": ()}


def test_a_folder_without_features_is_refused(tmp_path):
    write_data_set(tmp_path)
    (tmp_path / "features").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="must name a folder of features; there is none"):
        learn(tmp_path)
    (tmp_path / "features").mkdir()
    with pytest.raises(ValueError, match="has no .npy files of features"):
        learn(tmp_path)


@pytest.mark.parametrize(
    "splits, tested",
    [
        ({"train", "test"}, {"test"}),
        ({"Training", "validation", "testing", ""}, {"validation", "testing"}),
        ({"validation", "test"}, {"test"}),
        ({"", "mine"}, set()),
    ],
)
def test_what_is_for_testing_is_not_learned_from(splits, tested):
    assert held_out(splits) == tested


@pytest.mark.parametrize("name", ["v_abcdefghijk", "abcdefghijk", "v_abcdefghijk.mp4", "abcdefghijk.mp4"])
def test_features_are_found_by_ids_with_and_without_what_some_lists_put_before_them(name, tmp_path):
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train" / "v_abcdefghijk.npy", np.ones((3, 2), np.float32))
    found = find(str(tmp_path), (), tools().feature_files)
    assert found.of(Record(name, name))().values.shape == (3, 2)
    assert found.of(Record("other", "other")) is None
