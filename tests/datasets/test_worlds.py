import hashlib
import time

import cv2
import numpy as np
import pytest

from vitascope.datasets.worlds.actions import ACTIONS, ROWS, TORUS, Look, crowd
from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.datasets.worlds.textures import FAMILIES, pattern
from vitascope.datasets.worlds.truth import runs
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld

WORLDS = {
    "motion": MotionWorld(num_videos=2, seed=3, size=64, num_frames=6),
    "texture": MotionWorld(num_videos=2, seed=3, size=64, num_frames=6, by="texture"),
    "objects": ObjectsWorld(num_videos=2, seed=3, size=64, num_frames=64),
    "untrimmed": UntrimmedWorld(num_videos=2, seed=3, size=48, seconds=12.0),
}


def digest(world, index):
    video = world[index]
    parts = [*world.render(index), video.masks, video.flow, *video.segments.times_seconds]
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts if p is not None)).hexdigest()


@pytest.fixture(scope="module")
def objects():
    return [ObjectsWorld(num_videos=4, seed=0)[i] for i in range(3)]


@pytest.fixture(scope="module")
def clips():
    """One video of every action."""
    return [MotionWorld(num_videos=12, seed=0, num_frames=8)[i] for i in range(12)]


# Every world


@pytest.mark.parametrize("name", WORLDS)
def test_same_seed_same_bytes_and_another_seed_or_index_another_video(name):
    from dataclasses import replace

    world = WORLDS[name]
    assert digest(world, 1) == digest(replace(world), 1) == digest(replace(world, num_videos=50), 1)
    assert len({digest(world, 1), digest(world, 0), digest(replace(world, seed=4), 1)}) == 3


@pytest.mark.parametrize("name", ["motion", "texture", "objects"])
def test_rendering_in_chunks_gives_the_frames_of_the_video(name):
    world = WORLDS[name]
    chunks = list(world.render(1, chunk=4))
    assert max(map(len, chunks)) == 4
    np.testing.assert_array_equal(np.concatenate(chunks), world[1].frames)


@pytest.mark.parametrize("name", WORLDS)
def test_a_video_that_is_not_there_is_an_index_error(name):
    assert WORLDS[name][-1].id == WORLDS[name][1].id
    for index in (2, -3):
        with pytest.raises(IndexError, match=rf"index \({index}\) must be in \[0, 2\)"):
            WORLDS[name][index]
    assert len(list(WORLDS[name])) == 2


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match=r"num_frames \(0\) must be > 0"):
        MotionWorld(num_frames=0)
    with pytest.raises(ValueError, match=r"seed \(-1\) must be >= 0"):
        ObjectsWorld(seed=-1)
    with pytest.raises(ValueError, match=r"by \('colour'\) must be 'motion' or 'texture'"):
        MotionWorld(by="colour")
    with pytest.raises(ValueError, match=r"num_doubles \(5\)"):
        ObjectsWorld(num_doubles=5)
    with pytest.raises(ValueError, match=r"num_topics \(13\) must be between 1 and 12"):
        UntrimmedWorld(num_topics=13)
    with pytest.raises(ValueError, match=r"family \('fur'\) must be one of clouds"):
        pattern("fur", 0, 128)


@pytest.mark.parametrize("family", FAMILIES)
def test_textures_are_rich_and_tile_without_a_seam(family):
    field = pattern(family, 1, 256).astype(float)
    assert field.std() > 20 and len(np.unique(field)) > 60
    for axis in (0, 1):
        steps = np.abs(np.diff(field, axis=axis))
        seam = np.abs(np.take(field, 0, axis) - np.take(field, -1, axis))
        assert seam.mean() < 1.5 * steps.mean(axis=1 - axis).max()


def test_a_hundred_frames_a_second_with_truth():
    world = MotionWorld(num_videos=4)
    world[0]  # textures are made once
    best = min(timed(world, index) for index in (1, 2, 3))
    assert world.num_frames / best >= 100


def timed(world, index):
    start = time.process_time()
    world[index]
    return time.process_time() - start


# Motion and its truth


def interior(video, t):
    """Pixels whose whole neighbourhood has one owner, and whose target in frame t + 1 has the same owner."""
    mask = video.masks[t]
    same = cv2.erode((cv2.dilate(mask, np.ones((5, 5))) == cv2.erode(mask, np.ones((5, 5)))).astype(np.uint8), None)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
    to_x, to_y = x + video.flow[t, 0], y + video.flow[t, 1]
    inside = (to_x >= 1) & (to_y >= 1) & (to_x < mask.shape[1] - 2) & (to_y < mask.shape[0] - 2)
    target = [cv2.remap(view(video.masks[t + 1]), to_x, to_y, cv2.INTER_NEAREST) for view in (narrow, wide)]
    return (same > 0) & inside & (target[0] == mask) & (target[1] == mask), to_x, to_y


def narrow(mask):
    return cv2.erode(mask, np.ones((3, 3)))


def wide(mask):
    return cv2.dilate(mask, np.ones((3, 3)))


def warp_errors(video, t):
    keep, to_x, to_y = interior(video, t)
    now, then = (video.frames[k].transpose(1, 2, 0).astype(np.float32) for k in (t, t + 1))
    return np.abs(cv2.remap(then, to_x, to_y, cv2.INTER_LINEAR) - now)[keep], keep


def test_the_next_frame_warped_back_by_the_flow_is_this_frame(clips):
    for video in clips:
        for t in (0, 4):
            errors, keep = warp_errors(video, t)
            still = np.abs(video.frames[t + 1].astype(float) - video.frames[t]).transpose(1, 2, 0)[keep]
            assert keep.mean() > 0.4
            assert errors.mean() < 3 and errors.mean() < 0.6 * still.mean(), video.labels


def test_the_flow_of_objects_is_right_too(objects):
    for video in objects:
        for t in (5, 30):
            errors, keep = warp_errors(video, t)
            own = errors.reshape(-1, 3)[video.masks[t][keep] > 0]
            assert len(own) > 200 and own.mean() < 6


def test_tracks_follow_the_flow_and_the_masks(clips):
    y, x = np.mgrid[4:112:8, 4:112:8]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    for video in clips:
        positions, visible = video.tracks(points, frame=2)
        np.testing.assert_allclose(positions[2], points, atol=1e-4)
        assert visible[2].all()
        flow = video.flow[2][:, points[:, 1], points[:, 0]].T
        np.testing.assert_allclose(positions[3] - points, flow, atol=1e-2)
        rounded = np.rint(positions[6]).astype(int)
        seen = visible[6]
        owner = video.masks[2][points[:, 1], points[:, 0]][seen]
        there = video.masks[6][rounded[seen, 1].clip(0, 111), rounded[seen, 0].clip(0, 111)]
        assert (owner == there).mean() > 0.95  # the rest lies within a pixel of an edge


def test_a_still_camera_over_a_still_place_has_no_flow():
    from vitascope.datasets.worlds.actions import background
    from vitascope.datasets.worlds.scene import Scene
    from vitascope.datasets.worlds.textures import Surface

    still = np.tile(np.eye(3), (2, 1, 1))
    place = background(np.random.default_rng(0), "place", Surface("cells", 0, 0), 64, still)
    drawn = Scene((place,), 2, 64, 64).draw(0)
    assert np.abs(drawn.flow).max() < 1e-4 and drawn.mask.max() == 0


def test_the_flow_of_a_known_translation_is_that_translation():
    from vitascope.datasets.worlds.actions import background, make_look
    from vitascope.datasets.worlds.scene import Layer, Scene, pose
    from vitascope.datasets.worlds.textures import Surface

    still = np.tile(np.eye(3), (3, 1, 1))
    rng = np.random.default_rng(0)
    place = background(rng, "place", Surface("cells", 0, 0), 64, still)
    look = make_look(rng, "ball", Surface("dots", 0, 1), 64, 0.2)
    middle = ((look.level.shape[1] - 1) / 2,) * 2
    at = 30 + np.array([0.0, 2.5, 5.0])
    ball = Layer(1, "ball", look.texture, look.level, pose(at, at - 4, np.zeros(3), 1.0, 0.0, middle))
    drawn = Scene((place, ball), 3, 64, 64).draw(0)
    assert (drawn.mask == 1).sum() > 200
    np.testing.assert_allclose(drawn.flow[:, drawn.mask == 1], 2.5, atol=1e-4)
    np.testing.assert_allclose(drawn.flow[:, drawn.mask == 0], 0, atol=1e-4)


def test_points_are_invisible_when_hidden_or_out_of_the_frame(objects):
    hidden = out = 0
    agree = []
    for video in objects:
        y, x = np.mgrid[2:112:5, 2:112:5]
        points = np.stack([x.ravel(), y.ravel()], axis=1)
        positions, visible = video.tracks(points)
        owner = video.masks[0][points[:, 1], points[:, 0]]
        for t in range(0, video.num_frames, 8):
            inside = ((positions[t] >= 1) & (positions[t] < 111)).all(axis=1)  # False where NaN
            known = ~np.isnan(positions[t, :, 0])
            outside = known & ((positions[t] < -1) | (positions[t] > 113)).any(axis=1)
            assert not visible[t][outside | ~known].any()
            out += outside.sum()
            at = np.rint(positions[t][inside]).astype(int)
            there = video.masks[t][at[:, 1], at[:, 0]]
            nearer = inside.copy()
            nearer[inside] = there != owner[inside]
            hidden += (nearer & ~visible[t]).sum()
            agree += [(there == owner[inside]) == visible[t][inside]]
    assert np.concatenate(agree).mean() > 0.97  # the rest lies within a pixel of an edge
    assert hidden > 100 and out > 100


def test_no_object_jumps_within_the_frame():
    for seed in range(2):
        world = MotionWorld(num_videos=12, seed=seed, size=64, num_frames=32)
        for video in world:
            assert np.abs(video.flow).max() < 0.09 * 64, video.labels


def test_tracks_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="keeps no scenes"):
        WORLDS["untrimmed"][0].tracks(np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"frame \(6\) must be in \[0, 6\)"):
        WORLDS["motion"][0].tracks(np.zeros((1, 2)), frame=6)


# What the class can be told from


def nearest_mean_accuracy(features, labels):
    """Trained on the first half, tested on the second."""
    features = (features - features.mean(0)) / features.std(0)
    half = len(features) // 2
    means = np.stack([features[:half][labels[:half] == k].mean(0) for k in range(labels.max() + 1)])
    found = ((features[half:, None] - means) ** 2).sum(-1).argmin(1)
    return (found == labels[half:]).mean()


def test_every_class_comes_once_in_every_twelve_videos():
    for by, classes in (("motion", ACTIONS), ("texture", FAMILIES)):
        world = MotionWorld(num_videos=24, size=32, num_frames=1, by=by)
        for start in (0, 12):
            assert sorted(world[i].labels[0] for i in range(start, start + 12)) == sorted(classes)


def test_the_action_cannot_be_told_from_a_single_frame():
    """Chance is 1/12; colours, coverage, sizes and gradients of the last frame, where actions have gone furthest."""
    world = MotionWorld(num_videos=288, size=32, num_frames=16)
    features, labels = [], []
    for index in range(len(world)):
        label, scene, _ = world._scene(index)
        drawn = scene.draw(15, with_flow=False)
        frame = drawn.frame.astype(float)
        reach = np.array([pixels for pixels in drawn.reach.values() if pixels])
        edges = [np.abs(np.diff(frame, axis=axis)).mean() for axis in (0, 1)]
        covered = (drawn.mask > 0).mean(axis=0)
        features.append([*frame.mean((0, 1)), *frame.std((0, 1)), *edges, reach.max(), reach.mean(), *covered[::8]])
        labels.append(ACTIONS.index(label))
    accuracy = nearest_mean_accuracy(np.array(features), np.array(labels))
    assert accuracy < 1 / 12 + 3 * np.sqrt(1 / 12 * 11 / 12 / 144)


def test_every_action_leaves_the_law_of_the_poses_as_it_is():
    """After three seconds of any action: the logarithm of the scale is uniform on its range, the shear has its
    arcsine law, and places are uniform on the torus."""
    look = Look("", np.zeros((21, 21, 3), np.uint8), np.zeros((21, 21), np.float32))
    for action in ACTIONS:
        scales, shears, places = [], [], []
        for seed in range(120):
            layers = crowd(np.random.default_rng(seed), [look] * ROWS**2, {action: [3.0]}, 112, np.eye(3)[None])
            matrix = np.stack([layer.matrix[0] for layer in layers])
            across, down = matrix[:, :2, 0], matrix[:, :2, 1]
            scale = np.hypot(*across.T)
            scales += [*(np.log(scale / 0.72) / np.log(1.35 / 0.72))]
            shear = (across * down).sum(1) / scale**2
            shears += [*(shear / np.abs(shear).max())]
            places += [*((matrix[:, :2, :2] @ [10, 10] + matrix[:, :2, 2]) / 112 / TORUS + (TORUS - 1) / 2 / TORUS)]
        assert np.histogram(scales, 4, (0, 1))[0] / 3000 == pytest.approx(0.25, abs=0.04), action
        assert np.histogram(shears, 3, (-1, 1))[0] / 3000 == pytest.approx([0.39, 0.22, 0.39], abs=0.04), action
        for axis in (0, 1):
            counts = np.histogram(np.array(places)[:, axis], 4, (0, 1))[0]
            assert counts.sum() == 3000 and counts / 3000 == pytest.approx(0.25, abs=0.04), action


def test_the_motion_can_be_told_from_the_flow():
    """Translations by the objects' motion relative to their surroundings; chance is 1/4."""
    directions = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    correct = []
    for video in MotionWorld(num_videos=36, size=64, num_frames=6, seed=5):
        if video.labels[0] in directions:
            moved = [video.flow[t][:, video.masks[t] > 0].mean(1) - video.flow[t][:, video.masks[t] == 0].mean(1)
                     for t in range(5)]  # fmt: skip
            move = np.mean(moved, axis=0)
            correct.append(max(directions, key=lambda name: move @ directions[name]) == video.labels[0])
    assert len(correct) == 12 and np.mean(correct) > 0.9


def test_the_texture_can_be_told_from_a_single_frame():
    """By responses inside the objects, alike under colour; chance is 1/12."""
    world = MotionWorld(num_videos=240, size=112, num_frames=1, by="texture")
    features, labels = [], []
    for index in range(len(world)):
        label, scene, _ = world._scene(index)
        drawn = scene.draw(0, with_flow=False)
        grey = cv2.cvtColor(drawn.frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        inside = cv2.erode((drawn.mask > 0).astype(np.uint8), np.ones((7, 7))) > 0
        contrast = grey[inside].std()
        bands = [cv2.GaussianBlur(grey, (0, 0), s) - cv2.GaussianBlur(grey, (0, 0), 2 * s) for s in (0.7, 1.4, 2.8, 5)]
        features.append([*(np.log(b[inside].std() / contrast) for b in bands),
                         *((np.abs(b[inside]) ** 3).mean() / b[inside].std() ** 3 for b in bands),
                         *((b[inside] ** 3).mean() / b[inside].std() ** 3 for b in bands)])  # fmt: skip
        labels.append(FAMILIES.index(label))
    assert nearest_mean_accuracy(np.array(features), np.array(labels)) > 3 / 12


# Untrimmed


def test_shots_fill_the_video_and_cuts_lie_between_them():
    for video in UntrimmedWorld(num_videos=6, seed=1, seconds=90.0):
        edges = [shot.start_seconds for shot in video.shots] + [video.shots[-1].end_seconds]
        assert edges[0] == 0 and edges[-1] == video.num_frames / video.fps == 90
        assert [shot.end_seconds for shot in video.shots] == edges[1:]
        assert [cut.time_seconds for cut in video.cuts] == edges[1:-1]
        assert min(np.diff(edges)) >= 2.4
        setups = [shot.setup for shot in video.shots]
        assert all(a != b for a, b in zip(setups, setups[1:]))
        assert len(set(setups)) < len(setups), "places come back"


def test_actions_lie_apart_within_the_video_and_outside_of_cutaways():
    crossed = 0
    for video in UntrimmedWorld(num_videos=6, seed=1, seconds=90.0):
        times = video.segments.times_seconds
        assert len(times) >= 4 and times.min() >= 0 and times.max() <= 90
        assert (times[:, 1] - times[:, 0] >= 1.4).all() and (times[1:, 0] > times[:-1, 1]).all()
        assert set(video.labels) == set(video.segments.labels)
        assert 0.2 < np.diff(times).sum() / 90 < 0.9, "there is background too"
        for shot in video.shots:
            if shot.setup.startswith("cutaway"):
                assert not ((times[:, 0] < shot.end_seconds) & (times[:, 1] > shot.start_seconds)).any()
        crossed += sum(
            ((times[:, 0] < cut.time_seconds) & (times[:, 1] > cut.time_seconds)).sum() for cut in video.cuts
        )
    assert crossed > 0, "some actions run on through a cut"


def test_topics_come_evenly_and_bind_actions_and_places():
    world = UntrimmedWorld(num_videos=12, seconds=60.0, num_topics=4)
    by_topic = {}
    for video in world:
        by_topic.setdefault(video.topic, []).append(video)
    assert [len(videos) for videos in by_topic.values()] == [3] * 4
    for videos in by_topic.values():
        assert len({label for video in videos for label in video.labels}) <= 3
    assert not any({"grow", "shrink"} <= set(world._topic(k).actions) for k in range(12))
    assert set(world.classes) == {action for k in range(4) for action in world._topic(k).actions}


def test_frames_change_at_cuts_and_nowhere_else():
    world = UntrimmedWorld(num_videos=4, seed=2, size=64, seconds=60.0)
    kinds = set()
    for index, video in enumerate(world):
        frames = np.concatenate(list(world.render(index)))
        assert len(frames) == video.num_frames
        small = frames[:, :, ::2, ::2].astype(np.float32)
        change = np.abs(np.diff(small, axis=0)).mean((1, 2, 3))
        cuts = {round(cut.time_seconds * video.fps) - 1 for cut in video.cuts if cut.kind == "cut"}
        quiet = np.ones(len(change), bool)
        for cut in video.cuts:
            quiet[max(0, round(cut.start_seconds * video.fps) - 1) : round(cut.end_seconds * video.fps) + 1] = False
            kinds.add(cut.kind)
            if cut.kind == "fade":
                middle = small[round(cut.time_seconds * video.fps)].mean()
                assert middle < 0.35 * small[round(cut.start_seconds * video.fps) - 1].mean()
        assert min(change[k] for k in cuts) > change[quiet].max()
    assert kinds == {"cut", "dissolve", "fade"}


def test_objects_move_in_action_and_rest_in_between():
    from vitascope.datasets.worlds.untrimmed import _progress
    from vitascope.structures import Segments

    seconds = np.linspace(0, 10, 1001)
    done = _progress(Segments(np.array([[2.0, 4.0], [7.0, 8.0]]), ("up", "up")), seconds)["up"]
    speed = np.diff(done) / 0.01
    assert done[0] == 0 and np.all(speed > -1e-9) and speed.max() == pytest.approx(1)
    assert np.abs(speed[(seconds[:-1] > 4.01) & (seconds[:-1] < 6.98)]).max() < 1e-9
    assert np.abs(np.diff(speed)).max() < 0.06, "it starts and stops smoothly"
    assert speed[(seconds[:-1] > 2.2) & (seconds[:-1] < 3.7)] == pytest.approx(1)


def test_an_untrimmed_video_takes_flat_memory():
    import tracemalloc

    peaks = []
    for seconds in (10.0, 40.0):
        world = UntrimmedWorld(num_videos=1, size=32, seconds=seconds)
        next(world.render(0))
        tracemalloc.start()
        for _ in world.render(0, chunk=16):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


# Objects


def test_object_one_is_away_for_long_and_comes_back(objects):
    for video in objects:
        seen = video.areas[:, 0] > 0
        third = video.num_frames // 3
        assert seen[:third].any() and seen[-third:].any()
        assert max(end - start for start, end in runs(~seen)) >= 0.3 * video.num_frames


def test_objects_hide_each_other_and_areas_tell_it(objects):
    for video in objects:
        np.testing.assert_array_equal(video.areas.sum(1), (video.masks > 0).sum((1, 2)))
        assert (video.areas <= video.reaches).all()
        assert ((video.areas < 0.6 * video.reaches) & (video.reaches > 100)).sum() >= 5
        assert (video.areas[0] > 0).sum() >= 4


def test_a_double_looks_like_its_original_and_unlike_the_others(objects):
    video = objects[0]
    names = [name.split(":")[0] for name in video.objects]
    assert names[0] == names[-1] and len(set(names)) == 4 and len(set(video.objects)) == 5
    layers = {layer.name: layer for scene in video.scenes for layer in scene.layers}
    looks = [layers[name] for name in video.objects]
    colours = [layer.texture[layer.level > 3].astype(float) for layer in looks]
    histograms = [np.histogramdd(c, bins=6, range=[(0, 256)] * 3)[0] / len(c) for c in colours]
    shared = [np.minimum(histograms[-1], h).sum() for h in histograms[:-1]]
    assert shared[0] == max(shared)
    assert looks[0].level.shape != looks[-1].level.shape


def test_objects_world_cuts_to_another_place_and_back(objects):
    for video in objects:
        setups = [shot.setup for shot in video.shots]
        assert setups[0] == setups[2] != setups[1]
        lost = np.isnan(video.flow).any((1, 2, 3))
        frames = [round(cut.time_seconds * video.fps) for cut in video.cuts]
        assert np.flatnonzero(lost).tolist() == [frame - 1 for frame in frames]
        change = np.abs(np.diff(video.frames.astype(np.float32), axis=0)).mean((1, 2, 3))
        assert change[lost].min() > change[~lost].max()


def test_tracks_go_on_through_a_cut_back_to_the_same_place(objects):
    for video in objects:
        y, x = np.nonzero(video.masks[0] == 0)
        positions, visible = video.tracks(np.stack([x, y], axis=1)[::50])
        back = round(video.shots[2].start_seconds * video.fps)
        elsewhere = round(video.shots[1].start_seconds * video.fps)
        assert np.isnan(positions[elsewhere]).all() and not visible[elsewhere].any()
        assert visible[back:].any(), "the place is seen again"
        if visible[back].sum() > 20:
            at = np.rint(positions[back][visible[back]]).astype(int).clip(0, 111)
            now = video.frames[back][:, at[:, 1], at[:, 0]].astype(float)
            then = video.frames[0][:, y[::50][visible[back]], x[::50][visible[back]]].astype(float)
            assert np.abs(now - then).mean() < 15
