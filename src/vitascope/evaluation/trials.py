"""One way to pre-train an encoder, tried: trained, then measured on each task: by a linear probe, retrieval, fine-tuning.

A trial writes its figures once, when it is over; called again it gives them, and a broken one goes on from its last
checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitascope.datasets.worlds.write import World, write_world
from vitascope.engine.log import Status
from vitascope.engine.pool import Failure, run_isolated
from vitascope.engine.settings import TrainSettings
from vitascope.engine.start import start
from vitascope.engine.train import train
from vitascope.evaluation.claims import Scores
from vitascope.evaluation.probe import linear_probe
from vitascope.evaluation.recognition import classify, encode, label_of
from vitascope.evaluation.retrieval import score
from vitascope.methods.base import Frozen, Method
from vitascope.store import atomic
from vitascope.structures import Record

SAVE_EVERY_STEPS = 100


class TrialFailed(RuntimeError):
    """A trial came to no figures."""


@dataclass(frozen=True)
class Arm:
    """One way to get an encoder.

    Args:
        name: In tables.
        cls: The method that pre-trains it.
        config: Of the method.
        is_trained: False leaves the encoder as it is built.
    """

    name: str
    cls: type[Method]
    config: Frozen
    is_trained: bool = True


@dataclass(frozen=True)
class Task:
    """Classes to be told: of `test`, after learning from `train`.

    Args:
        name: In tables.
        train, test: Records of one class each.
        groups: The group of each class, if what is nearest is also to be told among the records of its own group.
    """

    name: str
    train: list[Record]
    test: list[Record]
    groups: dict[str, str] | None = None


@dataclass(frozen=True)
class Trial:
    """An arm with one seed.

    Args:
        arm: What is tried.
        seed: Of the weights, the order and the draws, in pre-training and in fine-tuning.
        videos: For pre-training, whose labels are not looked at.
        tasks: On which the encoder is measured.
        read: Gives the clips of a record uint8 `[V, T, C, H, W]`, for what is told from frozen features.
        folder: Of all trials; each has its own in it, named by what it depends on.
        classifier: The method of fine-tuning, and its configuration; its encoder has the geometry of the arm's. None: the
            encoder is not fine-tuned.
        retrieval: Whether the test records also look for their class among the others.
    """

    arm: Arm
    seed: int
    videos: list[Record]
    tasks: tuple[Task, ...]
    read: Callable[[Record], torch.Tensor]
    folder: Path
    classifier: tuple[type[Method], Frozen] | None = None
    retrieval: bool = False

    @property
    def own_folder(self) -> Path:
        """Where this trial works; another configuration or other data have another folder."""
        configs = [self.arm.config, *([self.classifier[1]] if self.classifier else [])]
        lists = [self.videos, *(records for task in self.tasks for records in (task.train, task.test))]
        data = [[(Path(r.path).name, r.start_seconds, r.end_seconds, r.labels) for r in records] for records in lists]
        told = [self.arm.is_trained, self.retrieval, *(config.model_dump(mode="json") for config in configs), data]
        name = "-".join(re.findall(r"\w+", self.arm.name))
        return self.folder / f"{name}-{self.seed}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]}"


def run_trial(trial: Trial) -> dict[str, float]:
    """Pre-train, and measure.

    Returns:
        For each task `<task>, linear probe` and, if asked for, `<task>, fine-tuned`, the share of its test records that is
        told right, and `<task>, R@1`, the share whose nearest training record by the cosine of frozen features is of its
        class, likewise `<task> within its group, R@1`; and `cpu_seconds`, what this call took.

    Raises:
        TrialFailed: A signal ended it, or a video could not be read: a trial must not be about fewer than its like.
        Exception: As training and measuring.
    """
    folder, began = trial.own_folder, time.process_time()
    result = folder / "result.json"
    if result.is_file():
        return json.loads(result.read_text())
    torch.set_num_threads(1)  # trials run side by side
    torch.manual_seed(trial.seed)
    method = trial.arm.cls(trial.arm.config)
    if trial.arm.is_trained:
        _train(method, trial.videos, folder / "pre-trained", trial.seed)
    told: dict[str, float] = {}
    features = _encoded(method, trial) if trial.tasks else {}
    for task in trial.tasks:
        known, asked = (np.stack([features[_stretch(r)] for r in records]) for records in (task.train, task.test))
        labels = [[label_of(record) for record in records] for records in (task.train, task.test)]
        told[f"{task.name}, linear probe"] = linear_probe(known, labels[0], asked, labels[1], seed=trial.seed).top1
        if trial.retrieval:
            told[f"{task.name}, R@1"] = score(asked, task.test, known, task.train).recall[1]
            if task.groups is not None:
                told[f"{task.name} within its group, R@1"] = _nearest_of_group(task, asked, known)
    del method
    for task in trial.tasks if trial.classifier else ():
        told[f"{task.name}, fine-tuned"] = _fine_tuned(trial, task, folder)
    told["cpu_seconds"] = round(time.process_time() - began, 1)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(result, told)
    return told


def _train(method: Method, records: list[Record], folder: Path, seed: int) -> None:
    settings = TrainSettings(seed=seed, save_every_steps=SAVE_EVERY_STEPS, keep_last=1)
    result = train(method, {"train": records}, folder, settings)
    if result.step < result.total:
        raise TrialFailed(f"training in {folder} ended at step {result.step} of {result.total}; run it again to go on")
    if result.unreadable:
        raise TrialFailed(
            f"{result.unreadable[0].path} cannot be read ({result.unreadable[0].detail}); delete its folder"
        )


def _nearest_of_group(task: Task, asked: np.ndarray, known: np.ndarray) -> float:
    """R@1 where each test record looks among the training records of its group only."""
    groups = [np.array([task.groups[label_of(record)] for record in records]) for records in (task.test, task.train)]
    found = 0.0
    for group in np.unique(groups[0]):
        rows, others = (np.flatnonzero(of == group) for of in groups)
        test, train = [task.test[row] for row in rows], [task.train[row] for row in others]
        found += len(rows) * score(asked[rows], test, known[others], train).recall[1]
    return found / len(task.test)


def _stretch(record: Record) -> tuple[str, float | None, float | None]:
    return record.path, record.start_seconds, record.end_seconds


def _encoded(method: Method, trial: Trial) -> dict[tuple[str, float | None, float | None], np.ndarray]:
    """Features of every stretch that a task asks about, each made once."""
    asked = {_stretch(record): record for task in trial.tasks for record in (*task.train, *task.test)}
    features, kept, unreadable = encode(method, list(asked.values()), trial.read)
    if unreadable:
        name, reason = next(iter(unreadable.items()))
        raise TrialFailed(f"{name} cannot be read ({reason}); delete its folder")
    return {_stretch(record): row for record, row in zip(kept, features, strict=True)}


def _fine_tuned(trial: Trial, task: Task, folder: Path) -> float:
    cls, config = trial.classifier
    init = folder / "pre-trained" if trial.arm.is_trained else None
    method = start(cls, config, {"train": task.train}, seed=trial.seed, recipe=config, init=init)
    own = folder / f"fine-tuned-{task.name}"
    _train(method, task.train, own, trial.seed)
    share = classify(method, task.test).top1
    shutil.rmtree(own)  # the encoder is kept, and its two classifiers can be had again
    return share


def run_trials(
    trials: Sequence[Any],
    num_workers: int,
    title: str,
    progress: Callable[[Status], Any] | None = None,
    run: Callable[[Any], dict[str, float]] = run_trial,
) -> tuple[Scores, float]:
    """Run trials side by side, each in a process of its own.

    Args:
        trials: `Trial`s, or what else has an `arm` with a name, a `seed` and an `own_folder`, where `run` writes `result.json`.
        num_workers: At once.
        title: Told as progress.
        progress: Called after each.
        run: Gives the figures of a trial; a module's function.

    Returns:
        The shares by arm and measure, in the order of the seeds; and the CPU time of all, in seconds.

    Raises:
        TrialFailed: One of them failed; the others are kept.
    """
    told: dict[tuple[str, int], dict[str, float]] = {}
    began, waiting = time.monotonic(), [trial for trial in trials if not (trial.own_folder / "result.json").is_file()]
    for trial in trials:
        if trial not in waiting:
            told[trial.arm.name, trial.seed] = run(trial)
    for number, (trial, result) in enumerate(run_isolated(run, waiting, num_workers)):
        if isinstance(result, Failure):
            raise TrialFailed(f"{trial.arm.name} with seed {trial.seed}: {result.detail}")
        told[trial.arm.name, trial.seed] = result
        if progress is not None:
            left = (time.monotonic() - began) / (number + 1) * (len(waiting) - number - 1)
            progress(Status(title, len(told), len(trials), None, left))
    arms, seeds = dict.fromkeys(trial.arm.name for trial in trials), sorted({trial.seed for trial in trials})
    cpu_seconds = sum(figures.pop("cpu_seconds") for figures in told.values())
    measures = list(next(iter(told.values())))
    scores = {arm: {measure: [told[arm, seed][measure] for seed in seeds] for measure in measures} for arm in arms}
    return scores, cpu_seconds


def make_worlds(worlds: dict[str, World], folder: Path, num_workers: int) -> Iterator[tuple[str, list[Record]]]:
    """Write worlds side by side; gives each one's name and records as it is done. What is there already is kept.

    Raises:
        TrialFailed: One cannot be written.
    """
    for (name, *_), result in run_isolated(_written, [(n, w, folder / n) for n, w in worlds.items()], num_workers):
        if isinstance(result, Failure):
            raise TrialFailed(f"world {name}: {result.detail}")
        yield name, [replace(record, id=f"{name}/{record.id}") for record in result]


def _written(item: tuple[str, World, Path]) -> list[Record]:
    return write_world(item[1], item[2])
