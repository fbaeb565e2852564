"""The claims from films on: what is made of a film, what the arms spend, and a trial from video to figures."""

import numpy as np
import pytest

from vitascope import api
from vitascope.evaluation import wtal_world_claims as claims
from vitascope.evaluation.claims import Tools
from vitascope.evaluation.wtal_claims import CBP, OUTPUTS
from vitascope.methods import METHODS
from vitascope.store.feature_files import read_features
from vitascope.structures import Localized, Segments
from vitascope.video import snippets

TINY = claims.Budget(num_train=4, num_test=3, seconds=12.0, pretraining=1, steps=4, rounds=1, seeds=1)


def configure(recipe, changes):
    return METHODS[api.recipes()[recipe][0]], api.configure(recipe, changes)


TOOLS = Tools(configure, None, None, snippets.Snippets)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    (maker,) = claims.makers_of(TOOLS, folder, TINY)
    assert claims.make_features(maker)["cpu_seconds"] > 0
    return folder


def test_all_arms_that_train_cbp_beyond_the_warm_up_spend_the_same(tmp_path):
    for trial in claims.trials_of(TOOLS, tmp_path, claims.FULL):
        c = trial.arm.config
        spent = c.warmup_steps + (0 if c.supervised else c.rounds * c.f_steps)
        if trial.arm.name != claims.ONLY_B:
            assert abs(spent - claims.FULL.steps) <= 1
        assert (c.rounds * c.b_steps > 0) == (trial.arm.name in (claims.ONLY_B, claims.BOTH))


def test_a_film_has_the_vectors_of_both_and_the_truth_of_its_snippets(folder):
    trial = claims.trials_of(TOOLS, folder, TINY)[0]
    world, films = claims.films(trial)
    for i, video in enumerate(world[k] for k in range(len(world))):
        record = claims.with_vectors(claims.Record(str(films / f"untrimmed_{i:05d}.mp4")))
        cbp, vlp, true = (read_features(file) for file in record.features)
        assert len(cbp.values) == len(vlp.values) == len(true.values) and true.values.shape[1] == len(world.classes)
        assert np.allclose(cbp.times_seconds, vlp.times_seconds)
        middles = true.times_seconds.mean(1)
        for k, name in enumerate(world.classes):
            own = [times for times, label in zip(video.segments.times_seconds, video.segments.labels) if label == name]
            expected = np.zeros(len(middles), bool)
            for start, end in own:
                expected |= (middles >= start) & (middles < end)
            assert np.array_equal(true.values[:, k] > 0, expected)


def test_a_trial_tells_the_map_of_every_output_and_is_not_run_again(folder):
    trials = {trial.arm.name: trial for trial in claims.trials_of(TOOLS, folder, TINY)}
    told = claims.run_world_trial(trials[claims.ONLY_F])
    names = {name + known for name in OUTPUTS.values() for known in ("", claims.KNOWN)}
    assert told.keys() == names | {"cpu_seconds"}
    assert all(0 <= told[name] <= 1 for name in names)
    assert claims.run_world_trial(trials[claims.ONLY_F]) == told
    assert {term[2] for claim in claims.CLAIMS for term in claim.terms} <= names and CBP in names


def test_what_is_turned_keeps_actions_and_lengths_and_lies_elsewhere():
    times = np.array([[1.0, 3.0], [8.0, 9.0]])
    found = Segments(times, ("a", "b"), np.array([0.9, 0.5]))
    one = Localized("a.mp4", 10.0, found, np.zeros((0, 2)), ("a", "b"), {})
    turned = claims.turned(one, 4.0)
    assert turned.times_seconds.tolist() == [[5.0, 7.0], [2.0, 3.0]]
    assert (turned.labels, turned.scores.tolist()) == (found.labels, [0.9, 0.5])
