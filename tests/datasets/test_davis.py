"""DAVIS and YouTube-VOS trees."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitascope.datasets.davis import (
    annotations_folder,
    categories,
    find_sequences,
    find_ytvos,
    open_frames,
    read_annotation,
    read_result,
    write_annotation,
)


def mask(*ids: int, height: int = 8, width: int = 12) -> np.ndarray:
    """A mask in which each id has two columns."""
    image = np.zeros((height, width), np.uint8)
    for place, number in enumerate(ids):
        image[:, 2 * place : 2 * place + 2] = number
    return image


def add_frames(folder: Path, names) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (12, 8)).save(folder / f"{name}.jpg")


def add_masks(folder: Path, masks: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in masks.items():
        write_annotation(folder / f"{name}.png", image)


def davis(root: Path, sequences: dict[str, list[np.ndarray]], resolution: str = "480p") -> Path:
    for name, masks in sequences.items():
        names = [f"{i:05d}" for i in range(len(masks))]
        add_frames(root / "JPEGImages" / resolution / name, names)
        add_masks(root / "Annotations" / resolution / name, dict(zip(names, masks)))
    return root


@pytest.mark.parametrize("resolution", ["480p", "240p", "Full-Resolution", "."])
def test_the_folder_of_the_resolution_is_found(tmp_path, resolution):
    davis(tmp_path, {"bear": [mask(1, 2)] * 3, "cat": [mask(1)] * 4}, resolution)
    bear, cat = find_sequences(tmp_path)
    assert (bear.name, cat.name) == ("bear", "cat")
    assert bear.frames == tmp_path / "JPEGImages" / resolution / "bear"
    assert bear.annotations == tmp_path / "Annotations" / resolution / "bear"
    assert bear.frame_names == bear.annotation_names == bear.result_names == ("00000", "00001", "00002")
    assert [(item.id, item.first_frame) for item in bear.objects] == [(1, "00000"), (2, "00000")]
    assert len(open_frames(cat)) == 4


def test_480p_is_taken_among_several_resolutions(tmp_path):
    davis(tmp_path, {"bear": [mask(1)] * 3}, "480p")
    davis(tmp_path, {"bear": [mask(1)] * 3}, "Full-Resolution")
    assert find_sequences(tmp_path)[0].frames.parent.name == "480p"


def test_several_resolutions_without_480p_are_refused(tmp_path):
    for resolution in ("240p", "720p"):
        davis(tmp_path, {"bear": [mask(1)] * 3}, resolution)
    with pytest.raises(ValueError, match=r"several resolutions \(240p, 720p\) and no 480p"):
        find_sequences(tmp_path)
    assert find_sequences(tmp_path / "Annotations" / "240p")[0].name == "bear"


@pytest.mark.parametrize("below", ["Annotations/480p", "Annotations"])
def test_a_folder_of_masks_alone_will_do(tmp_path, below):
    davis(tmp_path, {"bear": [mask(1)] * 3})
    (bear,) = find_sequences(tmp_path / below)
    assert bear.frames is None and bear.frame_names == ("00000", "00001", "00002")
    with pytest.raises(ValueError, match="bear: there are masks, but no folder JPEGImages"):
        open_frames(bear)


def test_the_objects_are_1_to_the_largest_of_the_first_mask(tmp_path):
    davis(tmp_path, {"bear": [mask(1, 3, 255), mask(1, 2, 3, 4)]})
    (bear,) = find_sequences(tmp_path)
    assert [item.id for item in bear.objects] == [1, 2, 3]


def test_2016_has_one_object_which_is_all_that_is_labelled(tmp_path):
    davis(tmp_path, {"bear": [mask(1, 3, 255), mask(2)]})
    (bear,) = find_sequences(tmp_path, year="2016")
    assert [item.id for item in bear.objects] == [1] and bear.single_object
    np.testing.assert_array_equal(read_annotation(bear.annotations / "00000.png", single_object=True), mask(1, 1, 0))


def test_the_black_and_white_files_of_2016_show_the_object_in_255(tmp_path):
    write_annotation(tmp_path / "a.png", mask(0, 255))
    np.testing.assert_array_equal(read_annotation(tmp_path / "a.png", single_object=True), mask(0, 1))
    np.testing.assert_array_equal(read_annotation(tmp_path / "a.png"), mask(0, 0))


def test_void_is_background_in_the_truth_and_an_id_in_a_result(tmp_path):
    write_annotation(tmp_path / "a.png", mask(1, 255))
    np.testing.assert_array_equal(read_annotation(tmp_path / "a.png"), mask(1, 0))
    np.testing.assert_array_equal(read_result(tmp_path / "a.png"), mask(1, 255))


def test_a_split_names_the_sequences(tmp_path):
    davis(tmp_path, {name: [mask(1)] * 3 for name in ("bear", "cat", "dog")})
    for path, text in {
        "2017/val.txt": "dog\nbear\n\n",
        "480p/old.txt": "/J/480p/cat/0.jpg /A/480p/cat/0.png\n",
    }.items():
        (tmp_path / "ImageSets" / path).parent.mkdir(parents=True)
        (tmp_path / "ImageSets" / path).write_text(text)
    assert [item.name for item in find_sequences(tmp_path, "val")] == ["dog", "bear"]
    assert [item.name for item in find_sequences(tmp_path, "old", year="2016")] == ["cat"]
    with pytest.raises(ValueError, match=r"split \(test\): there is no .*2017/test\.txt nor .*480p/test\.txt"):
        find_sequences(tmp_path, "test")


def test_a_list_may_not_lead_out_of_the_tree(tmp_path):
    davis(tmp_path, {"bear": [mask(1)] * 3})
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_text("..\n")
    with pytest.raises(ValueError, match=r"val\.txt: must hold one name of a sequence a line"):
        find_sequences(tmp_path, "val")


def test_all_bad_sequences_are_named(tmp_path):
    davis(tmp_path, {"bear": [mask(1)] * 3, "cat": [mask(0)] * 3, "dog": [mask(1)] * 3, "elk": [mask(1)] * 3})
    Image.new("RGB", (12, 8)).save(tmp_path / "Annotations/480p/dog/00000.png")
    (tmp_path / "JPEGImages/480p/elk/00001.jpg").unlink()
    with pytest.raises(ValueError) as caught:
        find_sequences(tmp_path)
    told = str(caught.value)
    assert told.startswith("3 sequences: ") and "bear" not in told
    assert "cat/00000.png: the first mask is empty; it must show every object" in told
    assert "dog/00000.png: the PNG is RGB" in told
    assert "elk: the mask 00001.png has no frame of its name in" in told


def test_a_sequence_without_frames_is_told(tmp_path):
    davis(tmp_path, {"bear": [mask(1)] * 3, "cat": [mask(1)] * 3})
    for file in (tmp_path / "JPEGImages/480p/cat").iterdir():
        file.unlink()
    (tmp_path / "JPEGImages/480p/cat").rmdir()
    with pytest.raises(ValueError, match="cat: no folder .*cat with its frames; add it"):
        find_sequences(tmp_path)


def test_a_folder_that_is_no_tree_is_told(tmp_path):
    with pytest.raises(ValueError, match="no such folder; name a DAVIS tree"):
        annotations_folder(tmp_path / "a")
    with pytest.raises(ValueError, match="no folder in it holds images; it must hold one folder a sequence"):
        annotations_folder(tmp_path)
    with pytest.raises(ValueError, match=r"year \('2018'\) must be '2016' \(one object\) or '2017'"):
        find_sequences(tmp_path, year="2018")


def ytvos(root: Path) -> dict:
    """Frames 0, 5, ..., 20 are listed, and all images from 0 to 22 are there; object 4 begins late, at 10."""
    videos = {"v1": {"1": ("person", [0, 5, 10, 15, 20]), "4": ("whale", [10, 15, 20])}, "v2": {"2": ("person", [5])}}
    meta = {
        name: {"objects": {i: {"category": c, "frames": [f"{n:05d}" for n in f]} for i, (c, f) in objects.items()}}
        for name, objects in videos.items()
    }
    meta["empty"] = {"objects": {}}
    for name in videos:
        add_frames(root / "JPEGImages" / name, [f"{n:05d}" for n in range(23)])
    add_masks(root / "Annotations/v1", {"00000": mask(1), "00010": mask(0, 4)})
    add_masks(root / "Annotations/v2", {"00005": mask(2)})
    (root / "meta.json").write_text(json.dumps({"videos": meta}))
    return meta


def test_youtube_vos_objects_begin_where_meta_says(tmp_path):
    ytvos(tmp_path)
    one, two = find_ytvos(tmp_path)
    assert [(item.id, item.first_frame, item.category) for item in one.objects] == [
        (1, "00000", "person"),
        (4, "00010", "whale"),
    ]
    assert one.frame_names == tuple(f"{n:05d}" for n in range(23))
    assert one.result_names == ("00000", "00005", "00010", "00015", "00020")
    assert one.annotation_names == ("00000", "00010")
    assert (two.name, two.result_names) == ("v2", ("00005",))
    assert categories(tmp_path / "meta.json") == {"person", "whale"}


def test_a_missing_first_mask_and_a_missing_frame_are_told(tmp_path):
    ytvos(tmp_path)
    (tmp_path / "Annotations/v1/00010.png").unlink()
    (tmp_path / "JPEGImages/v2/00005.jpg").unlink()
    with pytest.raises(ValueError) as caught:
        find_ytvos(tmp_path)
    assert "00010.png: no such file; object 4 of v1 begins with this mask" in str(caught.value)
    assert "v2: frame 00005 of meta.json is not in" in str(caught.value)


def test_a_wrong_meta_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"meta\.json: no such file"):
        find_ytvos(tmp_path)
    meta = ytvos(tmp_path)
    for wrong in (
        "[]",
        "{",
        '{"videos": {"v": {}}}',
        '{"videos": {"..": {"objects": {}}}}',
        '{"videos": {"a/b": {"objects": {}}}}',
        '{"videos": 3}',
    ):
        (tmp_path / "meta.json").write_text(wrong)
        with pytest.raises(ValueError, match=r"meta\.json: must hold videos -> objects -> id"):
            find_ytvos(tmp_path)
    meta["v2"]["objects"] = {"255": {"category": "x", "frames": ["00005"]}}
    (tmp_path / "meta.json").write_text(json.dumps({"videos": meta}))
    with pytest.raises(ValueError, match="v2: object 255 in meta.json must have an id from 1 to 254"):
        find_ytvos(tmp_path)


def test_the_shared_sequences_are_found(shared_data):
    sequences = find_sequences(shared_data / "davis16-train-240p")
    assert len(sequences) == 10 and sum(len(item.frame_names) for item in sequences) == 588
    assert all(len(item.objects) == 1 and item.frame_names == item.annotation_names for item in sequences)
