"""Kept flow: what is read is what was written, to an eighth of a pixel, or it is said that it is not."""

import json
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from vitascope.video.flow import DenseFlow, grey
from vitascope.video.grid_flow import CHUNK_PAIRS, MAGIC, GridFlow, cache_flow, flow_size, grid_flows, write_grid_flow
from vitascope.video.reader import VideoReader
from vitascope.video.tracks import grid_points, track
from vitascope.video.writer import VideoWriter


def smooth(rng, count, height, width, scale=3.0):
    """Flow `[count, height, width, 2]` that varies smoothly."""
    coarse = rng.normal(0, scale, (count, 3, 3, 2)).astype(np.float32)
    return np.array([cv2.resize(flow, (width, height)) for flow in coarse]).reshape(count, height, width, 2)


def texture(rng, height, width):
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (height, width, 3)).astype(np.float32), (0, 0), 3)
    return ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)


def moving(rng, count, height=128, width=160, shift=(2.5, -1.25)):
    """Frames uint8 `[T, 3, H, W]` of a texture that moves by `shift` pixels a frame."""
    place, frames = texture(rng, height + 200, width + 200), []
    for t in range(count):
        move = np.array([[1, 0, t * shift[0] - 100], [0, 1, t * shift[1] - 100]], np.float64)
        frames.append(cv2.warpAffine(place, move, (width, height)))
    return np.stack(frames).transpose(0, 3, 1, 2)


def write_video(path, frames, **how):
    with VideoWriter(path, 25, **how) as writer:
        writer.write(frames)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = moving(np.random.default_rng(1), 30)
    return write_video(tmp_path_factory.mktemp("flow") / "moving.mp4", frames)


@pytest.mark.parametrize(("count", "height", "width"), [(0, 2, 3), (1, 1, 1), (64, 5, 1), (65, 1, 7), (150, 15, 20)])
def test_what_is_read_is_what_was_written_to_an_eighth_of_a_pixel(tmp_path, count, height, width):
    flows = smooth(np.random.default_rng(0), count, height, width)
    how = {"height": 8 * height + 3, "width": 8 * width + 7, "method": "tvl1"}
    assert write_grid_flow(tmp_path / "a.flow", iter(flows), **how) == count
    kept = GridFlow.open(tmp_path / "a.flow")
    assert (kept.height, kept.width, kept.step, kept.num_pairs, kept.method) == (
        *list(how.values())[:2],
        8,
        count,
        "tvl1",
    )
    read = kept.read(0, count)
    assert read.dtype == np.float32 and read.shape == (count, height, width, 2)
    assert np.array_equal(read, np.rint(flows * 8) / 8)


@pytest.mark.parametrize("stretch", [(0, 1), (63, 65), (64, 64), (10, 140), (128, 150), (149, 150), (150, 150)])
def test_any_stretch_is_that_part_of_the_whole(tmp_path, stretch):
    write_grid_flow(tmp_path / "a.flow", smooth(np.random.default_rng(0), 150, 4, 6), height=32, width=48, method="m")
    kept = GridFlow.open(tmp_path / "a.flow")
    assert np.array_equal(kept.read(*stretch), kept.read(0, 150)[slice(*stretch)])


def test_a_read_touches_only_its_chunks(tmp_path):
    path = tmp_path / "a.flow"
    write_grid_flow(path, smooth(np.random.default_rng(0), 192, 4, 6), height=32, width=48, method="m")
    kept = GridFlow.open(path)
    data = bytearray(path.read_bytes())
    data[kept.chunks[1][0] + 300] ^= 1
    path.write_bytes(data)
    assert len(kept.read(0, 64)) == len(kept.read(128, 192)) == 64
    with pytest.raises(ValueError, match="chunk 1 of the flow is damaged; remove it and run `vitascope cache motion`"):
        kept.read(63, 65)


def test_fast_motion_is_not_clipped(tmp_path):
    flows = np.random.default_rng(0).choice(
        [-4079.0, -900.125, -20.5, -16, -0.125, 0, 15.875, 16, 31.875, 4079], (9, 3, 5, 2)
    )
    write_grid_flow(tmp_path / "a.flow", flows.astype(np.float32), height=24, width=40, method="m")
    assert np.array_equal(GridFlow.open(tmp_path / "a.flow").read(0, 9), flows)


def test_a_pair_with_a_value_that_is_not_finite_is_unknown(tmp_path):
    flows = smooth(np.random.default_rng(0), 140, 3, 4)
    flows[5], flows[62:66, 1, 1, 0], flows[139] = np.nan, np.inf, np.nan
    write_grid_flow(tmp_path / "a.flow", flows, height=24, width=32, method="m")
    kept = GridFlow.open(tmp_path / "a.flow")
    assert kept.unknown == ((5, 6), (62, 66), (139, 140))
    is_unknown = np.isnan(kept.read(0, 140)).all((1, 2, 3))
    assert np.flatnonzero(is_unknown).tolist() == [5, 62, 63, 64, 65, 139]
    assert np.isnan(kept.read(60, 70)[2:6]).all() and not np.isnan(kept.read(6, 62)).any()
    assert not np.isnan(kept.read(66, 139)).any() and np.isnan(kept.read(5, 6)).all()


@pytest.mark.parametrize("stretch", [(-1, 2), (3, 2), (0, 11), (11, 11)])
def test_pairs_that_are_not_there_are_refused(tmp_path, stretch):
    write_grid_flow(tmp_path / "a.flow", np.zeros((10, 1, 1, 2), np.float32), height=8, width=8, method="m")
    with pytest.raises(ValueError, match=r"must lie in \[0, 10\)"):
        GridFlow.open(tmp_path / "a.flow").read(*stretch)


def test_flow_of_another_shape_or_of_tiny_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a flow \[2, 3, 2\] must be \[3, 4, 2\]"):
        write_grid_flow(tmp_path / "a.flow", np.zeros((4, 2, 3, 2), np.float32), height=24, width=32, method="m")
    with pytest.raises(ValueError, match="frames of 32x7 pixels are too small"):
        write_grid_flow(tmp_path / "a.flow", [], height=7, width=32, method="m")


def test_writing_needs_the_memory_of_a_chunk_only(tmp_path):
    path, sizes = tmp_path / "a.flow", []

    def flows():
        for flow in smooth(np.random.default_rng(0), 3 * CHUNK_PAIRS, 20, 30):
            sizes.append(path.stat().st_size)
            yield flow

    write_grid_flow(path, flows(), height=160, width=240, method="m")
    assert sizes[CHUNK_PAIRS + 1] > 0 and sizes[2 * CHUNK_PAIRS + 1] > sizes[CHUNK_PAIRS + 1]


def test_damage_anywhere_is_noticed(tmp_path):
    path, rng = tmp_path / "a.flow", np.random.default_rng(0)
    write_grid_flow(path, smooth(rng, 70, 3, 4), height=24, width=32, method="m")
    whole = path.read_bytes()
    for number in range(200):
        data = bytearray(whole)
        if number % 4 == 0:
            data = data[: rng.integers(len(data))]
        else:
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        with pytest.raises(ValueError, match="run `vitascope cache motion` again"):
            GridFlow.open(path).read(0, 70)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"height": 10**6}, "frames of 32x1000000 pixels"),
        ({"step": 0}, "a value every 0"),
        ({"num_pairs": 10**12}, "pairs in 2 chunks"),
        ({"num_pairs": -1}, "pairs in 2 chunks"),
        ({"height": "24"}, "of other kinds"),
        ({"chunks": [[1, 2], [10**9, 2]]}, "do not fill it"),
        ({"chunks": [[-5, 2]]}, "a chunk of -5 bytes"),
        ({"path": "/etc/passwd"}, "multiple values"),
    ],
)
def test_a_file_that_lies_about_itself_is_refused(tmp_path, change, match):
    path = tmp_path / "a.flow"
    write_grid_flow(path, np.zeros((70, 3, 4, 2), np.float32), height=24, width=32, method="m")
    data = path.read_bytes()
    length, _ = struct.unpack("<II", data[-24:-16])
    tail = json.dumps(json.loads(data[-24 - length : -24]) | change).encode()
    path.write_bytes(data[: -24 - length] + tail + struct.pack("<II", len(tail), zlib.crc32(tail)) + MAGIC)
    with pytest.raises(ValueError, match=match):
        GridFlow.open(path)


def test_what_is_no_flow_is_refused(tmp_path):
    path = tmp_path / "a.flow"
    for data in (b"", b"text", MAGIC, MAGIC + MAGIC, MAGIC + b"\xff" * 8 + MAGIC):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="a.flow.*run `vitascope cache motion` again"):
            GridFlow.open(path)
    with pytest.raises(FileNotFoundError):
        GridFlow.open(tmp_path / "none.flow")


def test_the_flow_of_a_video_is_that_between_its_frames(tmp_path, video):
    assert cache_flow(video, tmp_path / "a.flow") == (29, ())
    kept = GridFlow.open(tmp_path / "a.flow")
    assert (kept.height, kept.width, kept.num_pairs, kept.method) == (128, 160, 29, "dis-medium")
    flows = kept.read(0, 29)
    assert np.abs(np.median(flows, axis=(0, 1, 2)) - [2.5, -1.25]).max() < 0.1
    with VideoReader(video) as reader:
        frames = grey(reader.frames_at([7, 8]).frames.numpy())
    dense = DenseFlow("dis-medium")(*frames)
    middles = (
        dense[3::8, 3::8][:16, :20],
        dense[4::8, 4::8][:16, :20],
        dense[3::8, 4::8][:16, :20],
        dense[4::8, 3::8][:16, :20],
    )
    assert np.abs(flows[7] - sum(middles) / 4).max() <= 1 / 16 + 1e-4


def test_tracks_on_kept_flow_are_those_on_the_dense_flow(tmp_path, video):
    cache_flow(video, tmp_path / "a.flow")
    grid = GridFlow.open(tmp_path / "a.flow").read(4, 10)
    with VideoReader(video) as reader:
        frames = grey(reader.frames_at(range(4, 11)).frames.numpy())
    dense = np.stack([DenseFlow("dis-medium")(a, b) for a, b in zip(frames, frames[1:])])
    points = grid_points(128, 160, 11)
    points = points[((points > 24) & (points < [136, 104])).all(1)]
    on_dense = track(dense, points)[0][-1]
    on_grid = track(grid / 8, (points - 3.5) / 8)[0][-1] * 8 + 3.5
    # of even motion every step is rounded alike: 6/16 pixel at worst, along x and along y
    assert np.linalg.norm(on_dense - on_grid, axis=1).mean() < 0.15


@pytest.mark.parametrize(
    ("size", "expected"), [((128, 160), (128, 160)), ((480, 640), (320, 427)), ((720, 400), (576, 320))]
)
def test_flow_is_computed_at_a_short_side_of_320_pixels_at_most(size, expected):
    assert flow_size(SimpleNamespace(info=SimpleNamespace(height=size[0], width=size[1]))) == expected


class Holey:
    """A reader of moving frames of which some are missing."""

    def __init__(self, frames, missing=(), holes=()):
        self.frames, self.missing = frames, set(missing)
        self.info = SimpleNamespace(height=frames.shape[2], width=frames.shape[3])
        self.index = Index(len(frames), np.array([(end - 1, end) for end in holes]).reshape(-1, 2))

    def iterate(self, size):
        for t, frame in enumerate(self.frames):
            if t not in self.missing:
                yield t / 25, torch.from_numpy(frame)


class Index:
    def __init__(self, count, holes):
        self.times_seconds, self.holes = np.arange(count) / 25, holes

    def __len__(self):
        return len(self.times_seconds)

    def first_from(self, pts):
        return pts


@pytest.mark.parametrize(
    ("missing", "holes", "unknown"),
    [
        ((), (), []),
        ((4,), (), [3, 4]),
        ((0, 1), (), [0, 1]),
        ((8, 9), (), [7, 8]),
        ((2, 3, 6), (), [1, 2, 3, 5, 6]),
        ((), (5,), [4]),
        (range(10), (), list(range(9))),
        (range(1, 10), (), list(range(9))),
    ],
)
def test_flow_over_missing_frames_is_unknown_and_pairs_keep_their_numbers(missing, holes, unknown):
    frames = moving(np.random.default_rng(0), 10, 64, 64, shift=(1, 0))
    flows = list(grid_flows(Holey(frames, missing, holes), "dis-fast"))
    assert len(flows) == 9 and {flow.shape for flow in flows} == {(8, 8, 2)}
    assert [t for t, flow in enumerate(flows) if np.isnan(flow).all()] == unknown
    assert all(np.isfinite(flow).all() for t, flow in enumerate(flows) if t not in unknown)


def test_a_damaged_video_has_unknown_flow_where_its_frames_are_missing(tmp_path):
    frames = moving(np.random.default_rng(2), 60)
    path = Path(write_video(tmp_path / "a.mp4", frames, gop=10))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)
    count, gaps = cache_flow(path, tmp_path / "a.flow")
    kept = GridFlow.open(tmp_path / "a.flow")
    assert count == kept.num_pairs == 59 and gaps
    missing = {t for gap in gaps for t in range(60) if gap.start_seconds - 1e-6 <= t / 25 < gap.end_seconds - 1e-6}
    expected = sorted({p for t in missing for p in (t - 1, t) if 0 <= p < 59})
    assert [p for p in range(59) if np.isnan(kept.read(p, p + 1)).any()] == expected and expected


def test_a_video_of_one_frame_has_no_pair(tmp_path):
    write_video(tmp_path / "a.mp4", moving(np.random.default_rng(0), 1))
    assert cache_flow(tmp_path / "a.mp4", tmp_path / "a.flow") == (0, ())
    assert GridFlow.open(tmp_path / "a.flow").read(0, 0).shape == (0, 16, 20, 2)


def test_the_kept_index_is_used_and_threads_are_left_as_they_were(tmp_path, video, monkeypatch):
    with VideoReader(video) as reader:
        index = reader.index.to_bytes()
    monkeypatch.setattr("vitascope.video.reader.build", None)
    before = cv2.getNumThreads()
    assert cache_flow(video, tmp_path / "a.flow", method="dis-ultrafast", index=index)[0] == 29
    assert cv2.getNumThreads() == before
    with pytest.raises(ValueError, match="method .'dis-best'. must be one of dis-ultrafast"):
        cache_flow(video, tmp_path / "b.flow", method="dis-best")


@pytest.mark.slow
def test_real_flow_takes_a_third_of_small_videos(tmp_path, shared_data):
    names = ["v_SoccerJuggling_g23_c01.avi", "bikes.mp4", "asl_gestures/book.mkv", "nasa_13013.mp4"]
    paths = [shared_data / "clips" / name for name in names]
    for path in paths:
        cache_flow(path, tmp_path / f"{path.stem}.flow")
    share = sum(p.stat().st_size for p in tmp_path.iterdir()) / sum(path.stat().st_size for path in paths)
    assert 0.2 < share < 0.4  # 0.366: FFV1 no worse, and nothing lost
