"""What contrastive pre-training learns from real recordings: HiCo beside SimCLR's sampling and random weights.

Untrimmed recordings and mixed clips below `--data` are scaled down once into the work folder; nothing but these pixels is
learned from, no label is. Then each network is frozen, and the trimmed segments of the 7 recordings are told, one recording
left out at a time, from the mean of its features over four clips and three crops each, which cover the whole frame:

- `probe`: logistic regression, its strength chosen within the other recordings;
- `nearest`: the class of the most alike segment of another recording, by cosine (R@1).

The pre-training has seen all seven recordings, those left out too, but no label. A figure is the share of segments told
right, its mean over seeds; intervals are by bootstrap over the recordings (seven: they promise too much).

    python benchmarks/bench_hico_real.py --work FOLDER --seeds 2 --workers 2

Killed and called again with the same work folder, it goes on. Nothing but numbers goes into the results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from bench_motion_real import DATA, ELSEWHERE, Task, shares, shrink_all, tasks_of

from vitascope.api import configure
from vitascope.engine.log import Progress, read_metrics
from vitascope.engine.pool import Failure, run_isolated
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import train
from vitascope.evaluation.probe import cross_validate
from vitascope.evaluation.recognition import encode, label_of
from vitascope.evaluation.retrieval import score
from vitascope.methods.hico.config import HiCoConfig
from vitascope.methods.hico.method import HiCo
from vitascope.store.atomic import write_json
from vitascope.store.facts import commit, machine
from vitascope.structures import Record
from vitascope.video.snippets import spread_clips
from vitascope.video.transforms import three_crop

RESULTS = Path(__file__).parent / "results" / "bench_hico_real.json"
LEARNED_FROM = ("fir-untrimmed/", "clips/")
NUM_CLIPS, CLIPS_PER_STEP, MEMORY_MB = 4, 48, 4096
HICO, SIMCLR, RANDOM = "HiCo", "SimCLR sampling", "random weights"
RECIPES = {HICO: "hico-tiny", SIMCLR: "simclr-tiny", RANDOM: "hico-tiny"}
MEASURES = ("probe", "nearest")


class Trial(NamedTuple):
    """One arm with one seed."""

    arm: str
    seed: int
    config: HiCoConfig
    videos: list[Record]
    task: Task
    work: Path

    @property
    def folder(self) -> Path:
        told = [self.config.model_dump(mode="json"), [record.id for record in self.videos]]
        digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]
        return self.work / f"{self.arm.replace(' ', '-')}-{self.seed}-{digest}"


def run_trial(trial: Trial) -> dict[str, Any]:
    """Train if need be, and measure; what it finds is written once, and given when called again."""
    if (trial.folder / "result.json").is_file():
        return json.loads((trial.folder / "result.json").read_text())
    torch.set_num_threads(1)  # trials run side by side
    torch.manual_seed(trial.seed)
    method, found = HiCo(trial.config), {}
    if trial.arm != RANDOM:
        run, settings = trial.folder / "pre-trained", TrainSettings(seed=trial.seed, device="cpu", save_every_steps=100)
        result = train(method, {"train": trial.videos}, run, settings, name="hico", progress=Progress())
        if result.step < result.total or result.unreadable:
            raise RuntimeError(f"step {result.step} of {result.total}, unreadable {result.unreadable}; run it again")
        lines = read_metrics(run)
        found["losses"] = {
            when: {
                name: round(statistics.mean(line[name] for line in part), 3)
                for name in ("visual", "topical")
                if name in part[0]
            }
            for when, part in (("first", lines[:5]), ("last", lines[-5:]))
        }
    found |= measure(method, trial.task)
    trial.folder.mkdir(parents=True, exist_ok=True)
    write_json(trial.folder / "result.json", found)
    return found


def measure(method: HiCo, task: Task) -> dict[str, list[bool]]:
    """Whether each segment is told right, by probe and by its nearest."""
    clip = method.snippet.model_dump()

    def read(record: Record) -> torch.Tensor:
        clips = spread_clips(record, **clip, num_clips=NUM_CLIPS) / 255
        return (three_crop(clips, clip["size"]).flatten(0, 1) * 255).round().to(torch.uint8)  # [V, T, C, H, W]

    features, kept, unreadable = encode(method, task.records, read)
    if unreadable:
        raise RuntimeError(f"{next(iter(unreadable.items()))} cannot be read")
    told = cross_validate(features, [label_of(record) for record in kept], task.groups, repeats=1, seed=0)
    nearest = score(features, kept, leave_out="file").queries
    return {
        "probe": [true == said for _, true, said, _ in told.predictions],
        "nearest": [query.place == 1 for query in nearest],
    }


def run_trials(trials: Sequence[Trial], num_workers: int) -> dict[str, list[dict[str, Any]]]:
    """What was found, by arm, in the order of the seeds."""
    found: dict[str, dict[int, dict[str, Any]]] = {trial.arm: {} for trial in trials}
    for trial, result in run_isolated(run_trial, trials, num_workers):
        if isinstance(result, Failure):
            raise SystemExit(f"{trial.arm}, seed {trial.seed}: {result.detail}")
        found[trial.arm][trial.seed] = result
    return {arm: [by_seed[seed] for seed in sorted(by_seed)] for arm, by_seed in found.items()}


def figures_of(task: Task, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Shares and differences, with intervals over the recordings."""
    told: dict[str, Any] = {}
    for name in MEASURES:
        right = {arm: np.array([one[name] for one in results]) for arm, results in found.items()}
        told[name] = {arm: shares(values, task) for arm, values in right.items()}
        told[f"{name}, differences"] = {
            f"{HICO} - {arm}": shares(right[HICO] - right[arm].astype(int), task) for arm in right if arm != HICO
        }
    return told


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=Path("vitascope-bench/hico_real"), help="folder of small videos and trials; kept"
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="trials at once, about 3 GB each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="in all configurations")
    options = parser.parse_args()
    if not (options.data / "fir-untrimmed" / "annotations.json").is_file():
        print(
            f"skipped: {options.data}: no fir-untrimmed/annotations.json in it; name the folder of data with --data",
            file=sys.stderr,
        )
        raise SystemExit(0)  # so that the others run
    return options


def main() -> int:
    options = parsed()
    configs = {}
    for arm, recipe in RECIPES.items():
        batch = CLIPS_PER_STEP // (2 if arm == SIMCLR else 3)
        fields = [f"batch_size={batch}", f"length={options.steps}", f"memory_mb={MEMORY_MB}", *options.set]
        configs[arm] = configure(recipe, fields)
    side = configs[HICO].short_side
    records = shrink_all(options.data, options.work / f"videos-{side}", side, options.workers)
    videos = [record for record in records if record.id.startswith(LEARNED_FROM)]
    task = next(task for task in tasks_of(options.data, records) if task.name == "fir")
    trials = [
        Trial(arm, seed, config, videos, task, options.work)
        for seed in range(options.seeds)
        for arm, config in configs.items()
    ]
    found = run_trials(trials, options.workers)
    told = figures_of(task, found)
    for name, rows in told.items():
        for arm, row in rows.items():
            low, high = (100 * end for end in row["interval"])
            print(f"{name:22} {arm:24} {100 * row['mean']:6.1f}  [{low:.1f}, {high:.1f}]")
    words = ["--steps", options.steps, "--seeds", options.seeds]
    words += [word for change in options.set for word in ("--set", change)]
    facts = {
        "command": shlex.join(["python", "benchmarks/bench_hico_real.py", "--work", "FOLDER", *map(str, words)]),
        "commit": commit(),
        **machine(),
        "videos": len(videos),
        "segments": len(task.records),
        "majority": max(task.labels.count(label) for label in set(task.labels)) / len(task.records),
        "elsewhere": dict(zip(("top1", "what"), ELSEWHERE["fir"])),
        "losses": {arm: [one.get("losses") for one in rows] for arm, rows in found.items()},
        "figures": told,
    }
    write_json(RESULTS, facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
