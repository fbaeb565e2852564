"""What CBP+VLP is claimed to do where classification finds too little; in a tenth of the budget of its page."""

import numpy as np
import pytest

from vitascope import api
from vitascope.datasets.worlds.snippets import CONTEXT, CORE, SnippetWorld
from vitascope.evaluation import wtal_claims as wtal
from vitascope.evaluation.claims import Tools
from vitascope.methods import METHODS

TOOLS = Tools(lambda recipe, changes: (METHODS["cbp_vlp"], api.configure(recipe, changes)), None, None, None)
BUDGET = wtal.Budget(num_train=60, num_test=30, warmup=150, rounds=2, steps=40, seeds=1)


def figures(arm: str, folder, budget=BUDGET) -> dict[str, float]:
    """What an arm comes to with seed 0."""
    trials = wtal.trials_of(TOOLS, folder, budget)
    return wtal.run_local_trial(next(trial for trial in trials if trial.arm.name == arm))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("wtal")


@pytest.fixture(scope="module")
def alternation(folder):
    return figures(wtal.BOTH, folder)


def test_alternation_lifts_an_incomplete_cbp_by_ten_points_over_its_warm_up(alternation):
    assert alternation[wtal.CBP] >= alternation[wtal.BEFORE] + 0.10


def test_alternation_is_not_below_only_f(alternation, folder):
    assert alternation[wtal.CBP] >= figures(wtal.ONLY_F, folder)[wtal.CBP] - 0.02


@pytest.mark.slow
def test_one_distribution_over_classes_would_cost_vlp(folder):
    """It takes more rounds to show than the others: each round, VLP calls more of the background foreground."""
    longer = BUDGET._replace(rounds=3, steps=60)
    ours, collapsed = (figures(arm, folder, longer) for arm in (wtal.BOTH, wtal.CATEGORICAL))
    assert collapsed[wtal.VLP] < ours[wtal.VLP] - 0.10
    assert collapsed[wtal.VLP_BG] < ours[wtal.VLP_BG]


@pytest.mark.slow
def test_each_side_alone_would_cost_cbp(alternation, folder):
    assert figures(wtal.OWN_SIDE, folder)[wtal.CBP] < alternation[wtal.CBP] - 0.10


@pytest.mark.slow
def test_global_attention_would_make_all_foreground(folder):
    local, everywhere = (figures(arm, folder) for arm in (wtal.LOCAL, wtal.GLOBAL))
    assert everywhere[wtal.BEFORE] < local[wtal.BEFORE] - 0.10


def test_a_trial_called_again_gives_what_it_found(folder):
    tiny = wtal.Budget(num_train=12, num_test=12, warmup=2, rounds=1, steps=1, seeds=1)
    assert figures(wtal.BOTH, folder / "again", tiny) == figures(wtal.BOTH, folder / "again", tiny)


def test_every_arm_trains_cbp_for_as_many_steps():
    steps = {}
    for trial in wtal.trials_of(TOOLS, None, BUDGET):
        stages = trial.arm.cls(trial.arm.config).stages()
        steps[trial.arm.name] = sum(stage.length for stage in stages if stage.learns == ("cbp.",))
    assert steps.pop(wtal.ONLY_B) == BUDGET.warmup
    assert set(steps.values()) == {BUDGET.warmup + BUDGET.rounds * BUDGET.steps}


def test_the_worlds_actions_are_cores_and_contexts_and_nothing_else_is():
    world = SnippetWorld(num_videos=5, seed=3)
    for i in range(5):
        video = world[i]
        inside = np.zeros(len(video.kinds), bool)
        for start, end in video.segments.times_seconds:
            inside |= (video.times_seconds[:, 0] >= start - 1e-9) & (video.times_seconds[:, 1] <= end + 1e-9)
        assert np.array_equal(inside, np.isin(video.kinds, (CORE, CONTEXT)))
        assert set(video.labels) == {world.classes[k] for k in np.unique(video.numbers[inside])}


def test_the_scene_of_an_action_looks_like_it_to_image_and_text_and_not_to_video():
    world, text = SnippetWorld(num_videos=8, seed=1, frame_noise=0.1), np.eye(12, dtype=np.float32)
    means = {"frames": {}, "cbp": {}}
    for i in range(8):
        video, frames = world[i], world.frames(i, text)
        for kind in (0, 1, 3):
            rows = np.flatnonzero(video.kinds == kind)
            classes = video.numbers[rows] if kind else np.full(len(rows), world.classes.index(video.labels[0]))
            means["frames"].setdefault(kind, []).extend(frames[rows, classes])
            means["cbp"].setdefault(kind, []).extend((video.cbp[rows] * world._directions()[0][classes]).sum(1))
    frames, cbp = ({kind: np.mean(values) for kind, values in one.items()} for one in means.values())
    assert frames[3] > 0.7 * frames[1] > 5 * frames[0]
    assert cbp[1] > 5 and abs(cbp[3]) < 1 and abs(cbp[0]) < 1
