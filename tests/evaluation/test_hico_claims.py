"""The claims of HiCo: arms differ in what is claimed and in nothing else, and every claim is about what is measured."""

import pytest

from vitascope.api import recipes
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.engine.configure import override
from vitascope.evaluation import hico_claims
from vitascope.evaluation.hico_claims import CLAIMS, FULL, RANDOM
from vitascope.evaluation.reproduce import PAGES
from vitascope.methods import METHODS
from vitascope.structures import Record


def configure(recipe, assignments):
    method, make = recipes()[recipe]
    return METHODS[method], override(make(), assignments)


@pytest.fixture(scope="module")
def arms():
    return {arm.name: arm for arm in hico_claims.arms(configure, FULL)}


def test_arms_differ_in_how_clips_are_drawn_and_in_topics_alone(arms):
    free = {"sampling", "topical", "content", "batch_size", "delta_seconds"}
    configs = [arm.config for arm in arms.values()]
    for name in set(type(configs[0]).model_fields) - free:
        assert len({repr(getattr(config, name)) for config in configs}) == 1, name
    assert {config.batch_size * config.num_clips for config in configs} == {hico_claims.CLIPS_PER_STEP}
    assert [name for name, arm in arms.items() if not arm.is_trained] == [RANDOM]


def test_every_claim_is_about_arms_and_measures_that_there_are(arms):
    terms = {(arm, measure) for claim in CLAIMS for _, arm, measure in claim.terms}
    assert {arm for arm, _ in terms} == set(arms)
    measures = {f"{by}, {how}" for by in ("place", "topic", "action") for how in ("linear probe", "R@1")}
    measures.add("place within its group, R@1")
    assert {measure for _, measure in terms} <= measures


def test_every_page_takes_its_figures_from_its_budget():
    for page in PAGES.values():
        told = page.intro.format(**page.full._asdict())
        assert all(f"{value} " in told for value in page.full) and "{" not in told


def test_clips_are_told_by_what_the_world_shows_in_them_and_training_videos_are_apart():
    world = UntrimmedWorld(num_videos=6, seed=1, size=32, seconds=30.0, num_topics=3)
    records = [Record(f"{number}.mp4", id=str(number)) for number in range(6)]
    tasks = {by: hico_claims._task(by, world, records, 4) for by in ("place", "topic", "action")}
    for by, task in tasks.items():
        assert task.train and {int(record.path[0]) for record in task.train} == set(range(4))
        assert {int(record.path[0]) for record in task.test} <= {4, 5}
        assert {record.labels for record in task.test} <= {record.labels for record in task.train}
        for record in task.train + task.test:
            video, middle = world[int(record.path[0])], (record.start_seconds + record.end_seconds) / 2
            (shot,) = [s for s in video.shots if s.start_seconds <= middle < s.end_seconds]
            times = video.segments.times_seconds
            during = [label for (a, b), label in zip(times, video.segments.labels) if a <= middle < b]
            shown = {"place": f"{video.topic} {shot.setup}", "topic": video.topic, "action": (during or [None])[0]}
            assert record.labels == (shown[by],)
    assert all(r.end_seconds - r.start_seconds >= hico_claims.LEAST_SECONDS for r in tasks["action"].train)
    assert {tasks["place"].groups[r.labels[0]] for r in tasks["place"].test} <= {video.topic for video in world}
    assert not any("cutaway" in record.labels[0] for record in tasks["place"].train)
