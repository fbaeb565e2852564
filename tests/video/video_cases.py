"""Small video files, one for each thing that makes reading hard, with a number drawn in every frame."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

BLOCK = 8  # side of one bit of the frame number; 2 rows of 8 bits in the upper left corner
X264 = {"preset": "veryfast", "crf": "20", "threads": "1"}


@dataclass(frozen=True)
class Case:
    """One kind of file: how it is written, and what is known of it."""

    name: str
    make: Callable[[Path], None]
    num_frames: int
    has_numbers: bool = True  # read from the picture as stored
    first_number: int = 0


def picture(number: int, width: int, height: int) -> np.ndarray:
    """A moving picture with its number in it, uint8 `[H, W, 3]`."""
    image = _texture(number % 97, width, height).copy()
    if width >= 8 * BLOCK and height >= 2 * BLOCK:
        bits = np.array([number >> bit & 1 for bit in range(16)], np.uint8).reshape(2, 8)
        image[: 2 * BLOCK, : 8 * BLOCK] = (30 + 200 * bits.repeat(BLOCK, 0).repeat(BLOCK, 1))[..., None]
    return image


@lru_cache(maxsize=200)
def _texture(phase: int, width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin((x * fx + y * fy) / 9 + phase * speed) for fx, fy, speed in TEXTURE]
    return np.stack(waves, axis=-1).astype(np.uint8)


TEXTURE = ((1.0, 0.3, 0.31), (-0.4, 1.1, 0.17), (0.7, -0.8, 0.23))


def number_in(image: np.ndarray) -> int:
    """The number drawn in a picture as stored, uint8 `[3, H, W]`."""
    middle = image[0, BLOCK // 2 : 2 * BLOCK : BLOCK, BLOCK // 2 : 8 * BLOCK : BLOCK]  # [2, 8]
    return int(((middle.reshape(-1) > 128) << np.arange(16)).sum())


def write(
    path: Path,
    num_frames: int,
    width: int = 160,
    height: int = 96,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    container_format: str | None = None,
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 30),
    aspect: Fraction | None = None,
    turn: tuple[int, bool] | None = None,
    change: Callable[[av.VideoStream], None] | None = None,
    packet_hook: Callable[[int, av.Packet], av.Packet | None] | None = None,
) -> None:
    """Encodes `num_frames` numbered pictures with PyAV."""
    with av.open(str(path), "w", format=container_format, options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=30, options=X264 if options is None else options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        if change is not None:
            change(stream)
        packets = []
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), "rgb24")
            frame.pts, frame.time_base = (number if pts is None else pts[number]), time_base
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for place, packet in enumerate(packets):
            packet = packet if packet_hook is None else packet_hook(place, packet)
            if packet is not None:
                container.mux(packet)


def remux(
    source: Path,
    path: Path,
    shift: int = 0,
    drop: int = 0,
    muxer: dict[str, str] | None = None,
) -> None:
    """Copies packets, their stamps shifted by ticks of the source, without the first `drop`."""
    with av.open(str(source)) as original, av.open(str(path), "w", options=muxer or {}) as container:
        video = original.streams.video[0]
        copy = container.add_stream_from_template(video)
        for place, packet in enumerate(original.demux(video)):
            if packet.dts is None or place < drop:
                continue
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = copy
            container.mux(packet)


def x264(**more: object) -> dict[str, str]:
    params = ":".join(f"{name.replace('_', '-')}={value}" for name, value in more.items())
    return {**X264, "x264-params": params}


def jittered(num_frames: int, seed: int) -> list[int]:
    """Stamps in milliseconds with uneven steps of 10 to 90."""
    return np.cumsum(np.random.default_rng(seed).integers(10, 90, num_frames)).tolist()


def with_pauses(num_frames: int) -> list[int]:
    """Stamps in milliseconds: 25 frames/s, a pause of two seconds after every 20th."""
    return [40 * n + 2000 * (n // 20) for n in range(num_frames)]


def _via(path: Path, first: Callable[[Path], None], second: Callable[[Path, Path], None], suffix: str = ".mp4") -> None:
    plain = path.with_name(path.stem + "-plain" + suffix)
    first(plain)
    second(plain, path)
    plain.unlink(missing_ok=True)


def _edit_list(path: Path) -> None:
    ticks = 12800 // 25  # of one frame at 30/s would not be whole: 1/15360 is what the muxer takes for 30
    _via(
        path,
        lambda plain: write(plain, 90, options=x264(keyint=30, bframes=2)),
        lambda plain, out: remux(plain, out, shift=-20 * ticks, muxer={"avoid_negative_ts": "disabled"}),
    )


def _middle_of_group(path: Path) -> None:
    _via(
        path,
        lambda plain: write(plain, 90, options=x264(keyint=30, scenecut=0, bframes=2)),
        lambda plain, out: remux(plain, out, drop=10),
        ".ts",
    )


def _packed(path: Path) -> None:
    """MPEG-4 with two frames in one packet and an empty one behind, as DivX wrote it into AVI."""
    mark = b"\x00\x00\x01\xb2DivX503b1393p"
    held: list[bytes] = []

    def packets_of(stream: list[bytes]) -> list[bytes]:
        # I P B P B ... -> [I] [P B] [empty] [P B] [empty] ...
        packed, rest = [mark + stream[0]], stream[1:]
        while len(rest) >= 2:
            packed += [mark + rest[0] + rest[1], b"\x00\x00\x01\xb6\x5f\xff"]
            rest = rest[2:]
        return packed + rest

    plain = path.with_name("packed-plain.avi")

    def keep(_: int, packet: av.Packet) -> None:
        held.append(bytes(packet))

    options = {"bf": "1", "g": "1000", "sc_threshold": "1000000000", "qscale": "3", "b_strategy": "0"}
    write(plain, 41, codec="mpeg4", options=options, packet_hook=keep)
    plain.unlink(missing_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.max_b_frames = 1
        for number, data in enumerate(packets_of(held)):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 30), number == 0
            container.mux(packet)


def _write(num_frames: int, **how: object) -> Callable[[Path], None]:
    return lambda path: write(path, num_frames, **how)


MILLI = Fraction(1, 1000)
MPEG4_B = {"bf": "2", "g": "12", "qscale": "3"}
CASES = [
    Case("bframes.mp4", _write(120, options=x264(keyint=30, bframes=3, b_pyramid="normal", b_adapt=0)), 120),
    Case("long_gop.mp4", _write(300, options=x264(keyint=250, bframes=2)), 300),
    Case("vfr_jitter.mp4", _write(100, options=x264(keyint=25, bframes=2), pts=jittered(100, 1), time_base=MILLI), 100),
    Case("vfr_pauses.mkv", _write(90, options=x264(keyint=25, bframes=2), pts=with_pauses(90), time_base=MILLI), 90),
    Case("vfr_jitter.ts", _write(60, options=x264(keyint=15, bframes=1), pts=jittered(60, 2), time_base=MILLI), 60),
    Case("late_start.mp4", _write(60, options=x264(keyint=20), pts=list(range(200, 260))), 60),
    Case("late_start.mkv", _write(60, options=x264(keyint=20), pts=list(range(90, 150))), 60),
    Case("edit_list.mp4", _edit_list, 70, first_number=20),
    Case("fragments.mp4", _write(90, options=x264(keyint=15), muxer={"movflags": "frag_keyframe+empty_moov"}), 90),
    Case("bare.h264", _write(75, options=x264(keyint=25, bframes=2)), 75),
    Case("bframes.avi", _write(75, codec="mpeg4", options=MPEG4_B), 75),
    Case("packed.avi", _packed, 41),
    Case("open_gop.ts", _write(120, options=x264(keyint=20, scenecut=0, bframes=3, open_gop=1, b_adapt=0)), 120),
    Case("middle_of_group.ts", _middle_of_group, 60, first_number=30),
    Case("open_gop.mkv", _write(120, options=x264(keyint=20, scenecut=0, bframes=3, open_gop=1, b_adapt=0)), 120),
    Case("refresh.mkv", _write(120, options=x264(keyint=30, intra_refresh=1, bframes=0)), 120),
    Case(
        "hevc_open.mp4",
        _write(
            60,
            codec="libx265",
            options={"x265-params": "keyint=15:log-level=0:pools=1:frame-threads=1:open-gop=1:bframes=3"},
        ),
        60,
    ),
    Case("mpeg2.mpg", _write(90, codec="mpeg2video", options={"bf": "2", "g": "12", "qscale": "3"}), 90),
    Case("mpeg2.ts", _write(90, codec="mpeg2video", options={"bf": "2", "g": "12", "qscale": "3"}), 90),
    Case(
        "hidden.webm",
        _write(
            60,
            codec="libvpx",
            options={
                "auto-alt-ref": "1",
                "lag-in-frames": "10",
                "g": "20",
                "cpu-used": "8",
                "deadline": "good",
                "arnr-maxframes": "5",
                "b": "300k",
            },
        ),
        60,
    ),
    Case(
        "vp9.webm",
        _write(40, codec="libvpx-vp9", options={"lag-in-frames": "10", "g": "20", "cpu-used": "8", "b": "300k"}),
        40,
    ),
    Case("small.flv", _write(60, options=x264(keyint=20, bframes=2)), 60),
    Case("interlaced.mp4", _write(60, options=x264(keyint=20, tff=1, bframes=2)), 60),
    Case("turned_90.mp4", _write(40, options=x264(keyint=10), turn=(-90, False)), 40),
    Case("turned_180.mp4", _write(40, options=x264(keyint=10), turn=(180, False)), 40),
    Case("turned_270.mp4", _write(40, options=x264(keyint=10), turn=(90, False)), 40),
    Case("mirrored.mp4", _write(40, options=x264(keyint=10), turn=(0, True)), 40),
    Case("turned_mirrored.mp4", _write(40, options=x264(keyint=10), turn=(-90, True)), 40),
    Case("aspect.mp4", _write(40, options=x264(keyint=10), aspect=Fraction(4, 3)), 40),
    Case("odd.mkv", _write(20, width=853, height=477, codec="ffv1", options={"g": "5"}), 20),
    Case("one_pixel.mkv", _write(20, width=1, height=1, codec="ffv1", options={}, pixel_format="yuv444p"), 20, False),
    Case("tiny.avi", _write(20, width=3, height=5, codec="rawvideo", options={}, pixel_format="bgr24"), 20, False),
    Case("ten_bits.mp4", _write(40, options=x264(keyint=10), pixel_format="yuv420p10le"), 40),
    Case("full_range.avi", _write(30, codec="mjpeg", pixel_format="yuvj420p", options={"qscale": "3"}), 30),
    Case("one_frame.mp4", _write(1), 1),
]


def oracle_frames(path: Path) -> tuple[list[av.VideoFrame], Fraction, Fraction]:
    """Every frame of a file by plain decoding from start to end, with its time base and rate."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        tick, rate = stream.time_base, stream.average_rate
        return list(container.decode(stream)), tick, rate


def insert_box(data: bytes, path: tuple[bytes, ...], offset: int, value: bytes) -> bytes:
    """An mp4 file with `value` written `offset` bytes into the body of the first box at `path`."""
    start, end = 0, len(data)
    for kind in path:
        while data[start + 4 : start + 8] != kind:
            (length,) = struct.unpack(">I", data[start : start + 4])
            start += length
            assert start < end, f"no box {kind!r}"
        (length,) = struct.unpack(">I", data[start : start + 4])
        start, end = start + 8, start + length
    at = start + offset
    return data[:at] + value + data[at + len(value) :]
