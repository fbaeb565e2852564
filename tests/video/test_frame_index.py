"""The frame index: true times, places to start from, and a copy in bytes."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from video_cases import CASES, X264, jittered, oracle_frames, with_pauses, write

from vitascope.video.index import FrameIndex, build


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_there_is_one_entry_a_frame(cases, case):
    index = build(cases[case.name])
    frames, _, _ = oracle_frames(cases[case.name])
    assert len(index) == len(frames) == case.num_frames
    assert np.all(np.diff(index.pts) > 0)
    assert index.times_seconds[0] == 0 and index.duration_seconds > index.times_seconds[-1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bytes_give_the_same_index_back(cases, case):
    index = build(cases[case.name])
    data = index.to_bytes()
    again = FrameIndex.from_bytes(data)
    for name in ("pts", "seek_stamps", "seek_positions", "holes"):
        assert np.array_equal(getattr(index, name), getattr(again, name)), name
    assert (index.stamps is None) == (again.stamps is None)
    assert index.stamps is None or np.array_equal(index.stamps, again.stamps)
    for name in ("end_pts", "time_base", "nominal_fps", "is_counted", "num_unread"):
        assert getattr(index, name) == getattr(again, name), name
    assert len(data) < 200 + 8 * len(index)


def test_damaged_bytes_are_refused(cases):
    data = build(cases["bframes.mp4"]).to_bytes()
    rng = np.random.default_rng(0)
    for wrong in (b"", b"x" * 200, data[:-3], data[: len(data) // 2], data[:60]):
        with pytest.raises(ValueError, match="build the index again|must come from"):
            FrameIndex.from_bytes(wrong)
    for _ in range(300):
        broken = bytearray(data)
        broken[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        try:
            FrameIndex.from_bytes(bytes(broken))
        except ValueError:
            continue


def test_times_are_the_stamps_written(cases):
    written = np.array(jittered(100, 1)) / 1000
    assert np.allclose(build(cases["vfr_jitter.mp4"]).times_seconds, written - written[0], atol=1e-4)
    assert np.allclose(build(cases["vfr_pauses.mkv"]).times_seconds, np.array(with_pauses(90)) / 1000)


@pytest.mark.parametrize(
    "name, is_variable",
    [("vfr_jitter.mp4", True), ("vfr_pauses.mkv", True), ("vfr_jitter.ts", True), ("late_start.mkv", False)]
    + [(name, False) for name in ("bframes.mp4", "hidden.webm", "one_frame.mp4", "packed.avi", "edit_list.mp4")],
)
def test_variable_rate_is_told_from_rounding(cases, name, is_variable):
    index = build(cases[name])
    assert index.is_variable_rate is is_variable
    if not is_variable:
        assert index.fps == pytest.approx(30, rel=2e-3)


def test_key_frames_are_places_to_start_from(cases):
    index = build(cases["bframes.mp4"])
    assert index.seek_positions.tolist() == [0, 30, 60, 90]
    assert np.array_equal(index.keyframe_pts, index.pts[[0, 30, 60, 90]])
    assert [index.seek_point_before(p) for p in (0, 29, 30, 119)] == [0, 0, 1, 3]


def test_the_frame_at_a_time_is_the_last_that_started(cases):
    index = build(cases["bframes.mp4"])
    times = np.array([0.0, 1 / 30 - 1e-4, 1 / 30, 0.5, 3.99])
    assert index.frames_at_seconds(times).tolist() == [0, 0, 1, 15, 119]
    assert index.frames_at_seconds(np.array([-0.1])).tolist() == [-1]


def test_positions_are_found_by_stamp(cases):
    index = build(cases["vfr_jitter.mp4"])
    assert [index.position_of(int(stamp)) for stamp in index.pts] == list(range(100))
    assert index.position_of(int(index.pts[3]) + 1) == index.position_of(None) == -1


def test_frames_outside_the_edit_list_are_not_counted(cases):
    index = build(cases["edit_list.mp4"])
    assert len(index) == 70 and index.pts[0] == 0


def test_what_the_packets_do_not_tell_is_counted(cases):
    assert build(cases["bare.h264"]).is_counted
    packed = build(cases["packed.avi"])
    assert not packed.is_counted and packed.stamps is not None and packed.time_base == Fraction(1, 30)


@pytest.mark.slow
def test_twenty_minutes_are_indexed_in_a_fifth_of_a_second(tmp_path):
    path = tmp_path / "long.mp4"
    write(path, 36_000, 320, 180, options={**X264, "preset": "ultrafast"})
    spent = []
    for _ in range(3):
        start = time.process_time()
        assert len(build(path)) == 36_000
        spent.append(time.process_time() - start)
    assert min(spent) <= 0.2


def test_a_matroska_file_that_broke_off_tells_what_it_lost(cases, tmp_path):
    whole = cases["late_start.mkv"]
    data, cut = whole.read_bytes(), tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 2 // 3])
    kept, complete = build(cut), build(whole)
    assert complete.num_unread == 0
    assert 0 < len(kept) < len(complete)
    assert kept.num_unread == pytest.approx(len(complete) - len(kept), abs=1)
    assert FrameIndex.from_bytes(kept.to_bytes()).num_unread == kept.num_unread
