"""Pictures of motion: what is painted where, in which colour, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest

from vitascope.video.draw import (
    PREDICTED_RGB,
    SHEET_PIXELS,
    TRUE_RGB,
    UNSEEN_RGB,
    contact_sheet,
    direction_colours,
    direction_wheel,
    draw_hog,
    draw_predicted_tracks,
    draw_tracks,
)
from vitascope.video.tracks import grid_points

FRAME = np.random.default_rng(0).integers(0, 255, (3, 48, 64), dtype=np.uint8)
BLACK = np.zeros((3, 48, 64), np.uint8)


def straight(*tracks: tuple[tuple[float, float], tuple[float, float]], steps: int = 2) -> np.ndarray:
    """Tracks that go evenly from one point to another: `[steps + 1, K, 2]`."""
    first, last = (np.array(points, np.float32) for points in zip(*tracks))
    return np.stack([first + (last - first) * t / steps for t in range(steps + 1)])


def seen(positions: np.ndarray) -> np.ndarray:
    return np.ones((len(positions) - 1, positions.shape[1]), bool)


def is_like(picture: np.ndarray, rgb: tuple[int, ...]) -> np.ndarray:
    return (np.abs(picture.astype(int) - np.array(rgb)[:, None, None]) < 3).all(0)


def is_red(picture: np.ndarray) -> np.ndarray:
    """Of a picture with red lines, whose edges are smooth."""
    return picture[0].astype(int) - picture[1] > 80


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_track_lies_where_its_positions_are_at_any_scale(scale):
    positions = straight(((10, 20), (40, 20)))
    drawn = is_red(draw_tracks(BLACK, positions, seen(positions), scale, rgb=(255, 0, 0)))
    assert drawn.shape == (48 * scale, 64 * scale)
    rows, columns = (places / scale - 0.5 + 0.5 / scale for places in drawn.nonzero())
    assert rows.mean() == pytest.approx(20, abs=0.3)
    assert columns.min() == pytest.approx(10, abs=3) and columns.max() == pytest.approx(40, abs=3)


def test_the_colour_is_that_of_the_direction_and_a_dot_is_at_the_start():
    positions = straight(((10, 10), (50, 10)), ((50, 36), (10, 36)))
    picture = draw_tracks(BLACK, positions, seen(positions), 4)
    to_the_right, to_the_left = direction_colours(positions[-1] - positions[0])
    assert is_like(picture, to_the_right)[:96].any() and not is_like(picture, to_the_right)[96:].any()
    assert is_like(picture, to_the_left)[96:].any() and not is_like(picture, to_the_left)[:96].any()
    heights = is_like(picture, to_the_right).sum(0)
    assert heights[40:45].max() > heights[100] > 0, "the dot is broader than the line"


def test_a_step_that_is_not_seen_is_thin_and_grey():
    positions = straight(((10, 24), (50, 24)))
    is_seen = np.array([[True], [False]])
    picture = draw_tracks(BLACK, positions, is_seen, 4, rgb=(255, 0, 0))
    red, grey = is_red(picture), is_like(picture, UNSEEN_RGB)
    assert red[:, 60].sum() >= 3 and not red[:, 140:].any()
    assert 1 <= (picture[1, :, 160] > 80).sum() <= 2 and not grey[:, :110].any()
    assert (picture[0] == picture[1])[:, 140:].all()


def test_a_track_that_hardly_moves_shows_only_its_dot():
    positions = straight(((20, 20), (20.4, 20)))
    picture = draw_tracks(BLACK, positions, seen(positions), 4)
    assert (np.ptp(picture, axis=0) == 0).all(), "it has no direction, so no colour"
    rows, columns = (picture[0] > 100).nonzero()
    assert 1 <= len(rows) <= 25 and abs(columns.mean() - 81.5) < 1.5
    moved = draw_tracks(BLACK, straight(((20, 20), (20.6, 20))), seen(positions), 4)
    assert np.ptp(moved, axis=0).any()


def test_the_frame_is_seen_below_grey_and_darker_than_any_track():
    none = np.zeros((2, 0, 2), np.float32)
    picture = draw_tracks(FRAME, none, np.zeros((1, 0), bool), 1)
    assert (np.ptp(picture, axis=0) == 0).all() and picture.max() <= 110
    luma = np.tensordot([0.299, 0.587, 0.114], FRAME, 1)
    assert np.corrcoef(picture[0].ravel(), luma.ravel())[0, 1] > 0.99
    grey = draw_tracks(FRAME[:1], none, np.zeros((1, 0), bool), 2)
    assert grey.shape == (3, 96, 128) and grey.dtype == np.uint8


def test_what_is_given_is_not_changed():
    frame, positions = FRAME.copy(), straight(((10, 20), (40, 20)))
    before = positions.copy()
    draw_tracks(frame, positions, seen(positions))
    draw_predicted_tracks(frame, positions, seen(positions), positions + 1)
    assert np.array_equal(frame, FRAME) and np.array_equal(positions, before)


def test_tensors_are_taken_too():
    import torch

    positions = straight(((10, 20), (40, 20)))
    given = torch.from_numpy(FRAME), torch.from_numpy(positions), torch.from_numpy(seen(positions))
    assert np.array_equal(draw_tracks(*given), draw_tracks(FRAME, positions, seen(positions)))


def test_far_predictions_are_cut_and_not_wrapped_around():
    positions = straight(((30, 24), (1e12, 24)))
    drawn = is_red(draw_tracks(BLACK, positions, seen(positions), 2, rgb=(255, 0, 0)))
    assert drawn[49, 70:].all() and not drawn[:, :50].any()


@pytest.mark.parametrize(("length", "share"), [(12.0, 1.0), (20.0, 1 / 4), (36.0, 1 / 16)])
def test_of_long_dense_tracks_a_part_is_drawn(length, share):
    points = grid_points(48, 64, 4)
    drawn = 0
    for k, (x, y) in enumerate(points):  # one track goes, the others stand; its middle lies between their dots
        positions = np.repeat(points[None], 2, 0)
        positions[1, k, 0] += length if x < 32 else -length
        picture = draw_tracks(BLACK, positions, seen(positions), 2)
        middle = picture[:, int(2 * y), int(x + positions[1, k, 0])]
        drawn += int(np.ptp(middle) > 50)
    assert drawn / len(points) == pytest.approx(share, abs=0.01)


def test_a_lonely_long_track_is_drawn_wherever_it_starts():
    for x in range(1, 24, 2):
        positions = straight(((x, 20), (x + 40, 20)))
        assert is_red(draw_tracks(BLACK, positions, seen(positions), 1, rgb=(255, 0, 0)))[20, x + 20]


def test_true_and_predicted_tracks_are_told_apart():
    positions, predicted = straight(((10, 10), (50, 10))), straight(((10, 10), (50, 40)))
    picture = draw_predicted_tracks(FRAME, positions, seen(positions), predicted, 4)
    true, said = is_like(picture, TRUE_RGB), is_like(picture, PREDICTED_RGB)
    assert true[40, 100:190].any() and not true[80:].any()
    assert said[150:, 170:].any() and not said[:50, 120:].any()


def test_a_right_prediction_lies_within_the_true_track():
    positions = straight(((10, 10), (50, 10)))
    picture = draw_predicted_tracks(BLACK, positions, seen(positions), positions, 4)
    column = picture[:, 30:56, 120]
    true, said = is_like(column[..., None], TRUE_RGB)[:, 0], is_like(column[..., None], PREDICTED_RGB)[:, 0]
    assert said.any() and true[: said.argmax()].any() and true[said.nonzero()[0][-1] :].any()


def test_a_prediction_of_what_is_not_seen_is_left_out():
    positions = straight(((10, 24), (50, 24)))
    picture = draw_predicted_tracks(BLACK, positions, np.zeros((2, 1), bool), positions + [0, 5], 4)
    assert not is_like(picture, PREDICTED_RGB).any() and not is_like(picture, TRUE_RGB).any()
    assert (picture[0] > 80)[:, 150].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame": FRAME.astype(np.float32)}, r"frame \(float32 \[3, 48, 64\]\) must be uint8 \[C, H, W\]"),
        ({"frame": FRAME[:2]}, "with C 1 or 3"),
        ({"positions": np.zeros((1, 1, 2))}, "at least one step"),
        ({"positions": np.full((3, 1, 2), np.nan)}, "positions must be finite"),
        ({"seen": np.ones((3, 1), bool)}, r"seen \(bool \[3, 1\]\) must be bool \[2, 1\]"),
        ({"seen": np.ones((2, 1))}, r"seen \(float64"),
        ({"scale": 0}, r"scale \(0\) must be >= 1"),
    ],
)
def test_wrong_tracks_are_told_by_name(change, message):
    positions = straight(((10, 24), (50, 24)))
    given = {"frame": FRAME, "positions": positions, "seen": seen(positions)} | change
    with pytest.raises(ValueError, match=message):
        draw_tracks(**given)


def test_predictions_of_other_tracks_are_refused():
    positions = straight(((10, 24), (50, 24)))
    with pytest.raises(ValueError, match=r"predicted \[2, 1, 2\] must be \[3, 1, 2\]"):
        draw_predicted_tracks(FRAME, positions, seen(positions), positions[:2])


@pytest.mark.parametrize("b", range(9))
def test_the_line_of_a_bin_runs_along_the_edge(b):
    """An image whose gradient has the angle of the bin is even along the line that is drawn for it."""
    cells = np.zeros((9, 1, 1))
    cells[b] = 2.0
    picture = draw_hog(cells, cell=16, scale=2)[0].astype(float)
    y, x = np.mgrid[:32, :32] - 15.5
    gradient = np.array([np.cos(b * np.pi / 9), np.sin(b * np.pi / 9)])
    across, along = gradient[0] * x + gradient[1] * y, -gradient[1] * x + gradient[0] * y
    spread = [np.sqrt((picture * way**2).sum() / picture.sum()) for way in (across, along)]
    assert spread[0] < 2 and spread[1] > 7


def test_an_upright_edge_gives_an_upright_line_and_brightness_tells_strength():
    cells = np.zeros((9, 2, 3), np.float32)
    cells[0, 0, 0], cells[0, 1, 2], cells[0, 1, 0] = 1.0, 0.25, -1.0
    picture = draw_hog(cells, cell=8, scale=2, strongest=1.0)
    assert picture.shape == (3, 32, 48)
    assert picture[0, 2:14, 7:9].min() == 255 and not picture[0, :16, :5].any()
    assert picture[0, 24, 40] == 128, "a quarter of the strength looks half as bright"
    assert not picture[:, 16:, :32].any(), "negative and none are dark"


def test_pictures_of_one_scale_can_be_compared():
    cells = np.zeros((9, 1, 1))
    cells[4] = 1.0
    assert draw_hog(cells / 4, 8).max() == 255 and draw_hog(cells / 4, 8, strongest=1.0).max() == 128
    assert draw_hog(cells * 0, 8).max() == 0


@pytest.mark.parametrize(
    ("cells", "cell", "message"),
    [
        (np.zeros((9, 4)), 8, r"cells \[9, 4\] must be finite numbers \[bins, h, w\]"),
        (np.full((9, 4, 4), np.inf), 8, "must be finite"),
        (np.zeros((9, 4, 4)), 0, r"cell \(0\)"),
    ],
)
def test_wrong_cells_are_told(cells, cell, message):
    with pytest.raises(ValueError, match=message):
        draw_hog(cells, cell)


def test_colours_of_directions_differ_and_are_light_enough():
    angles = np.arange(0, 2 * np.pi, np.pi / 4)
    colours = direction_colours(np.stack([np.cos(angles), np.sin(angles)], -1)).astype(int)
    apart = np.abs(colours[:, None] - colours[None]).sum(-1) + 999 * np.eye(8, dtype=int)
    assert apart.min() > 60 and (colours @ [0.299, 0.587, 0.114]).min() > 110 / 255 * 255 - 10
    assert np.abs(np.diff(direction_colours([[1, -1e-4], [1, 1e-4]]).astype(int), axis=0)).max() <= 2


def test_the_wheel_shows_the_colour_of_the_way_to_each_place():
    wheel = direction_wheel(72)
    assert wheel.shape == (3, 72, 72) and wheel.dtype == np.uint8
    for (x, y), move in (((65, 36), (1, 0)), ((6, 36), (-1, 0)), ((36, 65), (0, 1)), ((36, 6), (0, -1))):
        assert np.abs(wheel[:, y, x].astype(int) - direction_colours([move])[0]).max() < 12


def test_a_sheet_holds_every_picture_and_breaks_wide_rows():
    bright = np.full((9, 3, 200, 300), 255, np.uint8)
    bright[:, 0] = np.arange(9)[:, None, None]
    sheet = contact_sheet([("wide", bright), ("grey", np.full((2, 1, 224, 224), 77, np.uint8))])
    assert sheet.dtype == np.uint8 and sheet.shape[0] == 3 and sheet.shape[2] <= SHEET_PIXELS + 12
    for number in range(9):
        place = (sheet[0] == number) & (sheet[1] == 255) & (sheet[2] == 255)
        assert place.sum() == 200 * 300
    assert (sheet == 77).all(0).sum() >= 2 * 224 * 224
    assert (np.ptp(sheet[:, -72:, :90], axis=0) > 150).any(), "the wheel is in the corner"


def test_small_pictures_grow_and_very_wide_ones_shrink():
    small = contact_sheet([("mask", np.full((1, 1, 14, 14), 200, np.uint8))])
    assert (small == 200).all(0).sum() == 98 * 98
    wide = contact_sheet([("panorama", np.full((1, 3, 500, 4000), 200, np.uint8))])
    assert wide.shape[2] == SHEET_PIXELS + 12 and wide.shape[1] < 400


def test_a_long_name_is_whole_and_a_broken_one_is_one_line():
    rows = [("predicted\n tracks " * 40, np.zeros((1, 3, 96, 96), np.uint8))]
    assert contact_sheet(rows).shape[2] > 3000
    assert contact_sheet([("a\nb", rows[0][1])]).shape == contact_sheet([("a b", rows[0][1])]).shape


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row"),
        ([("mask", np.zeros((2, 14, 14), np.uint8))], r"row 'mask' \(uint8 \[2, 14, 14\]\)"),
        ([("clip", np.zeros((2, 3, 14, 14)))], "must be uint8"),
        ([("none", np.zeros((0, 3, 14, 14), np.uint8))], r"\[0, 3, 14, 14\]"),
    ],
)
def test_wrong_rows_are_told_by_name(rows, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(rows)


def test_drawing_needs_no_torch():
    code = "import sys, vitascope.video.draw; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
