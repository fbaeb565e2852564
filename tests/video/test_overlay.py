"""Pictures of a cut-out: what is painted, and what is left alone."""

import contextlib

import numpy as np
from PIL import Image

from vitascope.video.index import build
from vitascope.video.overlay import COLUMNS, TILE_PIXELS, labelled, painted, tile, write_film, write_sheet

FRAME = np.random.default_rng(0).integers(0, 255, (3, 60, 80), dtype=np.uint8)


def test_the_background_stays_and_the_object_is_painted_with_an_outline():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 20:40], mask[50:, 70:] = 1, 2
    before, drawn = FRAME.copy(), painted(FRAME, mask)
    assert np.array_equal(FRAME, before) and np.array_equal(drawn[:, mask == 0], FRAME[:, mask == 0])
    assert drawn[:, 10, 25].tolist() == drawn[:, 29, 39].tolist() == [255, 232, 64]
    assert drawn[:, 20, 30].tolist() == np.rint(0.5 * FRAME[:, 20, 30] + 0.5 * np.array([128, 0, 0])).tolist()
    assert np.array_equal(painted(FRAME, mask * 0), FRAME)


def test_a_text_changes_the_corner_alone_and_stays_away_from_small_frames():
    large = FRAME.repeat(4, 1).repeat(4, 2)
    changed = (labelled(large, "0.04 s") != large).any(0)
    assert changed[:14, :40].any() and not changed[30:].any() and np.array_equal(labelled(large, ""), large)
    assert np.array_equal(labelled(FRAME, "0.04 s"), FRAME)
    assert labelled(large, "long " * 99).shape == large.shape


def test_the_sheet_has_a_place_for_every_picture(tmp_path):
    tiles = [(tile(FRAME, np.zeros((60, 80), np.uint8)), f"{i} s") for i in range(4)]
    assert tiles[0][0].shape == (3, TILE_PIXELS * 60 // 80, TILE_PIXELS)
    write_sheet(tmp_path / "a.png", tiles)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width >= COLUMNS * TILE_PIXELS and sheet.height >= 2 * TILE_PIXELS * 60 // 80
    write_sheet(tmp_path / "none.png", [])
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.png", "none.png"]


def test_the_film_keeps_the_times_and_is_whole_or_not_there(tmp_path):
    mask, times = np.zeros((60, 80), np.uint8), [0.0, 0.1, 0.35, 0.4]
    write_film(tmp_path / "a.mp4", ((t, FRAME, mask, "x") for t in times), 10)
    assert np.allclose(build(tmp_path / "a.mp4").times_seconds, times, atol=1e-4)

    def breaks():
        yield 0.0, FRAME, mask, ""
        raise KeyError

    with contextlib.suppress(KeyError):
        write_film(tmp_path / "b.mp4", breaks(), 10)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
