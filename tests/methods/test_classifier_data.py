"""P14: the papers' frame numbers, against literal loops; and what a training sample is made of."""

import numpy as np
import pytest
import torch

from vitascope.methods.base import Draw
from vitascope.methods.classifier.config import finetune, finetune_tiny
from vitascope.methods.classifier.data import (
    LabelledClips,
    dense_test_indices,
    draw_mixing,
    frames_of,
    linspace_indices,
    mixed,
    segment_indices,
    segment_test_indices,
)
from vitascope.methods.classifier.targets import mixed_labels, shares_of, soft_labels
from vitascope.structures import Record, VideoError
from vitascope.video.footage import Footage
from vitascope.video.reader import VideoReader
from vitascope.video.writer import VideoWriter

EVERY_LENGTH = range(1, 301)


def slow_linspace(num_available, end, frames=16, stride=4):
    """Spec 2.2, K400 training, point by point; `end` is the drawn end of the stretch."""
    covered = frames * stride
    if num_available <= covered:
        count = num_available // stride
        points = [num_available * i / (count - 1) if count > 1 else 0 for i in range(count)]
        points += [num_available] * (frames - count)
        return [min(int(point), num_available - 1) for point in points]
    points = [end - covered + covered * i / (frames - 1) for i in range(frames)]
    return [min(int(point), end - 1) for point in points]


def slow_dense_test(num_available, clips, frames=16, stride=4):
    """Spec 2.2, K400 test: every 4th frame of the video, starts equally spaced in that list."""
    listed, at = [], 0
    while at < num_available:
        listed.append(at)
        at += stride
    while len(listed) < frames:
        listed.append(listed[-1])
    step = (len(listed) - frames) / (clips - 1)
    return [[listed[int(clip * step) + i] for i in range(frames)] for clip in range(clips)]


def slow_segment_test(num_available, clips, frames=16):
    """Spec 2.2, SSv2 test: each of 16 segments split in `clips` pieces, clip c takes the centre of piece c."""
    length = num_available / frames
    return [[int(length * i + length / clips * (clip + 0.5)) for i in range(frames)] for clip in range(clips)]


@pytest.mark.parametrize("num_available", EVERY_LENGTH)
def test_frame_numbers_equal_the_literal_loops(num_available):
    rng = np.random.default_rng(num_available)
    end = int(np.random.default_rng(num_available).integers(64, num_available)) if num_available > 64 else 0
    assert linspace_indices(num_available, 16, 4, rng).tolist() == slow_linspace(num_available, end)
    assert dense_test_indices(num_available, 16, 4, 7).tolist() == slow_dense_test(num_available, 7)
    for clips in (1, 2, 3):
        assert segment_test_indices(num_available, 16, clips).tolist() == slow_segment_test(num_available, clips)
    drawn, length = segment_indices(num_available, 16, np.random.default_rng(0)), num_available // 16
    again = np.random.default_rng(0).integers(length, size=16) if length else None
    assert drawn.tolist() == [
        i * length + int(again[i]) if length else i * num_available // 16 for i in range(16)
    ]  # SSv2 training: a draw within each part
    for numbers in (linspace_indices(num_available, 16, 4, rng), drawn, dense_test_indices(num_available, 16, 4, 1)):
        assert numbers.min() >= 0 and numbers.max() < num_available


def test_the_releases_clip_steps_by_4_27():
    class Last:
        def integers(self, low, high):
            return high - 1

    assert linspace_indices(65, 16, 4, Last())[:9].tolist() == [0, 4, 8, 12, 17, 21, 25, 29, 34]


def test_one_clip_of_a_test_is_in_the_middle():
    assert dense_test_indices(100, 4, 5, 1).tolist() == [[40, 45, 50, 55]]


def test_mixup_and_cutmix_come_as_often_as_asked():
    config, rng = finetune(), np.random.default_rng(0)
    drawn = [draw_mixing(config, rng) for _ in range(4000)]
    cut = np.array([box != (0, 0, 0, 0) for _, box in drawn])
    assert abs(cut.mean() - 0.5) < 0.04  # a few boxes vanish
    assert all(blend == 1.0 for (blend, _), is_cut in zip(drawn, cut, strict=True) if is_cut)
    blends = np.array([blend for blend, _ in drawn])[~cut]
    blends = blends[blends < 1]
    assert abs(blends.mean() - 0.5) < 0.03 and abs(blends.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.01  # Beta(0.8, 0.8)
    off = config.model_copy(update={"mixup": 0.0, "cutmix": 0.0})
    assert draw_mixing(off, rng) == (1.0, (0, 0, 0, 0))
    never = config.model_copy(update={"mix_probability": 0.0})
    assert draw_mixing(never, rng) == (1.0, (0, 0, 0, 0))


def test_mixed_clips_and_labels_equal_slow_loops():
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    clips, labels = torch.rand(6, 2, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1])
    drawn = [draw_mixing(finetune().model_copy(update={"size": 8}), rng) for _ in range(6)]
    blends, boxes = torch.tensor([b for b, _ in drawn]).float(), torch.tensor([box for _, box in drawn])
    assert len({box != (0, 0, 0, 0) for _, box in drawn}) == 2  # both kinds
    out, targets = mixed(clips, blends, boxes), soft_labels(labels, 4, 0.1)
    said = mixed_labels(targets, shares_of(blends, boxes, 8))
    for i in range(6):
        x0, y0, x1, y1 = boxes[i].tolist()
        own = 1 - (x1 - x0) * (y1 - y0) / 64 if x1 > x0 else float(blends[i])
        for y in range(8):
            for x in range(8):
                share = float(blends[i]) if x1 <= x0 else float(not (x0 <= x < x1 and y0 <= y < y1))
                expected = clips[i, :, :, y, x] * share + clips[5 - i, :, :, y, x] * (1 - share)
                torch.testing.assert_close(out[i, :, :, y, x], expected)
        one, other = ([0.025 + 0.9 * (k == int(labels[j])) for k in range(4)] for j in (i, 5 - i))
        expected = [a * own + b * (1 - own) for a, b in zip(one, other, strict=True)]
        torch.testing.assert_close(said[i], torch.tensor(expected))


@pytest.fixture(scope="module")
def counting(tmp_path_factory) -> str:
    """A video whose frame t is a grey of 4 * t, darker in its left half: a clip tells its frames and its side."""
    path = tmp_path_factory.mktemp("video") / "counting.mp4"
    frames = np.broadcast_to((np.arange(50) * 4)[:, None, None, None], (50, 3, 64, 80)).astype(np.uint8).copy()
    frames[..., :40] //= 2
    with VideoWriter(path, 25, crf=0) as writer:
        writer.write(frames)
    return str(path)


def tiny(**changes):
    return finetune_tiny().model_copy(update={"classes": ("a", "b"), **changes})


def sample(path, config, seed=0, label="b"):
    return LabelledClips([Record(path, labels=(label,))], config)[Draw(0, seed, 0.0)]


def test_a_sample_has_the_frames_the_size_and_the_class(counting):
    drawn = sample(counting, tiny(crop_area=(1.0, 1.0), crop_aspect=(1.25, 1.25)))
    assert drawn["clips"].shape == (8, 3, 64, 64) and drawn["clips"].dtype == torch.uint8
    assert int(drawn["labels"]) == 1 and float(drawn["blends"]) == 1 and drawn["boxes"].tolist() == [0, 0, 0, 0]
    times = drawn["clips"][:, 0, 32, 60].float() / 4
    assert (times.diff() - 2).abs().max() < 0.6


def test_a_sample_is_mirrored_only_where_asked(counting):
    whole = {"crop_area": (1.0, 1.0), "crop_aspect": (1.25, 1.25)}
    for flips, sides in ((False, {True}), (True, {True, False})):
        samples = [sample(counting, tiny(flip=flips, **whole), seed) for seed in range(12)]
        assert {bool(s["clips"][4, 0, 32, 4] < s["clips"][4, 0, 32, 60]) for s in samples} == sides


@pytest.mark.parametrize("sampling", ["dense", "linspace", "segments"])
def test_every_way_of_sampling_reads_a_stretch(counting, sampling):
    config = tiny(sampling=sampling, crop_area=(1.0, 1.0), crop_aspect=(1.25, 1.25))
    samples = LabelledClips([Record(counting, labels=("a",), start_seconds=0.8, end_seconds=1.6)], config)
    for seed in range(5):
        times = samples[Draw(0, seed, 0.0)]["clips"][:, 0, 32, 60].float() / 4
        assert times.min() > 19 and times.max() < 40.6 and (times.diff() > -0.6).all()


def test_frames_of_a_stretch_are_numbered_from_its_start_with_and_without_memory(counting):
    numbers = np.array([[3, 3, 7], [1, 0, 19]])
    record = Record(counting, start_seconds=0.8, end_seconds=1.6)  # frames 20 to 39
    for footage in (Footage(64), Footage(64, memory_mb=100)):
        read = frames_of(footage, record, lambda count: numbers[:, :count])
        assert read.shape == (2, 3, 3, 64, 80)
        with VideoReader(counting) as reader:
            assert torch.equal(read.flatten(0, 1), reader.frames_at((20 + numbers).ravel().tolist(), 64).frames)


def test_colours_change_only_where_asked(counting):
    plain, changed = (sample(counting, tiny(colour_jitter=strength), 3)["clips"].float() for strength in (0.0, 0.5))
    assert (plain - changed).abs().mean() > 2


@pytest.mark.parametrize("labels", [(), ("a", "b"), ("c",)])
def test_a_record_of_no_class_of_ours_is_an_error(labels):
    with pytest.raises(ValueError, match=r"x.mp4 is labelled .* exactly one of its 2 classes \(a, b\)"):
        LabelledClips([Record("x.mp4", labels=labels)], tiny())


def test_a_video_that_cannot_be_read_says_why():
    with pytest.raises(VideoError, match="missing"):
        sample("nowhere.mp4", tiny())
