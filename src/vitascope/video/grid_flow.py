"""Optical flow of a whole video on a coarse grid, in one small file: from it tracks of any length and start are read.

The flow between consecutive frames is kept where `tracks.grid_points` lie, in the middle of every 8 x 8 pixels, rounded to 1/8
pixel. What that costs, as the mean distance in pixels from where six steps on the dense flow lead (shared clips, points off the
boundaries of motion; at boundaries all are about 0.4): the value in the middle 0.02, the mean of the 8 x 8 pixels 0.03, their
median 0.02; the middle rounded to 1/4 pixel 0.11, to 1/8 0.06, to 1/10 0.05, to 1/16 0.04. Farneback's flow instead of DIS: 0.3.
Against the truth of the motion world, dense flow is off by 0.37, the middle by 0.38, rounded to 1/8 by 0.385, to 1/4 by 0.44.

A file is `MAGIC`, then chunks of 64 pairs, then a tail of JSON, its length and checksum, and `MAGIC` again. A chunk is FFV1
(RFC 9043), the lossless codec of archives: for each pair one grey picture, low bytes of x, of y, and the high bytes below.

Bytes beside those of small videos of 4 to 150 kB a second: 31, 29 and 39 % of three folders. On stretches of them 30 %, rounded
to 1/4 pixel 21 %, to whole pixels still 10 %; in other codecs 36 % (median predictor and LZMA), 42 % (LZMA), 48 % (zlib), and
more with differences in time: what is kept is mostly the noise of flow, which is new in every frame. A second takes 4 kB at 224x160,
7 kB at 320x240 and 17 kB at 569x320, however large the video is: 5 % or less of one of 80 to 350 kB (0.6 to 2.7 Mbit) a second.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import BinaryIO

import av
import cv2
import numpy as np

from vitascope.structures import Gap
from vitascope.video.asked import MAX_SIDE
from vitascope.video.container import MAX_FRAMES
from vitascope.video.flow import DenseFlow, FlowMethod, grey, read_at
from vitascope.video.index import FrameIndex
from vitascope.video.reader import VideoReader
from vitascope.video.tracks import grid_points

MAGIC = b"vitascope-flow-1"
STEP_PIXELS = 8
SHORT_SIDE = 320  # pixels at most, at which flow is computed
STEPS_PER_PIXEL = 8
CHUNK_PAIRS = 64  # read at once: the span of a clip of 16 frames, 4 apart
_LARGEST = 127 * 256 + 127  # steps: 4079 pixels
_END = struct.Struct(f"<II{len(MAGIC)}s")  # length and checksum of the tail
_ADVICE = "remove it and run `vitascope cache motion` again"
# the range coder of version 1: later versions add a header and checksums to each small picture
_FFV1 = {"level": "1", "coder": "1", "context": "0", "g": str(CHUNK_PAIRS)}


@dataclass(frozen=True)
class GridFlow:
    """The kept flow of one video; `read` opens the file anew, so that this may be handed to other processes.

    Attributes:
        path: The file.
        height: Of the frames that the flow was computed on, in whose pixels it is.
        width: Of those frames.
        step: Distance of the grid's points in pixels; they are those of `tracks.grid_points`.
        num_pairs: Pairs of consecutive frames: one less than the video has frames.
        method: How the flow was computed.
        unknown: Pairs `[first, end)` of which a frame is missing.
    """

    path: str
    height: int
    width: int
    step: int
    num_pairs: int
    method: str
    unknown: tuple[tuple[int, int], ...]
    chunks: tuple[tuple[int, int, int], ...]  # offset, size and checksum of each

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GridFlow:
        """Read the tail of a file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no such file, or it is damaged.
        """
        path = os.fspath(path)
        with open(path, "rb") as file:
            head, size = file.read(len(MAGIC)), file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _END.size))
            end = file.read()
            if head != MAGIC or size < len(MAGIC) + _END.size or not end.endswith(MAGIC):
                raise ValueError(f"{path} is no file of flow, or a damaged one; {_ADVICE}")
            length, checksum, _ = _END.unpack(end)
            first = size - _END.size - length
            file.seek(max(0, first))
            tail = file.read(length)
        try:
            if zlib.crc32(tail) != checksum:
                raise ValueError("its tail has another checksum")
            facts = json.loads(tail)
            chunks = _places(facts.pop("chunks"))
            unknown = tuple((int(first), int(end)) for first, end in facts.pop("unknown"))
            flow = cls(path, unknown=unknown, chunks=chunks, **facts)
            _check(flow, first)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: the flow is damaged ({error}); {_ADVICE}") from error
        return flow

    def read(self, first: int, end: int) -> np.ndarray:
        """The flow of the pairs `[first, end)`, from frame `first` to the next one, and so on; only their chunks are read.

        Returns:
            x and y in pixels of `height` x `width`, NaN where unknown: float32 `[end - first, h, w, 2]`.

        Raises:
            ValueError: There are no such pairs, or the file is damaged.
        """
        if not 0 <= first <= end <= self.num_pairs:
            raise ValueError(f"pairs [{first}, {end}) must lie in [0, {self.num_pairs})")
        height, width = self.height // self.step, self.width // self.step
        values = np.empty((end - first, height, width, 2), np.float32)
        with open(self.path, "rb") as file:
            for number in range(first // CHUNK_PAIRS, -(-end // CHUNK_PAIRS)):
                start = number * CHUNK_PAIRS
                count = min(CHUNK_PAIRS, self.num_pairs - start)
                a, b = max(first, start), min(end, start + count)
                values[a - first : b - first] = self._chunk(file, number, b - start)[a - start :]
        for a, b in self.unknown:
            values[max(a - first, 0) : max(b - first, 0)] = np.nan
        return values

    def _chunk(self, file: BinaryIO, number: int, count: int) -> np.ndarray:
        """The first `count` pairs of a chunk, float32 `[count, h, w, 2]`."""
        offset, size, checksum = self.chunks[number]
        file.seek(offset)
        data = file.read(size)
        if len(data) != size or zlib.crc32(data) != checksum:
            raise ValueError(f"{self.path}: chunk {number} of the flow is damaged; {_ADVICE}")
        num_pairs = min(CHUNK_PAIRS, self.num_pairs - number * CHUNK_PAIRS)
        try:
            return _unpacked(data, num_pairs, count, self.height // self.step, self.width // self.step)
        except (av.error.FFmpegError, ValueError, struct.error) as error:
            raise ValueError(f"{self.path}: chunk {number} of the flow is damaged ({error}); {_ADVICE}") from error


def write_grid_flow(
    path: str | os.PathLike[str],
    flows: Iterable[np.ndarray],
    *,
    height: int,
    width: int,
    method: str,
    step: int = STEP_PIXELS,
) -> int:
    """Write flow as it comes; memory is that of 64 pairs.

    The file is whole when this returns; give it a temporary name that is moved into place afterwards.

    Args:
        path: The file; replaced if it exists.
        flows: For each pair of consecutive frames, float32 `[height // step, width // step, 2]` in pixels; a pair that
            holds a value that is not finite is unknown.
        height: Of the frames that the flow was computed on.
        width: Of those frames.
        method: How it was computed.
        step: Distance of the grid's points in pixels.

    Returns:
        The number of pairs.

    Raises:
        ValueError: A flow has another shape, or the frames are smaller than `step`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/a.flow"
        ...     write_grid_flow(path, np.full((3, 2, 4, 2), 1.5, np.float32), height=16, width=39, method="dis-medium")
        ...     GridFlow.open(path).read(1, 3)[:, 0, 0].tolist()
        3
        [[1.5, 1.5], [1.5, 1.5]]
    """
    shape = (height // step, width // step, 2)
    if 0 in shape:
        raise ValueError(f"frames of {width}x{height} pixels are too small: flow is kept every {step} pixels")
    count, unknown, chunks, flows = 0, [], [], iter(flows)
    with open(path, "wb") as file:
        file.write(MAGIC)
        while batch := list(islice(flows, CHUNK_PAIRS)):
            wrong = next((flow for flow in batch if flow.shape != shape), None)
            if wrong is not None:
                raise ValueError(f"a flow {list(wrong.shape)} must be {list(shape)}")
            values = np.stack(batch)
            is_known = np.isfinite(values).all((1, 2, 3))
            unknown += (count + np.flatnonzero(~is_known)).tolist()
            data = _packed(np.where(is_known[:, None, None, None], values, 0))
            file.write(data)
            chunks.append((len(data), zlib.crc32(data)))
            count += len(batch)
        facts = {"height": height, "width": width, "step": step, "num_pairs": count, "method": method}
        tail = json.dumps(facts | {"unknown": _runs(unknown), "chunks": chunks}).encode()
        file.write(tail + _END.pack(len(tail), zlib.crc32(tail), MAGIC))
    return count


def cache_flow(
    video: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    method: FlowMethod = "dis-medium",
    index: bytes | None = None,
) -> tuple[int, tuple[Gap, ...]]:
    """Compute the flow between all consecutive frames of a video and write it to `path`, one frame after the other.

    Args:
        video: A local file.
        path: The file to write, as `write_grid_flow` does.
        method: See `flow.DenseFlow`.
        index: The video's frame index, as `FrameIndex.to_bytes` gave it; made otherwise.

    Returns:
        The number of pairs, and the stretches of the video that cannot be decoded.

    Raises:
        VideoError: The video cannot be read.
        ValueError: There is no such method, or the frames are smaller than 8 pixels.
    """
    num_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # two processes gain 2 x, two threads within one call 1.5 x
    try:
        with VideoReader(video, index=None if index is None else FrameIndex.from_bytes(index)) as reader:
            height, width = flow_size(reader)
            count = write_grid_flow(path, grid_flows(reader, method), height=height, width=width, method=method)
            return count, reader.gaps
    finally:
        cv2.setNumThreads(num_threads)


def flow_size(reader: VideoReader) -> tuple[int, int]:
    """Height and width of the frames that the flow of a video is computed on: its own, the short side at most 320."""
    height, width = reader.info.height, reader.info.width
    scale = min(1.0, SHORT_SIDE / min(height, width))
    return round(height * scale), round(width * scale)


def grid_flows(reader: VideoReader, method: FlowMethod = "dis-medium") -> Iterator[np.ndarray]:
    """The flow from each frame of a video to the next one shown, on the grid.

    Over a cut it is what the method says. It is NaN where one of the two frames cannot be decoded, or where the file
    has lost frames between them.

    Yields:
        float32 `[h, w, 2]`, one less than the video has frames.
    """
    compute, index, (height, width) = DenseFlow(method), reader.index, flow_size(reader)
    shape = height // STEP_PIXELS, width // STEP_PIXELS, 2
    points, nothing = grid_points(height, width, STEP_PIXELS), np.full(shape, np.nan, np.float32)
    behind_hole = {index.first_from(int(end)) for _, end in index.holes}
    count, last_position, last = 0, -1, None
    for seconds, frame in reader.iterate(size=(height, width)):
        position = int(np.searchsorted(index.times_seconds, seconds))
        picture = grey(frame.numpy()[None])[0]
        for _ in range(count, position - 1):  # pairs that lack a frame or both
            yield nothing
        if position > 0:
            follows = last_position == position - 1 and position not in behind_hole
            yield read_at(compute(last, picture), points).reshape(shape) if follows else nothing
        count, last_position, last = position, position, picture
    for _ in range(count, len(index) - 1):
        yield nothing


def _packed(values: np.ndarray) -> bytes:
    """Flow `[P, h, w, 2]` as the sizes of its pictures and the pictures."""
    count, height, width, _ = values.shape
    steps = np.clip(np.rint(values * STEPS_PER_PIXEL), -_LARGEST, _LARGEST).astype(np.int32).transpose(0, 3, 1, 2) + 128
    pictures = np.concatenate([steps & 255, (steps >> 8) + 128], 1).reshape(count, 4 * height, width).astype(np.uint8)
    encoder = av.CodecContext.create("ffv1", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, 4 * height, "gray", Fraction(1, 25)
    encoder.options, encoder.thread_count = _FFV1, 1
    packets = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="gray")
        frame.pts = number
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    packets += [bytes(packet) for packet in encoder.encode(None)]
    return struct.pack(f"<{count}I", *map(len, packets)) + b"".join(packets)


def _unpacked(data: bytes, num_pairs: int, count: int, height: int, width: int) -> np.ndarray:
    """The first `count` of the `num_pairs` flows of a chunk, float32 `[count, h, w, 2]`."""
    ends = 4 * num_pairs + np.cumsum(struct.unpack_from(f"<{num_pairs}I", data))
    starts = np.append(4 * num_pairs, ends)
    if ends[-1] != len(data):
        raise ValueError(f"it holds {len(data)} bytes, {ends[-1]} are declared")
    decoder = av.CodecContext.create("ffv1", "r")
    decoder.width, decoder.height, decoder.pix_fmt, decoder.thread_count = width, 4 * height, "gray", 1
    pictures = []
    for start, end in zip(starts[:count], ends):
        pictures += [frame.to_ndarray() for frame in decoder.decode(av.Packet(data[start:end]))]
    if len(pictures) != count or any(picture.shape != (4 * height, width) for picture in pictures):
        raise ValueError(f"it holds {len(pictures)} pictures of another size or number than is declared")
    planes = np.stack(pictures).reshape(count, 2, 2, height, width).astype(np.int32)
    steps = planes[:, 0] - 128 + ((planes[:, 1] - 128) << 8)  # [P, 2, h, w]
    return np.ascontiguousarray(steps.transpose(0, 2, 3, 1), np.float32) / STEPS_PER_PIXEL


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as stretches `[first, end)`."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        first = runs.pop()[0] if runs and runs[-1][1] == number else number
        runs.append((first, number + 1))
    return runs


def _places(chunks: list) -> tuple[tuple[int, int, int], ...]:
    """Where each chunk lies, from their sizes and checksums."""
    places, offset = [], len(MAGIC)
    for size, checksum in chunks:
        if not (isinstance(size, int) and isinstance(checksum, int) and size > 0):
            raise ValueError(f"a chunk of {size} bytes")
        places.append((offset, size, checksum))
        offset += size
    return tuple(places)


def _check(flow: GridFlow, tail_start: int) -> None:
    numbers = flow.height, flow.width, flow.step, flow.num_pairs
    if not all(type(number) is int for number in numbers) or not isinstance(flow.method, str):
        raise ValueError("its facts are of other kinds than written")
    if not 1 <= flow.step <= min(flow.height, flow.width) <= max(flow.height, flow.width) <= MAX_SIDE:
        raise ValueError(f"frames of {flow.width}x{flow.height} pixels, a value every {flow.step}")
    if not 0 <= flow.num_pairs <= MAX_FRAMES or len(flow.chunks) != -(-flow.num_pairs // CHUNK_PAIRS):
        raise ValueError(f"{flow.num_pairs} pairs in {len(flow.chunks)} chunks")
    if len(MAGIC) + sum(size for _, size, _ in flow.chunks) != tail_start:
        raise ValueError("its chunks do not fill it")
