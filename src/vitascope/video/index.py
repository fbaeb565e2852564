"""The frame index: when each frame of a video is shown, and where decoding may start.

It is made by reading the packets of the file once, without decoding. Where packets do not tell when their frames are shown (old AVI,
bare streams, several frames in one packet) there is no other way than to decode once and to count.
"""

from __future__ import annotations

import os
import struct
import zlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import chain

import av
import numpy as np

from vitascope.structures import VideoError
from vitascope.video.container import MAX_FRAMES, OpenVideo
from vitascope.video.matroska import declared_seconds, is_cut_off

_MAGIC = b"vitascope-index-1"
_HEAD = struct.Struct("<qqqdqqqqB")  # end_pts, time base (2), nominal fps, frames, seek points, holes, unread, flags
_MAX_SLACK_BYTES = 1024  # between two packets of a Matroska file, beyond other packets; more was not understood
_NEIGHBOURS = 16  # packets on each side of a break whose times are compared; frames are reordered by no more
_HEAD_PACKETS = 256  # that may come before the second key frame while it is looked which first frames are shown


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Times and seek points of one video; positions are frame numbers in the order shown.

    Attributes:
        pts: Presentation stamps, ascending, int64 `[N]`, in ticks.
        end_pts: Stamp at which the last frame ends.
        time_base: Seconds a tick.
        nominal_fps: The rate that the header declares; 0 when unknown.
        seek_stamps: What to seek for, int64 `[K]`: the stamps of key frames (presentation stamps, or those of `stamps`).
        seek_positions: Position of the first frame that is right after that seek, ascending, int64 `[K]`.
        stamps: None, or for each frame the decoding stamp of the packet that it came from, int64 `[N]`; where it is given,
            presentation stamps are no property of packets.
        is_counted: Frames are told by counting from the start of the file only; it cannot be sought.
        holes: Stretches `[start, end)` in ticks, int64 `[G, 2]`, whose packets the file has lost, as far as can be told: in MPEG-TS by
            its packet counters, in Matroska by bytes that are no packet.
        num_unread: Frames that the header of an mp4 or Matroska file tells of and the file does not hold: it broke off.
    """

    pts: np.ndarray
    end_pts: int
    time_base: Fraction
    nominal_fps: float
    seek_stamps: np.ndarray
    seek_positions: np.ndarray
    stamps: np.ndarray | None = None
    is_counted: bool = False
    holes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    num_unread: int = 0
    _by_stamp: tuple[memoryview, memoryview | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        order = None if self.stamps is None else np.argsort(self.stamps, kind="stable")
        keys = self.pts if order is None else self.stamps[order]
        # memoryview: `bisect` over a numpy array makes a numpy scalar at each step
        lookup = memoryview(np.ascontiguousarray(keys)), None if order is None else memoryview(order)
        object.__setattr__(self, "_by_stamp", lookup)

    def __len__(self) -> int:
        return len(self.pts)

    @cached_property
    def times_seconds(self) -> np.ndarray:
        """Presentation times relative to the first frame, float64 `[N]`."""
        return (self.pts - self.pts[0]) * (self.time_base.numerator / self.time_base.denominator)

    @property
    def keyframe_pts(self) -> np.ndarray:
        """Stamps of the frames at which decoding may start, int64 `[K]`."""
        return self.pts[np.minimum(self.seek_positions, len(self) - 1)]

    @property
    def duration_seconds(self) -> float:
        """From the first frame's start to the last frame's end."""
        return float((self.end_pts - int(self.pts[0])) * self.time_base)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        if len(self) < 2:
            return self.nominal_fps or (1 / self.duration_seconds if self.duration_seconds else 0.0)
        return (len(self) - 1) / float(self.times_seconds[-1])

    @property
    def is_variable_rate(self) -> bool:
        """Whether a frame lies off the even grid by more than the rounding to ticks (or a 20th of a frame) explains."""
        if len(self) < 3:
            return False
        step = (self.pts[-1] - self.pts[0]) / (len(self) - 1)
        off = np.abs(self.pts - self.pts[0] - step * np.arange(len(self)))
        return bool(off.max() > max(1.0, step / 20))

    def position_of(self, stamp: int | None) -> int:
        """Position of the frame with that stamp (of `stamps` where they are given, else of `pts`), or -1."""
        keys, order = self._by_stamp
        if stamp is None:
            return -1
        place = bisect_left(keys, stamp)
        if place == len(keys) or keys[place] != stamp:
            return -1
        return place if order is None else order[place]

    def first_from(self, pts: int) -> int:
        """Position of the first frame shown at `pts` or later."""
        return int(np.searchsorted(self.pts, pts))

    @cached_property
    def _seek_list(self) -> list[int]:
        return self.seek_positions.tolist()

    def seek_point_before(self, position: int) -> int:
        """Number of the last seek point from which `position` can be reached, or -1: only from the start of the file."""
        return bisect_right(self._seek_list, position) - 1

    def frames_at_seconds(self, times_seconds: np.ndarray) -> np.ndarray:
        """Positions int64 `[T]` of the frames that are shown at `times_seconds` `[T]`: the last with a stamp at or before them.

        A microsecond of tolerance takes up the rounding of seconds; before the first frame the answer is -1.
        """
        return np.searchsorted(self.times_seconds, np.asarray(times_seconds, float) + 1e-6, side="right") - 1

    @cached_property
    def holes_seconds(self) -> np.ndarray:
        """`holes` in seconds, float64 `[G, 2]`."""
        return (self.holes - self.pts[0]) * (self.time_base.numerator / self.time_base.denominator)

    def to_bytes(self) -> bytes:
        """A compact copy for storage, about 2 bytes a frame."""
        has_stamps = self.stamps is not None
        arrays = [np.diff(self.pts, prepend=0), self.seek_stamps, self.seek_positions, self.holes]
        arrays += [self.stamps - self.pts] if has_stamps else []
        body = zlib.compress(b"".join(np.ascontiguousarray(a, "<i8").tobytes() for a in arrays))
        tick, flags = self.time_base, int(has_stamps) + 2 * int(self.is_counted)
        sizes = len(self), len(self.seek_stamps), len(self.holes), self.num_unread, flags
        return _MAGIC + _HEAD.pack(self.end_pts, tick.numerator, tick.denominator, self.nominal_fps, *sizes) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> FrameIndex:
        """The index that `to_bytes` wrote.

        Raises:
            ValueError: `data` is something else.
        """
        start = len(_MAGIC) + _HEAD.size
        if data[: len(_MAGIC)] != _MAGIC or len(data) < start:
            raise ValueError(f"data ({len(data)} bytes) must come from FrameIndex.to_bytes; build the index again")
        end_pts, numerator, denominator, fps, n, k, g, unread, flags = _HEAD.unpack_from(data, len(_MAGIC))
        length = 8 * (n + 2 * k + 2 * g + (n if flags & 1 else 0))
        if not 0 < n <= MAX_FRAMES or not 0 <= k <= MAX_FRAMES or not 0 <= g <= n or min(numerator, denominator) < 1:
            raise ValueError(f"data declares {n} frames and {k} seek points; build the index again")
        try:
            unpacker = zlib.decompressobj()
            body = unpacker.decompress(data[start:], length + 1)
        except zlib.error as error:
            raise ValueError(f"data is damaged ({error}); build the index again") from error
        if len(body) != length or not unpacker.eof:
            raise ValueError(f"data holds {len(body)} bytes of stamps, {length} are declared; build the index again")
        values = np.frombuffer(body, "<i8").astype(np.int64)
        pts, stamps = np.cumsum(values[:n]), values[n + 2 * k + 2 * g :]
        return cls(
            pts=pts,
            end_pts=end_pts,
            time_base=Fraction(numerator, denominator),
            nominal_fps=fps,
            seek_stamps=values[n : n + k],
            seek_positions=values[n + k : n + 2 * k],
            stamps=stamps + pts if flags & 1 else None,
            is_counted=bool(flags & 2),
            holes=values[n + 2 * k : n + 2 * k + 2 * g].reshape(g, 2),
            num_unread=unread,
        )


def build(path: str | os.PathLike[str]) -> FrameIndex:
    """Reads the packets of a video once and returns its frame index.

    Raises:
        VideoError: As `probe`, or `damaged` when the file holds no frame.
    """
    opened = OpenVideo(path)
    try:
        return build_from(opened)
    finally:
        opened.close()


def build_from(opened: OpenVideo) -> FrameIndex:
    """Like `build`, of a file just opened; it may be reopened on the way."""
    packets = _Packets(opened)
    if len(packets.pts) == 0:
        raise VideoError(
            opened.path, "damaged", "its header is whole, but no frame follows; copy it again from its source"
        )
    if len(packets.pts) > MAX_FRAMES:
        raise VideoError(opened.path, "too_large", f"it holds more than {MAX_FRAMES:,} frames")
    shown = [stamp for stamp, hidden in zip(packets.pts, packets.hidden) if not hidden]
    if not shown or None in shown or len(set(shown)) < len(shown):
        return _count_frames(opened, packets)
    pts = np.sort(np.array(shown, np.int64))
    if packets.keys:
        pts = _without_unshown(opened, packets, pts)
    # A key frame outside the edit list may still be the place to start from, if nothing is shown before it.
    keys = [packets.pts[k] for k in packets.keys if packets.pts[k] is not None]
    hidden = {packets.pts[k] for k in packets.keys if packets.hidden[k]}
    seek_stamps = np.unique(np.array([k for k in keys if k not in hidden or k <= pts[0]], np.int64))
    holes = _holes(packets, pts)
    last_duration = next((d for p, d in zip(packets.pts, packets.durations) if p == pts[-1]), 0)
    end_pts = int(pts[-1]) + _last_ticks(pts, last_duration)
    return FrameIndex(
        pts=pts,
        end_pts=end_pts,
        time_base=opened.stream.time_base,
        nominal_fps=float(opened.stream.average_rate or 0),
        seek_stamps=seek_stamps,
        seek_positions=np.searchsorted(pts, seek_stamps),
        holes=holes,
        num_unread=packets.num_unread or _num_cut_off(opened, end_pts),
    )


class _Packets:
    """What the packets of a file say, in their order in the file."""

    def __init__(self, opened: OpenVideo) -> None:
        self.pts: list[int | None] = []
        self.dts: list[int | None] = []
        self.durations: list[int | None] = []
        self.keys: list[int] = []
        self.hidden: list[bool] = []  # not shown: outside the edit list, or only referred to
        self.breaks: list[int] = []  # packets before or behind which something of the file is lost
        places: list[tuple[int, int]] = []
        pts, dts, durations, hidden = self.pts.append, self.dts.append, self.durations.append, self.hidden.append
        is_vp8 = opened.stream.codec_context.name == "vp8"
        is_matroska = opened.container.format.name.startswith("matroska")
        for number, packet in enumerate(opened.packets()):
            if number > MAX_FRAMES:
                break
            pts(packet.pts)
            dts(packet.dts)
            durations(packet.duration)
            # In VP8 a bit of the frame says whether it is shown.
            hidden(packet.is_discard or (is_vp8 and not memoryview(packet)[0] & 0x10))
            if packet.is_keyframe:
                self.keys.append(number)
            if packet.is_corrupt:
                self.breaks += range(number, number + 4)  # what is lost may follow a few packets later
            if is_matroska:
                places.append((packet.pos or 0, packet.size))
        self.num_unread = _num_behind_the_end(opened) if len(self.pts) < len(opened.stream.index_entries) else 0
        if places:
            self.breaks += _unexplained(opened, np.array(places, np.int64))
        self._hide_garbage()

    def _hide_garbage(self) -> None:
        """Leaves out the packets at a break that have no stamp, or that of another."""
        near = {number + step for number in self.breaks for step in (-2, -1, 0, 1)}
        for number in sorted(near & set(range(len(self.pts)))):
            stamp = self.pts[number]
            around = self.pts[max(0, number - 10 * _NEIGHBOURS) : number]
            self.hidden[number] |= stamp is None or stamp in around


def _num_behind_the_end(opened: OpenVideo) -> int:
    """Packets that an mp4 file lists and that would lie behind its end."""
    if not opened.container.format.name.startswith("mov"):
        return 0
    size = os.path.getsize(opened.path)
    return sum(entry.pos + entry.size > size for entry in opened.stream.index_entries)


def _num_cut_off(opened: OpenVideo, end_pts: int) -> int:
    """Frames that a Matroska file had behind its present end, by its declared length; at least one if it broke off."""
    stream = opened.stream
    if not opened.container.format.name.startswith("matroska") or not is_cut_off(opened.path):
        return 0
    declared = declared_seconds(stream.metadata.get("DURATION"), opened.container.duration)
    return max(1, round(((declared or 0.0) - float(end_pts * stream.time_base)) * float(stream.average_rate or 0)))


def _unexplained(opened: OpenVideo, places: np.ndarray) -> list[int]:
    """Packets of a Matroska file before which lie bytes that belong to nothing; `places` is offset and size `[P, 2]`."""
    starts, ends = places[1:, 0], places[:-1].sum(axis=1)
    suspects = np.flatnonzero(starts - ends > _MAX_SLACK_BYTES)
    if len(suspects) == 0 or len(opened.container.streams) == 1:
        return (suspects + 1).tolist()
    # Sound may fill the space: look at all streams once. The last byte of each packet stands for where it lies.
    opened.reopen()
    for stream in opened.container.streams:
        stream.discard = av.stream.Discard.default
    others = [(p.pos, p.size + 16) for p in opened.packets(every_stream=True) if p.pos is not None and p.size]
    opened.reopen()
    filled = np.array(sorted(others), np.int64).reshape(-1, 2)
    total = np.append(0, np.cumsum(filled[:, 1]))
    left, right = (np.searchsorted(filled[:, 0], edge[suspects]) for edge in (ends, starts))
    slack = starts[suspects] - ends[suspects] - (total[right] - total[left])
    return (suspects[slack > _MAX_SLACK_BYTES] + 1).tolist()


def _holes(packets: _Packets, pts: np.ndarray) -> np.ndarray:
    """Stretches of time without a frame at the breaks of a file, int64 `[G, 2]`."""
    holes = set()
    step = int(np.median(np.diff(pts))) if len(pts) > 1 else 0
    for number in set(packets.breaks):
        around = [
            [
                stamp
                for stamp, hidden in zip(packets.pts[part], packets.hidden[part])
                if not hidden and stamp is not None
            ]
            for part in (slice(max(0, number - _NEIGHBOURS), number), slice(number, number + _NEIGHBOURS))
        ]
        if all(around) and min(around[1]) - max(around[0]) > 1.5 * step:
            holes.add((max(around[0]) + step, min(around[1])))
    return np.array(sorted(holes), np.int64).reshape(-1, 2)


def _last_ticks(pts: np.ndarray, declared: int | None) -> int:
    """How long the last frame is shown: as declared, or as long as the one before."""
    if declared:
        return declared
    return int(pts[-1] - pts[-2]) if len(pts) > 1 else 1


def _without_unshown(opened: OpenVideo, packets: _Packets, pts: np.ndarray) -> np.ndarray:
    """Drops the frames before the first key frame that no decoder can show: a recording that starts in the middle of a group."""
    first = packets.keys[0]
    key_pts = packets.pts[first]
    if packets.hidden[first] or (first == 0 and pts[0] == key_pts):
        return pts
    opened.reopen()
    shown, seen = set(), 0
    for number, packet in enumerate(opened.packets()):
        frames = _decoded(opened, packet)
        shown.update(frame.pts for frame in frames if not frame.is_corrupt)
        seen = max([seen, *(frame.pts for frame in frames if frame.pts is not None)])
        if seen >= key_pts and shown or number > first + _HEAD_PACKETS:
            break
    return pts[(pts >= key_pts) | np.isin(pts, [p for p in shown if p is not None])]


def _decoded(opened: OpenVideo, packet: av.Packet | None) -> list[av.VideoFrame]:
    try:
        return opened.stream.decode(packet)
    except av.error.FFmpegError:
        return []


def _count_frames(opened: OpenVideo, packets: _Packets) -> FrameIndex:
    """Decodes the file once and counts its frames."""
    opened.reopen()
    pts: list[int | None] = []
    origin: list[int | None] = []
    for number, packet in enumerate(chain(opened.packets(), [None])):
        if packet is not None:
            packet.opaque = number
        frames = _decoded(opened, packet)
        pts += [frame.pts for frame in frames]
        origin += [frame.opaque for frame in frames]
    if not pts:
        raise VideoError(opened.path, "damaged", "none of its frames can be decoded; copy it again from its source")
    tick, rate = opened.stream.time_base, opened.stream.average_rate or opened.stream.guessed_rate or Fraction(25)
    step = float(1 / (rate * tick))
    if None in pts or any(b <= a for a, b in zip(pts, pts[1:])):
        pts = [round(step * number) for number in range(len(pts))]
        if step < 1:
            pts, tick = list(range(len(pts))), 1 / Fraction(rate)
    stamps = None
    if opened.container.format.name == "avi" and None not in origin and len(set(origin)) == len(origin):
        # AVI keeps the decoding stamp of every packet, the same after a seek.
        stamps = [packets.dts[number] if number < len(packets.dts) else None for number in origin]
        stamps = None if None in stamps or len(set(stamps)) < len(stamps) else np.array(stamps, np.int64)
    seek_stamps = np.zeros(0, np.int64)
    if stamps is not None:
        keys = {packets.dts[k] for k in packets.keys}
        seek_stamps = stamps[np.isin(stamps, list(keys))]
    return FrameIndex(
        pts=np.array(pts, np.int64),
        end_pts=pts[-1] + _last_ticks(np.array(pts, np.int64), None),
        time_base=Fraction(tick),
        nominal_fps=float(rate),
        seek_stamps=seek_stamps,
        seek_positions=np.flatnonzero(np.isin(stamps, seek_stamps)) if stamps is not None else seek_stamps,
        stamps=stamps,
        is_counted=stamps is None,
        num_unread=packets.num_unread,
    )
