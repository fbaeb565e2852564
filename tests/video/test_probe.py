"""What the header says, and that no more than the header is read."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from video_cases import write, x264

from vitascope.video.container import OpenVideo
from vitascope.video.probe import orientation, probe, square_size


def test_probe_tells_the_facts(cases):
    info = probe(cases["bframes.mp4"])
    assert (info.codec, info.width, info.height, info.num_frames) == ("h264", 160, 96, 120)
    assert info.container.startswith("mov") and info.pixel_format == "yuv420p" and info.bit_depth == 8
    assert info.duration_seconds == pytest.approx(4.0) and info.average_fps == pytest.approx(30)
    assert info.real_fps == pytest.approx(30) and Fraction(info.time_base).numerator == 1
    assert info.is_variable_rate is None and info.has_audio is False
    assert (info.rotation_degrees, info.is_mirrored) == (0, False)


def test_probe_tells_ten_bits_and_unknown_numbers(cases):
    assert probe(cases["ten_bits.mp4"]).bit_depth == 10
    assert probe(cases["late_start.mkv"]).num_frames is None
    assert probe(cases["late_start.mkv"]).start_seconds == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(
    "name, turn, size",
    [
        ("turned_90.mp4", (90, False), (96, 160)),
        ("turned_180.mp4", (180, False), (160, 96)),
        ("turned_270.mp4", (270, False), (96, 160)),
        ("mirrored.mp4", (0, True), (160, 96)),
        ("turned_mirrored.mp4", (270, True), (96, 160)),
        ("aspect.mp4", (0, False), (213, 96)),
    ],
)
def test_size_is_that_displayed(cases, name, turn, size):
    info = probe(cases[name])
    assert (info.rotation_degrees, info.is_mirrored) == turn
    assert (info.width, info.height) == size


def test_sound_is_told(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=48000)
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), "fltp", "mono")
        noise.sample_rate = 48000
        for stream, frame in ((video, picture), (sound, noise)):
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    assert probe(tmp_path / "a.mp4").has_audio is True


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_orientation_is_read_from_the_matrix(degrees, is_mirrored):
    """The matrix takes a stored point (x, y) to (a x + c y, b x + d y); mirror first, then turn clockwise, y downwards."""
    sine, cosine = round(np.sin(np.radians(degrees))), round(np.cos(np.radians(degrees)))
    turn = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([-1 if is_mirrored else 1, 1])
    matrix = np.array([turn[0, 0], turn[1, 0], 0, turn[0, 1], turn[1, 1], 0, 0, 0, 1]) * 65536
    assert orientation(matrix) == (degrees, is_mirrored)


def test_a_matrix_of_zeros_turns_nothing():
    assert orientation(np.zeros(9, np.int32)) == (0, False)


def test_absurd_aspects_leave_a_pixel():
    assert square_size(640, 360, 1e-6) == (1, 360)


def test_probing_reads_a_small_part_of_a_long_file(tmp_path):
    """The header and a few packets, however long the file."""
    path = tmp_path / "long.mp4"
    options = x264(keyint=250) | {"crf": "1"}
    write(path, 400, 320, 180, options=options, muxer={"movflags": "faststart"})
    opened = OpenVideo(path)
    opened.close()
    program = (
        "import sys\n"
        "from vitascope.video.probe import probe\n"
        "def read(): return int(open('/proc/self/io').read().split('rchar: ')[1].split()[0])\n"
        "probe(sys.argv[1]); before = read(); probe(sys.argv[1]); print(read() - before)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 0.35 * path.stat().st_size
