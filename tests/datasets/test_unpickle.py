import io
import os
import pickle
import struct

import numpy as np
import pytest

from vitascope.datasets.unpickle import load_npy, load_pickle


def objects(*items):
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def same(given, wanted):
    if isinstance(wanted, np.ndarray) and wanted.dtype != object:
        np.testing.assert_array_equal(given, wanted)
        assert given.dtype == wanted.dtype
    elif isinstance(wanted, (list, tuple, np.ndarray)):
        assert type(given) is type(wanted) and len(given) == len(wanted)
        for one, other in zip(given, wanted, strict=True):
            same(one, other)
    else:
        assert given == wanted and type(given) is type(wanted)


NESTED = objects(
    ["run", "jump"],
    [[0.5, 2.0], [3, 4.25]],
    (None, True, b"bytes", {"a": [1, 2]}),
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    np.array(["a", "bcd"]),
    np.float64(2.5),
    np.zeros((0, 4), np.float16),
    objects([1], [1]),
)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_what_numpy_pickles_is_read_as_it_was(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(NESTED, protocol))
    same(load_pickle(path), NESTED)


def test_an_object_array_is_read_as_it_was(tmp_path):
    np.save(tmp_path / "a.npy", NESTED)
    same(load_npy(tmp_path / "a.npy"), NESTED)


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.array([b"ab", b"c"]), np.array(["é"]), np.array(3)])
def test_an_array_of_numbers_or_texts_is_read_as_it_was(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    same(load_npy(tmp_path / "a.npy"), array)


def test_an_object_array_in_fortran_order_is_read_as_it_was(tmp_path):
    array = np.asfortranarray(np.array([["a", "b", "c"], ["d", "e", "f"]], object))
    np.save(tmp_path / "a.npy", array)
    assert load_npy(tmp_path / "a.npy").tolist() == array.tolist()


def test_what_python_2_wrote_is_read_with_texts_as_bytes(tmp_path):
    # the opcodes of W-TALC's files: protocol 2, names and type codes as byte strings
    text = b"\x80\x02]q\x00(U\x03runq\x01U\x04jumpq\x02e."
    (tmp_path / "a.pkl").write_bytes(text)
    assert load_pickle(tmp_path / "a.pkl") == [b"run", b"jump"]


def test_real_annotations_are_read(shared_data):
    folder = shared_data / "tal-annotations" / "wtalc-thumos14reduced"
    segments, labels = load_npy(folder / "segments.npy"), load_npy(folder / "labels.npy")
    assert len(segments) == len(labels) == 412
    assert all(len(one) == len(other) for one, other in zip(segments, labels, strict=True))
    assert segments[0][0] == [67.5, 75.9] and labels[0][0] == b"Billiards"


class Calls:
    def __init__(self, function, *given):
        self.how = function, given

    def __reduce__(self):
        return self.how


@pytest.mark.parametrize(
    "function, given",
    [(os.system, ("echo",)), (eval, ("1",)), (getattr, (1, "real")), (np.fromfile, ("/dev/null",)), (np.load, ("a",))],
)
def test_no_function_is_called(tmp_path, function, given):
    np.save(tmp_path / "a.npy", objects(Calls(function, *given)))
    with pytest.raises(ValueError, match="a.npy cannot be read .*asks for"):
        load_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("thing", [{1, 2}, range(3), np.datetime64("2020-01-01"), np.zeros(2, [("a", "f4")]), Calls])
def test_things_other_than_numbers_texts_and_lists_are_refused(tmp_path, thing):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([thing]))
    with pytest.raises(ValueError, match="a.pkl cannot be read"):
        load_pickle(tmp_path / "a.pkl")


def test_pointers_are_not_taken_from_a_file(tmp_path):
    # an item type of objects whose flags say that its items are plain bytes: numpy would take addresses from them
    dtype = b"cnumpy\ndtype\n(U\x02O8I0\nI1\ntR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    content = b"C\x08" + struct.pack("<Q", 0x4141414141414141)
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x03" + array + b"(K\x01(K\x01t" + dtype + b"I00\n" + content + b"tb.")
    with pytest.raises(ValueError, match="holds a bytes as items of type object"):
        load_pickle(tmp_path / "a.pkl")


def test_a_list_that_holds_itself_is_refused(tmp_path):
    ring = []
    ring.append(ring)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(ring))
    with pytest.raises(ValueError, match="holds itself"):
        load_pickle(tmp_path / "a.pkl")


def test_a_list_in_two_places_is_read_once(tmp_path):
    deep = []
    for _ in range(60):  # 2 ** 60 lists, were each place read anew
        deep = [deep, deep]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(deep))
    found = load_pickle(tmp_path / "a.pkl")
    assert found[0] is found[1] and len(found) == 2


def test_a_shape_that_does_not_fit_the_content_is_refused(tmp_path):
    file = io.BytesIO()
    np.save(file, objects("a", "b"))
    (tmp_path / "a.npy").write_bytes(file.getvalue().replace(b"'shape': (2,)", b"'shape': (3,)"))
    with pytest.raises(ValueError, match=r"holds no array \[3\]"):
        load_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_file_is_refused(tmp_path, share):
    np.save(tmp_path / "a.npy", NESTED)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="a.npy"):
        load_npy(tmp_path / "a.npy")


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "a.npy").write_text("video,labels\n")
    with pytest.raises(ValueError, match="is not a .npy file"):
        load_npy(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000,), }",
    ],
)
def test_a_hostile_header_is_refused(tmp_path, header):
    content = np.lib.format.magic(1, 0) + struct.pack("<H", len(header)) + header.encode() + bytes(12)
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.npy (is not a .npy file|has \d+ bytes, must have 4000000000\d+)"):
        load_npy(tmp_path / "a.npy")
