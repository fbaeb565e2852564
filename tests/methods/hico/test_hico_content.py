"""Clips guided by shots: none crosses a cut, pairs go by content, and without shots all is as without a guide."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.datasets.worlds.write import write_world
from vitascope.methods.base import Draw
from vitascope.methods.hico.content import (
    Calibration,
    Content,
    Guide,
    Shots,
    allowed,
    calibrated,
    cut_up,
    place_by_weight,
)
from vitascope.methods.hico.data import Augment, HicoClips
from vitascope.methods.hico.sampling import Sampling, domain, draw_centres, window
from vitascope.structures import Record
from vitascope.video.cuts import Cuts
from vitascope.video.shots import HOP_SECONDS, WIDTH, ShotIndex, index_shots

CLIP = 64 / 30
WORLD = UntrimmedWorld(num_videos=3, size=64, seconds=40.0, num_topics=2)


def made(path, seconds: float, shots: list[tuple[float, int]]) -> str:
    """An index of shots made by hand: for each the time at which it begins, and a number that says how it looks."""
    looks = {number: np.random.default_rng(number).integers(0, 256, WIDTH, np.uint8) for _, number in shots}
    starts = np.array([start for start, _ in shots[1:]], float)
    times = np.arange(0, seconds, HOP_SECONDS)
    which = [shots[max(k for k, (start, _) in enumerate(shots) if start <= t)][1] for t in times]
    cuts = Cuts(starts, np.stack([starts, starts], 1), ("cut",) * len(starts))
    ShotIndex(cuts, times, np.stack([looks[number] for number in which])).save(path)
    return str(path)


def drawn(content: Content, record: Record, duration: float, progress: float, count: int, seed: int = 0):
    """Seconds `[n, 3]` and weights `[n, 3, 3]` of many draws."""
    uniform = np.random.default_rng(seed).random
    samples = [content.draw(record, 0.0, duration, progress, uniform) for _ in range(count)]
    return np.stack([s["seconds"].numpy() for s in samples]), np.stack([s["topic_weights"].numpy() for s in samples])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> list[Record]:
    """A small world on disk, indexed."""
    folder = tmp_path_factory.mktemp("world")
    records = write_world(WORLD, folder)
    for record in records:
        index_shots(record.path, f"{record.path}.npz")
    return [replace(record, shots=f"{record.path}.npz") for record in records]


@pytest.fixture
def apart(tmp_path) -> Record:
    """60 s: a place, another, the first again, and a third."""
    return Record("v.mp4", shots=made(tmp_path / "v.npz", 60.0, [(0.0, 1), (15.0, 2), (30.0, 1), (45.0, 3)]))


@pytest.fixture
def others(tmp_path) -> list[Record]:
    """Videos that look otherwise, to calibrate on."""
    return [
        Record(f"{n}.mp4", shots=made(tmp_path / f"o{n}.npz", 30.0, [(0.0, n), (15.0, n + 100)])) for n in range(10, 30)
    ]


# as without a guide


@pytest.mark.parametrize("mode", ["cuts", "content"])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(topic_min_gap_seconds=4.0)])
def test_a_video_of_one_shot_is_drawn_from_as_officially(tmp_path, mode, sampling):
    guide = Guide(mode, delta_seconds=1.0, reentry=0.0)
    for seed, duration in enumerate((1.0, 3.0, 20.0, 60.0, 92.12)):
        record = Record("v.mp4", shots=made(tmp_path / f"{seed}.npz", duration, [(0.0, 1)]))
        for plain in (record, replace(record, shots="")):
            content = Content([record], guide, sampling)
            for progress in (0.0, 0.5, 1.0):
                expected = draw_centres(duration, progress, sampling, random.Random(seed).random)
                sample = content.draw(plain, 0.0, duration, progress, random.Random(seed).random)
                assert (sample["seconds"].numpy() == expected).all()
                assert (sample["topic_weights"] == 1).all()


@pytest.mark.parametrize("mode", ["hico", "fixed", "simclr", "cvrl"])
def test_a_sample_of_a_video_without_cuts_is_bit_for_bit_the_same(world, tmp_path, mode):
    record = Record(world[0].path, shots=made(tmp_path / "v.npz", WORLD.seconds, [(0.0, 1)]))
    guides = [None, Guide("cuts")] + [Guide("content", 1.0, 0.0)] * (mode in ("hico", "fixed"))
    samples = [
        HicoClips([record], 4, 16, 32, Sampling(mode=mode), Augment(), guide)[Draw(0, 3, 0.6)] for guide in guides
    ]
    for sample in samples[1:]:
        assert all(torch.equal(sample[key], samples[0][key]) for key in samples[0])


# cuts


def test_where_clips_may_lie_between_cuts():
    spans = np.array([[10.0, 10.0], [11.0, 12.0], [30.0, 31.0]])
    pieces = allowed(2.0, 40.0, spans, 2.0)
    assert pieces.tolist() == [[2.0, 9.0], [13.0, 29.0], [32.0, 40.0]]
    assert allowed(2.0, 2.0, np.array([[2.5, 2.5]]), 2.0).tolist() == []


@pytest.mark.parametrize("mode", ["cuts", "content"])
def test_hardly_a_clip_crosses_a_true_cut(world, mode):
    content = Content(world, Guide(mode), Sampling())
    without = crossed = 0
    count = 600
    for number, record in enumerate(world):
        cuts = WORLD[number].cuts
        guided, _ = drawn(content, record, WORLD.seconds, 0.7, count)
        uniform = np.random.default_rng(0).random
        plain = np.stack([draw_centres(WORLD.seconds, 0.7, Sampling(), uniform) for _ in range(count)])
        crossed += crossings(guided, cuts)
        without += crossings(plain, cuts)
    total = 3 * count * len(world)
    assert crossed / total <= 0.01
    assert without / total > 0.3  # what it is without


def crossings(centres: np.ndarray, cuts) -> int:
    spans = [window(float(c), CLIP, WORLD.seconds) for c in centres.ravel()]
    return sum(any(a < cut.end_seconds and cut.start_seconds < b for cut in cuts) for a, b in spans)


@pytest.mark.parametrize("mode", ["cuts", "content"])
def test_clips_of_a_stretch_keep_to_its_cuts(apart, mode):
    record = replace(apart, start_seconds=10.0, end_seconds=50.0)
    content = Content([apart], Guide(mode), Sampling())
    uniform = np.random.default_rng(0).random
    for _ in range(200):
        centres = content.draw(record, 10.0, 40.0, 0.5, uniform)["seconds"].numpy()
        assert centres.min() >= 10 + CLIP and centres.max() <= 50 - CLIP
        assert np.abs(centres[:, None] - np.array([15.0, 30.0, 45.0])).min() >= CLIP / 2 - 1e-9


def test_a_video_cut_faster_than_a_clip_is_drawn_from_as_officially(tmp_path):
    record = Record("v.mp4", shots=made(tmp_path / "v.npz", 20.0, [(float(t), t) for t in range(20)]))
    for mode in ("cuts", "content"):
        content = Content([record], Guide(mode), Sampling())
        sample = content.draw(record, 0.0, 20.0, 0.5, random.Random(0).random)
        assert (sample["seconds"].numpy() == draw_centres(20.0, 0.5, Sampling(), random.Random(0).random)).all()


# content


def test_near_clips_lie_within_a_growing_distance_or_in_the_same_place_again(apart, others):
    content = Content([apart, *others], Guide("content", delta_seconds=8.0, reentry=0.3), Sampling())
    for progress in (0.0, 0.5, 1.0):
        centres, _ = drawn(content, apart, 60.0, progress, 1500)
        shot = (centres // 15).astype(int)
        stays = shot[:, 0] == shot[:, 1]
        gaps = np.abs(centres[:, 0] - centres[:, 1])[stays]
        assert gaps.max() <= 8 * progress + 1e-9
        if progress:
            assert gaps.max() > 7 * progress
        place = np.array([1, 2, 1, 3])[shot]  # what each shot shows
        assert (place[:, 0] == place[:, 1]).all()
        assert abs((~stays).mean() - 0.3 * progress / 2) < 0.03  # half of the time there is another shot of the place


def test_the_topic_clip_comes_from_another_shot_with_its_likeness_as_weight(apart, others):
    content = Content([apart, *others], Guide("content"), Sampling())
    centres, weights = drawn(content, apart, 60.0, 0.0, 1500)
    place = np.array([1, 2, 1, 3])[(centres // 15).astype(int)]
    first, third = place[:, 0], place[:, 2]
    again = first == 1
    shares = [(third[again] == k).mean() for k in (1, 2, 3)]
    assert shares[0] > 0.4 and shares[0] > max(shares[1:])  # of three shots, the one that shows the same place
    assert (np.abs(centres[again, 0] - centres[again, 2])[third[again] == 1] > CLIP).all()
    weight = weights[:, 0, 2]
    assert (weight[again & (third == 1)] == 1).all() and (weight >= 0).all() and (weight <= 1).all()
    assert (weights[:, 0, 1] == 1).all() and (weights[:, 1, 2] == weight).all()
    assert (weights == weights.transpose(0, 2, 1)).all()


def test_where_nothing_is_alike_the_topic_clip_counts_for_nothing(tmp_path, others):
    alone = Record("v.mp4", shots=made(tmp_path / "v.npz", 40.0, [(0.0, 1), (20.0, 2)]))
    content = Content([alone, *others], Guide("content"), Sampling())
    content.calibration = content.calibration._replace(cosine_mean=2.0)  # no two clips are as alike as that
    centres, weights = drawn(content, alone, 40.0, 0.0, 400)
    assert (weights[:, :2, 2] == 0).all() and (weights[:, 0, 1] == 1).all()
    assert 0.4 < (centres[:, 2] > 20).mean() < 0.6


def test_the_least_distance_of_the_topic_clip_is_kept(apart, others):
    content = Content([apart, *others], Guide("content", reentry=0.0), Sampling(topic_min_gap_seconds=20.0))
    centres, _ = drawn(content, apart, 60.0, 0.5, 400)
    cell = HOP_SECONDS / 2
    assert np.abs(centres[:, :2] - centres[:, 2:]).min() >= 20.0 - cell - 1e-9


def test_descriptors_tell_videos_apart(world):
    samples = HicoClips(world, 4, 16, 32, Sampling(), Augment(), Guide("content"))
    sample = samples[Draw(0, 1, 0.5)]
    assert {k: (v.dtype, tuple(v.shape)) for k, v in sample.items() if k in ("descriptors", "calibration")} == {
        "descriptors": (torch.float32, (3, WIDTH)),
        "calibration": (torch.float32, (2,)),
    }
    assert torch.allclose(sample["descriptors"].norm(dim=1), torch.ones(3), atol=1e-5)


def test_the_likeness_of_other_videos_is_standard(others):
    calibration = calibrated([record.shots for record in others], CLIP)
    seen = [Shots(ShotIndex.open(r.shots), 0.0, 30.0, CLIP, calibration).descriptors for r in others]
    z = [calibration.likeness(a, b) for n, a in enumerate(seen) for b in seen[n + 1 :]]
    values = np.concatenate([part.ravel() for part in z])
    assert abs(values.mean()) < 0.2 and abs(values.std() - 1) < 0.2
    own = calibration.likeness(seen[0][:5], seen[0][:5])
    assert own.min() > 3
    assert calibrated([], CLIP)[1:] == (0.0, 1.0)


def test_a_video_without_an_index_has_no_descriptor(world):
    content = Content(world, Guide("content"), Sampling())
    sample = content.draw(replace(world[0], shots=""), 0.0, WORLD.seconds, 0.5, random.Random(0).random)
    assert (sample["descriptors"] == 0).all() and (sample["topic_weights"] == 1).all()


def test_two_clips_cannot_go_by_content():
    with pytest.raises(ValueError, match="needs sampling of three clips"):
        Content([], Guide("content"), Sampling(mode="simclr"))


def test_weighted_places_follow_the_weights():
    cells, weights = np.array([[0.0, 1.0], [3.0, 4.0], [6.0, 8.0]]), np.array([1.0, 0.0, 0.5])
    found = [place_by_weight(cells, weights, share) for share in np.random.default_rng(0).random(4000)]
    points, numbers = np.array(found).T
    assert set(numbers) == {0, 2} and abs((numbers == 0).mean() - 0.5) < 0.03
    assert points[numbers == 0].max() <= 1 and points[numbers == 2].min() >= 6 and points[numbers == 2].max() <= 8
    assert place_by_weight(np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([0.0, 1.0]), 0.3) == (2.0, 1)


def test_parts_of_a_stretch_fill_it():
    parts = cut_up(2.0, 3.2)
    assert parts.shape == (3, 2) and parts[0, 0] == 2.0 and parts[-1, 1] == 3.2
    assert (parts[1:, 0] == parts[:-1, 1]).all() and cut_up(1.0, 1.0).tolist() == [[1.0, 1.0]]


def test_memory_for_indices_is_bounded(world, monkeypatch):
    content = Content(world, Guide("content"), Sampling())
    size = content._shots(world[0].shots, 0.0, WORLD.seconds).nbytes
    monkeypatch.setattr("vitascope.methods.hico.content.MEMORY_BYTES", int(2.5 * size))
    for record in (*world, *world):
        content._shots(record.shots, 0.0, WORLD.seconds)
        assert len(content._kept) <= 2 and content._used == sum(s.nbytes for s in content._kept.values())


def test_an_hour_is_drawn_from_quickly(tmp_path):
    shots = [(float(t), int(t) % 7) for t in range(0, 3600, 6)]
    record = Record("v.mp4", shots=made(tmp_path / "v.npz", 3600.0, shots))
    content = Content([record], Guide("content"), Sampling())
    drawn(content, record, 3600.0, 0.5, 1)
    start = time.process_time()
    drawn(content, record, 3600.0, 0.5, 20)
    assert time.process_time() - start < 20 * 0.05


def test_the_middle_of_a_clip_that_nothing_was_seen_of_is_no_place(tmp_path):
    empty = ShotIndex(Cuts(np.zeros(0), np.zeros((0, 2)), ()), np.zeros(0), np.zeros((0, WIDTH), np.uint8))
    shots = Shots(empty, 0.0, 20.0, CLIP, Calibration(np.zeros(WIDTH, np.float32)))
    assert shots.pieces.tolist() == [list(domain(20.0, CLIP))] and (shots.descriptors == 0).all()
