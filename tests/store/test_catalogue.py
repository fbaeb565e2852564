"""The catalogue knows every file once, and sees what is new, changed, moved and gone."""

import os
import shutil

import pytest

from vitascope.store.catalogue import Found, Scanned, content_hash
from vitascope.store.library import Library
from vitascope.store.schema import LibraryError
from vitascope.structures import Gap


def test_a_second_scan_finds_nothing_to_do_and_opens_nothing(shelf, monkeypatch):
    for name in ("a.mp4", "b/c.mp4"):
        shelf.write(name)
    assert len(shelf.scan().new) == 2
    monkeypatch.setattr("builtins.open", None)
    changes = shelf.scan()
    assert changes.to_scan == () and changes.moved == () and changes.gone == () and len(changes.unchanged) == 2


def test_a_changed_file_is_noticed_by_size_and_by_time(shelf):
    a, b = shelf.write("a.mp4", b"1"), shelf.write("b.mp4", b"1")
    shelf.scan()
    shelf.write("a.mp4", b"22")
    os.utime(b, ns=(1, 1))
    assert {file.path for file in shelf.scan().changed} == {a, b}
    assert shelf.scan().changed == ()


def test_a_moved_file_keeps_its_row(shelf):
    a = shelf.write("a.mp4")
    shelf.scan()
    number = shelf.library.catalogue.entry(a).id
    os.makedirs(shelf.data / "b")
    os.rename(a, shelf.data / "b" / "c.mp4")
    changes = shelf.scan()
    assert [(old, file.path) for old, file in changes.moved] == [(a, str(shelf.data / "b" / "c.mp4"))]
    assert changes.to_scan == () and changes.gone == ()
    assert shelf.library.catalogue.entry(shelf.data / "b" / "c.mp4").id == number
    assert len(shelf.scan().unchanged) == 1


def test_a_copy_is_new_and_not_moved(shelf):
    a = shelf.write("a.mp4")
    shelf.scan()
    shutil.copy(a, shelf.data / "copy.mp4")
    changes = shelf.scan()
    assert changes.moved == () and len(changes.new) == 1


def test_of_two_copies_of_a_lost_file_one_is_moved(shelf):
    a = shelf.write("a.mp4")
    shelf.scan()
    shutil.copy(a, shelf.data / "b.mp4")
    os.rename(a, shelf.data / "c.mp4")
    changes = shelf.scan()
    assert len(changes.moved) == 1 and len(changes.new) == 1


def test_another_file_of_the_same_size_is_not_moved(shelf):
    a = shelf.write("a.mp4", b"one")
    shelf.scan()
    os.remove(a)
    shelf.write("b.mp4", b"two")
    changes = shelf.scan()
    assert changes.moved == () and changes.gone == (a,) and len(changes.new) == 1


def test_a_gone_file_is_missing_and_back_without_work(shelf):
    a = shelf.write("a.mp4")
    shelf.scan()
    os.rename(a, shelf.root / "aside")
    assert shelf.scan().gone == (a,)
    assert shelf.library.catalogue.entries() == [] and shelf.library.catalogue.counts()["missing"] == 1
    assert shelf.scan().gone == ()
    os.rename(shelf.root / "aside", a)
    assert shelf.scan().to_scan == ()
    assert shelf.library.catalogue.counts() == {"done": 1, "damaged": 0, "refused": 0, "missing": 0}


def test_a_scan_of_one_folder_says_nothing_of_another(shelf):
    a = shelf.write("x/a.mp4")
    shelf.write("y/b.mp4")
    shelf.scan()
    changes = shelf.library.catalogue.changes([], under=shelf.data / "x")
    assert changes.gone == (a,)


def test_a_file_moved_out_of_the_folder_of_another_scan_is_found(shelf):
    a = shelf.write("x/a.mp4")
    shelf.scan()
    os.makedirs(shelf.data / "y")
    os.rename(a, shelf.data / "y" / "a.mp4")
    changes = shelf.library.catalogue.changes(shelf.walk(), under=shelf.data / "y")
    assert [old for old, _ in changes.moved] == [a]


def test_a_file_refused_for_a_passing_reason_is_looked_at_again(shelf):
    a, b = shelf.write("a.mp4"), shelf.write("b.mp4")
    files = {file.path: file for file in shelf.walk()}
    shelf.library.catalogue.add(
        [Scanned(*files[a], "", "refused", "timed out"), Scanned(*files[b], "", "refused", "empty")]
    )
    assert [file.path for file in shelf.scan().changed] == [a]


def test_every_field_comes_back(shelf):
    a = shelf.write("a.mp4")
    (file,) = shelf.walk()
    result = Scanned(
        *file, "00", "damaged", "damaged", "ünï", (Gap(1.0, 2.5, "lost"),), {"fps": 29.97, "rate": None}, b"\0\1"
    )
    assert shelf.library.catalogue.add([result]) == 1
    entry = shelf.library.catalogue.entry(a)
    for name in ("path", "size", "mtime_ns", "content_hash", "state", "reason", "detail", "gaps", "metadata"):
        assert getattr(entry, name) == getattr(result, name)
    assert shelf.library.catalogue.frame_index(a) == b"\0\1"


def test_the_frame_index_of_a_changed_file_is_not_used(shelf):
    a = shelf.write("a.mp4")
    (file,) = shelf.walk()
    shelf.library.catalogue.add([Scanned(*file, "00", "done", frame_index=b"x")])
    shelf.write("a.mp4", b"longer than it was")
    assert shelf.library.catalogue.frame_index(a) is None
    os.remove(a)
    assert shelf.library.catalogue.frame_index(a) is None


def test_a_state_that_is_none_of_three_is_refused(shelf):
    with pytest.raises(Exception, match="CHECK constraint"):
        shelf.library.catalogue.add([Scanned("a", 1, 1, "", "perhaps")])


def test_what_came_before_an_error_is_committed(shelf):
    def results():
        for i in range(250):
            yield Scanned(f"/v/{i}.mp4", 1, 1, "", "done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shelf.library.catalogue.add(results())
    assert shelf.library.catalogue.counts()["done"] == 250


def test_names_that_are_no_utf8_are_kept_byte_for_byte(shelf):
    path = os.fsdecode(os.path.join(os.fsencode(shelf.data), b"caf\xe9.mp4"))
    with open(path, "wb") as file:
        file.write(b"1")
    (found,) = shelf.walk()
    shelf.library.catalogue.add([Scanned(*found, "", "done", detail=f"about {path}")])
    assert shelf.library.catalogue.entry(path).path == path
    assert len(shelf.scan().unchanged) == 1


def test_the_data_and_the_library_may_move_together(shelf, tmp_path):
    shelf.write("a.mp4")
    shelf.scan()
    shelf.library.close()
    (tmp_path / "new").mkdir()
    for name in ("data", "library"):
        os.rename(tmp_path / name, tmp_path / "new" / name)
    with Library(tmp_path / "new" / "library") as library:
        assert [entry.path for entry in library.catalogue.entries()] == [str(tmp_path / "new" / "data" / "a.mp4")]


def test_paths_outside_the_data_root_stay_absolute(tmp_path):
    with Library(tmp_path / "library", data_root=tmp_path / "data", create=True) as library:
        library.catalogue.add([Scanned(f"{tmp_path}/{name}", 1, 1, "", "done") for name in ("data/a", "data2/b")])
        stored = {row[0] for row in library._database.rows("SELECT path FROM files")}
        assert stored == {"a", f"{tmp_path}/data2/b"}
        assert {entry.path for entry in library.catalogue.entries()} == {f"{tmp_path}/data/a", f"{tmp_path}/data2/b"}


def test_an_unknown_file_is_named(shelf):
    with pytest.raises(LibraryError, match="nowhere.mp4 is not in the library; scan its folder first"):
        shelf.library.catalogue.entry("nowhere.mp4")


def test_the_hash_sees_the_ends_the_middle_and_the_size(tmp_path):
    size, path = 9 * 2**20, tmp_path / "a"
    hashes = set()
    for place in (None, 0, size // 2, size - 1):
        data = bytearray(size)
        if place is not None:
            data[place] = 1
        path.write_bytes(data)
        hashes.add(content_hash(path))
    path.write_bytes(bytes(size + 1))
    assert len(hashes | {content_hash(path)}) == 5


def test_a_small_file_is_hashed_whole(tmp_path):
    hashes = set()
    for place in range(0, 2**21, 2**17):
        data = bytearray(2**21)
        data[place + 77] = 1
        (tmp_path / "a").write_bytes(data)
        hashes.add(content_hash(tmp_path / "a"))
    assert len(hashes) == 16


def test_found_may_be_plain_tuples_with_relative_paths(shelf, monkeypatch):
    shelf.write("a.mp4")
    monkeypatch.chdir(shelf.data)
    changes = shelf.library.catalogue.changes([("a.mp4", 5, 1)])
    assert changes.new == (Found(str(shelf.data / "a.mp4"), 5, 1),)
