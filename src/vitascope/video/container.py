"""Opening a video file: local files only, limits before memory is taken, and one kind of error.

FFmpeg believes what a file says of itself. What it would act on at once (tables of frames, picture sizes) is compared with the
limits below first, and it is told to open plain files of known formats only: never a URL, never a playlist that names other files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import av

from vitascope.structures import VideoError, VideoReason
from vitascope.video.asked import MAX_SIDE

MAX_PIXELS = 8192 * 8192  # of one frame, as stored and as displayed; 8K television has half of that
MAX_FRAMES = 10**8  # as declared or found: more than a month at 30 frames/s
MAX_DURATION_SECONDS = 10**7  # as declared: about four months
MAX_READ_ERRORS = 32  # in a row; after that many the rest of the file counts as lost

# Demuxers of plain files. Not here on purpose: hls, dash, concat, image2 and *_pipe (stills), tty, subtitles, devices.
FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,vvc,av1,obu,vc1,ivf,flv,asf,ogg,nut,mxf,rm,dv,gif,apng,mjpeg,"
    "yuv4mpegpipe,h261,h263,cavs,nuv,wtv,gxf,roq,smk,bink,live_flv,evo,3gp,"
    "mp3,wav,flac,aac,ac3,aiff,amr,caf,w64,wv,ape,au"  # sound: opened in order to say that there is no picture
)
STILL_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
}
PLAYLISTS = {
    b"#EXTM3U": "HLS playlist",
    b"ffconcat version": "concat script",
    b"[playlist]": "playlist",
    b"<?xml": "XML file",
}
# The level is one for the whole process, so it goes back to this constant: what a thread found set may be another reader's doing.
_LOG_LEVEL = av.logging.get_level()
# What decoders say when a picture is lost or shown wrongly (H.264 numbers its slices 1 to 5).
_COMPLAINT = re.compile(
    r"reference picture missing|missing reference picture|could not find ref with poc|no frame!|error parsing nal unit"
    r"|error while decoding|decode_slice_header error|failed to parse header of nalu \(type [0-5]\)|concealing",
    re.IGNORECASE,
)
STILL_BRANDS = {"avif", "heic", "heix", "heim", "heis", "mif1"}

_OPEN = {
    "metadata_errors": "replace",
    "options": {"max_pixels": str(MAX_PIXELS)},
    "container_options": {"protocol_whitelist": "file", "format_whitelist": FORMATS},
}


class OpenVideo:
    """One opened file: its container and its video stream.

    PyAV reads freed memory when a stream or a demuxing loop outlives its container, so both are reached through here only and are
    gone after `close`.

    Attributes:
        path: The file, as it was given.
        container: The opened container.
        stream: Its best video stream; cover pictures do not count.
        may_be_turned: Whether the header may hold a rotation or a mirroring.
        num_read_errors: Errors met while reading packets.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1) -> None:
        self.path, self._num_threads = os.fspath(path), num_threads
        self.may_be_turned = _check_file(self.path)
        self.num_read_errors = 0
        self._open()

    def _open(self) -> None:
        try:
            self.container = av.open(
                "file:" + os.path.abspath(self.path),  # the prefix keeps names such as `concat:a` plain files
                **_OPEN,
            )
            # Stamps that FFmpeg would only guess are better seen as missing: they can differ after a seek.
            flags = av.container.Flags
            off, on = flags.gen_pts.value, 0
            if self.container.format.name in ("mpegts", "mpeg"):
                on = flags.no_fillin.value
            self.container.flags = self.container.flags & ~off | on
        except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
            raise video_error(self.path, error) from error
        try:
            self.stream = self._choose_stream()
        except BaseException:
            self.container.close()
            raise

    def _choose_stream(self) -> av.VideoStream:
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in self.container.streams.video if not stream.disposition & cover]
        if not streams:
            raise VideoError(self.path, "no_video_stream", "the file holds sound or data but no moving picture")
        try:
            best = self.container.streams.best("video")
        except IndexError:  # a broken file may show FFmpeg a stream that PyAV has not seen
            best = None
        stream = next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])
        if stream.codec_context is None:
            raise VideoError(
                self.path,
                "unsupported",
                "no decoder knows its codec, or its header is broken; convert it, e.g. to H.264 in mp4",
            )
        for other in self.container.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all
        codec = stream.codec_context
        _check_declared(self.path, self.container, stream)
        codec.options = {"max_pixels": str(MAX_PIXELS)}
        codec.thread_type = "SLICE" if self._num_threads == 1 else "AUTO"
        codec.thread_count = self._num_threads
        codec.copy_opaque = True  # lets each frame tell the packet that it came from
        return stream

    def packets(self, every_stream: bool = False) -> Iterator[av.Packet]:
        """Yields the packets of the video stream from where the container stands, past read errors, to the end."""
        streams = tuple(self.container.streams) if every_stream else (self.stream,)
        demuxed, in_a_row = self.container.demux(streams), 0
        while in_a_row < MAX_READ_ERRORS:
            try:
                packet = next(demuxed, None)
            except (av.error.FFmpegError, OSError):
                in_a_row, self.num_read_errors = in_a_row + 1, self.num_read_errors + 1
                demuxed = self.container.demux(streams)
                continue
            except IndexError:  # PyAV at the end of a file in which a stream came up late
                return
            if packet is None:
                return
            if packet.size:  # an empty packet would tell the decoder that the video ends
                in_a_row = 0
                yield packet

    def decode(self, packet: av.Packet | None) -> tuple[list[av.VideoFrame], bool]:
        """The frames that come out when a packet goes in (None: at the end), and whether the decoder complained of damage.

        FFmpeg conceals a lost reference with the nearest picture, and says so in a message only; PyAV drops an error that comes
        together with frames. So the messages are listened to, except with several threads, whose messages could block each other.
        """
        if self._num_threads != 1:
            return self.stream.decode(packet), False
        av.logging.set_level(av.logging.WARNING)
        try:
            with av.logging.Capture() as messages:
                frames = self.stream.decode(packet)
        finally:
            av.logging.set_level(_LOG_LEVEL)
        return frames, bool(messages) and any(_COMPLAINT.search(text) for _, _, text in messages)

    def reopen(self) -> None:
        """Opens the file once more, at its start."""
        self.close()
        self._open()

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self.stream = None
        if self.container is not None:
            self.container.close()
            self.container = None


def video_error(path: str, error: BaseException) -> VideoError:
    """Turns what PyAV, FFmpeg or the system raised into the one error of this room.

    Example:
        >>> video_error("a.mp4", PermissionError("denied")).reason
        'missing'
    """
    reason: VideoReason = "not_a_video"
    detail = "FFmpeg finds no video in it; check that it was copied whole and is not another kind of file"
    if isinstance(error, MemoryError):
        reason, detail = "too_large", "it asks for more memory than there is"
    elif isinstance(error, av.error.InvalidDataError) and _lacks_moov(path):
        detail = "an mp4 without its table of contents (moov): the recording or the copy broke off; copy it again or repair it"
    elif isinstance(error, (av.error.DecoderNotFoundError, av.error.PatchWelcomeError)):
        reason, detail = "unsupported", "FFmpeg cannot decode it; convert it, e.g. to H.264 in mp4"
    elif isinstance(error, (FileNotFoundError, PermissionError)) or type(error) is OSError:
        reason, detail = "missing", f"it cannot be opened for reading ({error.strerror or error})"
    return VideoError(path, reason, detail)


def _check_file(path: str) -> bool:
    """Refuses what is no plain video file before FFmpeg sees it; returns whether the header may hold a rotation."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(path, "missing", "it is not a regular file; give the name of a local video file")
        if status.st_size == 0:
            raise VideoError(path, "empty", "the file has 0 bytes; copy it again from its source")
        with open(path, "rb") as file:
            start = file.read(65536)
            _check_start(path, start)
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot"):
                return _check_boxes(path, file, status.st_size)
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        detail = "no such file; local files only, no URLs" if isinstance(error, FileNotFoundError) else str(error)
        raise VideoError(path, "missing", detail) from error
    return b"\x76\x70" in start or b"\x76\x75" in start  # Matroska: Projection, ProjectionPoseRoll


def _check_start(path: str, start: bytes) -> None:
    for magic, name in PLAYLISTS.items():
        if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(magic):
            raise VideoError(path, "not_a_video", f"it is a {name}; give the video files themselves")
    name = next((name for magic, name in STILL_IMAGES.items() if start.startswith(magic)), None)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        name = "WebP"
    if name in ("PNG", "GIF", "JPEG"):  # may be moving ones: APNG, an animated GIF, a bare MJPEG stream
        name = None if _moves(path) else name
    if name:
        raise VideoError(path, "not_a_video", f"it is a still image ({name}); videos only")


def _moves(path: str) -> bool:
    """Whether an image file holds a second picture."""
    try:
        options = {"protocol_whitelist": "file", "format_whitelist": "gif,apng,mjpeg"}
        with av.open("file:" + os.path.abspath(path), options=options, metadata_errors="replace") as container:
            packets = (packet for packet in container.demux(video=0) if packet.size)
            return next(packets, None) is not None and next(packets, None) is not None
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        return False


def _check_declared(path: str, container: av.container.InputContainer, stream: av.VideoStream) -> None:
    """Compares what the opened header declares with the limits."""
    width, height, aspect = stream.codec_context.width, stream.codec_context.height, stream.sample_aspect_ratio or 1
    shown = width * max(1.0, float(aspect))
    if shown * height > MAX_PIXELS or max(shown, height) > MAX_SIDE:
        detail = f"it declares {width} x {height} pixels (aspect {aspect}); at most {MAX_PIXELS:,} pixels are read"
        raise VideoError(path, "too_large", detail)
    seconds = float((stream.duration or 0) * (stream.time_base or 0))
    seconds = max(seconds, (container.duration or 0) / av.time_base)
    if stream.frames > MAX_FRAMES or seconds > MAX_DURATION_SECONDS:
        detail = f"it declares {stream.frames:,} frames, {seconds:.3g} s; at most {MAX_FRAMES:,} frames are read"
        raise VideoError(path, "too_large", detail)
    if width <= 0 or height <= 0:
        if size := _refused_size(path):
            raise VideoError(path, "too_large", f"it declares {size} pixels; at most {MAX_PIXELS:,} pixels are read")
        raise VideoError(
            path, "not_a_video", "no size of picture can be found in it; the file is broken or not a video"
        )
    if container.metadata.get("major_brand", "").strip() in STILL_BRANDS and stream.frames <= 1:
        raise VideoError(path, "not_a_video", "it is a still image (HEIF or AVIF); videos only")


def _refused_size(path: str) -> str:
    """The size of picture that FFmpeg refused, if that is why it tells none: only its messages say so."""
    skips_repeated = av.logging.get_skip_repeated()
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages, av.open("file:" + os.path.abspath(path), **_OPEN):
            pass
    except (av.error.FFmpegError, OSError, ValueError):
        pass
    finally:
        av.logging.set_level(_LOG_LEVEL)
        av.logging.set_skip_repeated(skips_repeated)
    found = (re.search(r"Picture size (\d+x\d+)", text) for _, _, text in messages)
    return next((match[1].replace("x", " x ") for match in found if match), "")


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    start: int
    end: int


_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_MAX_BOXES = 50_000
_IDENTITY = (1, 0, 0, 1)


def _boxes(file: BinaryIO, size: int) -> Iterator[_Box]:
    """Walks the boxes of an mp4 file in order, parents before children, without reading what is in them."""
    ends, position = [size], 0
    for _ in range(_MAX_BOXES):
        while len(ends) > 1 and position + 8 > ends[-1]:
            position = ends.pop()
        file.seek(position)
        head = file.read(16)
        if position + 8 > ends[-1] or len(head) < 8:
            return
        length, kind, start = int.from_bytes(head[:4], "big"), head[4:8], position + 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), position + 16
        end = min(position + length if length else ends[-1], ends[-1])
        if end < start:
            return
        yield _Box(kind, start, end)
        if kind in _PARENTS:
            ends.append(end)
        position = start if kind in _PARENTS else end


def _check_boxes(path: str, file: BinaryIO, size: int) -> bool:
    """Refuses mp4 tables that declare more frames than a file can hold; returns whether a track is turned or mirrored.

    FFmpeg makes its table of frames while it opens the file, from counts of a few bytes.
    """
    turned = False
    most = min(
        MAX_FRAMES, max(10**6, size)
    )  # a frame takes at least a byte; a file that broke off may declare a few more
    for box in _boxes(file, size):
        if box.kind not in (b"stsz", b"stz2", b"stts", b"trun", b"tkhd", b"mvhd"):
            continue
        file.seek(box.start)
        body = file.read(min(box.end - box.start, 128))
        if box.kind in (b"tkhd", b"mvhd"):
            offset = {b"tkhd": 40, b"mvhd": 36}[box.kind] + (12 if body[:1] == b"\x01" else 0)
            turned |= tuple(_fixed(body, offset + 4 * entry) for entry in (0, 1, 3, 4)) not in (_IDENTITY, (0, 0, 0, 0))
            continue
        declared = _declared_frames(box.kind, body)
        if declared > most:
            detail = f"its header declares {declared:,} frames in {size:,} bytes; at most {most:,} are read"
            raise VideoError(path, "too_large", detail)
    return turned


def _declared_frames(kind: bytes, body: bytes) -> int:
    if kind in (b"stsz", b"stz2"):
        return int.from_bytes(body[8:12], "big")
    if kind == b"trun":
        return int.from_bytes(body[4:8], "big")
    counts = [int.from_bytes(body[at : at + 4], "big") for at in range(8, len(body) - 7, 8)]  # stts: the first entries
    return max(counts[: int.from_bytes(body[4:8], "big")], default=0)


def _fixed(body: bytes, offset: int) -> float:
    return int.from_bytes(body[offset : offset + 4], "big", signed=True) / 65536


def _lacks_moov(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            kinds = [box.kind for box in _boxes(file, os.fstat(file.fileno()).st_size)]
    except OSError:
        return False
    return bool(kinds) and kinds[0] == b"ftyp" and not {b"moov", b"moof"} & set(kinds)
