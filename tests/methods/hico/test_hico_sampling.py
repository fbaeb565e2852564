"""Where HiCo's clips lie: the golden values of the specification, and distributions."""

import random

import numpy as np
import pytest

from vitascope.methods.hico.sampling import (
    Sampling,
    beside,
    domain,
    draw_centres,
    frame_numbers,
    frames_shown,
    place,
    window,
)

CLIP = 64 / 30


def centres(duration, progress, sampling=Sampling(), count=2000, seed=0, pieces=None):  # noqa: B008
    uniform = np.random.default_rng(seed).random
    return np.stack([draw_centres(duration, progress, sampling, uniform, pieces) for _ in range(count)])


@pytest.mark.parametrize(
    ("duration", "progress", "seed", "windows"),
    [
        (60, 0.5, 0, [[48.129111, 50.262445], [48.387066, 50.520399], [15.496960, 17.630294]]),
        (92.12, 1.0, 1, [[12.871013, 15.004347], [13.565881, 15.699214], [23.475331, 25.608664]]),
        (3, 1.0, 0, [[1.066667, 3.0]] * 3),
    ],
    ids=["P11", "P12", "P13"],
)
def test_windows_equal_the_official_sampler(duration, progress, seed, windows):
    drawn = draw_centres(duration, progress, Sampling(), random.Random(seed).random)
    assert np.abs([window(c, CLIP, duration) for c in drawn] - np.array(windows)).max() < 1e-6


@pytest.mark.parametrize(
    ("num_available", "fps", "span", "numbers"),
    [
        (300, 30, (1, 1 + CLIP), "30 34 38 42 47 51 55 59 64 68 72 76 81 85 89 93"),
        (250, 25, (2.5, 2.5 + CLIP), "62 65 69 72 76 79 83 86 90 93 97 100 104 107 111 114"),
        (24, 30, (1.0666, 0.8), " ".join(["23"] * 16)),
    ],
    ids=["P14", "P15", "P16"],
)
def test_frames_equal_the_official_ones(num_available, fps, span, numbers):
    assert " ".join(map(str, frame_numbers(*span, fps, num_available, 16))) == numbers


def test_frames_do_not_hang_on_the_rounding_of_the_rate():
    for fps in (30 - 1e-9, 30 + 1e-9):  # 32 frames are 1.0666.. s
        assert frame_numbers(CLIP / 2, CLIP * 1.5, fps, 300, 16).tolist()[:2] == [32, 36]


@pytest.mark.parametrize("progress", [0.1, 0.5, 1.0])
def test_near_clips_are_half_the_largest_distance_apart_on_average(progress):  # P23
    drawn = centres(156.0, progress, count=20_000)
    gaps = np.abs(drawn[:, 0] - drawn[:, 1])
    assert gaps.max() <= progress + 1e-9
    assert abs(gaps.mean() / (progress / 2) - 1) < 0.02
    assert drawn.min() >= CLIP and drawn.max() <= 156 - CLIP


def test_the_third_clip_is_anywhere():  # P23
    drawn = centres(156.0, 1.0, count=20_000)
    assert abs((np.abs(drawn[:, 0] - drawn[:, 2]) < CLIP).mean() - 0.028) < 0.004
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1]) < 0.03
    counts, _ = np.histogram(drawn[:, 2], 10, (CLIP, 156 - CLIP))
    assert np.abs(counts / 2000 - 1).max() < 0.1


def test_at_the_start_the_near_clips_are_one():
    drawn = centres(60.0, 0.0)
    assert (drawn[:, 0] == drawn[:, 1]).all()


def test_a_fixed_distance_does_not_grow():
    early = centres(60.0, 0.0, Sampling(mode="fixed"))
    assert np.array_equal(early, centres(60.0, 1.0, Sampling()))


def test_the_two_clips_of_simclr_are_independent():
    drawn = centres(60.0, 0.0, Sampling(mode="simclr"), 20_000)
    assert drawn.shape == (20_000, 2)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03
    assert abs(np.abs(drawn[:, 0] - drawn[:, 1]).mean() / ((60 - 2 * CLIP) / 3) - 1) < 0.03


def test_the_two_clips_of_cvrl_are_near_more_often():
    drawn = centres(60.0, 0.0, Sampling(mode="cvrl"), 20_000)
    room = 60 - 2 * CLIP
    gaps = np.abs(drawn[:, 1] - drawn[:, 0])
    assert drawn.min() >= CLIP and drawn.max() <= 60 - CLIP
    assert abs(gaps.mean() / (room / 5) - 1) < 0.03  # of the density (1 - gap / room) ** 3
    counts, _ = np.histogram(gaps, 8, (0, room))
    assert (np.diff(counts) < 0).all()


def test_the_third_clip_keeps_its_least_distance_where_there_is_room():
    drawn = centres(60.0, 1.0, Sampling(topic_min_gap_seconds=10.0))
    assert np.abs(drawn[:, :2] - drawn[:, 2:]).min() >= 10 - 1e-9
    short = centres(12.0, 1.0, Sampling(topic_min_gap_seconds=10.0))
    ends = np.array(domain(12.0, CLIP))
    assert np.isin(short[:, 2], ends).all()
    assert (np.abs(short[:, 2] - short[:, :2].mean(1)) >= (ends[1] - ends[0]) / 2).all()


def test_pieces_hold_all_clips_and_near_ones_lie_in_one():
    pieces = np.array([[3.0, 5.0], [9.0, 9.5], [20.0, 24.0]])
    for mode in ("hico", "fixed", "simclr", "cvrl"):
        drawn = centres(30.0, 1.0, Sampling(mode=mode), pieces=pieces)
        inside = (drawn[..., None] >= pieces[:, 0]) & (drawn[..., None] <= pieces[:, 1])  # [n, S, P]
        assert inside.any(-1).all()
        if mode in ("hico", "fixed"):
            assert (inside[:, 0] == inside[:, 1]).all()
        share = inside[:, 0].mean(0)
        if mode != "cvrl":
            assert np.abs(share - np.array([2, 0.5, 4]) / 6.5).max() < 0.04


@pytest.mark.parametrize("mode", ["hico", "fixed", "simclr", "cvrl"])
def test_one_piece_that_is_all_changes_no_bit(mode):
    for seed in range(200):
        duration = random.Random(seed).uniform(1, 100)
        sampling = Sampling(mode=mode)
        whole = np.array([domain(duration, CLIP)])
        expected = draw_centres(duration, 0.7, sampling, random.Random(seed).random)
        assert (draw_centres(duration, 0.7, sampling, random.Random(seed).random, whole) == expected).all()
        assert (draw_centres(duration, 0.7, sampling, random.Random(seed).random, whole[:0]) == expected).all()


def test_points_alone_are_each_as_likely():
    points = np.array([[1.0, 1.0], [4.0, 4.0]])
    assert [place(points, share) for share in (0.0, 0.49, 0.5, 0.99)] == [1.0, 1.0, 4.0, 4.0]


def test_what_is_beside_two_pieces():
    pieces = np.array([[0.0, 2.0], [3.0, 6.0]])
    assert beside(pieces, 1.0, 4.0).tolist() == [[0.0, 1.0], [4.0, 6.0]]
    assert beside(pieces, -1.0, 2.5).tolist() == [[3.0, 6.0]]
    assert beside(pieces, -1.0, 6.5).tolist() == [[6.0, 6.0]]


def test_frames_of_a_variable_rate_are_those_shown():
    times = np.r_[np.arange(10) / 10, 1 + np.arange(20) / 20]  # the rate doubles after a second
    numbers = frames_shown(0.5, 1.5, times, 11)
    assert numbers.tolist() == [5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 19]  # the frame at the end belongs to what follows
    assert frames_shown(5.0, 2.0, times, 3).tolist() == [29, 29, 29]
