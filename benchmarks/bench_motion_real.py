"""What pre-training learns from real clips: motion (MME) beside pixel masking and random weights, by a linear probe.

Every video below `--data` is scaled down once into the work folder: fights, untrimmed recordings, mixed clips, and folders of
frames at 24 a second. Training draws from stretches of 64 frames, so that an hour counts as much in one file as in a
thousand. Labels are not used, but the clips of the tests are among them: figures are of encoders that have seen the test's
pixels. All trained arms see the same stretches, clips of 8 frames, one in 4, for as many steps of as many clips.

Then the encoders are frozen, and told apart by cross-validated logistic regression on the mean of their features over four
clips and three crops each, which cover the whole frame:

- `fights`: fight or not, 80 clips, stratified folds dealt anew five times. Which clips are of one film is not known, so that
  folds may share films.
- `fir`: the trimmed segments of 7 recordings, one recording left out at a time; segments last many seconds, so that clips of
  a wider stride are measured besides.

A figure is the share of samples told right, its mean over seeds and dealings; intervals are by bootstrap over clips and over
recordings (seven: they promise too much), of the mean over seeds, so that they hold for these encoders. A difference is of
the same samples.

    python benchmarks/bench_motion_real.py --work FOLDER --seeds 3 --workers 2

Killed and called again with the same work folder, it goes on; what is done is not done again. The folder also gets pictures
of two videos for each trained arm (`pictures/`). Nothing but numbers goes into the results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import default_collate

from vitascope.api import configure
from vitascope.datasets.folder import find_videos
from vitascope.engine.log import Progress, read_metrics
from vitascope.engine.pool import Failure, run_isolated
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import train
from vitascope.evaluation.probe import cross_validate
from vitascope.evaluation.recognition import encode, label_of
from vitascope.methods.base import Draw
from vitascope.methods.mme.config import MMEConfig
from vitascope.methods.mme.method import MME
from vitascope.metrics.recognition import bootstrap_interval
from vitascope.store.atomic import write_json
from vitascope.store.facts import commit, machine
from vitascope.store.reports import write_report
from vitascope.structures import Figure, Record, Report
from vitascope.video.draw import contact_sheet
from vitascope.video.frames import FrameFolder
from vitascope.video.reader import VideoReader
from vitascope.video.snippets import spread_clips
from vitascope.video.transforms import three_crop
from vitascope.video.writer import VideoWriter, write_png_sequence

RESULTS = Path(__file__).parent / "results" / "bench_motion_real.json"
DATA = Path(__file__).parents[2] / "shared" / "data"
STRETCH, STRIDE, WIDE_STRIDE = 64, 4, 12  # frames of the video
STILLS_FPS, CRF, GOP = 24.0, 12, 30
NUM_CLIPS, DEALINGS = 4, 5
MEMORY_MB = 4096  # all scaled down videos and their flow fit
LOGGED = 10  # lines of metrics that the losses at the beginning and at the end are means of
MOTION, PIXELS, RANDOM = "MME", "pixel masking", "random weights"
RECIPES = {MOTION: "mme-tiny", PIXELS: "videomae-tiny", RANDOM: "mme-tiny"}
ELSEWHERE = {  # figures that the description of the data gives
    "fights": (0.56, "frozen image features"),
    "fir": (0.73, "frozen EfficientNet-lite0 of ImageNet, one recording left out"),
}


class Task(NamedTuple):
    """What an encoder is asked; samples of one group are never parted, None for no groups."""

    name: str
    records: list[Record]
    stride_frames: int
    groups: list[str] | None

    @property
    def labels(self) -> list[str]:
        return [label_of(record) for record in self.records]


class Trial(NamedTuple):
    """One arm with one seed."""

    arm: str
    seed: int
    config: MMEConfig
    stretches: list[Record]
    tasks: list[Task]
    work: Path

    @property
    def folder(self) -> Path:
        """Of this trial alone: another configuration or other data have another folder."""
        told = [self.config.model_dump(mode="json", exclude_defaults=True), *_told(self.stretches)]
        told += [NUM_CLIPS, DEALINGS, *([task.name, task.stride_frames, *_told(task.records)] for task in self.tasks)]
        digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]
        return self.work / f"{self.arm.replace(' ', '-')}-{self.seed}-{digest}"


def _told(records: Sequence[Record]) -> list[Any]:
    return [(record.id, record.labels, record.start_seconds, record.end_seconds) for record in records]


# data


class Shrinking(NamedTuple):
    source: Path
    target: Path
    short_side: int


def shrink(job: Shrinking) -> None:
    """Write a small copy of a video, or of a folder of frames, whose frames are shown when they were."""
    if job.target.is_file():
        return
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if job.source.is_dir():
        source, fps = FrameFolder(job.source, fps=STILLS_FPS), STILLS_FPS
    else:
        source = VideoReader(job.source)
        fps = source.index.fps
    with source, VideoWriter(job.target, fps, crf=CRF, gop=GOP) as writer:
        for seconds, frame in source.iterate(size=job.short_side):
            writer.write(frame.numpy(), seconds)


def shrink_all(data: Path, folder: Path, short_side: int, num_workers: int) -> list[Record]:
    """Small copies of everything that moves below `data`; what is there already is kept."""
    sources = {record.id: Path(record.path) for record in find_videos(data)}
    sources |= {str(path.relative_to(data)): path for path in sorted(data.glob("*/JPEGImages/*/*")) if path.is_dir()}
    jobs = [Shrinking(path, folder / f"{name}.mp4", short_side) for name, path in sources.items()]
    for job, result in run_isolated(shrink, jobs, num_workers):
        if isinstance(result, Failure):
            raise SystemExit(f"{job.source}: {result.detail}")
    return [Record(str(folder / f"{name}.mp4"), id=name) for name in sources]


def stretches_of(records: Sequence[Record]) -> tuple[list[Record], float]:
    """Stretches of `STRETCH` frames, the last of a video up to twice as long; and the seconds of all."""
    found, seconds = [], 0.0
    for record in records:
        with VideoReader(record.path) as reader:
            times = reader.index.times_seconds
            seconds += reader.duration_seconds
        starts = np.arange(max(1, len(times) // STRETCH)) * STRETCH
        ends = [*(float(times[first]) for first in starts[1:]), None]
        for first, end in zip(starts, ends):
            found.append(Record(record.path, f"{record.id}@{first}", (), float(times[first]), end))
    return found, seconds


def tasks_of(data: Path, records: Sequence[Record]) -> list[Task]:
    paths = {record.id: record.path for record in records}
    fights = [Record(paths[name], name, (name.split("/")[1],)) for name in sorted(paths) if name.startswith("fights/")]
    segments = []
    for name, video in json.loads((data / "fir-untrimmed" / "annotations.json").read_text())["database"].items():
        path = paths[f"fir-untrimmed/{name}.mp4"]
        for row in video["annotations"]:
            start, end = row["segment"]
            segments.append(Record(path, f"{name}@{start}", (row["label"],), start, end))
    groups = [segment.path for segment in segments]
    return [
        Task("fights", fights, STRIDE, None),
        Task("fir", segments, STRIDE, groups),
        Task("fir, wide stride", segments, WIDE_STRIDE, groups),
    ]


# trials


def run_trial(trial: Trial) -> dict[str, Any]:
    """Train if need be, measure, draw; what it finds is written once, and given when called again."""
    if (trial.folder / "result.json").is_file():
        return json.loads((trial.folder / "result.json").read_text())
    torch.set_num_threads(1)  # trials run side by side
    cv2.setNumThreads(1)
    torch.manual_seed(trial.seed)
    method, found = MME(trial.config), {}
    if trial.arm != RANDOM:
        found |= pre_train(method, trial)
        draw_pictures(method, trial)
    began = time.process_time()
    found["tasks"] = {task.name: measure(method, task) for task in trial.tasks}
    found["cpu_seconds_of_measuring"] = round(time.process_time() - began, 1)
    trial.folder.mkdir(parents=True, exist_ok=True)
    write_json(trial.folder / "result.json", found)
    return found


def pre_train(method: MME, trial: Trial) -> dict[str, Any]:
    """Train, or go on; CPU time of a step is that of this call, after its first fifth, in which videos are met first."""
    run, clock = trial.folder / "pre-trained", []
    progress = Progress()

    def tick(status: Any) -> None:
        clock.append(time.process_time())
        if status.step % 20 == 0:
            progress(status._replace(stage=f"{trial.arm} {trial.seed}"))

    settings = TrainSettings(seed=trial.seed, device="cpu", save_every_steps=100, keep_last=1)
    result = train(method, {"train": trial.stretches}, run, settings, name="mme", progress=tick)
    if result.step < result.total:
        raise RuntimeError(f"training ended at step {result.step} of {result.total}; run it again to go on")
    if result.unreadable:
        raise RuntimeError(f"{result.unreadable[0].path} cannot be read: {result.unreadable[0].detail}")
    lines, later = read_metrics(run), clock[len(clock) // 5 :]
    names = [name for name in lines[-1] if name in ("loss", "position", "shape", "visibility")]
    means = {
        when: {name: round(statistics.mean(line[name] for line in part), 4) for name in names}
        for when, part in (("first", lines[:LOGGED]), ("last", lines[-LOGGED:]))
    }
    seconds = round((later[-1] - later[0]) / (len(later) - 1), 4) if len(later) > 1 else None
    return {"losses": means, "cpu_seconds_a_step": seconds}


def measure(method: MME, task: Task) -> dict[str, Any]:
    """How often each sample is told right, and the mean over classes."""
    size, asked = method.config.size, (method.config.num_frames, task.stride_frames)

    def read(record: Record) -> torch.Tensor:
        clips = spread_clips(record, *asked, size, NUM_CLIPS) / 255
        return (three_crop(clips, size).flatten(0, 1) * 255).round().to(torch.uint8)  # [V, T, C, H, W]

    features, kept, unreadable = encode(method, task.records, read)
    if unreadable:
        raise RuntimeError(f"{next(iter(unreadable.items()))} cannot be read")
    labels, count = [label_of(record) for record in kept], DEALINGS if task.groups is None else 1
    told = [cross_validate(features, labels, task.groups, repeats=1, seed=number) for number in range(count)]
    right = np.mean([[true == said for _, true, said, _ in one.predictions] for one in told], 0)
    return {"right": right.tolist(), "mean_class": statistics.mean(one.mean_class for one in told)}


def draw_pictures(method: MME, trial: Trial) -> None:
    """What is predicted of a fight and of a fall, as a page and as a contact sheet."""
    fights, falls = trial.tasks[0].records, [r for r in trial.tasks[1].records if r.labels == ("falling",)]
    folder, figures = trial.folder.parent / "pictures" / trial.folder.name, []
    whole = MME(trial.config.model_copy(update={"crop_scales": (1.0,), "memory_mb": 0}))
    for record in (fights[0], falls[0]):
        samples = whole.samples(whole.stages()[0], [record])
        samples.is_centred = True
        figure = method.eval().figures(default_collate([samples[Draw(0, 0, 0.0)]]))[0]
        figures.append(Figure(f"{record.labels[0]}: {figure.title}", figure.rows, figure.caption))
    write_report(Report(f"{trial.arm}, seed {trial.seed}", tuple(figures), {"steps": trial.config.length}), folder)
    for figure, name in zip(figures, ("fight", "fall")):
        write_png_sequence(folder, contact_sheet(figure.rows)[None], f"{name}.png")


def run_trials(trials: Sequence[Trial], num_workers: int) -> dict[str, list[dict[str, Any]]]:
    """What was found, by arm, in the order of the seeds."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for trial, result in run_isolated(run_trial, trials, num_workers):
        if isinstance(result, Failure):
            raise SystemExit(f"{trial.arm}, seed {trial.seed}: {result.detail}")
        found[trial.arm, trial.seed] = result
    return {
        arm: [found[arm, trial.seed] for trial in trials if trial.arm == arm]
        for arm in dict.fromkeys(trial.arm for trial in trials)
    }


# figures


def shares(right: np.ndarray, task: Task) -> dict[str, float | list[float]]:
    """Of what was told of each sample `[seeds, S]`, or of a difference: mean and interval."""
    mean = right.mean(0)
    numbers = np.arange(len(mean)) if task.groups is None else np.unique(task.groups, return_inverse=True)[1]
    return {
        "mean": round(float(mean.mean()), 4),
        "interval": [round(end, 4) for end in bootstrap_interval(mean, numbers)],
        "by_seed": [round(float(share), 4) for share in right.mean(1)],
    }


def figures_of(task: Task, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    right = {arm: np.array([one["tasks"][task.name]["right"] for one in results]) for arm, results in found.items()}
    counts, seconds = Counter(task.labels), [r.end_seconds - r.start_seconds for r in task.records if r.end_seconds]
    told: dict[str, Any] = {
        "samples": len(task.records),
        "classes": len(counts),
        "majority": round(max(counts.values()) / len(task.records), 4),
        "stride_frames": task.stride_frames,
        "clips": NUM_CLIPS,
        "crops": 3,
    }
    if task.groups:
        told |= {"recordings": len(set(task.groups)), "median_seconds": round(statistics.median(seconds), 2)}
    if name := next((name for name in ELSEWHERE if task.name.startswith(name)), None):
        told["elsewhere"] = dict(zip(("top1", "what"), ELSEWHERE[name]))
    told["top1"] = {arm: shares(values, task) for arm, values in right.items()}
    told["mean_over_classes"] = {
        arm: round(statistics.mean(one["tasks"][task.name]["mean_class"] for one in results), 4)
        for arm, results in found.items()
    }
    pairs = [(MOTION, PIXELS), (MOTION, RANDOM), (PIXELS, RANDOM)]
    told["differences"] = {
        f"{a} - {b}": shares(right[a] - right[b], task) for a, b in pairs if a in right and b in right
    }
    return told


def show(told: dict[str, dict[str, Any]]) -> None:
    for name, task in told.items():
        print(f"\n{name}: {task['samples']} samples, {task['classes']} classes, one frame in {task['stride_frames']}")
        for arm, row in [*task["top1"].items(), *task["differences"].items()]:
            low, high = (100 * end for end in row["interval"])
            by_seed = " ".join(f"{100 * share:.1f}" for share in row["by_seed"])
            print(f"  {arm:32} {100 * row['mean']:6.1f}  [{low:.1f}, {high:.1f}]  by seed {by_seed}")
        print(f"  {'always the largest class':32} {100 * task['majority']:6.1f}")
        if "elsewhere" in task:
            print(f"  {task['elsewhere']['what'][:32]:32} {100 * task['elsewhere']['top1']:6.1f}  (not measured here)")


def configs_of(options: argparse.Namespace) -> dict[str, MMEConfig]:
    fields = {"num_frames": 8, "stride_frames": STRIDE, "size": options.size, "short_side": round(1.25 * options.size)}
    fields |= {"memory_mb": MEMORY_MB, "length": options.steps}
    assignments = [f"{key}={value}" for key, value in fields.items()] + options.set
    try:
        return {arm: configure(RECIPES[arm], assignments) for arm in options.arms}
    except ValueError as error:
        raise SystemExit(str(error)) from error


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("vitascope-bench/motion_real"),
        help="folder of small videos, trials and pictures; kept",
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", type=int, default=64, help="of clips, in pixels")
    parser.add_argument(
        "--arms", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="ARM", help=", ".join(RECIPES)
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="in the configuration of all arms"
    )
    parser.add_argument("--workers", type=int, default=1, help="trials at once, about 3 GB each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not (options.data / "fir-untrimmed" / "annotations.json").is_file():
        print(
            f"skipped: {options.data}: no fir-untrimmed/annotations.json in it; name the folder of data with --data",
            file=sys.stderr,
        )
        raise SystemExit(0)  # so that the others run
    return options


def command(options: argparse.Namespace) -> str:
    """What gives these figures again, without what is a matter of this machine."""
    words = ["--work", "FOLDER", "--steps", options.steps, "--seeds", options.seeds, "--size", options.size]
    words += ["--arms", *options.arms] if len(options.arms) < len(RECIPES) else []
    words += [word for change in options.set for word in ("--set", change)]
    return shlex.join(["python", "benchmarks/bench_motion_real.py", *map(str, words)])


def main() -> int:
    options = parsed()
    configs = configs_of(options)
    side = next(iter(configs.values())).short_side
    records = shrink_all(options.data, options.work / f"videos-{side}", side, options.workers)
    stretches, seconds = stretches_of(records)
    tasks = tasks_of(options.data, records)
    trials = [
        Trial(arm, seed, config, stretches, tasks, options.work)
        for seed in range(options.seeds)
        for arm, config in configs.items()
    ]
    print(f"{len(records)} videos, {seconds / 60:.1f} minutes, {len(stretches)} stretches", flush=True)
    found = run_trials(trials, options.workers)
    told = {task.name: figures_of(task, found) for task in tasks}
    show(told)
    name = ", ".join([f"{options.size} pixels, {options.steps} steps", *options.set])
    kept = json.loads(options.results.read_text()) if options.results.exists() else {}
    kept[name] = {
        "command": command(options),
        "commit": commit(),
        **machine(),
        "pre_training": {
            "videos": len(records),
            "minutes": round(seconds / 60, 1),
            "stretches": len(stretches),
            "batch_size": next(iter(configs.values())).batch_size,
            "sees_the_tests_clips": True,
            **{arm: [{k: v for k, v in one.items() if k != "tasks"} for one in rows] for arm, rows in found.items()},
        },
        "tasks": told,
    }
    write_json(options.results, kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
