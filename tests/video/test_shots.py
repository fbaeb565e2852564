"""The index of shots: what is found in one pass, what a file of it holds, and what it costs."""

import os

import numpy as np
import pytest

from vitascope.video.cuts import find_cuts
from vitascope.video.reader import VideoReader
from vitascope.video.shots import HOP_SECONDS, PARTS, WIDTH, ShotIndex, index_shots, look
from vitascope.video.writer import VideoWriter


def pictures(seed: int, count: int) -> np.ndarray:
    one = np.random.default_rng(seed).integers(0, 256, (1, 3, 6, 8), np.uint8).repeat(12, 2).repeat(12, 3)
    return one.repeat(count, 0)  # [T, C, 72, 96]


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> str:
    """Three shots of 4 s, the third like the first."""
    path = tmp_path_factory.mktemp("video") / "film.mp4"
    with VideoWriter(path, 20) as writer:
        for seed in (0, 1, 0):
            writer.write(pictures(seed, 80))
    return str(path)


@pytest.fixture(scope="module")
def indexed(film) -> ShotIndex:
    path = f"{film}.npz"
    assert index_shots(film, path) == (2, ())
    return ShotIndex.open(path)


def test_cuts_are_those_that_are_found_alone(film, indexed):
    cuts = find_cuts(film)
    assert indexed.cuts.times_seconds.tolist() == cuts.times_seconds.tolist() == [4.0, 8.0]
    assert indexed.cuts.spans_seconds.tolist() == cuts.spans_seconds.tolist()
    assert indexed.cuts.kinds == cuts.kinds == ("cut", "cut")


def test_it_is_looked_at_twice_a_second(indexed):
    assert indexed.times_seconds.tolist() == pytest.approx(np.arange(0, 12, HOP_SECONDS).tolist())
    assert indexed.looks.dtype == np.uint8 and indexed.looks.shape == (24, WIDTH)


def test_shots_that_look_alike_have_like_numbers(indexed):
    looks = indexed.looks.astype(float)
    first, second, third = looks[2], looks[10], looks[18]
    assert np.linalg.norm(first - third) < 0.05 * np.linalg.norm(first - second)


def test_a_kept_frame_index_gives_the_same(film, indexed, tmp_path):
    with VideoReader(film) as reader:
        index_shots(film, tmp_path / "again.npz", index=reader.index.to_bytes())
    again = ShotIndex.open(tmp_path / "again.npz")
    assert np.array_equal(again.looks, indexed.looks)


def test_after_a_gap_it_is_looked_at_twice_a_second_again(film, tmp_path, monkeypatch):
    iterate = VideoReader.iterate

    def with_gap(self, *where, **how):
        return ((t, frame) for t, frame in iterate(self, *where, **how) if not 2.1 < t < 9.2)

    monkeypatch.setattr(VideoReader, "iterate", with_gap)
    index_shots(film, tmp_path / "gap.npz")
    times = ShotIndex.open(tmp_path / "gap.npz").times_seconds
    assert times.tolist() == pytest.approx([0, 0.5, 1, 1.5, 2, 9.2, 9.5, 10, 10.5, 11, 11.5])


def test_a_look_is_luma_and_colours():
    red = np.zeros((3, 36, 64), np.uint8)
    red[0, :, :32] = 255
    seen = look(red).astype(float)
    parts = seen[: PARTS**2].reshape(PARTS, PARTS)
    assert (parts[:, :4] == 76).all() and (parts[:, 4:] == 0).all()
    shares = (seen[PARTS**2 :] / 255) ** 2
    assert sorted(shares.round(2))[-2:] == [0.5, 0.5] and abs(shares.sum() - 1) < 0.01
    hues = [
        look(np.full((36, 64, 3), colour, np.uint8).transpose(2, 0, 1))[64:] for colour in ((255, 0, 0), (0, 255, 0))
    ]
    assert not np.array_equal(*hues)


@pytest.mark.parametrize("data", [b"", b"nothing", b"PK\x03\x04 broken"])
def test_another_file_is_refused(tmp_path, data):
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is no index of shots .*run `vitascope index shots` again"):
        ShotIndex.open(path)


def test_arrays_of_another_kind_are_refused(tmp_path, indexed):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="is no index of shots"):
        ShotIndex.open(tmp_path / "a.npz")
    ShotIndex(indexed.cuts, indexed.times_seconds[:3], indexed.looks).save(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="of another kind"):
        ShotIndex.open(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="is no index of shots"):
        ShotIndex.open(tmp_path / "none.npz")


def test_a_minute_takes_little_space(film, indexed):
    assert os.path.getsize(f"{film}.npz") * 60 / 12 < 100_000
