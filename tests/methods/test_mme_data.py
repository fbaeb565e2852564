"""Which frames, which crop, which mask a sample is made of."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vitascope.methods.base import Draw
from vitascope.methods.mme.data import MaskedClips, tube_mask
from vitascope.structures import Record, VideoError
from vitascope.video.container import OpenVideo
from vitascope.video.reader import VideoReader
from vitascope.video.sampling import clip_indices, stretch
from vitascope.video.writer import VideoWriter


def slow_indices(num_available: int, num_frames: int, stride_frames: int, start: int) -> list[int]:
    """The papers' loop: step on unless the next step would pass the end."""
    indices, at = [], start
    for _ in range(num_frames):
        indices.append(at)
        if at + stride_frames < num_available:
            at += stride_frames
    return indices


@pytest.mark.parametrize("num_available", range(1, 301))
def test_frames_equal_the_papers_loop(num_available):
    indices = clip_indices(num_available, 16, 4, np.random.default_rng(num_available))
    start = int(indices[0])
    assert 0 <= start <= max(0, num_available - 64)
    assert indices.tolist() == slow_indices(num_available, 16, 4, start)


def test_every_start_that_fits_is_drawn():
    rng = np.random.default_rng(0)
    starts = {int(clip_indices(20, 4, 4, rng)[0]) for _ in range(200)}
    assert starts == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("ratio", "masked", "visible"), [(0.7, 1096, 472), (0.75, 1176, 392), (0.9, 1408, 160)])
def test_tube_masks_count_as_in_the_paper(ratio, masked, visible):
    mask = tube_mask((8, 14, 14), ratio, np.random.default_rng(0))
    assert mask.dtype == bool and (int(mask.sum()), int((~mask).sum())) == (masked, visible)
    assert (mask.reshape(8, 196) == mask[:196]).all()


@pytest.mark.parametrize("ratio", [0.7, 0.75, 0.9])
def test_tube_masks_equal_the_papers_under_the_same_numpy_seed(ratio):
    state = np.random.RandomState(7)
    places = np.concatenate([np.zeros(196 - int(ratio * 196)), np.ones(int(ratio * 196))])
    state.shuffle(places)
    assert np.array_equal(tube_mask((8, 14, 14), ratio, np.random.RandomState(7)), np.tile(places, 8).astype(bool))


def test_every_place_is_masked_equally_often():
    rng = np.random.default_rng(0)
    share = np.mean([tube_mask((1, 4, 4), 0.75, rng) for _ in range(4000)], 0)
    assert np.abs(share - 0.75).max() < 0.04


@pytest.mark.parametrize(
    ("start", "end", "frames"), [(None, None, (0, 10)), (0.25, None, (3, 10)), (None, 0.5, (0, 5)), (0.3, 0.7, (3, 7))]
)
def test_a_stretch_holds_the_frames_that_start_in_it(start, end, frames):
    record = Record("a.mp4", start_seconds=start, end_seconds=end)
    assert stretch(record, np.arange(10) / 10) == frames


def test_a_stretch_without_frames_is_an_error():
    with pytest.raises(
        VideoError, match=r"out_of_range: no frame is shown in \[5.0, 6.0\) seconds; the last is at 0.900"
    ):
        stretch(Record("a.mp4", start_seconds=5.0, end_seconds=6.0), np.arange(10) / 10)


@pytest.fixture(scope="module")
def counting(tmp_path_factory) -> str:
    """A video whose frame t is a grey of 4 * t: a clip tells which frames it is made of."""
    path = tmp_path_factory.mktemp("video") / "counting.mp4"
    frames = np.broadcast_to((np.arange(50) * 4)[:, None, None, None], (50, 3, 48, 64)).astype(np.uint8)
    with VideoWriter(path, 25, crf=0) as writer:
        writer.write(frames)
    return str(path)


def dataset(records: list[Record], **changes) -> MaskedClips:
    values = dict(num_frames=8, stride_frames=2, size=32, short_side=40, crop_scales=(1.0, 0.75), mask_ratio=0.75)
    return MaskedClips(records, grid=(4, 4, 4), **(values | changes))


def frame_numbers(sample: dict[str, torch.Tensor]) -> list[int]:
    return (sample["clips"].float().mean((1, 2, 3)) / 4).round().int().tolist()


def test_a_sample_has_the_keys_and_shapes_of_the_table(counting):
    sample = dataset([Record(counting)])[Draw(0, 1, 0.0)]
    assert {k: (v.dtype, tuple(v.shape)) for k, v in sample.items()} == {
        "clips": (torch.uint8, (8, 3, 32, 32)),
        "mask": (torch.bool, (64,)),
    }


def test_frames_of_a_clip_are_the_stride_apart(counting):
    samples = dataset([Record(counting)])
    starts = set()
    for seed in range(12):
        numbers = frame_numbers(samples[Draw(0, seed, 0.0)])
        assert numbers == list(range(numbers[0], numbers[0] + 16, 2))
        starts.add(numbers[0])
    assert len(starts) > 5


def test_clips_stay_within_the_record(counting):
    samples = dataset([Record(counting, start_seconds=0.8, end_seconds=1.52)])  # frames 20 to 37
    for seed in range(10):
        numbers = frame_numbers(samples[Draw(0, seed, 0.0)])
        assert min(numbers) >= 20 and max(numbers) <= 37


def test_a_clip_past_the_end_repeats_the_last_frame(counting):
    samples = dataset([Record(counting, start_seconds=1.8)])  # frames 45 to 49
    assert frame_numbers(samples[Draw(0, 0, 0.0)]) == [45, 47, 49, 49, 49, 49, 49, 49]


def test_an_unreadable_video_is_a_video_error(tmp_path):
    with pytest.raises(VideoError, match="missing"):
        dataset([Record(str(tmp_path / "none.mp4"))])[Draw(0, 0, 0.0)]
    (tmp_path / "text.mp4").write_text("no video at all")
    with pytest.raises(VideoError):
        dataset([Record(str(tmp_path / "text.mp4"))])[Draw(0, 0, 0.0)]


def test_a_clip_from_the_good_beginning_of_a_damaged_video_is_the_same_with_memory(counting, tmp_path):
    opened = OpenVideo(counting)
    end = max(packet.pos + packet.size for packet in opened.packets())
    opened.close()
    data = bytearray(Path(counting).read_bytes())
    data[end - 400 : end] = np.random.default_rng(0).bytes(400)  # of the last frames
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with pytest.raises(VideoError, match="cannot be decoded"), VideoReader(path) as reader:
        reader.frames_at(range(50))
    record = Record(str(path), end_seconds=0.8)  # frames 0 to 19
    read, kept = dataset([record]), dataset([record], memory_mb=100)
    for seed in range(3):
        sample, again = read[Draw(0, seed, 0.0)], kept[Draw(0, seed, 0.0)]
        assert max(frame_numbers(sample)) <= 19
        assert all(torch.equal(sample[key], again[key]) for key in sample)
