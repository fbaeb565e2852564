import json
import pickle
import warnings

import numpy as np
import pytest

from vitascope.datasets.feature_files import Rows, find_features
from vitascope.structures import Annotation


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def save(path, *shape, dtype=np.float32, start=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = (start + np.arange(np.prod(shape)) % 97).reshape(shape).astype(dtype)
    np.save(path, array)
    return array


def test_rgb_and_flow_stand_side_by_side_rgb_first(tmp_path):
    rgb = save(tmp_path / "features/train/rgb/a.npy", 4, 8)
    flow = save(tmp_path / "features/train/flow/a.npy", 4, 8, start=0.5)
    save(tmp_path / "features/test/rgb/b.npy", 2, 8)
    save(tmp_path / "features/test/flow/b.npy", 2, 8)
    for folder in (tmp_path, tmp_path / "features"):
        found = find_features(folder)
        assert sorted(found) == ["a", "b"]
        features = found["a"]()
        np.testing.assert_array_equal(features.values, np.hstack([rgb, flow]))
        np.testing.assert_allclose(features.times_seconds, [[0, 0.64], [0.64, 1.28], [1.28, 1.92], [1.92, 2.56]])
        assert features.manifest["layout"] == "basnet" and features.manifest["hop_seconds"] == 0.64


def test_streams_that_differ_by_two_rows_are_cut_and_by_more_refused(tmp_path):
    save(tmp_path / "rgb/a.npy", 6, 8), save(tmp_path / "flow/a.npy", 4, 8)
    assert find_features(tmp_path)["a"]().values.shape == (4, 16)
    save(tmp_path / "rgb/a.npy", 7, 8)
    with pytest.raises(ValueError, match="a: its files have 7 and 4 rows"):
        find_features(tmp_path)["a"]()


def test_a_missing_stream_is_told_and_no_stream_of_flow_is_taken(tmp_path):
    save(tmp_path / "rgb/a.npy", 6, 8)
    assert find_features(tmp_path)["a"]().values.shape == (6, 8)
    save(tmp_path / "flow/b.npy", 6, 8)
    with pytest.raises(ValueError, match="flow/a.npy is missing"):
        find_features(tmp_path)


def test_a_file_for_each_video_in_folders_of_splits(tmp_path):
    values = save(tmp_path / "train/v_---9CpRcKoU.npy", 3, 8, dtype=np.float64)
    found = find_features(tmp_path)["---9CpRcKoU"]()
    np.testing.assert_array_equal(found.values, values)
    assert found.values.dtype == np.float32 and found.manifest["layout"] == "joint"
    save(tmp_path / "test/v_---9CpRcKoU.npy", 3, 8)
    with pytest.raises(ValueError, match="'---9CpRcKoU' are there twice"):
        find_features(tmp_path)


def test_half_precision_stays(tmp_path):
    save(tmp_path / "train/a.npy", 3, 8, dtype=np.float16)
    assert find_features(tmp_path)["a"]().values.dtype == np.float16


def test_one_array_of_all_videos_is_read_once_and_by_the_order_of_names(tmp_path):
    rows = np.empty(2, object)
    rows[0], rows[1] = np.zeros((3, 8), np.float32), np.ones((4, 8), np.float32)
    np.save(tmp_path / "X-I3D-JOINTFeatures.npy", rows)
    (tmp_path / "X-Annotations").mkdir()
    np.save(tmp_path / "X-Annotations/videoname.npy", np.array([b"b", b"a"]))
    found = find_features(tmp_path)
    assert found["b"]().values.shape == (3, 8) and found["a"]().values.mean() == 1
    (tmp_path / "X-I3D-JOINTFeatures.npy").unlink()
    assert found["a"]().values.shape == (4, 8)
    np.save(tmp_path / "X-I3D-JOINTFeatures.npy", rows[:1])
    with pytest.raises(ValueError, match="has 1 rows, but videoname.npy 2; give the names of this file"):
        find_features(tmp_path)["a"]()
    np.save(tmp_path / "X-I3D-JOINTFeatures.npy", rows[[0, 1, 1]])
    with pytest.raises(ValueError, match="has 3 rows, but videoname.npy 2; give the names of this file"):
        pickle.loads(pickle.dumps(find_features(tmp_path)["a"]))()


def test_a_hostile_array_of_all_videos_is_refused(tmp_path):
    rows = np.empty(1, object)
    rows[0] = open  # any function
    np.save(tmp_path / "X-JOINTFeatures.npy", rows)
    np.save(tmp_path / "videoname.npy", np.array([b"a"]))
    with pytest.raises(ValueError, match="asks for"):
        find_features(tmp_path)["a"]()


def test_every_fourth_frame_at_the_videos_own_rate(tmp_path):
    save(tmp_path / "a.npy", 3, 8), save(tmp_path / "b.npy", 3, 8)
    found = find_features(tmp_path, "actionformer", known=[Annotation("b", fps=25.0)])
    middles = [one().times_seconds.mean(1) for one in (found["a"], found["b"])]
    np.testing.assert_allclose(middles[0], [(4 * i + 8) / 30 for i in range(3)])
    np.testing.assert_allclose(middles[1], [(4 * i + 8) / 25 for i in range(3)])
    assert found["a"]().times_seconds[0].tolist() == [0.0, 16 / 30]


def test_files_that_do_not_tell_when_their_rows_are_need_a_layout(tmp_path):
    save(tmp_path / "a.npy", 3, 8)
    with pytest.raises(ValueError, match="give layout='actionformer'"):
        find_features(tmp_path)
    manifest = {"fps": 30, "stride": 8, "window": 32, "offset": 20, "backbone": "tsp"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    features = find_features(tmp_path)["a"]()
    np.testing.assert_allclose(features.times_seconds[:2], [[4 / 30, 36 / 30], [12 / 30, 44 / 30]])
    assert features.manifest["model"] == "tsp"
    assert find_features(tmp_path, fps=15)["a"]().times_seconds[0].tolist() == [4 / 15, 36 / 15]
    (tmp_path / "manifest.json").write_text('{"rate": 30}')
    with pytest.raises(ValueError, match="unknown key 'rate'"):
        find_features(tmp_path)


@pytest.mark.parametrize("seconds, is_told", [(64.0, False), (65.2, False), (62.8, False), (66.0, True), (53.4, True)])
def test_a_duration_that_does_not_fit_is_told_with_the_rate_that_would(tmp_path, seconds, is_told):
    save(tmp_path / "train/a.npy", 100, 8)
    load = find_features(tmp_path, known=[Annotation("a", duration_seconds=seconds)])["a"]
    if not is_told:
        load()
        return
    with pytest.warns(UserWarning, match=f"but the video lasts {seconds} s; that would be {1600 / seconds:.2f} fps"):
        load()


def test_a_duration_of_0_is_one_that_is_not_known(tmp_path):
    values = save(tmp_path / "train/a.npy", 100, 8)
    found = find_features(tmp_path, known=[Annotation("a", duration_seconds=0.0)])["a"]()
    np.testing.assert_array_equal(found.values, values)


@pytest.mark.parametrize(
    "array", [np.ones((3, 2, 8), np.float32), np.ones((0, 8)), np.ones((3, 8), int), np.full((3, 8), np.nan)]
)
def test_what_are_no_rows_of_numbers_is_refused(tmp_path, array):
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train/a.npy", array)
    with pytest.raises(ValueError, match="a: features"):
        find_features(tmp_path)["a"]()


def test_a_folder_without_features_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no .npy files"):
        find_features(tmp_path)
    with pytest.raises(ValueError, match="layout .'tsn'. must be one of basnet"):
        find_features(tmp_path, "tsn")


def test_readers_cross_into_other_processes(tmp_path):
    save(tmp_path / "train/a.npy", 3, 8)
    load = find_features(tmp_path)["a"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(load))().values, load().values)


def test_rows_need_positive_numbers():
    with pytest.raises(ValueError, match=r"fps \(0\), stride"):
        Rows(fps=0, stride=16, window=16, offset=8)
