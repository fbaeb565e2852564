"""Which frames a sample of HiCo is made of, what is done to them, and what reading them costs."""

import tracemalloc

import numpy as np
import pytest
import torch

from vitascope.engine.loader import open_loader
from vitascope.engine.sampler import Positions
from vitascope.methods.base import Draw, Stage
from vitascope.methods.hico.data import Augment, HicoClips, augmented, clip_frames
from vitascope.methods.hico.sampling import Sampling, window
from vitascope.structures import Record, VideoError
from vitascope.video import reader as reader_module
from vitascope.video.container import OpenVideo
from vitascope.video.decode import Decoder
from vitascope.video.transforms import gaussian_blur
from vitascope.video.writer import VideoWriter

FPS, NUM_FRAMES = 12.5, 250
PLAIN = Augment(jitter_probability=0.0, grey_probability=0.0, flip_probability=0.0)


@pytest.fixture(scope="module")
def ramp(tmp_path_factory) -> str:
    """20 s of which frame t is a grey of t: a clip tells which frames it is made of."""
    path = tmp_path_factory.mktemp("video") / "ramp.mp4"
    grey = np.arange(NUM_FRAMES).astype(np.uint8)
    with VideoWriter(path, FPS, crf=0) as writer:
        writer.write(np.broadcast_to(grey[:, None, None, None], (NUM_FRAMES, 3, 48, 64)))
    return str(path)


def dataset(records, sampling=Sampling(), augment=PLAIN, **how) -> HicoClips:  # noqa: B008
    return HicoClips(records, 16, 32, 40, sampling, augment, **how)


def frame_numbers(sample: dict[str, torch.Tensor]) -> np.ndarray:
    """`[S, T]`, right within a frame."""
    return sample["clips"].float().mean((2, 3, 4)).numpy()


def test_a_sample_has_the_keys_and_shapes_of_the_table(ramp):
    shapes = {}
    for mode, count in (("hico", 3), ("fixed", 3), ("simclr", 2), ("cvrl", 2)):
        sample = dataset([Record(ramp)], Sampling(mode=mode))[Draw(0, 1, 0.5)]
        shapes[mode] = {key: (value.dtype, tuple(value.shape)) for key, value in sample.items()}
        assert shapes[mode] == {
            "clips": (torch.uint8, (count, 16, 3, 32, 32)),
            "seconds": (torch.float64, (count,)),
            "topic_weights": (torch.float32, (count, count)),
            "video": (torch.int64, ()),
        }
        assert (sample["topic_weights"] == 1).all()


def test_frames_lie_in_the_windows_of_the_centres(ramp):
    samples = dataset([Record(ramp)])
    for seed in range(20):
        sample = samples[Draw(0, seed, 0.9)]
        for centre, numbers in zip(sample["seconds"].tolist(), frame_numbers(sample), strict=True):
            start, end = window(centre, 64 / 30, NUM_FRAMES / FPS)
            expected = np.linspace(int(start * FPS), int(end * FPS), 16)
            assert np.abs(numbers - expected).max() < 2.1  # one of truncation, one of grey


def test_clips_stay_within_the_record_and_seconds_are_those_of_the_video(ramp):
    samples = dataset([Record(ramp, start_seconds=4.0, end_seconds=12.0)])
    for seed in range(20):
        sample = samples[Draw(0, seed, 1.0)]
        assert sample["seconds"].min() >= 4 + 64 / 30 and sample["seconds"].max() <= 12 - 64 / 30
        numbers = frame_numbers(sample)
        assert numbers.min() > 49 and numbers.max() < 151
        middles = sample["seconds"].numpy() * FPS - numbers.mean(1)
        assert np.abs(middles).max() < 2


def test_stretches_of_one_file_are_one_video(ramp):
    records = [Record("gone.mp4"), Record(ramp, end_seconds=9.0), Record(ramp, start_seconds=9.0)]
    samples = dataset(records)
    assert [samples[Draw(number, 0, 0.0)]["video"].item() for number in (1, 2)] == [1, 1]


def test_progress_comes_from_the_draw_alone(ramp):
    samples = dataset([Record(ramp)])
    sample = samples[Draw(0, 7, 0.0)]
    assert sample["seconds"][0] == sample["seconds"][1]
    gaps = [abs(float(torch.diff(samples[Draw(0, seed, 0.25)]["seconds"])[0])) for seed in range(30)]
    assert 0.1 < max(gaps) <= 0.25


def test_a_video_shorter_than_two_clips_has_one_window_and_a_shorter_one_its_last_frame(ramp):
    for end, first_number in ((3.0, 13), (1.0, 12)):
        numbers = frame_numbers(dataset([Record(ramp, start_seconds=0.0, end_seconds=end)])[Draw(0, 3, 0.9)])
        assert np.ptp(numbers, axis=0).max() < 0.1  # all clips alike
        assert abs(numbers[0, 0] - first_number) <= 1.5
    assert np.ptp(numbers) < 0.1


def test_frames_of_a_variable_rate_are_spread_in_time():
    times = np.r_[np.arange(20) / 10, 2 + np.arange(80) / 40]
    numbers = clip_frames(np.array([2.0]), Sampling(2.0), 4.0, times, 16)[0]
    assert np.abs(times[numbers] - np.linspace(1, 3, 16)).max() < 0.101
    rounded = np.round(np.arange(300) / 30, 3)  # a container that counts milliseconds
    assert clip_frames(np.array([1.01 + 32 / 30]), Sampling(), 10.0, rounded, 16)[0, -2:].tolist() == [89, 93]


def test_a_single_frame_makes_a_clip(tmp_path):
    with VideoWriter(tmp_path / "one.mp4", 25) as writer:
        writer.write(np.full((1, 3, 48, 64), 100, np.uint8))
    assert dataset([Record(str(tmp_path / "one.mp4"))])[Draw(0, 0, 0.5)]["clips"].shape == (3, 16, 3, 32, 32)


def test_an_unreadable_video_is_an_error(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"")
    with pytest.raises(VideoError, match="empty"):
        dataset([Record(str(tmp_path / "no.mp4"))])[Draw(0, 0, 0.0)]


# what is done to the pictures


def changed(clips: torch.Tensor, size: int, augment: Augment, seed: int = 0) -> torch.Tensor:
    """Clips `[S, T, C, H, W]` as `augmented` makes them."""
    rows = torch.arange(clips[:, :, 0, 0, 0].numel()).reshape(clips.shape[:2])
    return augmented(clips.flatten(0, 1), rows, size, augment, torch.Generator().manual_seed(seed)).float()


def still(count: int = 3, height: int = 64, width: int = 85) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(0, 256, (1, 1, 3, height // 4, width // 4 + 1), generator=generator).to(torch.uint8)
    one = one.repeat_interleave(4, 3).repeat_interleave(4, 4)[..., :height, :width]
    return one.expand(count, 8, -1, -1, -1)


def test_a_still_clip_stays_still_and_clips_differ():  # P21
    for seed in range(20):
        clips = changed(still(), 32, Augment(), seed)
        assert (clips - clips[:, :1]).abs().max() == 0
        assert not torch.equal(clips[0], clips[1]) and not torch.equal(clips[0], clips[2])


def test_the_official_blur_changes_nothing():  # P21: its kernel is one pixel
    clips = torch.rand(2, 3, 3, 8, 8)
    assert (gaussian_blur(clips, torch.zeros(2)) - clips).abs().max() == 0


def test_crops_are_squares_of_the_area_that_is_asked():
    ramp = torch.arange(256).to(torch.uint8).expand(1, 1, 3, 256, 256)  # the value of a pixel is its column
    widths = []
    for seed in range(300):
        clip = changed(ramp, 32, PLAIN, seed)[0, 0, 0, 0]
        widths.append(float(clip[28] - clip[3]) * 32 / 25)  # away from the edges, where the filter is cut off
    areas = (np.array(widths) / 256) ** 2
    assert 0.31 < areas.min() < 0.34 and 0.56 < areas.max() < 0.59
    assert abs(areas.mean() - (0.3243 + 0.5765) / 2) < 0.02


def test_changes_come_as_often_as_asked():
    # brighter at the top right, so that a mirrored clip is told from one that is not
    columns = torch.linspace(40, 90, 64)
    frames = (
        torch.stack([columns + 60, columns + 30, columns])
        .to(torch.uint8)[None, None, :, None]
        .expand(400, 1, 3, 64, 64)
    )

    def shares(augment: Augment) -> tuple[float, float]:
        clips = changed(frames, 16, augment)
        grey = (clips.amax(2) - clips.amin(2)).amax((1, 2, 3)) < 1.5
        mirrored = (clips[..., 0] > clips[..., -1]).all(-1).all(-1).all(-1)
        return float(grey.float().mean()), float(mirrored.float().mean())

    assert shares(PLAIN) == (0.0, 0.0)
    grey, mirrored = shares(Augment(jitter_probability=0.0))
    assert abs(grey - 0.2) < 0.06 and abs(mirrored - 0.5) < 0.08
    plain = changed(frames, 16, PLAIN).mean((1, 3, 4))
    only_jitter = PLAIN._replace(jitter_probability=0.8)
    coloured = changed(frames, 16, only_jitter).mean((1, 3, 4))
    assert abs(((coloured - plain).abs().amax(1) > 0.5).float().mean() - 0.8) < 0.06


# what reading costs


def test_a_sample_follows_from_its_draw(ramp):
    one, other = dataset([Record(ramp)], augment=Augment()), dataset([Record(ramp)], augment=Augment(), memory_mb=64)
    for seed in (3, 1, 3):
        a, b = one[Draw(0, seed, 0.3)], other[Draw(0, seed, 0.3)]
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_the_number_of_workers_changes_nothing(ramp, num_workers):
    records = [Record(ramp), Record(ramp, start_seconds=5.0)]
    positions = Positions(Stage(name="pretrain", length=3, batch_size=2), len(records), seed=5)

    def batches(workers: int) -> list[dict[str, torch.Tensor]]:
        with open_loader(dataset(records, augment=Augment()), positions, workers, torch.device("cpu")) as loader:
            return [loaded.batch for loaded in loader]

    for a, b in zip(batches(0), batches(num_workers), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def counted(monkeypatch) -> dict[str, int]:
    """How often a video is opened, sought in, and how many frames come out of the decoder."""
    counts = {"opens": 0, "seeks": 0, "decoded": 0}

    class Counting(OpenVideo):
        def __init__(self, *arguments):
            counts["opens"] += 1
            super().__init__(*arguments)

        def decode(self, packet):
            frames, is_broken = super().decode(packet)
            counts["decoded"] += len(frames)
            return frames, is_broken

    seek = Decoder._seek

    def counting(self, *where):
        counts["seeks"] += 1
        return seek(self, *where)

    monkeypatch.setattr(reader_module, "OpenVideo", Counting)
    monkeypatch.setattr(Decoder, "_seek", counting)
    return counts


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> str:
    """A minute with few key frames."""
    path = tmp_path_factory.mktemp("video") / "long.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (60, 3, 48, 64), np.uint8)
    with VideoWriter(path, 15) as writer:
        for _ in range(15):
            writer.write(frames)
    return str(path)


def test_a_sample_opens_its_video_once_and_seeks_at_most_three_times(long, counted):
    samples = dataset([Record(long)])
    samples[Draw(0, 0, 0.0)]  # makes the index
    for seed in range(12):
        counted.update(opens=0, seeks=0)
        samples[Draw(0, seed, 0.8)]
        assert counted["opens"] == 1 and counted["seeks"] <= 3


def test_overlapping_windows_are_decoded_once(long, counted):
    samples = dataset([Record(long)])
    samples[Draw(0, 0, 0.0)]
    index = samples._footage._indices[long]
    for seed in range(8):
        counted.update(decoded=0)
        sample = samples[Draw(0, seed, 0.8)]
        spans = [window(c, 64 / 30, index.duration_seconds) for c in sorted(sample["seconds"].tolist())]
        needed = set()
        for start, end in spans:
            first, last = (int(np.searchsorted(index.times_seconds, t, side="right")) - 1 for t in (start, end))
            key = index.seek_positions[index.seek_point_before(first)]
            needed |= set(range(int(key), last + 1))
        assert counted["decoded"] <= len(needed) + 3 * 6  # what the decoder runs ahead at each seek


def test_memory_is_flat_over_many_draws(ramp):
    samples = dataset([Record(ramp), Record(ramp, start_seconds=6.0)])
    for seed in range(20):
        samples[Draw(seed % 2, seed, 0.5)]
    tracemalloc.start()
    try:
        samples[Draw(0, 0, 0.5)]
        before = tracemalloc.get_traced_memory()[0]
        for seed in range(60):
            samples[Draw(seed % 2, seed, 0.5)]
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_the_process_does_not_grow_over_500_draws(long):
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    samples = dataset([Record(long)])
    for seed in range(100):
        samples[Draw(0, seed, 0.5)]
    before = resident()
    for seed in range(500):
        samples[Draw(0, seed, 0.5)]
    assert resident() - before < 8 * 2**20
