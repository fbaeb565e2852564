"""Decoding: the frame at a position, exactly or not at all.

`Decoder` knows where it stands, seeks no more than needed, checks where a seek landed, and keeps apart the frames that damage has
reached. `Converter` turns decoded frames into upright RGB. No torch here: `scan` opens thousands of files with this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from vitascope.structures import Gap
from vitascope.video.asked import output_size
from vitascope.video.container import OpenVideo
from vitascope.video.index import FrameIndex
from vitascope.video.probe import VideoInfo

_SEEK_COST_FRAMES = 4  # about what a seek costs, in frames decoded
_MAX_HELD = 32  # frames held back until the packets before theirs have come out; no codec reorders more than 16
_SKIPPED_IN = {"mov", "matroska"}  # containers whose packets are whole frames: fields of one cannot be told apart there
_LATE_STARTS = 2  # seeks one key frame earlier, when decoding starts later than the key frame promised
_NOT_YET = 1 << 62
_ACCURATE = Interpolation.AREA | Interpolation.ACCURATE_RND


class _Damage:
    """Which frames damage has reached: from the broken packet on, in the order of the file, up to the next key frame.

    Frames that are shown before that key frame but come after it in the file may refer to the broken ones too.
    """

    def __init__(self) -> None:
        self._keys: deque[tuple[int, int]] = deque(maxlen=16)  # packet number, position
        # Number of the next key frame's packet -> first broken packet, position of that key frame.
        self._stretches: dict[int, tuple[int, int]] = {}
        self._alone: deque[int] = deque(maxlen=64)

    def key_frame(self, number: int, position: int) -> None:
        self._keys.append((number, position))
        if _NOT_YET in self._stretches:
            self._stretches[number] = self._stretches.pop(_NOT_YET)[0], position
        if len(self._stretches) > 16:  # long behind
            del self._stretches[min(self._stretches)]

    def strike(self, number: int, alone: bool = False) -> None:
        """A packet is broken; `alone`: no other frame refers to its frame."""
        if alone:
            self._alone.append(number)
            return
        end, position = next((key for key in self._keys if key[0] > number), (_NOT_YET, _NOT_YET))
        first = min(number, self._stretches.get(end, (number, 0))[0])
        self._stretches[end] = first, position

    def reaches(self, number: int, position: int) -> bool:
        if not self._stretches and not self._alone:
            return False
        if number in self._alone:
            return True
        return any(
            first <= number and (number < end or position < key_position)
            for end, (first, key_position) in self._stretches.items()
        )


class Decoder:
    """Decodes the frames of one file at given positions.

    Attributes:
        missing: Positions asked for, or passed, that cannot be decoded.
    """

    def __init__(self, opened: OpenVideo, index: FrameIndex) -> None:
        self._opened, self._index = opened, index
        self.missing: set[int] = set()
        self._at: int | None = None  # the last position given out; None: nowhere yet
        self._wanted: frozenset[int] | None = None
        self._skipped: set[int] = set()  # went in as not wanted; without a picture if nothing refers to them
        self._may_skip = self._skips()

    def frame_at(self, position: int, wanted: frozenset[int] | None = None) -> av.VideoFrame | None:
        """The intact frame at a position, or None where damage has reached it.

        Args:
            position: Of the frame.
            wanted: All positions that will be asked for now; others, to which no frame refers, are then not decoded.
        """
        if position in self.missing:
            return None
        self._wanted = wanted
        if self._must_jump(position):
            self._jump(position)
        while (found := self._peek()) is not None and found[0] <= position:
            self._ready.popleft()
            if found[0] > self._at + 1:
                self._miss(range(self._at + 1, found[0]))
            self._at = found[0]
            if found[1] is None:
                self.missing.add(found[0])
            if found[0] == position:
                return found[1]
        # Nothing came out in its place: a player would go on showing another frame.
        self._miss(range(self._at + 1, position + 1))
        self._at = position
        return None

    def close(self) -> None:
        """Lets go of the file's packets and frames, before the file is closed."""
        self._at = None
        self._packets = iter(())
        self._ready = self._held = deque()

    def _miss(self, positions: range) -> None:
        self.missing.update(position for position in positions if position not in self._skipped)

    def _skips(self) -> bool:
        kind = self._opened.container.format.name.split(",")[0]
        return kind in _SKIPPED_IN and self._index.stamps is None and not self._index.is_counted

    def _skip(self, position: int, is_key: bool) -> None:
        """Tells the decoder whether the packet to come is worth decoding for its own sake."""
        is_unwanted = self._wanted is not None and position >= 0 and position not in self._wanted and not is_key
        skip = is_unwanted and self._may_skip
        if skip:
            self._skipped.add(position)
        if skip != self._is_skipping:
            self._is_skipping = skip
            self._opened.stream.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"

    def _must_jump(self, position: int) -> bool:
        if self._at is None or position <= self._at or position in self._skipped:
            return True
        point = self._index.seek_point_before(position)
        if point < 0 or position - self._at <= _SEEK_COST_FRAMES:
            return False
        return self._index.seek_positions[point] > self._front + _SEEK_COST_FRAMES

    def _jump(self, position: int) -> None:
        """Starts decoding at the last seek point before a position, or as much earlier as it takes to meet its frame."""
        point, back, late_starts = self._index.seek_point_before(position), 1, 0
        while point >= 0:
            if not self._seek(point, position):  # landed behind it, as MPEG-TS does
                point, back = point - back, back * 2
                continue
            found = self._peek()
            if (found is not None and found[0] <= position) or late_starts == _LATE_STARTS:
                self._at = min(position, _NOT_YET if found is None else found[0]) - 1
                return
            point, late_starts = point - 1, late_starts + 1
        self._opened.reopen()
        self._start(self._opened.packets(), valid_from=0)
        self._at = -1

    def _seek(self, point: int, position: int) -> bool:
        """Seeks and reads on to the first key frame; whether that lies at or before the position wanted."""
        try:
            self._opened.container.seek(int(self._index.seek_stamps[point]), stream=self._opened.stream)
        except (av.error.FFmpegError, OSError):
            return False
        packets = self._opened.packets()
        for packet in packets:
            landed = self._key_position(packet)
            if landed is not None:
                self._start(chain([packet], packets), valid_from=landed)
                return landed <= position
        return False

    def _start(self, packets: Iterator[av.Packet], valid_from: int) -> None:
        self._packets, self._valid_from = packets, valid_from
        self._ready: deque[tuple[int, av.VideoFrame | None]] = deque()
        self._held: deque[tuple[int, int, av.VideoFrame]] = deque()
        self._inside: dict[
            int, tuple[int, int]
        ] = {}  # packets in the decoder: number -> position, that of its key frame
        self._damage = _Damage()
        self._skipped.clear()
        self._number, self._key, self._counted, self._is_skipping = 0, -1, 0, None
        self._front = self._last_out = valid_from - 1
        self._is_over = False

    def _stamp(self, packet: av.Packet) -> int | None:
        return packet.pts if self._index.stamps is None else packet.dts

    def _key_position(self, packet: av.Packet) -> int | None:
        """The position from which frames are right when decoding starts at this packet; None if it may not start here."""
        if not packet.is_keyframe or (stamp := self._stamp(packet)) is None:
            return None
        if self._index.stamps is None:
            return self._index.first_from(stamp)
        position = self._index.position_of(stamp)
        return None if position < 0 else position

    def _peek(self) -> tuple[int, av.VideoFrame | None] | None:
        """The next frame in the order shown (without picture if damaged), None at the end."""
        while not self._ready and not self._is_over:
            self._feed(next(self._packets, None))
        return self._ready[0] if self._ready else None

    def _feed(self, packet: av.Packet | None) -> None:
        number = self._number
        if packet is not None:
            self._enter(packet, number)
            self._number += 1
        try:
            frames, is_broken = self._opened.decode(packet)
        except (av.error.FFmpegError, OSError, ValueError):
            frames, is_broken = [], True
        if is_broken:
            # Shown before its key frame: nothing behind the key frame refers to it.
            position, key = self._inside.get(number, (-1, -1))
            self._damage.strike(number, alone=0 <= position < key)
        for frame in frames:
            self._take(frame)
        if packet is None:
            self._is_over = True
            self._inside.clear()
        self._release()

    def _enter(self, packet: av.Packet, number: int) -> None:
        position, is_key = -1, packet.is_keyframe
        if not self._index.is_counted and not packet.is_discard:
            position = self._index.position_of(self._stamp(packet))
        if is_key:
            self._key = position
            self._damage.key_frame(number, position)
        if packet.is_corrupt:
            self._damage.strike(number)
        packet.opaque = number
        self._skip(position, is_key)
        if position >= 0:
            self._inside[number] = position, self._key
            self._front = max(self._front, position)

    def _take(self, frame: av.VideoFrame) -> None:
        """Gives a frame out of the decoder its position and holds it back."""
        number = frame.opaque
        if not isinstance(number, int):
            number = self._number - 1
        position, key = self._inside.pop(number, (-1, -1))
        if self._index.is_counted:
            position, self._counted = self._counted, self._counted + 1
        elif self._index.stamps is None and frame.pts is not None:
            position = self._index.position_of(frame.pts)
        if position < self._valid_from or position <= self._last_out or position >= len(self._index):
            return
        self._last_out = position
        for other in [n for n, (place, _) in self._inside.items() if place < position]:
            del self._inside[other]  # the decoder gave nothing for it
        if frame.is_corrupt:
            self._damage.strike(number, alone=position < key)
        self._held.append((number, position, frame))

    def _release(self) -> None:
        """Lets the held frames go for which all earlier packets have come out: only then is known what damage reached them."""
        while self._held:
            number, position, frame = self._held[0]
            oldest = next(iter(self._inside), number)
            if oldest < number and len(self._held) < _MAX_HELD:
                return
            self._held.popleft()
            self._ready.append((position, None if self._damage.reaches(number, position) else frame))


def gaps_of(missing: set[int], index: FrameIndex) -> tuple[Gap, ...]:
    """The stretches of time that the missing positions make up; where a hole of the file follows, they end where it begins."""
    if not missing:
        return ()
    positions = np.array(sorted(missing))
    ends = frame_ends(index)
    gaps = []
    for run in np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1):
        detail = f"{len(run)} frame{'s' * (len(run) > 1)} cannot be decoded"
        gaps.append(Gap(float(index.times_seconds[run[0]]), float(ends[run[-1]]), detail))
    return tuple(gaps)


def lost_gaps(index: FrameIndex) -> tuple[Gap, ...]:
    """The stretches of time for which the file holds no packets any more."""
    gaps = [Gap(float(start), float(end), "the file has lost its frames") for start, end in index.holes_seconds]
    if index.num_unread:
        end, fps = index.duration_seconds, index.nominal_fps or index.fps
        lost_seconds = index.num_unread / fps if fps else 0.0
        gaps.append(Gap(end, end + lost_seconds, f"the file breaks off; {index.num_unread} frames are lost"))
    return tuple(gaps)


def merged(*gaps: tuple[Gap, ...]) -> tuple[Gap, ...]:
    """Gaps of several kinds in the order of time; those that touch become one."""
    joined: list[Gap] = []
    for gap in sorted(sum(gaps, ()), key=lambda gap: gap.start_seconds):
        if not joined or gap.start_seconds > joined[-1].end_seconds + 1e-6:
            joined.append(gap)
            continue
        last = joined.pop()
        detail = last.detail if gap.detail in last.detail else f"{last.detail}; {gap.detail}"
        joined.append(Gap(last.start_seconds, max(last.end_seconds, gap.end_seconds), detail))
    return tuple(joined)


def frame_ends(index: FrameIndex) -> np.ndarray:
    """When each frame ceases to be shown, float64 `[N]`: when the next one starts, or where a hole of the file begins."""
    ends = np.append(index.times_seconds[1:], index.duration_seconds)
    before = np.searchsorted(index.times_seconds, index.holes_seconds[:, 1]) - 1
    ends[before] = np.maximum(index.holes_seconds[:, 0], index.times_seconds[before])
    return ends


class Converter:
    """Turns decoded frames into upright 8-bit RGB with square pixels, in full range.

    Scaling is by area (bilinear when enlarging), in the same pass as the conversion of colours. Where a file does not name its colour
    matrix, BT.601 is taken, as FFmpeg does.
    """

    def __init__(self, info: VideoInfo) -> None:
        # One scaler for the whole file: making one takes longer than using it. Planar output spares the turn to [C, H, W].
        self._scaler = VideoReformatter()
        self._turns, self._is_mirrored = info.rotation_degrees // 90, info.is_mirrored
        self.native_size = info.height, info.width

    def size(self, size: int | tuple[int, int] | None) -> tuple[int, int]:
        """Height and width of what `write` makes.

        Args:
            size: None for the native size, the short side in pixels, or (height, width).

        Raises:
            ValueError: A side is not in 1 to 16384.
        """
        return output_size(self.native_size, size)

    def write(self, frame: av.VideoFrame, out: np.ndarray) -> None:
        """Fills `out`, uint8 `[3, H, W]`, with the frame."""
        height, width = out.shape[1:]
        if self._turns % 2:
            height, width = width, height
        # Without ACCURATE_RND swscale takes a short cut at native size that leaves up to 8 wrong columns at the right edge,
        # unless the width is a multiple of 16. When scaling the flag costs nothing.
        is_short_cut_right = width % 16 == 0 and (width, height) == (frame.width, frame.height)
        interpolation = Interpolation.AREA if is_short_cut_right else _ACCURATE
        scaled = self._scaler.reformat(
            frame, width, height, "gbrp", interpolation=interpolation, dst_color_range=ColorRange.JPEG, threads=1
        )
        for channel, plane in zip((1, 2, 0), scaled.planes):
            pixels = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width]
            if self._is_mirrored:
                pixels = pixels[:, ::-1]
            out[channel] = np.rot90(pixels, -self._turns) if self._turns else pixels
