"""Scores of whole trees: equal to the slow definition, for any number of processes, and every fault is told."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitascope.datasets.davis import find_sequences, write_annotation
from vitascope.evaluation.segmentation import VALUES, score_davis, score_ytvos, segment_davis, segment_ytvos
from vitascope.metrics.segmentation import boundary_accuracy, region_similarity, statistics
from vitascope.video.masks import read_mask

SIZE = 40, 61


def objects(t: int, count: int, shift: float = 0.0) -> np.ndarray:
    """Discs that drift; a higher id lies over a lower one."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = np.zeros(SIZE, np.uint8)
    for number in range(1, count + 1):
        cy, cx = 8 * number + shift, 10 + 9 * number + 1.5 * t + shift
        mask[(rows - cy) ** 2 + (columns - cx) ** 2 <= (4 + number) ** 2] = number
    return mask


def write(folder: Path, masks) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for t, mask in enumerate(masks):
        write_annotation(folder / f"{t:05d}.png", mask)


@pytest.fixture
def tree(tmp_path):
    """Three sequences of 1, 2 and 3 objects and their results, which are off by a pixel or two."""
    rng = np.random.default_rng(0)
    for count, name in enumerate(("ant", "bee", "cow"), 1):
        length = 8 + count
        truths = [objects(t, count) for t in range(length)]
        write(tmp_path / "data/Annotations/480p" / name, truths)
        write(tmp_path / "results" / name, [objects(t, count, rng.uniform(-3, 3)) for t in range(length)])
        (tmp_path / "data/JPEGImages/480p" / name).mkdir(parents=True)
        for t in range(length):
            pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"data/JPEGImages/480p/{name}/{t:05d}.jpg")
    return tmp_path


def slow_scores(truth: Path, results: Path, counts: dict[str, int], single_object: bool = False) -> dict:
    """The protocol with plain loops over the parts that have slow tests of their own."""
    rows = []
    for name, count in counts.items():
        files = sorted((truth / name).iterdir())[1:-1]
        pairs = [(read_mask(file), read_mask(results / name / file.name)) for file in files]
        for number in [1] if single_object else range(1, count + 1):
            masks = [(a > 0, b > 0) if single_object else (a == number, b == number) for a, b in pairs]
            j = statistics(np.array([region_similarity(*pair) for pair in masks]))
            f = statistics(np.array([boundary_accuracy(*pair) for pair in masks]))
            rows.append({"sequence": name, "object": number} | dict(zip(VALUES, [*j, *f])))
    means = {name: float(np.mean([row[name] for row in rows])) for name in VALUES}
    return {"j_and_f_mean": (means["j_mean"] + means["f_mean"]) / 2} | means | {"per_object": rows}


def test_scores_equal_the_slow_protocol(tree):
    expected = slow_scores(tree / "data/Annotations/480p", tree / "results", {"ant": 1, "bee": 2, "cow": 3})
    assert score_davis(tree / "data", tree / "results") == expected
    assert score_davis(tree / "data/Annotations/480p", tree / "results") == expected
    assert 0.3 < expected["j_mean"] < 0.95 and len(expected["per_object"]) == 6
    json.dumps(expected, allow_nan=False)


def test_scores_of_2016_take_all_that_is_labelled_as_one_object(tree):
    counts = {"ant": 1, "bee": 2, "cow": 3}
    expected = slow_scores(tree / "data/Annotations/480p", tree / "results", counts, single_object=True)
    assert score_davis(tree / "data", tree / "results", year="2016") == expected
    assert [row["object"] for row in expected["per_object"]] == [1, 1, 1]


def test_scores_do_not_depend_on_the_number_of_processes(tree):
    alone = score_davis(tree / "data", tree / "results")
    assert score_davis(tree / "data", tree / "results", num_workers=2) == alone


def test_the_truth_as_result_scores_one(tree):
    result = score_davis(tree / "data", tree / "data/Annotations/480p")
    assert [result[name] for name in ("j_and_f_mean", *VALUES)] == [1, 1, 1, 0, 1, 1, 0]


def test_the_first_and_the_last_frame_do_not_count(tree):
    before = score_davis(tree / "data", tree / "results")
    write_annotation(tree / "results/ant/00000.png", np.full(SIZE, 9, np.uint8))
    (tree / "results/ant/00008.png").unlink()
    assert score_davis(tree / "data", tree / "results") == before
    write_annotation(tree / "results/ant/00001.png", np.zeros(SIZE, np.uint8))
    assert score_davis(tree / "data", tree / "results") != before


def test_an_object_that_the_result_lacks_is_empty(tree):
    for file in (tree / "results/bee").iterdir():
        mask = read_mask(file)
        mask[mask == 2] = 0
        write_annotation(file, mask)
    rows = score_davis(tree / "data", tree / "results")["per_object"]
    row = next(row for row in rows if (row["sequence"], row["object"]) == ("bee", 2))
    assert (row["j_mean"], row["f_mean"], row["j_recall"]) == (0, 0, 0)


def test_a_long_video_has_the_decay_of_the_official_scorer_on_request(tmp_path):
    truth = np.zeros((4, 9), np.uint8)
    truth[:, :8] = 1
    worse = truth.copy()
    worse[:, 4:] = 0
    write(tmp_path / "truth/a", [truth] * 402)
    write(tmp_path / "result/a", [truth] * 201 + [worse] * 201)
    right = score_davis(tmp_path / "truth", tmp_path / "result")
    wrong = score_davis(tmp_path / "truth", tmp_path / "result", davis_compat=True)
    values = np.array([1.0] * 200 + [0.5] * 200)
    assert right["j_decay"] == statistics(values)[2] == 0.5
    assert wrong["j_decay"] == statistics(values, davis_compat=True)[2] == 0
    assert wrong["j_mean"] == right["j_mean"]


def test_an_undefined_decay_is_none_not_nan(tmp_path):
    write(tmp_path / "a", [objects(0, 1)] * 302)
    result = score_davis(tmp_path, tmp_path, davis_compat=True)
    assert result["j_decay"] is None and result["per_object"][0]["f_decay"] is None
    json.dumps(result, allow_nan=False)


def test_all_bad_sequences_are_named(tree):
    write_annotation(tree / "results/ant/00003.png", objects(3, 2))
    write_annotation(tree / "results/bee/00004.png", np.zeros((20, 61), np.uint8))
    (tree / "results/cow/00005.png").unlink()
    with pytest.raises(ValueError) as caught:
        score_davis(tree / "data", tree / "results", num_workers=2)
    told = str(caught.value)
    assert told.startswith("3 sequences: ")
    assert "ant/00003.png: object 2 is not among the objects [1] of the truth; leave it out" in told
    assert "bee/00004.png: the result is 61x20, but the truth is 61x40; make both of one size" in told
    assert "cow: 1 of 9 result masks are missing, the first is" in told and "cow/00005.png" in told


def test_void_in_a_result_is_an_id_that_the_truth_lacks(tree):
    write_annotation(tree / "results/ant/00003.png", np.full(SIZE, 255, np.uint8))
    with pytest.raises(ValueError, match=r"ant/00003\.png: object 255 is not among the objects \[1\]"):
        score_davis(tree / "data", tree / "results")


def test_a_missing_sequence_is_told(tree):
    (tree / "results/bee").rename(tree / "results/bumblebee")
    with pytest.raises(ValueError, match=r"bee: 8 of 8 result masks are missing, the first is .*bee/00001\.png"):
        score_davis(tree / "data", tree / "results")


def test_a_result_of_colours_is_told(tree):
    Image.new("RGB", SIZE[::-1]).save(tree / "results/ant/00002.png")
    with pytest.raises(ValueError, match=r"ant/00002\.png: the PNG is RGB, an image of colours"):
        score_davis(tree / "data", tree / "results")


def test_sequences_too_short_to_score_are_told(tmp_path):
    write(tmp_path / "a", [objects(0, 1)] * 2)
    with pytest.raises(ValueError, match="a: 2 masks in .*; scoring needs at least 3"):
        score_davis(tmp_path, tmp_path)


def hold(frames, first_masks):
    """The simplest segmenter: every object stays where it began."""
    current = np.zeros(frames.size, np.uint8)
    for position, _ in enumerate(frames.iterate()):
        given = first_masks.get(position)
        current = current if given is None else np.where(given > 0, given, current)
        yield current


def test_segmenting_writes_the_official_layout(tree):
    done = segment_davis(tree / "data", hold, tree / "out")
    assert done == ["ant", "bee", "cow"]
    for sequence in find_sequences(tree / "data"):
        first = (sequence.annotations / "00000.png").read_bytes()
        for name in sequence.frame_names:
            with Image.open(tree / "out" / sequence.name / f"{name}.png") as image:
                assert image.mode == "P" and image.size == SIZE[::-1]
            assert (tree / "out" / sequence.name / f"{name}.png").read_bytes() == first
    assert 0 < score_davis(tree / "data", tree / "out")["j_mean"] < 1


def test_a_segmenter_sees_the_first_masks_only(tree):
    seen = {}

    def spy(frames, first_masks):
        seen[len(first_masks[0][first_masks[0] > 0])] = first_masks
        yield from hold(frames, first_masks)

    segment_davis(tree / "data", spy, tree / "out")
    for count, first_masks in enumerate(seen.values(), 1):
        assert list(first_masks) == [0]
        np.testing.assert_array_equal(first_masks[0], objects(0, count))


def test_a_segmenter_cannot_change_the_given_mask(tree):
    def spoil(frames, first_masks):
        first_masks[0][:] = 0
        yield from (first_masks[0] for _ in frames.names)

    segment_davis(tree / "data", spoil, tree / "out")
    np.testing.assert_array_equal(read_mask(tree / "out/cow/00000.png"), objects(0, 3))
    assert not read_mask(tree / "out/cow/00001.png").any()


def test_sequences_that_are_there_are_kept_and_others_made(tree):
    statuses = []
    segment_davis(tree / "data", hold, tree / "out", progress=statuses.append)
    assert [status.step for status in statuses] == list(range(1, 31)) and statuses[-1].total == 30
    (tree / "out/bee/00004.png").unlink()
    assert segment_davis(tree / "data", hold, tree / "out") == ["bee"]
    assert segment_davis(tree / "data", hold, tree / "out") == []
    assert not list((tree / "out").rglob(".*"))


def test_results_of_something_else_are_not_taken(tree):
    segment_davis(tree / "data", hold, tree / "out", made_by="a.safetensors")
    with pytest.raises(ValueError, match="holds masks made by 'a.safetensors', not by 'b.safetensors'"):
        segment_davis(tree / "data", hold, tree / "out", made_by="b.safetensors")
    with pytest.raises(ValueError, match="holds files of something else; name a folder that is empty"):
        segment_davis(tree / "data", hold, tree / "results")


def test_masks_that_do_not_fit_are_told_and_the_other_sequences_done(tree):
    def faulty(frames, first_masks):
        kind = Path(frames.path).name
        if kind == "ant":
            yield first_masks[0]
        elif kind == "bee":
            yield from (np.zeros((2, 3), np.uint8) for _ in frames.names)
        else:
            yield from (np.full(frames.size, 3, np.uint8) for _ in frames.names)

    with pytest.raises(ValueError) as caught:
        segment_davis(tree / "data", faulty, tree / "out")
    assert "ant: segment gave 1 masks for 9 frames; one for each" in str(caught.value)
    assert "bee: the mask of frame 00000 is 3x2, but the frames are 61x40" in str(caught.value)
    assert (tree / "out/cow/00010.png").exists()


def test_masks_with_ids_of_no_object_are_told(tree):
    with pytest.raises(ValueError, match=r"ant: the mask of frame 00000 has ids that are not in \[1\]"):
        segment_davis(tree / "data", lambda f, m: (np.full(f.size, 3, np.uint8) for _ in f.names), tree / "out")


def test_a_first_mask_of_another_size_is_told_with_both_sizes(tree):
    write_annotation(tree / "data/Annotations/480p/ant/00000.png", np.ones((20, 30), np.uint8))
    with pytest.raises(ValueError, match=r"ant/00000\.png: the mask is 30x20, but the frames are 61x40"):
        segment_davis(tree / "data", hold, tree / "out")


def test_a_damaged_frame_is_told_and_the_other_sequences_done(tree):
    (tree / "data/JPEGImages/480p/ant/00004.jpg").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"damaged: the image 00004\.jpg cannot be decoded"):
        segment_davis(tree / "data", hold, tree / "out")
    assert (tree / "out/cow/00010.png").exists()


@pytest.fixture
def ytvos(tmp_path):
    """Images 0 to 12, of which every third is listed; object 5 begins at 6. Truth for all listed frames."""
    listed, late = [0, 3, 6, 9, 12], [6, 9, 12]
    meta = {"1": {"category": "cat", "frames": listed}, "5": {"category": "owl", "frames": late}}
    for item in meta.values():
        item["frames"] = [f"{n:05d}" for n in item["frames"]]
    (tmp_path / "meta.json").write_text(json.dumps({"videos": {"v": {"objects": meta}}}))
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder / "v").mkdir(parents=True)
    for n in range(13):
        Image.new("RGB", SIZE[::-1]).save(tmp_path / f"JPEGImages/v/{n:05d}.jpg")
    for n in listed:
        mask = objects(n, 2)
        mask[mask == 2] = 5 if n in late else 0
        write_annotation(tmp_path / f"Annotations/v/{n:05d}.png", mask)
    return tmp_path


def test_youtube_vos_scores_each_object_from_the_frame_after_its_first(ytvos):
    segment_ytvos(ytvos, hold, ytvos / "out")
    assert sorted(file.stem for file in (ytvos / "out/v").iterdir()) == ["00000", "00003", "00006", "00009", "00012"]
    result = score_ytvos(ytvos, ytvos / "out", seen={"cat"})
    rows = {row["object"]: row for row in result["per_object"]}
    for number, frames in {1: [3, 6, 9, 12], 5: [9, 12]}.items():
        pairs = [[read_mask(ytvos / f / f"v/{n:05d}.png") == number for f in ("Annotations", "out")] for n in frames]
        assert rows[number]["j_mean"] == np.mean([region_similarity(*pair) for pair in pairs])
        assert rows[number]["f_mean"] == np.mean([boundary_accuracy(*pair) for pair in pairs])
    assert (result["j_seen"], result["f_unseen"]) == (rows[1]["j_mean"], rows[5]["f_mean"])
    four = [result[name] for name in ("j_seen", "j_unseen", "f_seen", "f_unseen")]
    assert math.isclose(result["overall"], np.mean(four), rel_tol=1e-12)


def test_youtube_vos_gives_late_objects_with_their_first_mask_only(ytvos):
    given = {}

    def spy(frames, first_masks):
        given.update(first_masks)
        yield from hold(frames, first_masks)

    segment_ytvos(ytvos, spy, ytvos / "out")
    assert list(given) == [0, 6]
    assert set(np.unique(given[0])) == {0, 1} and set(np.unique(given[6])) == {0, 5}
    held = read_mask(ytvos / "out/v/00006.png")  # object 1 runs on around the mask of object 5
    assert set(np.unique(held)) == {0, 1, 5}


def test_youtube_vos_without_known_categories_has_no_overall(ytvos):
    segment_ytvos(ytvos, hold, ytvos / "out")
    result = score_ytvos(ytvos, ytvos / "out")
    assert result["overall"] is None and result["j_seen"] is None
    assert result["j_and_f_mean"] == (result["j_mean"] + result["f_mean"]) / 2


def test_youtube_vos_with_first_masks_only_cannot_be_scored(ytvos):
    segment_ytvos(ytvos, hold, ytvos / "out")
    (ytvos / "Annotations/v/00009.png").unlink()
    with pytest.raises(ValueError, match=r"v: the truth of 1 frames is missing, the first is .*00009\.png"):
        score_ytvos(ytvos, ytvos / "out")
