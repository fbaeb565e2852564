"""Shot boundaries: on synthetic worlds with truth, on pictures made to mislead, and on real clips."""

import time

import numpy as np
import pytest

from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.video import cuts as cuts_module
from vitascope.video.cuts import Cuts, cuts_of, find_cuts, spans_cut
from vitascope.video.reader import VideoReader
from vitascope.video.writer import VideoWriter


def scenery(seed: int, height: int = 36, width: int = 400) -> np.ndarray:
    """A wide picture with large and small structure, uint8 `[C, H, W]`, to pan over."""
    rng = np.random.default_rng(seed)
    layers = [
        np.kron(rng.normal(size=(3, -(-height // s), -(-width // s))), np.ones((s, s)))[:, :height, :width] * s
        for s in (2, 6, 18)
    ]
    return np.clip(rng.uniform(90, 160, (3, 1, 1)) + 2 * sum(layers), 0, 255).astype(np.uint8)


def pan(seed: int, num_frames: int, pixels_per_frame: float = 0.5) -> np.ndarray:
    wide = scenery(seed)
    return np.stack([wide[..., int(k * pixels_per_frame) :][..., :64] for k in range(num_frames)])


def found_in(frames: np.ndarray, fps: float = 25.0) -> list[tuple[str, int]]:
    cuts = cuts_of(frames, np.arange(len(frames)) / fps)
    return [(kind, round(t * fps)) for kind, t in zip(cuts.kinds, cuts.times_seconds)]


def score(truth, cuts: Cuts, frame_seconds: float) -> np.ndarray:
    """True, false and missed boundaries: a hard cut counts to the frame, a gradual one if the stretches overlap."""
    free, hits = np.ones(len(cuts), bool), 0
    for cut in truth:
        if cut.kind == "cut":
            near = np.abs(cuts.times_seconds - cut.time_seconds) < frame_seconds / 2
        else:
            near = (cuts.spans_seconds[:, 0] < cut.end_seconds) & (cuts.spans_seconds[:, 1] > cut.start_seconds)
        match = np.flatnonzero(near & free)[:1]
        free[match], hits = False, hits + len(match)
    return np.array([hits, free.sum(), len(truth) - hits])


def crossings(truth, cuts: Cuts, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Of random clips of 2.13 s: how many the found cuts let pass, and how many of those show two shots."""
    starts = rng.uniform(0, seconds - 2.13, 2000)
    kept = [start for start in starts if not spans_cut(start, start + 2.13, cuts)]
    wrong = [s for s in kept if any(s < cut.end_seconds and cut.start_seconds < s + 2.13 for cut in truth)]
    return np.array([len(kept), len(wrong)])


def measure(folder, untrimmed: UntrimmedWorld, objects: ObjectsWorld) -> tuple[float, float, float]:
    """Precision, recall and share of wrong clips over both worlds, written as files."""
    counts, clips = np.zeros(3, int), np.zeros(2, int)
    for world in (untrimmed, objects):
        for i in range(len(world)):
            video = world[i]
            with VideoWriter(folder / "a.mp4", video.fps, crf=26) as writer:
                for chunk in world.render(i) if video.frames is None else [video.frames]:
                    writer.write(chunk)
            cuts = find_cuts(folder / "a.mp4")
            counts += score(video.cuts, cuts, 1 / video.fps)
            clips += crossings(video.cuts, cuts, video.num_frames / video.fps, np.random.default_rng(i))
    hits, wrong, missed = counts
    return hits / (hits + wrong), hits / (hits + missed), clips[1] / clips[0]


def test_precision_and_recall_on_worlds(tmp_path):
    untrimmed = UntrimmedWorld(num_videos=3, seed=300, seconds=60.0)
    precision, recall, crossing = measure(tmp_path, untrimmed, ObjectsWorld(num_videos=3, seed=300))
    assert precision >= 0.95 and recall >= 0.97 and crossing <= 0.01, (precision, recall, crossing)


@pytest.mark.slow
def test_precision_and_recall_on_many_worlds(tmp_path):
    results = []
    for seed in range(400, 404):
        untrimmed = UntrimmedWorld(num_videos=4, seed=seed, seconds=120.0, fps=(16.0, 25.0)[seed % 2])
        results.append(measure(tmp_path, untrimmed, ObjectsWorld(num_videos=6, seed=seed)))
    precision, recall, crossing = np.mean(results, 0)
    print(f"precision {precision:.4f}, recall {recall:.4f}, clips over a cut {crossing:.5f}")
    assert precision >= 0.98 and recall >= 0.99 and crossing <= 0.005, (precision, recall, crossing)


def test_a_hard_cut_is_found_to_the_frame():
    assert found_in(np.concatenate([pan(1, 30), pan(2, 47), pan(3, 25)])) == [("cut", 30), ("cut", 77)]


@pytest.mark.parametrize("length", [6, 12, 25, 40])
def test_a_dissolve_is_found_with_its_stretch(length):
    one, two = pan(1, 60 + length, 0.2).astype(float), pan(2, 60 + length, 0.2).astype(float)
    share = np.clip((np.arange(120 + length) - 59.5) / length, 0, 1)[:, None, None, None]
    mixed = (
        np.concatenate([one, one[-1:].repeat(60, 0)]) * (1 - share)
        + np.concatenate([two[:1].repeat(60, 0), two]) * share
    )
    cuts = cuts_of(np.rint(mixed).astype(np.uint8), np.arange(len(mixed)) / 25)
    assert cuts.kinds == ("dissolve",)
    assert np.abs(cuts.spans_seconds[0] * 25 - [59.5, 59.5 + length]).max() <= max(3, 0.2 * length)


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("length", [8, 30])
def test_a_fade_through_a_flat_picture_is_one_boundary(level, length):
    share = np.clip(np.abs(np.arange(140) - 69.5) / (length / 2), 0, 1)[:, None, None, None]
    frames = np.concatenate([pan(1, 70), pan(2, 70)]) * share + level * (1 - share)
    cuts = cuts_of(np.rint(frames).astype(np.uint8), np.arange(140) / 25)
    assert cuts.kinds == ("fade",) and abs(cuts.times_seconds[0] * 25 - 69.5) <= 2
    assert cuts.spans_seconds[0, 0] * 25 <= 69.5 - length / 4 and cuts.spans_seconds[0, 1] * 25 >= 69.5 + length / 4


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_a_flash_or_a_black_frame_is_no_cut(num_frames):
    for level in (0, 255):
        frames = pan(1, 80)
        frames[40 : 40 + num_frames] = level
        assert found_in(frames) == []
    frames = pan(1, 80).astype(int)
    frames[40 : 40 + num_frames] += 90
    assert found_in(np.clip(frames, 0, 255).astype(np.uint8)) == []


def test_a_change_of_exposure_is_no_cut():
    frames = pan(1, 80).astype(float)
    frames[40:] = frames[40:] * 0.8 + 50
    assert found_in(np.clip(frames, 0, 255).astype(np.uint8)) == []
    assert found_in((pan(1, 80) * np.linspace(0.3, 1, 80)[:, None, None, None]).astype(np.uint8)) == []


@pytest.mark.parametrize("pixels_per_frame", [0.0, 1.0, 2.0, 3.0])
def test_camera_motion_is_no_cut_and_hides_none(pixels_per_frame):
    assert found_in(pan(4, 80, pixels_per_frame)) == []
    both = np.concatenate([pan(4, 60, pixels_per_frame), pan(5, 60, pixels_per_frame)])
    assert found_in(both) == [("cut", 60)]


def test_a_jump_of_time_before_a_still_camera_is_a_cut():
    def walker(left: np.ndarray) -> np.ndarray:
        frames = pan(1, len(left), 0.0)
        for frame, x in zip(frames, left):
            frame[:, 8:28, x : x + 14] = scenery(9)[:, 8:28, :14]
        return frames

    step = np.arange(40) // 4
    assert found_in(walker(np.r_[step, 40 + step])) == [("cut", 40)]
    assert found_in(walker(np.r_[step, 10 + step])) == []  # walks on
    assert found_in(walker(np.r_[step, [40, 40, 40], 10 + step])) == []  # a few broken frames
    fast = np.r_[np.zeros(20, int), np.arange(0, 48, 6), np.full(20, 48)]
    assert found_in(walker(fast)) == []  # starts to run, and stops


def test_an_object_before_the_camera_is_no_cut():
    frames = pan(1, 80)
    for k in range(24):  # it enters on the left, covers two thirds of the picture and leaves on the right
        left, right = max(0, 5 * k - 44), min(64, 5 * k)
        frames[20 + k, :, :, left:right] = scenery(9)[:, :, : max(0, right - left)]
    assert found_in(frames) == []


def test_repeated_frames_do_not_make_motion_look_like_cuts():
    assert found_in(pan(4, 60, 3.0).repeat(4, 0)) == []
    assert found_in(np.concatenate([pan(4, 20, 2.0), pan(5, 20, 2.0)]).repeat(3, 0)) == [("cut", 60)]


def test_still_and_noisy_and_tiny_videos_have_no_cut():
    noise = np.random.default_rng(0).integers(0, 256, (60, 3, 36, 64), np.uint8)
    assert found_in(noise) == []
    assert found_in(pan(1, 1).repeat(60, 0)) == []
    for count in (0, 1, 2, 3):
        assert found_in(pan(1, 3)[:count]) == []


def test_pieces_change_nothing(monkeypatch):
    frames = np.concatenate([pan(k, 45 + 7 * k, 0.7) for k in range(12)])
    share = np.clip(np.abs(np.arange(len(frames)) - 400) / 10, 0, 1)[:, None, None, None]
    frames = (frames * share).astype(np.uint8)
    whole = found_in(frames)
    assert len(whole) >= 10 and ("fade", 400) in whole
    for core in (40, 333):
        monkeypatch.setattr(cuts_module, "CORE_FRAMES", core)
        assert found_in(frames) == whole


def test_true_times_of_a_file_with_variable_rate(tmp_path):
    frames = np.concatenate([pan(1, 40), pan(2, 40)])
    times = 0.5 + np.cumsum(np.random.default_rng(0).uniform(0.02, 0.08, 80))
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(frames, times)
    cuts = find_cuts(tmp_path / "a.mp4")
    assert np.allclose(cuts.times_seconds, times[40] - times[0], atol=1e-4) and cuts.kinds == ("cut",)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert np.array_equal(find_cuts(reader).times_seconds, cuts.times_seconds)
        assert len(reader.frames_at([0]).frames) == 1  # still open


def test_larger_pictures_are_shrunk_to_the_same_result():
    frames = np.concatenate([pan(1, 30), pan(2, 30)])
    assert found_in(frames.repeat(3, 2).repeat(2, 3)) == found_in(frames)
    assert found_in(np.pad(frames.repeat(2, 2), ((0, 0), (0, 0), (0, 1), (0, 5)), mode="edge")) == found_in(frames)
    with pytest.raises(ValueError, match="at least 36 x 64"):
        cuts_of(frames[:, :, :30], np.arange(60))
    with pytest.raises(ValueError, match=r"must be uint8 \[T, 3, H, W\]"):
        cuts_of(frames, np.arange(59))


def test_a_clip_spans_a_cut_if_it_shows_both_shots():
    spans = np.array([[2.0, 2.0], [5.0, 6.0]])
    cuts = Cuts(spans.mean(1), spans, ("cut", "dissolve"))
    truth = {
        (0, 2): False,
        (2, 4): False,
        (1.9, 2.1): True,
        (4, 5): False,
        (4, 5.1): True,
        (5.4, 5.6): True,
        (6, 9): False,
    }
    assert {clip: spans_cut(*clip, cuts) for clip in truth} == truth
    assert not spans_cut(0, 9, Cuts(np.zeros(0), np.zeros((0, 2)), ()))


def test_real_clips(shared_data):
    """Boundaries as seen by eye."""
    seen = {
        "bikes.mp4": [("cut", 1.20), ("cut", 3.04), ("cut", 5.48), ("cut", 7.48), ("cut", 9.68)],
        "nasa_13013.mp4": [("dissolve", 5.24), ("cut", 8.01)],
        "SOX5yA1l24A.mp4": [("cut", 4.60), ("cut", 7.31), ("cut", 9.74)],
        "basketball.mp4": [],
        "bottle-detection.mp4": [],
        "R6llTwEh07w.mp4": [],
        "v_SoccerJuggling_g24_c01.avi": [],
    }
    for name, expected in seen.items():
        cuts = find_cuts(shared_data / "clips" / name)
        assert list(cuts.kinds) == [kind for kind, _ in expected], name
        assert np.allclose(cuts.times_seconds, [seconds for _, seconds in expected], atol=0.3), name


def test_twenty_times_faster_than_real_time_at_360p(tmp_path):
    wide = np.concatenate([scenery(k, 360, 900)[None] for k in (1, 2)])
    with VideoWriter(tmp_path / "a.mp4", 30) as writer:
        writer.write(np.stack([wide[k // 150, ..., k % 150 : k % 150 + 640] for k in range(300)]))
    start = time.process_time()
    cuts = find_cuts(tmp_path / "a.mp4")
    assert cuts.times_seconds.tolist() == [5.0]
    assert time.process_time() - start < 10.0 / 20
