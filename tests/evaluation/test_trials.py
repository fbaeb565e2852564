"""Trials: told once, known by what they depend on, equal however often they are broken off."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from vitascope.api import recipes
from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.engine.configure import override
from vitascope.evaluation import motion_claims, trials
from vitascope.evaluation.trials import Arm, Task, Trial, TrialFailed, make_worlds, run_trial, run_trials
from vitascope.methods import METHODS
from vitascope.structures import Record
from vitascope.video.snippets import spread_clips

TINY = ["embed_dim=16", "depth=1", "num_heads=2", "size=16", "short_side=16", "num_frames=4", "stride_frames=2"]


def configure(recipe, assignments):
    method, make = recipes()[recipe]
    return METHODS[method], override(make(), assignments)


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Trial:
    folder = tmp_path_factory.mktemp("trials")
    ((_, videos),) = make_worlds({"motion": MotionWorld(num_videos=24, size=32, num_frames=10)}, folder, 0)
    tasks = (Task("motion", videos[:12], videos[12:]),)
    changes = ["decoder_dim=12", "track_steps=4", "length=3", "batch_size=4"]
    arm = Arm("MME", *configure("mme-tiny", [*TINY, *changes]))
    classifier = configure("finetune-tiny", [*TINY, "length=3", "test_clips=1", "test_crops=1"])
    read = partial(spread_clips, num_frames=4, stride_frames=2, size=16)
    return Trial(arm, 0, videos[:12], tasks, read, folder / "work", classifier)


def test_trial_tells_a_share_for_each_measure_and_then_knows_it(trial, monkeypatch):
    told = run_trial(trial)
    assert set(told) == {"motion, linear probe", "motion, fine-tuned", "cpu_seconds"}
    assert all(0 <= told[key] <= 1 for key in told if key != "cpu_seconds")
    monkeypatch.setattr(trials, "train", None)  # would fail if anything were done again
    assert run_trial(trial) == told


def test_trial_broken_off_goes_on_to_the_same_figures(trial, tmp_path, monkeypatch):
    whole, broken = run_trial(trial), replace(trial, folder=tmp_path)
    monkeypatch.setattr(trials, "classify", None)
    with pytest.raises(TypeError):
        run_trial(broken)
    assert not (broken.own_folder / "result.json").exists() and (broken.own_folder / "pre-trained").is_dir()
    monkeypatch.undo()
    told = run_trial(broken)
    assert {**told, "cpu_seconds": 0} == {**whole, "cpu_seconds": 0}


def test_trial_asks_for_what_it_is_told_to(trial, tmp_path):
    frozen = replace(trial, arm=replace(trial.arm, is_trained=False), classifier=None, folder=tmp_path)
    assert set(run_trial(frozen)) == {"motion, linear probe", "cpu_seconds"}
    told = run_trial(replace(frozen, retrieval=True))
    assert set(told) == {"motion, linear probe", "motion, R@1", "cpu_seconds"} and 0 <= told["motion, R@1"] <= 1
    copies = [replace(video, path=shutil.copy(video.path, tmp_path)) for video in trial.tasks[0].train]
    twins = replace(frozen, retrieval=True, tasks=(Task("motion", trial.tasks[0].train, copies),))
    assert run_trial(twins)["motion, R@1"] == 1


def test_nearest_of_its_group_is_not_looked_for_elsewhere():
    records = [Record(f"{n}.mp4", labels=(label,)) for n, label in enumerate(("a1", "a2", "b1", "b2"))]
    others = [Record(f"other{n}.mp4", labels=r.labels) for n, r in enumerate(records[:2])]
    task = Task("t", records, others, {label: label[0] for label in ("a1", "a2", "b1", "b2")})
    known = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
    asked = np.array([[0.1, 1.0], [0.6, 0.8]])  # nearest to b1 and b2; of group a to a2
    assert trials._nearest_of_group(task, asked, known) == 0.5


@pytest.mark.parametrize(
    "change",
    [
        lambda trial: replace(trial, seed=1),
        lambda trial: replace(trial, arm=replace(trial.arm, is_trained=False)),
        lambda trial: replace(trial, arm=replace(trial.arm, config=override(trial.arm.config, ["length=4"]))),
        lambda trial: replace(trial, classifier=configure("finetune-tiny", [*TINY, "length=4"])),
        lambda trial: replace(trial, classifier=None),
        lambda trial: replace(trial, retrieval=True),
        lambda trial: replace(trial, videos=trial.videos[:-1]),
        lambda trial: replace(trial, videos=[replace(video, end_seconds=0.5) for video in trial.videos]),
    ],
)
def test_trial_of_something_else_has_another_folder(trial, change):
    assert change(trial).own_folder != trial.own_folder == replace(trial).own_folder


def test_trial_with_an_unreadable_video_fails_and_names_it(trial, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    bad = replace(trial, videos=[*trial.videos, Record(str(broken))] * 1, folder=tmp_path)
    bad = replace(bad, arm=replace(bad.arm, config=override(bad.arm.config, ["length=8"])))
    with pytest.raises(TrialFailed, match="broken.mp4 cannot be read"):
        run_trial(bad)


def test_figures_stand_in_the_order_of_arms_and_seeds(trial, tmp_path):
    arms = [replace(trial.arm, name=name) for name in ("b", "a")]
    asked = [replace(trial, arm=arm, seed=seed, folder=tmp_path) for arm in arms for seed in (1, 0)]
    for number, one in enumerate(asked):
        one.own_folder.mkdir(parents=True)
        (one.own_folder / "result.json").write_text(f'{{"probe": 0.{number}, "cpu_seconds": 2}}')
    scores, cpu_seconds = run_trials(asked, 2, "test")
    assert scores == {"b": {"probe": [0.1, 0.0]}, "a": {"probe": [0.3, 0.2]}} and list(scores) == ["b", "a"]
    assert cpu_seconds == 8


@pytest.mark.parametrize("name", motion_claims.CLAIMS)
def test_arms_of_a_page_have_one_encoder_and_one_budget(name):
    made = motion_claims.arms(name, configure, motion_claims.FULL)
    fields = ("num_frames", "stride_frames", "size", "short_side", "patch_size", "embed_dim", "depth", "num_heads")
    fields += ("length", "unit", "batch_size", "mask_ratio", "optim", "crop_scales")
    assert len({tuple(getattr(arm.config, field) for field in fields) for arm in made}) == 1
    assert len({arm.config for arm in made}) == len(made) - (name == "mme-motion")  # random weights are MME's
    assert [arm.name for arm in made if not arm.is_trained] == [motion_claims.RANDOM] * (name == "mme-motion")


@pytest.mark.parametrize("name", motion_claims.CLAIMS)
def test_every_claim_is_about_arms_that_are_run(name):
    named = {arm for claim in motion_claims.CLAIMS[name] for _, arm, _ in claim.terms}
    assert named <= set(motion_claims.ARMS[name])


def test_both_pages_share_the_trials_they_have_in_common():
    pages = [
        {arm.name: arm for arm in motion_claims.arms(name, configure, motion_claims.FULL)}
        for name in ("mme-motion", "mme-shuffle")
    ]
    for arm in (motion_claims.MME, motion_claims.PIXELS, motion_claims.HOG, motion_claims.POSITION):
        assert pages[0][arm] == pages[1][arm]
        assert pages[1][arm + motion_claims.SHUFFLED].config.shuffle == "frames"
