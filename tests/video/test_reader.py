"""The reader against plain decoding of the whole file: every frame asked for is the right one."""

from __future__ import annotations

import hashlib
import resource
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from video_cases import CASES, X264, Case, number_in, oracle_frames, picture, write

from vitascope.structures import VideoError
from vitascope.video.check import check
from vitascope.video.reader import VideoReader

BY_NAME = {case.name: case for case in CASES}
TURNED = ("turned_90.mp4", "turned_180.mp4", "turned_270.mp4", "mirrored.mp4", "turned_mirrored.mp4")


class Oracle:
    """Digests and times of all frames of a file, by decoding it from start to end with PyAV alone."""

    def __init__(self, path: Path, like: VideoReader) -> None:
        height, width, turns = like.info.height, like.info.width, like.info.rotation_degrees // 90
        stored = (height, width) if turns % 2 == 0 else (width, height)
        frames, tick, rate = oracle_frames(path)
        scaler, self.digests = VideoReformatter(), []
        for frame in frames:
            is_plain = stored == (frame.height, frame.width) and frame.width % 16 == 0
            flag = 0 if is_plain else Interpolation.ACCURATE_RND
            image = scaler.reformat(
                frame,
                stored[1],
                stored[0],
                "gbrp",
                interpolation=Interpolation.AREA | flag,
                dst_color_range=ColorRange.JPEG,
                threads=1,
            )
            pixels = np.moveaxis(image.to_ndarray(), -1, 0)  # [C, H, W]
            pixels = pixels[..., ::-1] if like.info.is_mirrored else pixels
            self.digests.append(digest(np.rot90(pixels, -turns, axes=(1, 2))))
        pts = [frame.pts for frame in frames]
        if None in pts or any(b <= a for a, b in pairwise(pts)):
            self.times = np.arange(len(frames)) / float(rate)
        else:
            self.times = np.array([float((p - pts[0]) * tick) for p in pts])


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha1(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def ask(reader: VideoReader, oracle: Oracle, rng: np.random.Generator) -> int:
    """One random query of one of four kinds; returns the number of wrong answers."""
    kind, num_frames = rng.integers(4), len(oracle.digests)
    if kind == 0:  # scattered, with repetitions
        wanted = rng.integers(0, num_frames, rng.integers(1, 9))
        clip = reader.frames_at(wanted)
    elif kind == 1:  # a clip with a stride
        start, stride = rng.integers(0, num_frames), rng.integers(1, 6)
        wanted = np.minimum(start + stride * np.arange(8), num_frames - 1)
        clip = reader.frames_at(wanted)
    elif kind == 2:  # by time: between a frame and the next
        wanted = rng.integers(0, num_frames, 3)
        ends = np.append(oracle.times[1:], reader.duration_seconds)
        times = oracle.times[wanted] + rng.uniform(0, 0.98, 3) * (ends[wanted] - oracle.times[wanted])
        clip = reader.frames_at_seconds(times)
    else:
        start = int(rng.integers(0, num_frames))
        wanted = np.arange(start, min(start + 5, num_frames))
        end = oracle.times[wanted[-1]] + 1e-4
        got = list(reader.iterate(oracle.times[start], end))
        return sum(digest(image.numpy()) != oracle.digests[w] for w, (_, image) in zip(wanted, got, strict=True))
    assert np.allclose(clip.times_seconds, oracle.times[wanted], atol=1e-6)
    return sum(digest(image.numpy()) != oracle.digests[w] for w, image in zip(wanted, clip.frames, strict=True))


def query(paths: list[Path], num_queries: int, seed: int) -> tuple[int, list[str]]:
    """Asks random queries spread over files; returns how many and the names of the files with a wrong answer."""
    wrong, asked = [], 0
    for number, path in enumerate(paths):
        rng = np.random.default_rng([seed, number])
        with VideoReader(path) as reader:
            oracle = Oracle(path, reader)
            assert len(reader) == len(oracle.digests), path.name
            for _ in range(-(-num_queries // len(paths))):
                asked += 1
                wrong += [path.name] * bool(ask(reader, oracle, rng))
            assert reader.gaps == (), path.name
    return asked, wrong


def test_random_queries_equal_the_full_decode(cases):
    asked, wrong = query(list(cases.values()), 700, seed=0)
    assert asked >= 600
    assert wrong == []


@pytest.mark.slow
def test_five_thousand_queries_equal_the_full_decode(cases, shared_data):
    kinds = {".mp4", ".avi", ".mkv", ".webm", ".mov"}
    real = sorted(path for path in shared_data.rglob("*") if path.suffix in kinds)
    assert len(real) >= 100
    asked, wrong = query([*cases.values(), *real], 5000, seed=1)
    print(f"{asked} queries over {len(cases)} generated and {len(real)} real files: {len(wrong)} wrong")
    assert asked >= 5000
    assert wrong == []


@pytest.mark.parametrize("case", [c for c in CASES if c.has_numbers and c.name not in TURNED], ids=lambda c: c.name)
def test_every_frame_shows_its_number(cases, case: Case):
    with VideoReader(cases[case.name]) as reader:
        clip = reader.frames_at(
            range(len(reader)), size=(reader.info.height, BY_WIDTH.get(case.name, reader.info.width))
        )
    numbers = [number_in(image.numpy()) for image in clip.frames]
    assert numbers == list(range(case.first_number, case.first_number + case.num_frames))


BY_WIDTH = {"aspect.mp4": 160}


def test_scattered_frames_come_in_the_order_asked(cases):
    with VideoReader(cases["long_gop.mp4"]) as reader:
        wanted = [250, 3, 3, 299, 0, 120]
        clip = reader.frames_at(wanted)
    assert [number_in(image.numpy()) for image in clip.frames] == wanted
    assert np.allclose(clip.times_seconds, np.array(wanted) / 30)
    assert clip.frames.dtype == torch.uint8 and clip.frames.shape == (6, 3, 96, 160) and clip.frames.is_contiguous()


def test_a_batch_seeks_only_where_a_later_key_frame_is_nearer(cases, monkeypatch):
    with VideoReader(cases["bframes.mp4"]) as reader:  # key frames 0, 30, 60, 90
        reader.frames_at([0])
        seeks = []
        seek = reader._decoder._seek
        monkeypatch.setattr(reader._decoder, "_seek", lambda *a: seeks.append(a[0]) or seek(*a))
        reader.frames_at([25, 12, 3, 28])
        assert seeks == []
        reader.frames_at([100, 66, 119, 70])
        assert seeks == [2, 3]


def test_a_frame_is_shown_until_the_next_one_starts(cases):
    with VideoReader(cases["vfr_pauses.mkv"]) as reader:  # frame 19 stays for two seconds
        clip = reader.frames_at_seconds([0.76, 1.0, 2.7, 2.801])
        assert [number_in(image.numpy()) for image in clip.frames] == [19, 19, 19, 20]
        assert np.allclose(clip.times_seconds, [0.76, 0.76, 0.76, 2.8])


def test_iterate_covers_a_half_open_interval(cases):
    with VideoReader(cases["bframes.mp4"]) as reader:
        part = list(reader.iterate(1.0, 1.5, size=48))
        assert [round(time * 30) for time, _ in part] == list(range(30, 45))
        assert part[0][1].shape == (3, 48, 80)
        assert len(list(reader.iterate())) == 120


def test_iterating_and_asking_in_turn_disturb_nothing(cases):
    with VideoReader(cases["open_gop.ts"]) as reader:
        for expected, (_, image) in zip(range(60), reader.iterate()):
            assert number_in(image.numpy()) == expected
            if expected % 17 == 0:
                other = (expected * 7) % 120
                assert number_in(reader.frames_at([other]).frames[0].numpy()) == other


@pytest.mark.parametrize("name", ["open_gop.ts", "vfr_jitter.ts", "bframes.avi"])
def test_threads_give_the_same_frames(cases, name):
    with VideoReader(cases[name]) as one, VideoReader(cases[name], num_threads=3) as three:
        wanted = np.random.default_rng(0).permutation(len(one))[:20]
        assert torch.equal(one.frames_at(wanted).frames, three.frames_at(wanted).frames)


@pytest.mark.parametrize("name", TURNED)
def test_turned_pictures_come_upright(cases, name):
    """The writer turns counter-clockwise for display, then mirrors: so must the reader."""
    turns, flip = {
        "turned_90.mp4": (-1, False),
        "turned_180.mp4": (2, False),
        "turned_270.mp4": (1, False),
        "mirrored.mp4": (0, True),
        "turned_mirrored.mp4": (-1, True),
    }[name]
    expected = np.rot90(picture(7, 160, 96), turns)  # counter-clockwise
    expected = expected[:, ::-1] if flip else expected
    with VideoReader(cases[name]) as reader:
        image = reader.frames_at([7]).frames[0].permute(1, 2, 0).numpy()
        assert (reader.info.height, reader.info.width) == image.shape[:2]
        small = reader.frames_at([7], size=(48, 64)).frames
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 12  # H.264 is lossy; a wrong turn is off by 80
    assert small.shape == (1, 3, 48, 64)


def test_pixels_come_square(cases):
    with VideoReader(cases["aspect.mp4"]) as reader:
        assert (reader.info.width, reader.info.height) == (213, 96)
        assert reader.frames_at([0]).frames.shape == (1, 3, 96, 213)
        assert reader.frames_at([0], size=48).frames.shape == (1, 3, 48, 106)


@pytest.mark.parametrize(
    "codec, pixel_format, depth",
    [("ffv1", "bgr0", 8), ("ffv1", "gbrp10le", 10), ("ffv1", "yuv444p10le", 10), ("utvideo", "gbrp", 8)],
)
def test_odd_sizes_keep_every_pixel(tmp_path, codec, pixel_format, depth):
    path = tmp_path / ("odd.avi" if codec == "utvideo" else "odd.mkv")
    write(path, 3, width=53, height=47, codec=codec, pixel_format=pixel_format, options={})
    with VideoReader(path) as reader:
        image = reader.frames_at([2]).frames[0].permute(1, 2, 0).numpy()
        assert reader.info.bit_depth == depth
    assert np.abs(image.astype(int) - picture(2, 53, 47)).max() <= 2


@pytest.mark.parametrize("width", [322, 324, 336, 338, 340, 341])
def test_the_right_edge_is_as_good_as_the_rest(tmp_path, width):
    path = tmp_path / "edge.mkv"
    grey = np.random.default_rng(0).integers(0, 256, (32, width), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, 32, "yuv420p"
        frame = av.VideoFrame.from_ndarray(grey.repeat(3).reshape(32, width, 3), "rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert np.abs(reader.frames_at([0]).frames[0].int().numpy() - grey).max() <= 2


@pytest.mark.parametrize("matrix, red", [(1, (54, 99, 255)), (6, (82, 91, 240))])
@pytest.mark.parametrize("is_full", [False, True])
def test_colour_matrix_and_range_are_those_of_the_file(tmp_path, matrix, red, is_full):
    """White, black, and a pure red of BT.709 or BT.601 as stored must come out as such."""
    path = tmp_path / "colours.mkv"
    luma, cb, cr = {1: (0.2126, -0.1146, 0.5), 6: (0.299, -0.1687, 0.5)}[matrix]
    scale, offset, chroma = (255, 0, 255) if is_full else (219, 16, 224)
    stored = [(1, 0, 0), (0, 0, 0), (luma, cb, cr)]

    def tag(stream):
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if is_full else 1

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p"
        tag(stream)
        for y, u, v in stored:
            planes = [
                np.full((32, 32), min(round(v * s + o), 255), np.uint8)
                for v, s, o in ((y, scale, offset), (u, chroma, 128), (v, chroma, 128))
            ]
            frame = av.VideoFrame.from_ndarray(np.stack(planes), "yuv444p")
            frame.colorspace, frame.color_range = matrix, 2 if is_full else 1
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    with VideoReader(path) as reader:
        colours = reader.frames_at([0, 1, 2]).frames[:, :, 16, 16].int().numpy()
    assert np.abs(colours - [[255, 255, 255], [0, 0, 0], [255, 0, 0]]).max() <= 2, colours


def test_a_kept_index_serves_as_well(cases):
    with VideoReader(cases["packed.avi"]) as first:
        kept = first.index
        frames = first.frames_at([30, 2]).frames
    with VideoReader(cases["packed.avi"], index=kept) as second:
        assert torch.equal(second.frames_at([30, 2]).frames, frames)


def test_frames_outside_the_video_are_refused(cases):
    with VideoReader(cases["one_frame.mp4"]) as reader:
        assert len(reader) == 1
        with pytest.raises(VideoError, match="frame 1 was asked for; there are frames 0 to 0") as error:
            reader.frames_at([0, 1])
        assert error.value.reason == "out_of_range"
        for time in (-0.1, 1.0, float("nan")):
            with pytest.raises(VideoError, match="s was asked for; the video is shown from 0 to"):
                reader.frames_at_seconds([time])
        with pytest.raises(ValueError, match="must give sides of 1 to 16384"):
            reader.frames_at([0], size=0)
        with pytest.raises(ValueError, match="must be 'error' or 'drop'"):
            reader.frames_at([0], missing="skip")
        assert reader.frames_at([]).frames.shape == (0, 3, 96, 160)
    with pytest.raises(ValueError, match="the reader is closed"):
        reader.frames_at([0])


def test_memory_does_not_grow_with_the_length(tmp_path):
    short, long = tmp_path / "short.mp4", tmp_path / "long.mp4"
    for path, num_frames in ((short, 60), (long, 1500)):
        write(path, num_frames, 320, 180, options={**X264, "preset": "ultrafast"})

    def read(path: Path) -> int:
        with VideoReader(path) as reader:
            for _ in reader.iterate():
                pass
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    read(short)
    assert read(long) - read(short) <= 20  # MiB; all frames together take 250


def test_check_agrees_with_the_reader_and_needs_no_torch(cases):
    for name in ("bframes.mp4", "packed.avi", "bare.h264", "turned_90.mp4"):
        info, index, gaps = check(cases[name], deep=True)
        assert gaps == () and info.num_frames == BY_NAME[name].num_frames == len(index)
        with VideoReader(cases[name]) as reader:
            assert reader.index.pts.tolist() == index.pts.tolist()
            assert reader.info == info


def test_time_base_and_rate_are_exact(cases):
    with VideoReader(cases["late_start.mp4"]) as reader:
        assert reader.info.start_seconds == pytest.approx(200 / 30, abs=1e-3)
        assert reader.index.times_seconds[0] == 0
        assert Fraction(reader.info.time_base) == reader.index.time_base
        assert reader.info.num_frames == 60 and reader.info.is_variable_rate is False
        assert reader.duration_seconds == pytest.approx(2.0, abs=1e-3)
