"""Kept flow belongs to the content of a video: it stays with it wherever it goes, and goes when nothing has it any more."""

import os

import pytest


def put(shelf, path, method="dis-medium"):
    store = shelf.library.motion
    store.make_folder(method)
    place = store.path(shelf.library.catalogue.entry(path), method)
    place.write_bytes(b"flow")
    return place


def test_files_are_listed_by_video_and_method(shelf):
    a, b = shelf.write("a.mp4"), shelf.write("b.mp4")
    shelf.scan()
    place = put(shelf, a)
    assert place == shelf.library.path / "motion" / "dis-medium" / place.name
    assert shelf.library.motion.files("dis-medium") == {a: str(place)}
    assert shelf.library.motion.files("tvl1") == {}
    put(shelf, b, "tvl1")
    assert list(shelf.library.motion.files("tvl1")) == [b]


def test_a_moved_video_and_a_copy_have_their_flow(shelf):
    a = shelf.write("a.mp4", b"same")
    shelf.scan()
    place = put(shelf, a)
    os.rename(a, shelf.data / "moved.mp4")
    shelf.write("copy.mp4", b"same")
    shelf.scan()
    expected = {str(shelf.data / name): str(place) for name in ("moved.mp4", "copy.mp4")}
    assert shelf.library.motion.files("dis-medium") == expected


def test_a_changed_video_has_none_and_the_old_one_is_stale(shelf):
    a = shelf.write("a.mp4", b"before")
    shelf.scan()
    place = put(shelf, a)
    assert shelf.library.motion.remove_stale() == []
    shelf.write("a.mp4", b"afterwards")
    shelf.scan()
    assert shelf.library.motion.files("dis-medium") == {}
    assert shelf.library.motion.remove_stale() == [place] and not place.exists()


def test_the_flow_of_a_missing_video_is_kept_and_not_listed(shelf):
    a = shelf.write("a.mp4")
    shelf.scan()
    place = put(shelf, a)
    os.remove(a)
    shelf.scan()
    assert shelf.library.motion.files("dis-medium") == {}
    assert shelf.library.motion.remove_stale() == [] and place.exists()


def test_cleaning_the_library_removes_what_a_killed_process_left(shelf):
    a = shelf.write("a.mp4")
    shelf.scan()
    place = put(shelf, a)
    stray = place.with_name(f".{place.name}.00000000-1-00000000-ab.tmp")
    stray.write_bytes(b"half")
    os.utime(stray, (0, 0))
    assert list(shelf.library.motion.files("dis-medium")) == [a]
    assert shelf.library.clean() == [stray] and not stray.exists() and place.exists()


def test_what_a_person_put_there_is_left_alone(shelf):
    shelf.write("a.mp4")
    shelf.scan()
    (shelf.library.path / "motion" / "My Notes").mkdir()
    (shelf.library.path / "motion" / "notes.txt").write_text("mine")
    assert shelf.library.motion.remove_stale() == [] and shelf.library.motion.folders() == []


@pytest.mark.parametrize("method", ["", "../runs", "a/b", ".hidden", "DIS"])
def test_a_method_that_cannot_name_a_folder_is_refused(shelf, method):
    shelf.write("a.mp4")
    shelf.scan()
    with pytest.raises(ValueError, match="must be small letters"):
        shelf.library.motion.files(method)
