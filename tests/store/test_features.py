"""Features are there whole, belong to the content of their file, and come back in the bounds asked for."""

import os
import shutil

import numpy as np
import pytest

from vitascope.store import atomic
from vitascope.store.features import Part
from vitascope.store.schema import LibraryError
from vitascope.structures import Features, Record

RANDOM = np.random.default_rng(0)


@pytest.fixture
def video(shelf):
    path = shelf.write("a.mp4")
    shelf.scan()
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_was_put_comes_back_with_its_manifest(shelf, video, dtype):
    values = RANDOM.standard_normal((6, 8)).astype(dtype)
    shelf.put(video, values, fps=29.97, hop_seconds=0.5)
    features = shelf.library.features.get(video, "m")
    assert features.values.dtype == dtype and np.array_equal(features.values, values)
    assert features.times_seconds.tolist() == [[i, i + 1] for i in range(6)]
    assert features.manifest["fps"] == 29.97 and features.manifest["dtype"] == np.dtype(dtype).name
    assert features.manifest["file_hash"] == shelf.library.catalogue.entry(video).content_hash


@pytest.mark.parametrize(
    ("start", "end", "rows"),
    [
        (None, None, [0, 1, 2, 3]),
        (-5, 99, [0, 1, 2, 3]),
        (1.0, 2.0, [1]),  # half-open: touching is not overlapping
        (1.0, 2.1, [1, 2]),
        (0.9, 2.0, [0, 1]),
        (3.5, None, [3]),
        (None, 0.5, [0]),
        (4.0, 9.0, []),
        (-2.0, 0.0, []),
    ],
)
def test_bounds_are_half_open_and_clipped(shelf, video, start, end, rows):
    shelf.put(video, np.arange(4, dtype=np.float16)[:, None])
    features = shelf.library.features.get(video, "m", start, end)
    assert features.values[:, 0].tolist() == rows and features.values.shape[1] == 1
    assert features.times_seconds[:, 0].tolist() == rows
    assert shelf.library.features.get(Record(video, start_seconds=start, end_seconds=end), "m").values.shape == (
        len(rows),
        1,
    )


def test_a_changed_file_makes_them_stale_and_a_moved_one_does_not(shelf, video):
    shelf.put(video, np.ones((2, 4), np.float16))
    os.rename(video, shelf.data / "b.mp4")
    shelf.scan()
    moved = str(shelf.data / "b.mp4")
    assert len(shelf.library.features.get(moved, "m").values) == 2
    shelf.write("b.mp4", b"other")
    shelf.scan()
    assert shelf.library.features.status(shelf.library.catalogue.entry(moved), "m") == "stale"
    assert shelf.library.features.parts("m") == [] and shelf.library.features.models() == {}
    with pytest.raises(LibraryError, match="b.mp4: the features of m are stale; run `vitascope embed` again"):
        shelf.library.features.get(moved, "m")


def test_features_of_a_copy_of_the_content_stay_when_it_is_scanned_again(shelf, video):
    shelf.put(video, np.ones((2, 4), np.float16))
    os.utime(video, ns=(1, 1))
    shelf.scan()
    assert shelf.library.features.status(shelf.library.catalogue.entry(video), "m") == "current"


def test_another_way_of_making_them_makes_them_stale(shelf, video):
    shelf.put(video, np.ones((2, 4), np.float16), asked={"hop": 1.0, "size": (8, 8)})
    entry = shelf.library.catalogue.entry(video)
    assert shelf.library.features.status(entry, "m", {"asked": {"hop": 1.0, "size": (8, 8)}}) == "current"
    assert shelf.library.features.status(entry, "m", {"asked": {"hop": 2.0, "size": (8, 8)}}) == "stale"
    assert shelf.library.features.status(entry, "other") == "absent"


def test_a_removed_features_file_is_absent(shelf, video):
    shelf.put(video, np.ones((2, 4), np.float16))
    shutil.rmtree(shelf.library.path / "features" / "m")
    assert shelf.library.features.status(shelf.library.catalogue.entry(video), "m") == "absent"


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_a_damaged_features_file_is_named(shelf, video, damage):
    shelf.put(video, np.ones((2, 4), np.float16))
    (path,) = (shelf.library.path / "features" / "m").iterdir()
    data = path.read_bytes()
    path.write_bytes({"truncated": data[:-3], "garbage": os.urandom(len(data)), "empty": b""}[damage])
    with pytest.raises(LibraryError, match="safetensors: the features are damaged .*; remove the file and run"):
        shelf.library.features.get(video, "m")


def test_a_features_file_of_another_shape_than_listed_is_named(shelf, video):
    shelf.put(video, np.ones((2, 4), np.float16))
    (part,) = shelf.library.features.parts("m")
    with pytest.raises(LibraryError, match=r"values \[2, 4\] must be \[3, 4\] as in the catalogue"):
        shelf.library.features.read("m", Part(part.file_id, part.version, 3, 4))


@pytest.mark.parametrize(
    ("values", "times", "message"),
    [
        (np.ones((2, 4)), [[0, 1], [1, 2]], r"values \(float64 \[2, 4\]\) must be float16 or float32"),
        (np.ones(4, np.float16), [[0, 1]], "must be float16 or float32"),
        (np.ones((2, 4), np.float16), [[0, 1]], r"times_seconds \[1, 2\] must be \[2, 2\]"),
        (np.full((1, 4), np.inf, np.float16), [[0, 1]], "must be finite"),
        (np.ones((2, 4), np.float16), [[1, 2], [0, 1]], "must ascend"),
        (np.ones((1, 4), np.float16), [[2, 1]], "must not exceed its end"),
    ],
)
def test_wrong_arrays_are_refused_and_leave_nothing(shelf, video, values, times, message):
    entry = shelf.library.catalogue.entry(video)
    with pytest.raises(ValueError, match=message):
        shelf.library.features.put(entry, "m", Features(values, np.array(times, float)))
    assert shelf.library.features.status(entry, "m") == "absent"


@pytest.mark.parametrize("model_id", ["", "../x", "a/b", ".hidden", "a" * 200, "a b"])
def test_a_model_id_that_is_no_folder_name_is_refused(shelf, video, model_id):
    with pytest.raises(ValueError, match="model_id .* must be 1 to 128 letters"):
        shelf.put(video, np.ones((1, 4), np.float16), model=model_id)


def test_a_failed_write_keeps_the_older_features(shelf, video, monkeypatch):
    shelf.put(video, np.ones((2, 4), np.float16))

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "sync", full)
    with pytest.raises(OSError, match="the disk is full"):
        shelf.put(video, np.zeros((3, 4), np.float16))
    assert shelf.library.features.get(video, "m").values.tolist() == [[1] * 4] * 2
    assert len(os.listdir(shelf.library.path / "features" / "m")) == 1
