"""Frames that nobody asks for and nothing refers to are not decoded; those that are asked for stay the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from video_cases import number_in, write, x264

from vitascope.structures import Gap
from vitascope.video.container import OpenVideo
from vitascope.video.reader import VideoReader

NUM_FRAMES = 120


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts"])
def film(request, tmp_path_factory) -> str:
    """Frames in both orders, with frames between that no other refers to."""
    path = tmp_path_factory.mktemp("video") / f"film.{request.param}"
    write(path, NUM_FRAMES, 160, 96, options=x264(keyint=60, min_keyint=60, bframes=3, b_adapt=0, scenecut=0))
    return str(path)


@pytest.fixture(scope="module")
def whole(film) -> torch.Tensor:
    with VideoReader(film) as reader:
        return torch.stack([frame for _, frame in reader.iterate()])


def test_frames_far_apart_are_those_of_the_whole(film, whole):
    assert [number_in(frame.numpy()) for frame in whole] == list(range(NUM_FRAMES))
    rng = np.random.default_rng(0)
    with VideoReader(film) as reader:
        for _ in range(12):
            numbers = rng.choice(NUM_FRAMES, int(rng.integers(1, 30)), replace=False)
            clip = reader.frames_at(numbers)
            assert torch.equal(clip.frames, whole[torch.from_numpy(numbers)]) and clip.gaps == ()
        assert reader.gaps == ()


def test_what_was_skipped_can_be_asked_for_next(film, whole):
    with VideoReader(film) as reader:
        for number in range(0, NUM_FRAMES - 1, 7):
            assert torch.equal(reader.frames_at([number]).frames[0], whole[number])
            assert torch.equal(reader.frames_at([number + 1]).frames[0], whole[number + 1])
        reader.frames_at([30, 50])
        rest = [frame for _, frame in reader.iterate(start_seconds=float(reader.index.times_seconds[51]))]
        assert torch.equal(torch.stack(rest), whole[51:]) and reader.gaps == ()


def test_fewer_frames_are_decoded(film, monkeypatch):
    count = [0]
    decode = OpenVideo.decode

    def counting(self, packet):
        frames, is_broken = decode(self, packet)
        count[0] += len(frames)
        return frames, is_broken

    monkeypatch.setattr(OpenVideo, "decode", counting)
    with VideoReader(film) as reader:
        len(reader)
        count[0] = 0
        reader.frames_at([56, 58])
    most = 45 if film.endswith((".mp4", ".mkv")) else 70
    assert count[0] <= most


def test_damage_among_frames_that_are_skipped_is_still_seen(film, tmp_path):
    if not film.endswith(".mp4"):
        pytest.skip("places of packets are those of mp4")
    opened = OpenVideo(film)
    packets = [(packet.pos, packet.size, packet.pts) for packet in opened.packets()]
    opened.close()
    with VideoReader(film) as reader:
        index = reader.index
    data = bytearray(Path(film).read_bytes())
    pos, size, pts = next(p for p in packets if index.position_of(p[2]) == 20)  # others refer to every fourth frame
    data[pos : pos + size] = np.random.default_rng(1).bytes(size)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with VideoReader(path) as reader:
        clip = reader.frames_at([10, 40, 70], missing="drop")
    assert clip.times_seconds.tolist() == pytest.approx([index.times_seconds[10], index.times_seconds[70]])
    assert isinstance(clip.gaps[0], Gap) and clip.gaps[0].start_seconds <= index.times_seconds[40]
