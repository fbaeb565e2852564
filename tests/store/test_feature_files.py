import numpy as np
import pytest

from vitascope.store.feature_files import read_features, write_features
from vitascope.structures import Features

TIMES = np.array([[0.0, 0.64], [0.64, 1.28], [1.28, 1.92]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_written_is_read(tmp_path, dtype):
    given = Features(np.arange(6, dtype=dtype).reshape(3, 2), TIMES, {"fps": 25.0, "model": "i3d"})
    write_features(tmp_path / "a.safetensors", given)
    found = read_features(tmp_path / "a.safetensors")
    assert found.values.dtype == dtype and found.times_seconds.dtype == np.float64
    np.testing.assert_array_equal(found.values, given.values)
    np.testing.assert_array_equal(found.times_seconds, TIMES)
    assert found.manifest == {"fps": 25.0, "model": "i3d", "dtype": np.dtype(dtype).name}


def test_features_that_do_not_fit_leave_the_older_file(tmp_path):
    path = tmp_path / "a.safetensors"
    write_features(path, Features(np.ones((3, 2), np.float32), TIMES))
    content = path.read_bytes()
    for values, times in ((np.ones((2, 2), np.float32), TIMES), (np.full((3, 2), np.nan, np.float32), TIMES)):
        with pytest.raises(ValueError, match="times_seconds|finite"):
            write_features(path, Features(values, times))
    assert path.read_bytes() == content and [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_another_file_is_refused_by_name(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="a.safetensors: the features cannot be read"):
        read_features(tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError, match="b.safetensors"):
        read_features(tmp_path / "b.safetensors")


def test_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write_features(path, Features(np.ones((3, 2), np.float32), TIMES))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="cannot be read"):
        read_features(path)


def test_a_file_of_a_library_is_read(tmp_path):
    from safetensors.numpy import save_file

    save_file(
        {"values": np.ones((3, 2), np.float16), "times_seconds": TIMES},
        tmp_path / "1.safetensors",
        {"manifest": "{}", "source": '"a"'},
    )
    assert read_features(tmp_path / "1.safetensors").manifest == {}
