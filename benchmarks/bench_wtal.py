"""How long, and with how much memory, timelines of a data set of THUMOS14's size are learned and written on this machine.

413 videos of 60 to 1000 snippets with features of 2048 (half floats, as files) and 20 actions, from `worlds.snippets`; half of
them are learned from by tags. The recipe is `cbp-vlp-small` with the tiny CLIP, a transformer, and three rounds of both stages.

    python benchmarks/bench_wtal.py [--work FOLDER] [--videos 413] [--set FIELD=VALUE]

Tells wall and CPU time of the training and of all timelines, the peak of memory of the process and its readers, and the mean
average precision at tIoU 0.1 to 0.7 that comes out, which is of this made-up world alone.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitascope.api import configure
from vitascope.datasets.worlds.snippets import SnippetWorld
from vitascope.engine.log import Progress
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import train
from vitascope.evaluation.localization import evaluate
from vitascope.methods.cbp_vlp.method import CbpVlp
from vitascope.store.atomic import write_json
from vitascope.store.facts import commit, machine
from vitascope.store.feature_files import write_features
from vitascope.structures import Annotation, Features, Record

RESULTS = Path(__file__).parent / "results" / "bench_wtal.json"
WHOLE = ("cbp=transformer", "rounds=3", "b_steps=50", "f_steps=50")
WIDTH, NUM_CLASSES, SNIPPETS = 2048, 20, (60, 1000)


def write_world(world: SnippetWorld, text: np.ndarray, folder: Path) -> tuple[list[Record], list[Annotation]]:
    """The features of a world as files, and its truth."""
    records, truth = [], []
    for i in range(len(world)):
        video = world[i]
        files = [folder / f"{video.id}.{kind}.safetensors" for kind in ("cbp", "vlp")]
        for file, values in zip(files, (video.cbp, world.frames(i, text)), strict=True):
            if not file.is_file():
                write_features(file, Features(values.astype(np.float16), video.times_seconds))
        records.append(Record(video.id, video.id, video.labels, features=tuple(map(str, files))))
        truth.append(Annotation(video.id, video.labels, video.segments, duration_seconds=video.times_seconds[-1, 1]))
    return records, truth


def spent() -> tuple[float, float]:
    """Wall and CPU seconds until now, with those of processes that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.monotonic(), sum(one.ru_utime + one.ru_stime for one in used)


def measure(method: CbpVlp, world: SnippetWorld, folder: Path, workers: int) -> dict[str, Any]:
    with torch.no_grad():
        text = torch.nn.functional.normalize(method.text(learned=False), dim=-1).numpy()
    records, truth = write_world(world, text, folder)
    half = len(records) // 2
    before = spent()
    settings = TrainSettings(device="cpu", num_workers=workers)
    train(method, {"train": records[:half]}, folder / "run", settings, name="cbp_vlp", progress=Progress())
    learned = spent()
    found = {record.id: method.localize(replace(record, labels=())).segments for record in records}
    told = spent()
    peak = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    judged = evaluate(truth[half:], {one.id: found[one.id] for one in truth[half:]}, "plain")
    return {
        "training_seconds": round(learned[0] - before[0], 1),
        "training_cpu_seconds": round(learned[1] - before[1], 1),
        "timelines_seconds": round(told[0] - learned[0], 1),
        "peak_mb_of_training": round(peak[0]),
        "peak_mb_of_a_reader": round(peak[1]) if workers else 0,
        "average_map": round(judged.average["0.1:0.7"], 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder of features and run; kept")
    parser.add_argument("--videos", type=int, default=413)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.manual_seed(0)
    world = SnippetWorld(options.videos, num_classes=NUM_CLASSES, width=WIDTH, snippets=SNIPPETS)
    config = configure("cbp-vlp-small", [f"dim={WIDTH}", *WHOLE, *options.set]).model_copy(
        update={"classes": world.classes}
    )
    with tempfile.TemporaryDirectory() as temp:
        folder = options.work or Path(temp)
        folder.mkdir(parents=True, exist_ok=True)
        figures = measure(CbpVlp(config), world, folder, options.workers)
    facts = {"commit": commit(), **machine(), "videos": options.videos, "snippets": SNIPPETS, "width": WIDTH, **figures}
    for name, value in facts.items():
        print(f"{name:24} {value}")
    write_json(options.results, facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
