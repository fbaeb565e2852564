"""Damaged, hostile and foolish files: a typed error or a reported gap, never a crash, a hang, or another frame."""

from __future__ import annotations

import json
import queue
import shutil
import struct
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video_cases import number_in, remux, write, x264

from vitascope.structures import VideoError
from vitascope.video.check import check
from vitascope.video.container import OpenVideo
from vitascope.video.probe import probe
from vitascope.video.reader import VideoReader

SECONDS_PER_CASE = 20


def run_cases(tasks: list[dict[str, object]]) -> list[dict[str, object]]:
    """Sends tasks to the worker; fails at a crash or a hang, naming the case."""
    worker = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fault_worker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in worker.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=listen, daemon=True).start()
    results = []
    try:
        for task in tasks:
            worker.stdin.write(json.dumps(task) + "\n")
            worker.stdin.flush()
            try:
                line = lines.get(timeout=SECONDS_PER_CASE + 40 * (not results))  # the first waits for imports
            except queue.Empty:
                pytest.fail(f"hang: {task}")
            assert line, f"crash (exit code {worker.wait()}): {task}"
            results.append(json.loads(line))
        worker.stdin.close()
        assert worker.wait(timeout=20) == 0
        assert worker.stderr.read() == "", "FFmpeg's messages must not reach the terminal"
    finally:
        worker.kill()
    unexpected = [result for result in results if result["reason"] == "unexpected"]
    assert unexpected == []
    return results


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("faults")
    options = x264(keyint=25, bframes=2, scenecut=0)
    write(folder / "a.mp4", 150, options=options, muxer={"movflags": "faststart"})
    write(folder / "a.mkv", 150, options=options, muxer={"fflags": "bitexact"})  # the same bytes each time
    write(folder / "a.ts", 150, options=options)
    return [folder / name for name in ("a.mp4", "a.mkv", "a.ts")]


def frames_before(source: Path, cut: int) -> int:
    """How many frames lie whole before a byte of a file; two less, whose order cannot be known at a cut."""
    opened = OpenVideo(source)
    places = [packet.pos for packet in opened.packets()]
    opened.close()
    return sum(place < cut for place in places) - 3


def truncate(sources: list[Path], num_points: int) -> str:
    tasks = []
    for source in sources:
        size = source.stat().st_size
        points = np.linspace(0, size - 1, num_points).astype(int).tolist()
        tasks += [{"source": str(source), "kind": "cut", "value": point} for point in points]
    results = run_cases(tasks)
    for result in results:
        expected = frames_before(Path(result["source"]), result["value"])
        if result["reason"]:
            assert expected <= 0 and result["reason"] in ("empty", "not_a_video", "damaged", "unsupported"), result
        else:
            assert result["good"] >= expected, (expected, result)
            assert result["unlike"] == 0, result
            assert result["wrong"] <= 1, result  # the last one, if its cut-off data happen to decode
    read = [result for result in results if not result["reason"]]
    assert len(read) >= 0.8 * len(results)
    assert any(result["reason"] == "empty" for result in results)
    slowest = max(result["seconds"] for result in results)
    wrong = sum(result["wrong"] for result in read)
    return f"{len(results)} cuts: {len(read)} read, {wrong} last frames differ, slowest {slowest:.2f} s"


def flip(sources: list[Path], num_cases: int) -> str:
    tasks = [{"source": str(sources[n % len(sources)]), "kind": "flip", "value": n} for n in range(num_cases)]
    results = run_cases(tasks)
    read = [result for result in results if not result["reason"]]
    good, wrong = (sum(result[key] for result in read) for key in ("good", "wrong"))
    slowest = max(result["seconds"] for result in results)
    assert len(read) >= 0.8 * len(results)
    single = [result["good"] for result in read if result["value"] // 3 % 3 == 0]  # one byte of the file
    assert np.mean(single) >= 0.75 * 150
    # Bytes can change in the middle of a picture so that no decoder notices; what it makes of them may depend on the way there.
    assert sum(result["unlike"] > 0 for result in read) <= 0.01 * len(results)
    refused = dict(Counter(result["reason"] for result in results if result["reason"]))
    return (
        f"{len(results)} flips: {len(read)} read, refused {refused}, {good} frames intact, {wrong} altered unnoticed, "
        f"slowest {slowest:.2f} s"
    )


def test_truncated_files_give_the_frames_before_the_cut(sources):
    truncate(sources, 15)


def test_flipped_bytes_never_crash_or_hang(sources):
    flip(sources, 30)


@pytest.mark.slow
def test_truncation_at_two_hundred_points_of_three_containers(sources):
    print(truncate(sources, 200))


@pytest.mark.slow
def test_five_hundred_flips(sources):
    print(flip(sources, 500))


def refusal(path: Path | str) -> VideoError:
    """The error with which probe, check and the reader all refuse a file."""
    errors = []
    for way in (probe, check, lambda p: VideoReader(p).frames_at([0])):
        with pytest.raises(VideoError) as error:
            way(path)
        errors.append(error.value)
    assert len({error.reason for error in errors}) == 1, errors
    return errors[0]


def test_an_empty_file_is_named_so(tmp_path):
    path = tmp_path / "a.mp4"
    path.touch()
    assert refusal(path).reason == "empty"


@pytest.mark.parametrize(
    "content", [b"hello world\n" * 500, b"\x00" * 5000, b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 40]
)
def test_text_and_zeros_are_no_video(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert refusal(path).reason == "not_a_video"


def test_garbage_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(50_000))
    assert refusal(path).reason == "not_a_video"


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("name", ["a.{}", "a.mp4"])
def test_a_still_image_is_no_video(tmp_path, ending, name):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / f"image.{ending}")
    path = tmp_path / name.format(ending)
    shutil.copy(tmp_path / f"image.{ending}", path)
    error = refusal(path)
    assert error.reason == "not_a_video" and "still image" in error.detail


def test_a_moving_gif_is_a_video(tmp_path):
    images = [Image.fromarray(np.full((32, 48, 3), 60 * n, np.uint8)) for n in range(4)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100)
    with VideoReader(tmp_path / "a.gif") as reader:
        levels = reader.frames_at([3, 0, 2, 1]).frames.float().mean((1, 2, 3))
    assert np.abs(levels.numpy() - [180, 0, 120, 60]).max() <= 2


def write_sound(path: Path, cover: bytes | None = None) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), "s16", "mono")
        frame.sample_rate = 48000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.mark.parametrize("name", ["a.mp4", "a.wav", "a.mkv"])
def test_sound_alone_is_told(tmp_path, name):
    write_sound(tmp_path / name)
    assert refusal(tmp_path / name).reason == "no_video_stream"


def test_an_mp4_without_moov_is_told_with_a_remedy(tmp_path):
    write(tmp_path / "whole.mp4", 30)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: data.index(b"moov") - 4])
    error = refusal(tmp_path / "a.mp4")
    assert error.reason == "not_a_video" and "moov" in error.detail and "copy it again" in error.detail


@pytest.mark.parametrize(
    "name", ["http://localhost/a.mp4", "concat:a.mp4|b.mp4", "data:video/mp4;base64,AA", "pipe:0", "a\0b"]
)
def test_only_local_files_are_opened(name):
    error = refusal(name)
    assert error.reason == "missing"


def test_directories_and_devices_are_refused(tmp_path):
    assert refusal(tmp_path).reason == refusal("/dev/zero").reason == "missing"


@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile '{}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
        "\n#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0"?><MPD><BaseURL>{}</BaseURL></MPD>',
    ],
)
@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.ffconcat", "list.mpd"])
def test_playlists_are_not_followed(tmp_path, script, name):
    write(tmp_path / "other.ts", 30)
    (tmp_path / name).write_text(script.format(tmp_path / "other.ts"))
    assert refusal(tmp_path / name).reason == "not_a_video"


@pytest.mark.parametrize(
    "name", ["-i.mp4", "concat:x.mp4", "a b\n'\".mp4", "שלום🎬.mp4", "é" * 120 + ".mp4", "%d.mp4", "a.png"]
)
def test_odd_names_are_read(tmp_path, name, monkeypatch):
    write(tmp_path / "plain.mp4", 3)
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with VideoReader(name) as reader:
        assert number_in(reader.frames_at([2]).frames[0].numpy()) == 2


def test_a_title_that_is_no_utf8_is_no_obstacle(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "XXXXXXXX"
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"XXXXXXXX", b"\xff\xfe\xe9\xe8XXXX"))
    assert probe(path).num_frames == 1


# A long file, the middle of which is lost


@pytest.fixture(scope="module")
def long_files(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """10,000 frames in key-frame groups of 25, whole and with the packets of group 200 overwritten."""
    folder, files = tmp_path_factory.mktemp("long"), {}
    for ending in ("mp4", "mkv", "ts"):
        whole, broken = folder / f"whole.{ending}", folder / f"broken.{ending}"
        if files:
            remux(folder / "whole.mp4", whole)
        else:
            write(whole, 10_000, 80, 32, options=x264(keyint=25, min_keyint=25, bframes=2, scenecut=0))
        opened = OpenVideo(whole)
        places = [packet.pos for packet in opened.packets()]
        opened.close()
        data = bytearray(whole.read_bytes())
        first, last = places[5000], places[5025]
        data[first:last] = np.random.default_rng(0).bytes(last - first)
        broken.write_bytes(data)
        files[ending] = whole, broken
    return files


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_corrupt_group_in_the_middle_costs_no_more_than_its_neighbours(long_files, ending):
    _, broken = long_files[ending]
    shown, altered = 0, 0
    with VideoReader(broken) as reader:
        for seconds, image in reader.iterate():
            expected = round(seconds * 30)
            shown += number_in(image.numpy()) == expected
            altered += number_in(image.numpy()) != expected
        gaps = reader.gaps
        assert altered == 0
        assert shown >= 0.99 * (10_000 - 25)
        assert gaps and all(gap.start_seconds < gap.end_seconds for gap in gaps)
        start, end = gaps[0].start_seconds * 30, max(gap.end_seconds for gap in gaps) * 30
        assert 4970 <= start <= 5001 and 5024 <= end <= 5055, gaps
        middle = (5000 + 12) / 30 + 0.001
        with pytest.raises(VideoError, match=r"the frames at 16\d\.\d+ to 16\d\.\d+ s.* cannot be decoded") as error:
            reader.frames_at_seconds([1.0, middle])
        assert error.value.reason == "damaged"
        clip = reader.frames_at_seconds([300.0, middle, 1.0], missing="drop")
        assert [number_in(image.numpy()) for image in clip.frames] == [9000, 30]
        assert len(clip.times_seconds) == 2 and any(g.start_seconds <= middle < g.end_seconds for g in clip.gaps)


def test_a_deep_check_reports_the_gap(long_files):
    info, index, gaps = check(long_files["mp4"][1], deep=True)
    assert len(gaps) >= 1 and 166 < gaps[0].start_seconds < 167.1
    assert info.num_frames == len(index) == 10_000
    _, _, none = check(long_files["mp4"][0], deep=True)
    assert none == ()


def test_an_mp4_that_broke_off_tells_what_is_lost(long_files, tmp_path):
    whole, _ = long_files["mp4"]
    front = tmp_path / "front.mp4"
    remux(whole, front, muxer={"movflags": "faststart"})
    data = front.read_bytes()
    front.write_bytes(data[: int(len(data) * 0.6)])
    info, _, gaps = check(front)
    assert 0.4 * 10_000 < info.num_frames < 0.7 * 10_000
    assert gaps[-1].end_seconds == pytest.approx(10_000 / 30, abs=0.2) and "breaks off" in gaps[-1].detail


# Headers that declare more than there is


def boxed(data: bytes, kind: bytes, offset: int, value: bytes) -> bytes:
    """An mp4 file with bytes of its last box of a kind replaced, `offset` bytes behind the kind."""
    at = data.rindex(kind) + 4 + offset
    return data[:at] + value + data[at + len(value) :]


def huge(tmp_path: Path, name: str) -> Path:
    """One file each that declares 32768 x 32768 pixels or 10^9 frames."""
    path = tmp_path / name
    if name.endswith(".avi"):
        codec, size = ("png", 64) if "png" in name else ("mjpeg", 64) if "mjpeg" in name else ("rawvideo", 64)
        write(path, 3, size, size, codec, {"png": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "bgr24"), options={})
        data = bytearray(path.read_bytes())
        big = struct.pack("<i", 32768)
        if "frames" in name:
            at = data.index(b"strh") + 8 + 32
            data[at : at + 4] = struct.pack("<I", 10**9)
        else:
            at = data.index(b"strf") + 8 + 4
            data[at : at + 8] = big + big
            start = 0
            while codec == "png" and (start := data.find(b"IHDR", start + 1)) > 0:
                data[start + 4 : start + 12] = struct.pack(">II", 32768, 32768)
            while codec == "mjpeg" and (start := data.find(b"\xff\xc0", start + 1)) > 0:
                data[start + 5 : start + 9] = struct.pack(">HH", 32768, 32768)
        path.write_bytes(data)
        return path
    fragmented = "fragments" in name
    options = {"movflags": "frag_keyframe+empty_moov"} if fragmented else {}
    write(path, 30, codec="libx264", muxer=options)
    data = path.read_bytes()
    many = struct.pack(">I", 150_000_000 if "many" in name else 10**9)
    if "pixels" in name:  # the sample description, for a codec whose frames do not say
        write(path, 3, 64, 64, "rawvideo" if path.suffix == ".nut" else "ffv1", "yuv420p", options={})
        data = path.read_bytes()
        if path.suffix == ".mkv":
            at, at_height = data.index(b"\xb0\x81\x40"), data.index(b"\xba\x81\x40")
            data = (
                data[:at] + b"\xb0\x82\x80\x00" + data[at + 3 : at_height] + b"\xba\x82\x80\x00" + data[at_height + 3 :]
            )
    elif fragmented:
        data = boxed(data, b"trun", 4, many)
    else:
        data = boxed(boxed(data, b"stsz", 4, struct.pack(">II", 1, 0)[:4] + many), b"stts", 8, many)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "pixels_png.avi",
        "pixels_mjpeg.avi",
        "pixels_raw.avi",
        "frames.avi",
        "frames.mp4",
        "frames_many.mp4",
        "fragments.mp4",
    ],
)
def test_headers_that_declare_too_much_are_refused_before_memory_is_taken(tmp_path, name):
    path = huge(tmp_path, name)
    program = (
        "import resource, sys\n"
        "from vitascope.video.check import check\n"
        "from vitascope.structures import VideoError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: check(sys.argv[1]); print('read')\n"
        "except VideoError as error: print(error.reason)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    reason, mebibytes = done.stdout.split()
    assert reason == "too_large"
    assert int(mebibytes) <= 200
    assert done.stderr == ""
    assert refusal(path).reason == "too_large"
