"""J, F and their statistics equal a slow, literal statement of the definition."""

import math

import numpy as np
import pytest

from vitascope.metrics.segmentation import (
    boundary_accuracy,
    boundary_map,
    dilate,
    object_ids,
    object_scores,
    region_similarity,
    statistics,
    tolerance_pixels,
)


def slow_region(truth: np.ndarray, prediction: np.ndarray) -> float:
    intersection = union = 0
    for a, b in zip(truth.ravel().tolist(), prediction.ravel().tolist()):
        intersection += a and b
        union += a or b
    return 1.0 if union == 0 else intersection / union


def slow_boundary_map(mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    edges = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            neighbours = []
            if y < height - 1 and x < width - 1:
                neighbours = [mask[y, x + 1], mask[y + 1, x], mask[y + 1, x + 1]]
            elif x < width - 1:
                neighbours = [mask[y, x + 1]]
            elif y < height - 1:
                neighbours = [mask[y + 1, x]]
            edges[y, x] = any(bool(other) != bool(mask[y, x]) for other in neighbours)
    return edges


def slow_dilate(edges: np.ndarray, radius: int) -> np.ndarray:
    height, width = edges.shape
    wide = np.zeros((height, width), bool)
    for y, x in np.argwhere(edges).tolist():
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                if dx * dx + dy * dy <= radius * radius and 0 <= y + dy < height and 0 <= x + dx < width:
                    wide[y + dy, x + dx] = True
    return wide


def slow_boundary(truth: np.ndarray, prediction: np.ndarray) -> float:
    radius = int(np.ceil(0.008 * np.linalg.norm(truth.shape)))
    ours, theirs = slow_boundary_map(truth), slow_boundary_map(prediction)
    if ours.sum() == 0 and theirs.sum() == 0:
        precision, recall = 1.0, 1.0
    elif theirs.sum() == 0:
        precision, recall = 1.0, 0.0
    elif ours.sum() == 0:
        precision, recall = 0.0, 1.0
    else:
        precision = (theirs & slow_dilate(ours, radius)).sum() / float(theirs.sum())
        recall = (ours & slow_dilate(theirs, radius)).sum() / float(ours.sum())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def slow_statistics(values: np.ndarray, index_type: type = np.int64) -> tuple[float, float, float]:
    borders = np.round(np.linspace(1, len(values), 5) + 1e-10) - 1
    borders = [int(np.int64(border).astype(index_type)) for border in borders]
    first, last = values[borders[0] : borders[1] + 1], values[borders[3] : borders[4] + 1]
    return np.nanmean(values), np.nanmean(values > 0.5), np.nanmean(first) - np.nanmean(last)


def random_mask(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A mask of one of the kinds that are hard: empty, full, one pixel, at each border, noise, blobs, thin lines."""
    mask = np.zeros((height, width), bool)
    kind = rng.integers(10)
    y, x = rng.integers(height), rng.integers(width)
    if kind == 1:
        mask[:] = True
    elif kind == 2:
        mask[y, x] = True
    elif kind in (3, 4):  # a box at one of the four borders
        mask[: y + 1, : x + 1] = True
        mask = mask[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])].copy()
    elif kind == 5:
        mask[:] = rng.random((height, width)) < rng.choice([0.02, 0.5, 0.98])
    elif kind == 6:
        mask[y] = True
        mask[:, x] = True
    elif kind > 6:
        rows, columns = np.mgrid[:height, :width]
        for _ in range(rng.integers(1, 4)):
            cy, cx, ry, rx = rng.uniform(0, height), rng.uniform(0, width), *rng.uniform(1, 12, 2)
            mask |= ((rows - cy) / ry) ** 2 + ((columns - cx) / rx) ** 2 <= 1
    return mask


def random_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 34, 2))
    if seed % 20 == 0:  # the tolerance is 2 pixels and more
        height, width = (int(side) for side in rng.integers(95, 150, 2))
    truth = random_mask(rng, height, width)
    if rng.random() < 0.5:  # a result like the truth: moved, with a hole or a speck
        prediction = np.roll(truth, rng.integers(-3, 4, 2), (0, 1))
        prediction[rng.integers(height), rng.integers(width)] ^= True
    else:
        prediction = random_mask(rng, height, width)
    return truth, prediction


@pytest.mark.parametrize("block", range(10))
def test_j_and_f_equal_the_slow_definition_on_1000_random_cases(block):
    for seed in range(100 * block, 100 * block + 100):
        truth, prediction = random_pair(seed)
        assert region_similarity(truth, prediction) == slow_region(truth, prediction), seed
        assert boundary_accuracy(truth, prediction) == slow_boundary(truth, prediction), seed


def test_the_random_cases_hold_what_they_should():
    pairs = [random_pair(seed) for seed in range(1000)]
    truths = [truth for truth, _ in pairs]
    assert sum(not truth.any() for truth in truths) > 20
    assert sum(truth.sum() == 1 for truth in truths) > 20
    for border in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert sum(bool(truth[border].any()) for truth in truths) > 100
    assert sum(truth.shape[0] % 2 and truth.shape[1] % 2 for truth in truths) > 100
    assert {tolerance_pixels(truth.shape) for truth in truths} == {1, 2}
    scores = np.array([boundary_accuracy(*pair) for pair in pairs])
    assert ((scores > 0) & (scores < 1)).sum() > 200


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (480, 854), (240, 427), (75, 100), (150, 200)])
def test_tolerance_is_that_of_the_definition(size):
    assert tolerance_pixels(size) == int(np.ceil(0.008 * np.linalg.norm(size)))


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 5, 8, 13, 18])
def test_dilation_is_that_of_a_disk_in_integers(radius):
    edges = np.zeros((43, 41), np.uint8)
    edges[21, 20] = edges[0, 40] = edges[42, 1] = 1
    np.testing.assert_array_equal(dilate(edges, radius), slow_dilate(edges, radius))


@pytest.mark.parametrize("seed", range(5))
def test_the_boundary_map_is_that_of_the_definition(seed):
    mask = np.random.default_rng(seed).random((9 + seed, 12)) < 0.5
    np.testing.assert_array_equal(boundary_map(mask.view(np.uint8)) > 0, slow_boundary_map(mask))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_j_and_f_equal_the_slow_definition_at_480p(seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:480, :854]
    cy, cx = rng.uniform(0, 480), rng.uniform(0, 854)
    truth = ((rows - cy) / 80) ** 2 + ((columns - cx) / 120) ** 2 <= 1 + 0.1 * np.sin(columns / 9)
    prediction = np.roll(truth, rng.integers(-12, 13, 2), (0, 1)) & (rng.random((480, 854)) < 0.999)
    assert region_similarity(truth, prediction) == slow_region(truth, prediction)
    assert boundary_accuracy(truth, prediction) == slow_boundary(truth, prediction)


def test_scores_of_several_objects_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    truth = rng.choice(np.array([0, 1, 2, 7], np.uint8), (40, 50), p=[0.4, 0.3, 0.2, 0.1])
    prediction = np.where(rng.random((40, 50)) < 0.8, truth, 1).astype(np.uint8)
    scores = object_scores(truth, prediction, [1, 2, 5, 7])
    for number, (j, f) in zip([1, 2, 5, 7], scores.tolist()):
        assert j == region_similarity(truth == number, prediction == number)
        assert f == boundary_accuracy(truth == number, prediction == number)
    assert scores[2].tolist() == [1, 1]  # in neither


def test_both_empty_is_right_and_one_empty_is_wrong():
    empty, square = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    square[3:9, 4:11] = True
    assert (region_similarity(empty, empty), boundary_accuracy(empty, empty)) == (1, 1)
    for pair in ((empty, square), (square, empty)):
        assert (region_similarity(*pair), boundary_accuracy(*pair)) == (0, 0)


def test_masks_are_left_as_they_are():
    truth, prediction = random_pair(41)
    before = truth.copy(), prediction.copy()
    boundary_accuracy(truth, prediction)
    object_scores(truth.astype(np.uint8), prediction.astype(np.uint8), [1])
    np.testing.assert_array_equal((truth, prediction), before)


def test_strided_masks_give_the_same():
    truth, prediction = random_pair(37)
    assert boundary_accuracy(truth.T, prediction.T) == slow_boundary(truth.T, prediction.T)
    flipped = truth[::-1].astype(np.uint8), prediction[::-1].astype(np.uint8)
    assert object_scores(*flipped, [1])[0, 0] == region_similarity(truth, prediction)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 69, 70, 103, 255, 256])
def test_statistics_equal_the_slow_definition(count):
    values = np.random.default_rng(count).random(count)
    assert statistics(values) == slow_statistics(values)
    assert statistics(values, davis_compat=True) == slow_statistics(values)  # no bug up to 256 frames


def test_decay_of_long_videos_with_and_without_the_bug_of_the_official_scorer():
    values = np.random.default_rng(0).random(400)
    assert statistics(values) == slow_statistics(values)
    assert statistics(values, davis_compat=True) == slow_statistics(values, np.uint8)
    assert statistics(values)[2] != statistics(values, davis_compat=True)[2]
    ramp = np.linspace(1, 0, 400)
    assert round(statistics(ramp)[2], 3) == 0.749
    assert round(statistics(ramp, davis_compat=True)[2], 3) == 0.108


def test_a_quarter_without_frames_has_no_decay_under_the_bug():
    assert math.isnan(statistics(np.ones(300), davis_compat=True)[2])
    assert statistics(np.ones(300))[2] == 0


def test_recall_counts_values_strictly_above_one_half():
    assert statistics(np.array([0.5, 0.5, 0.51, 1]))[1] == 0.5


def test_object_ids_are_those_in_the_mask():
    assert object_ids(np.array([[255, 0], [4, 4]], np.uint8)) == [4, 255]
    assert object_ids(np.zeros((3, 3), np.uint8)) == []


def test_wrong_arguments_are_told():
    mask = np.zeros((4, 6), bool)
    with pytest.raises(ValueError, match="prediction is 5x4, but truth is 6x4; both must have one size"):
        region_similarity(mask, mask[:, :5])
    with pytest.raises(ValueError, match=r"truth \(float64 \[4, 6\]\) must be bool \[H, W\]"):
        boundary_accuracy(mask.astype(float), mask)
    with pytest.raises(ValueError, match=r"bound \(0\) must be > 0 and < 1"):
        boundary_accuracy(mask, mask, bound=0)
    with pytest.raises(ValueError, match=r"prediction \(bool \[4, 6\]\) must be uint8 \[H, W\] of object ids"):
        object_scores(mask.astype(np.uint8), mask, [1])
    with pytest.raises(ValueError, match=r"values \(\[0\]\) must be \[T\] with at least one frame"):
        statistics(np.zeros(0))
