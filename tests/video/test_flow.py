"""Dense flow and tracks against motion that is known: constant, affine, and an object over a background."""

import pickle

import cv2
import numpy as np
import pytest

from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.datasets.worlds.textures import noise
from vitascope.video.flow import DenseFlow, camera_homography, camera_shift, grey, is_consistent, read_at
from vitascope.video.tracks import grid_points, track

SIDE, STEPS = 224, 6
OPENCV_FLOWS = ["dis-medium", "farneback"]


def texture(seed: int) -> np.ndarray:
    """A tileable picture twice as large as a frame."""
    field = noise(np.random.default_rng(seed), 512, 32, octaves=4)
    return (255 * field).astype(np.uint8)


def moved(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A frame of a picture; `matrix` [2, 3] says where its points come to lie."""
    return cv2.warpAffine(
        picture, matrix.astype(np.float64), (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP
    )


def shift(dx: float, dy: float) -> np.ndarray:
    return np.array([[1, 0, dx], [0, 1, dy]], float)


def turn(degrees: float, scale: float) -> np.ndarray:
    """About the middle of the frame."""
    return cv2.getRotationMatrix2D(((SIDE - 1) / 2, (SIDE - 1) / 2), degrees, scale)


def carried(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def tracked(frames: list[np.ndarray], points: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    flow = DenseFlow(method)
    pairs = list(zip(frames[:-1], frames[1:]))
    flows = np.stack([flow(a, b) for a, b in pairs])
    back = np.stack([flow(b, a) for a, b in pairs])
    return track(flows, points, np.stack([is_consistent(f, b) for f, b in zip(flows, back)]))


def inner(points: np.ndarray, margin: int) -> np.ndarray:
    return points[((points >= margin) & (points < SIDE - margin)).all(1)]


@pytest.mark.parametrize("method", OPENCV_FLOWS)
@pytest.mark.parametrize(
    "step", [shift(0.4, -0.3), shift(1.3, -0.7), shift(-2.6, 1.9), turn(1.0, 1.0), turn(-0.7, 1.015)]
)
def test_tracks_of_known_motion_are_right_to_a_third_of_a_pixel(method, step):
    picture, points = texture(0), inner(grid_points(SIDE, SIDE, 8), 24)
    whole, frames, truth = shift(-SIDE / 2, -SIDE / 2), [], points
    steps = np.vstack([step, [0, 0, 1]])
    for t in range(STEPS + 1):
        here = np.linalg.matrix_power(steps, t)
        frames.append(moved(picture, (here @ np.vstack([whole, [0, 0, 1]]))[:2]))
        truth = carried(points, here[:2])
    positions, visible = tracked(frames, points, method)
    assert np.linalg.norm(positions[-1] - truth, axis=1).mean() < 0.3
    assert visible.mean() > 0.95


@pytest.mark.parametrize("method", OPENCV_FLOWS)
def test_tracks_of_an_object_and_of_the_ground_behind_it_go_their_own_ways(method):
    ground, thing, radius = texture(1), texture(2), 60
    rows, columns = np.mgrid[:SIDE, :SIDE]
    ground_step, thing_step = np.array([0.4, -0.3]), np.array([-1.8, 1.1])
    frames = []
    for t in range(STEPS + 1):
        below = moved(ground, shift(*(t * ground_step - SIDE / 2)))
        above = moved(thing, shift(*(t * thing_step - SIDE / 2)))
        centre = SIDE / 2 + t * thing_step
        frames.append(np.where(np.hypot(columns - centre[0], rows - centre[1]) < radius, above, below))
    points = inner(grid_points(SIDE, SIDE, 4), 12)
    distance = np.linalg.norm(points - SIDE / 2, axis=1)
    for chosen, step in ((distance < radius - 20, thing_step), (distance > radius + 24, ground_step)):
        positions, visible = tracked(frames, points[chosen], method)
        assert np.linalg.norm(positions[-1] - points[chosen] - STEPS * step, axis=1).mean() < 0.3
        assert visible.mean() > 0.9


def test_ground_that_an_object_covers_is_inconsistent_and_all_else_is_consistent():
    rows, columns = np.mgrid[:64, :64]
    before, after = (np.hypot(columns - x, rows - 32) < 12 for x in (28, 33))  # an object that moves by 5
    forward, backward = np.zeros((2, 64, 64, 2), np.float32)
    forward[before, 0], backward[after, 0] = 5, -5
    told = is_consistent(forward, backward)
    covered = after & ~before
    assert not told[covered].any()
    assert told[~covered].mean() == 1
    forward[10, 60:, 0] = 6
    assert not is_consistent(forward, backward)[10, 60:].any(), "what leaves the frame leads nowhere"


def test_a_track_that_leaves_the_frame_is_invisible_for_good_and_the_last_position_counts():
    flows = np.zeros((4, 20, 20, 2), np.float32)
    flows[..., 0] = 2.0
    flows[3] = -2.0  # it would come back
    positions, visible = track(flows, np.array([[15.0, 5.0], [3.0, 5.0], [13.0, 5.0]]))
    assert visible[:, 0].tolist() == [True, True, True, False, False]
    assert visible[:, 1].all()
    assert positions[3, 0].tolist() == positions[4, 0].tolist()
    assert not track(flows[:1], np.array([[18.0, 5.0]]))[1][-1, 0], "the end of the last step is outside"


def test_half_pixels_add_up():
    flows = np.full((6, 16, 16, 2), 0.25, np.float32)
    positions, _ = track(flows, np.array([[4.0, 4.0]]))
    np.testing.assert_allclose(positions[-1, 0], [5.5, 5.5], atol=1e-6)


def test_flow_is_read_between_pixels():
    rows, columns = np.mgrid[:9, :11].astype(np.float32)
    field = np.stack([2 * columns - rows, columns * 0.5 + 3], -1)
    points = np.random.default_rng(0).uniform(0, 8, (50, 2))
    expected = np.stack([2 * points[:, 0] - points[:, 1], points[:, 0] * 0.5 + 3], -1)
    np.testing.assert_allclose(read_at(field, points), expected, rtol=1e-5, atol=1e-5)
    assert read_at(field[:1, :1], points[:2]).shape == (2, 2)


def test_the_camera_is_found_and_an_object_before_it_does_not_matter():
    picture, thing = texture(3), texture(4)
    camera = (np.vstack([turn(1.5, 1.01), [0, 0, 1]]) @ np.vstack([shift(3, -2), [0, 0, 1]]))[:2]
    base = shift(-SIDE / 2, -SIDE / 2)
    first = moved(picture, base)
    second = moved(picture, (np.vstack([camera, [0, 0, 1]]) @ np.vstack([base, [0, 0, 1]]))[:2])
    first[40:70, 40:70], second[46:76, 35:65] = thing[:30, :30], thing[:30, :30]
    found = camera_homography(first, DenseFlow("farneback")(first, second))
    points = inner(grid_points(SIDE, SIDE, 16), 20)
    off = camera_shift(found, points) - (carried(points, camera) - points)
    assert np.linalg.norm(off, axis=1).max() < 0.3
    again = camera_homography(first, DenseFlow("farneback")(first, second))
    assert np.array_equal(found, again)


def test_without_corners_the_camera_stands_still():
    even = np.full((64, 64), 90, np.uint8)
    assert np.array_equal(camera_homography(even, np.ones((64, 64, 2), np.float32)), np.eye(3))


def test_a_method_crosses_processes_and_says_the_same():
    frames = [moved(texture(5), shift(-SIDE / 2 + t, -SIDE / 2)) for t in range(2)]
    flow = DenseFlow("dis-fast")
    expected = flow(*frames)
    assert np.array_equal(pickle.loads(pickle.dumps(flow))(*frames), expected)


@pytest.mark.parametrize("method", ["dis-ultrafast", "dis-fast", "farneback-light", "tvl1"])
def test_every_method_finds_a_shift(method):
    frames = [moved(texture(6), shift(-SIDE / 2 + 2 * t, -SIDE / 2))[:64, :64] for t in range(2)]
    found = DenseFlow(method)(*frames)[12:-12, 12:-12]
    assert np.abs(np.median(found, (0, 1)) - [2, 0]).max() < 0.2


def test_wrong_input_is_told():
    with pytest.raises(ValueError, match="method .'raft'. must be one of dis-ultrafast"):
        DenseFlow("raft")
    with pytest.raises(ValueError, match=r"must both be grey uint8 \[H, W\] of one size"):
        DenseFlow()(np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8))
    with pytest.raises(ValueError, match=r"flows \[3, 4, 2\] must be \[L, H, W, 2\]"):
        track(np.zeros((3, 4, 2), np.float32), np.zeros((1, 2)))


def test_grey_is_luma():
    frames = np.zeros((1, 3, 4, 4), np.uint8)
    frames[:, 1] = 100
    assert np.unique(grey(frames)).tolist() == [59]


def test_fine_flow_is_more_exact_where_frames_are_small():
    error = {"dis-medium": [], "dis-fine": []}
    for seed in (1, 2, 3):
        video = MotionWorld(num_videos=1, seed=seed, size=96, num_frames=6)[0]
        greys, truth, objects = grey(video.frames), video.flow.transpose(0, 2, 3, 1), video.masks[:-1] > 0
        for method, found in error.items():
            flows = np.stack([DenseFlow(method)(a, b) for a, b in zip(greys, greys[1:])])
            found.append(np.linalg.norm(flows - truth, axis=-1)[objects].mean())
    assert np.mean(error["dis-fine"]) < 0.85 * np.mean(error["dis-medium"]) < 0.85 * 0.5
