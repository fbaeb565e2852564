"""Tracks: the float tracker on known motion, the integer tracker of the release against a loop over its words."""

import math

import cv2
import numpy as np
import pytest

from vitascope.video.flow import DenseFlow
from vitascope.video.tracks import grid_points, track, track_integer


def literal(flows, points, clamp=20):
    """Section 1.4 of the specification, point by point."""
    height, width = flows.shape[1:3]
    steps, flags = [], []
    for x, y in points.tolist():
        flag, mine = 1, []
        for flow in flows.tolist():
            if x < 0 or y < 0 or x >= width or y >= height:
                flag = 0
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            dx, dy = (max(-clamp, min(clamp, math.trunc(v))) for v in flow[y][x])
            mine.append((dx, dy))
            x, y = x + dx, y + dy
        steps.append(mine)
        flags.append(flag)
    return np.array(steps).transpose(1, 0, 2), np.array(flags, bool)


def smooth_flow(length, height, width, pixels, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, pixels, (length, 5, 5, 2)).astype(np.float32)
    return np.stack([cv2.resize(flow, (width, height), interpolation=cv2.INTER_CUBIC) for flow in coarse])


@pytest.mark.parametrize("pixels", [0.5, 3.0, 15.0])
@pytest.mark.parametrize("length", [1, 4, 6])
def test_integer_tracks_are_those_of_the_literal_loop(pixels, length):
    flows = smooth_flow(length, 48, 64, pixels)
    points = (grid_points(48, 64, 8) + 0.5).astype(np.int64)
    displacements, inside = track_integer(flows, points)
    expected, flags = literal(flows, points)
    np.testing.assert_array_equal(displacements, expected)
    np.testing.assert_array_equal(inside, flags)
    if pixels == 15 and length == 6:
        assert 0 < inside.sum() < len(inside) and np.abs(displacements).max() == 20, "leaves the frame, meets the clamp"


@pytest.mark.parametrize(("value", "moved"), [(0.9, 0), (-0.9, 0), (3.0, 3), (-1.9, -1), (27.5, 20), (-400.0, -20)])
def test_integer_flow_is_cut_towards_zero_and_clamped(value, moved):
    displacements, _ = track_integer(np.full((2, 64, 64, 2), value, np.float32), np.array([[30, 31]]))
    assert (displacements == moved).all()


def test_integer_track_that_leaves_stays_flagged_and_goes_on_from_the_edge():
    flows = np.zeros((3, 8, 8, 2), np.float32)
    flows[0, :, :, 0], flows[1, 2, 7], flows[2] = 5, (-4, 1), -2
    displacements, inside = track_integer(flows, np.array([[4, 2]]))  # to 9, put back to 7, then to 3
    assert displacements[:, 0].tolist() == [[5, 0], [-4, 1], [-2, -2]]
    assert not inside[0]


def test_integer_end_is_never_tested():
    flows = np.full((1, 8, 8, 2), 7, np.float32)
    assert track_integer(flows, np.array([[4, 4]]))[1][0]
    assert not track_integer(np.repeat(flows, 2, 0), np.array([[4, 4]]))[1][0]


def test_integer_points_must_be_whole():
    with pytest.raises(ValueError, match=r"points \(float32 \[1, 2\]\) must be whole numbers"):
        track_integer(np.zeros((1, 8, 8, 2), np.float32), np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match=r"flows \[8, 8, 2\] must be \[L, H, W, 2\]"):
        track_integer(np.zeros((8, 8, 2), np.float32), np.zeros((1, 2), np.int64))


def textured(height, width, seed):
    rng = np.random.default_rng(seed)
    fine = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 2)
    coarse = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 7)
    picture = fine / fine.std() + coarse / coarse.std()
    return np.clip(128 + 32 * picture, 0, 255).astype(np.uint8)


def moved(picture, matrix):
    """The picture after its points went through the affine `[2, 3]`."""
    return cv2.warpAffine(picture, matrix, picture.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def shift(x, y):
    return np.array([[1, 0, x], [0, 1, y]], np.float64)


def swirl(step):
    """A little turning and growing about the middle of 128 x 128, `step` times."""
    one = np.vstack([cv2.getRotationMatrix2D((63.5, 63.5), 0.8, 1.006), [0, 0, 1]])
    return np.linalg.matrix_power(one, step)[:2]


def mean_error(frames, start, path, method):
    """Mean distance in pixels of tracks from `path` `[L + 1, K, 2]`, over all steps but the start."""
    flow = DenseFlow(method)
    flows = np.stack([flow(a, b) for a, b in zip(frames, frames[1:])])
    positions, visible = track(flows, start)
    assert visible.all()
    return np.linalg.norm(positions - path, axis=-1)[1:].mean()


@pytest.mark.parametrize("method", ["dis-medium", "dis-fine", "farneback"])
@pytest.mark.parametrize("motion", ["slow", "fast", "affine"])
def test_float_tracks_follow_known_motion_over_six_steps(motion, method):
    at = {"slow": lambda t: shift(0.4 * t, -0.3 * t), "fast": lambda t: shift(-2.6 * t, 1.9 * t), "affine": swirl}[
        motion
    ]
    picture = textured(128, 128, 3)
    start = grid_points(128, 128, 8)
    start = start[(np.abs(start - 63.5) < 40).all(1)]
    path = np.stack([start @ at(t)[:, :2].T + at(t)[:, 2] for t in range(7)])
    assert mean_error([moved(picture, at(t)) for t in range(7)], start, path, method) < 0.3


@pytest.mark.parametrize("method", ["dis-medium", "dis-fine", "farneback"])
def test_float_tracks_follow_an_object_over_a_moving_ground(method):
    ground, thing = textured(160, 160, 5), textured(160, 160, 6)
    rows, columns = np.mgrid[:160, :160]
    frames = []
    for t in range(7):
        disc = (columns - 70 + 1.6 * t) ** 2 + (rows - 80 - 1.2 * t) ** 2 < 36**2
        frames.append(np.where(disc, moved(thing, shift(-1.6 * t, 1.2 * t)), moved(ground, shift(0.8 * t, -0.5 * t))))
    start = grid_points(160, 160, 8)
    distance = np.linalg.norm(start - [70, 80], axis=1)
    for points, step in (
        (start[distance < 22], (-1.6, 1.2)),
        (start[(distance > 58) & (np.abs(start - 79.5) < 64).all(1)], (0.8, -0.5)),
    ):
        path = points + np.arange(7)[:, None, None] * np.array(step)
        assert len(points) >= 20
        assert mean_error(frames, points, path, method) < 0.3


def test_float_track_is_hidden_once_flow_is_not_consistent():
    consistent = np.ones((3, 8, 8), bool)
    consistent[1, 4, 4] = False
    positions, visible = track(np.zeros((3, 8, 8, 2), np.float32), np.array([[4.0, 4.0], [1.0, 1.0]]), consistent)
    assert visible.T.tolist() == [[True, True, False, False], [True] * 4]
    assert (positions[-1] == [[4, 4], [1, 1]]).all()


def test_grid_points_are_the_middles_of_complete_cells():
    points = grid_points(30, 17, 8)
    assert points.shape == (6, 2) and points[0].tolist() == [3.5, 3.5] and points[-1].tolist() == [11.5, 19.5]
