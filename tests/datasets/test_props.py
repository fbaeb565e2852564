import hashlib
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from vitascope.datasets.worlds.actions import ACTIONS
from vitascope.datasets.worlds.props import AROUND_SECONDS, PROPS, SHAPES, make_prop
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.datasets.worlds.write import hash_of, write_world

WORLD = UntrimmedWorld(num_videos=4, seed=1, size=64, seconds=30.0, fps=8.0, num_topics=12, props=True)


@pytest.fixture(scope="module")
def videos():
    return list(replace(WORLD, num_videos=12, seconds=90.0))


def times_of(segments, label):
    return [tuple(row) for row, name in zip(segments.times_seconds.tolist(), segments.labels) if name == label]


def overlaps(span, others):
    return [other for other in others if other[0] < span[1] and other[1] > span[0]]


def test_a_world_without_props_is_what_it_was():
    plans = json.dumps([video.to_json() for video in UntrimmedWorld(num_videos=3, seed=3, seconds=60.0)])
    assert hashlib.sha256(plans.encode()).hexdigest()[:16] == "a6e09f68f4adb1d7"
    assert hash_of(UntrimmedWorld()) == "8a4381f780e4dd88", "worlds on disk are found by this name"
    assert hash_of(UntrimmedWorld(props=True)) != hash_of(UntrimmedWorld())
    assert UntrimmedWorld()[0].props is None


def test_props_change_nothing_else_and_are_seen_in_their_time_alone():
    for index, video in enumerate(WORLD):
        bare = replace(WORLD, props=False)
        assert replace(video, props=None).to_json() == bare[index].to_json()
        changed = [
            np.abs(new.astype(int) - old).reshape(len(new), -1).max(1) > 8
            for new, old in zip(WORLD.render(index), bare.render(index), strict=True)
        ]
        changed, times = np.concatenate(changed), video.times_seconds
        near, well = np.zeros((2, video.num_frames), bool)
        for start, end in video.props.times_seconds:
            near |= (times >= start - 0.6) & (times < end + 0.6)  # a dissolve shows its shot for longer
            well |= (times > start + 0.35) & (times < end - 0.35)
        mixed = np.zeros(video.num_frames, bool)
        for cut in video.cuts:
            mixed |= (times >= cut.start_seconds - 0.01) & (times <= cut.end_seconds + 0.01)
        assert changed[well & ~mixed].all() and not changed[~near].any()
        assert well.any() and (~near).any()


def test_a_prop_comes_before_its_action_and_stays_after_it(videos):
    befores, afters = [], []
    for video in videos:
        cutaways = [(s.start_seconds, s.end_seconds) for s in video.shots if s.setup.startswith("cutaway")]
        for (start, end), label in zip(video.segments.times_seconds.tolist(), video.segments.labels):
            (span,) = overlaps((start, end), times_of(video.props, label))
            assert span[0] <= start and span[1] >= end
            others = [other for other in times_of(video.segments, label) if other != (start, end)]
            if len(overlaps(span, [(start, end), *others])) == 1:
                befores.append(start - span[0])
                afters.append(span[1] - end)
        assert not any(overlaps(tuple(span), cutaways) for span in video.props.times_seconds)
    low, high = AROUND_SECONDS
    for around in (
        np.array(befores),
        np.array(afters),
    ):  # cutaways cut them short, props that came alone make them longer
        assert np.mean((around >= low - 0.1) & (around <= high + 0.1)) > 0.75
        assert 0.5 < around[around < high].std() / ((high - low) / 12**0.5) < 1.5


def test_props_come_when_nobody_acts_too(videos):
    alone, seen, acted = 0, 0.0, 0.0
    for video in videos:
        for span, label in zip(video.props.times_seconds, video.props.labels):
            alone += not overlaps(tuple(span), times_of(video.segments, label))
        seen += np.diff(video.props.times_seconds).sum()
        acted += np.diff(video.segments.times_seconds).sum()
    assert alone > len(videos)
    assert 1.3 < seen / acted < 3


def test_every_action_has_a_prop_of_its_own_name():
    assert tuple(PROPS) == ACTIONS
    assert len({prop.name for prop in PROPS.values()}) == len({prop.shape for prop in PROPS.values()}) == len(ACTIONS)
    assert {prop.shape for prop in PROPS.values()} == set(SHAPES)


@pytest.mark.parametrize("prop", PROPS.values(), ids=lambda prop: prop.name)
def test_a_prop_has_its_colour_and_shape(prop):
    look = make_prop(np.random.default_rng(0), prop, 112)
    inside = look.level > 2
    hue = cv2.cvtColor(look.texture, cv2.COLOR_RGB2HSV)[inside][:, 0] / 180
    assert np.abs((hue - prop.hue + 0.5) % 1 - 0.5).max() < 0.04
    side = len(look.level)
    outline = np.concatenate([ring for ring in SHAPES[prop.shape]])
    assert np.abs(outline).max() <= 1.05, "shapes fit a circle of radius 1"
    assert 0.1 < (look.level > 0).mean() < 0.8 and side % 2 == 1
    assert (look.level[[0, -1]] < 0).all() and (look.level[:, [0, -1]] < 0).all()
    others = [make_prop(np.random.default_rng(0), other, 112).level > 0 for other in PROPS.values() if other != prop]
    shared = [((look.level > 0) & other).sum() / ((look.level > 0) | other).sum() for other in others]
    assert max(shared) < 0.85


def test_the_truth_on_disk_tells_when_props_are_seen(tmp_path):
    world = replace(WORLD, num_videos=1, seconds=10.0)
    write_world(world, tmp_path)
    truth = json.loads((tmp_path / "truth.json").read_text())
    rows = truth["videos"]["untrimmed_00000"]["props"]
    assert [(row["label"], row["start_seconds"]) for row in rows] == list(
        zip(world[0].props.labels, world[0].props.times_seconds[:, 0])
    )
    with pytest.raises(ValueError, match="holds another world"):
        write_world(replace(world, props=False), tmp_path)
