"""Folders of pictures and videos with masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitascope.datasets.load import load_data
from vitascope.datasets.masked import find_masked_videos, find_stills
from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.datasets.worlds.stills import draw_still, write_stills
from vitascope.datasets.worlds.write import write_world


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_masks_lie_beside_the_image_or_in_a_folder_beside_it(tmp_path):
    touch(tmp_path, "images/a.jpg", "masks/a.png", "b.JPG", "b.png", "images/alone.jpg", "deep/x/images/a.jpg",
          "deep/x/labels/a.png")  # fmt: skip
    found = {record.id: Path(record.masks).relative_to(tmp_path).as_posix() for record in find_stills(tmp_path)}
    assert found == {"b.JPG": "b.png", "deep/x/images/a.jpg": "deep/x/labels/a.png", "images/a.jpg": "masks/a.png"}


def test_a_folder_without_masks_is_an_error_that_says_what_is_expected(tmp_path):
    touch(tmp_path, "images/a.jpg", "v.mp4")
    with pytest.raises(ValueError, match=r"no image with a mask.*masks/NAME\.png"):
        find_stills(tmp_path)
    with pytest.raises(ValueError, match=r"no video with masks.*Annotations/SEQ"):
        find_masked_videos(tmp_path)
    with pytest.raises(ValueError, match="nowhere does not exist; give a folder of images or videos with masks"):
        find_stills(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"v\.mp4 is no folder; give a folder"):
        find_masked_videos(tmp_path / "v.mp4")


def test_a_world_is_read_as_videos_with_masks(tmp_path):
    write_world(ObjectsWorld(num_videos=2, size=32, num_frames=4), tmp_path)
    records = find_masked_videos(tmp_path)
    assert [record.id for record in records] == ["objects_00000.mp4", "objects_00001.mp4"]
    assert np.load(records[0].masks, allow_pickle=False)["masks"].shape == (4, 32, 32)


def test_a_davis_tree_is_read_with_and_without_a_resolution(tmp_path):
    touch(tmp_path, "one/JPEGImages/480p/bear/00000.jpg", "one/Annotations/480p/bear/00000.png",
          "two/JPEGImages/cat/00000.jpg", "two/Annotations/cat/00000.png", "two/JPEGImages/unlabelled/00000.jpg")  # fmt: skip
    found = {record.id: Path(record.masks).relative_to(tmp_path).as_posix() for record in find_masked_videos(tmp_path)}
    assert found == {
        "one/JPEGImages/480p/bear": "one/Annotations/480p/bear",
        "two/JPEGImages/cat": "two/Annotations/cat",
    }


def test_data_sets_are_read_by_their_names(tmp_path):
    write_stills(tmp_path / "stills", 2, size=48)
    write_world(ObjectsWorld(num_videos=1, size=32, num_frames=4), tmp_path / "world")
    records = load_data({"stills": tmp_path / "stills", "videos": tmp_path / "world", "train": tmp_path / "world"})
    assert {name: len(found) for name, found in records.items()} == {"stills": 2, "videos": 1, "train": 1}
    assert records["stills"][0].masks and records["videos"][0].masks and not records["train"][0].masks


def test_stills_are_written_once_and_show_what_their_masks_say(tmp_path):
    records = write_stills(tmp_path, 3, seed=5, size=64)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert write_stills(tmp_path, 3, seed=5, size=64) == records
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == before
    image, mask = draw_still(1, seed=5, size=64)
    assert np.array_equal(np.asarray(Image.open(records[1].masks)), mask)
    written = np.asarray(Image.open(records[1].path)).astype(int)
    assert np.abs(written - image).mean() < 8
    assert not np.array_equal(draw_still(2, seed=5, size=64)[1], mask)
