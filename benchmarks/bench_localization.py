"""Time the evaluation of localization at the sizes of THUMOS14 and of ActivityNet, on one core.

    python benchmarks/bench_localization.py

Both sets are drawn: as many videos, true segments and predictions as a published model gave or may give, most of them
around true segments. THUMOS size: 210 videos, 3,311 true segments of 20 classes, 31,500 predictions, 9 thresholds.
ActivityNet size: 4,728 videos, 7,466 true segments of 200 classes, 472,800 predictions, 10 thresholds. `metric_seconds` is
of `metrics.localization.average_precisions` on arrays, `evaluate_seconds` of all of `evaluation.localization.evaluate`,
recall of proposals and mAP of videos included. `load` is how many processes the machine had to run meanwhile, this one
included; `cpu_seconds` do not depend on them. The result goes to benchmarks/results/bench_localization.json.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitascope.evaluation.localization import evaluate
from vitascope.evaluation.localization_inputs import gather
from vitascope.evaluation.localization_protocols import PROTOCOLS
from vitascope.metrics.localization import average_precisions
from vitascope.store.atomic import write_json
from vitascope.structures import Annotation, Segments

RESULTS = Path(__file__).parent / "results" / "bench_localization.json"
NINE = tuple(k / 10 for k in range(1, 10))
SIZES = {  # videos, true segments, classes, predictions, seconds of a video, protocol, seconds allowed
    "thumos": (210, 3311, 20, 31_500, 210, PROTOCOLS["plain"]._replace(thresholds=NINE), 1.0),
    "activitynet": (4728, 7466, 200, 472_800, 117, PROTOCOLS["anet13"], 10.0),
}


def drawn(
    videos: int, count: int, num_classes: int, predictions: int, seconds: float, random: np.random.Generator
) -> tuple[list[Annotation], dict[str, Segments]]:
    """Truth of one class a video, or two for one in seven; predictions of its classes and a few of others."""
    names = [f"class {number}" for number in range(num_classes)]
    own = random.integers(0, num_classes, (videos, 2))
    own[random.random(videos) > 1 / 7, 1] = -1
    own[:num_classes, 0] = np.arange(num_classes)  # every class is there
    own[:, 1] = np.where(own[:, 1] < 0, own[:, 0], own[:, 1])
    video = np.concatenate([np.arange(videos), random.integers(0, videos, count - videos)])
    label = own[video, random.integers(0, 2, count)]
    start = random.uniform(0, 0.8 * seconds, count)
    times = np.stack([start, start + random.exponential(min(0.3 * seconds, 6), count) + 0.2], 1)
    place = random.integers(0, count, predictions)  # the true segment that a prediction is near to
    found = times[place] + random.normal(size=(predictions, 2)) * (times[place, 1] - times[place, 0])[:, None] * 0.7
    found = np.sort(np.maximum(found, 0), 1)
    other = np.where(random.random(predictions) < 0.1, random.integers(0, num_classes, predictions), label[place])
    scores = random.random(predictions)
    truth, by_video = [], {}
    for number in range(videos):
        ours, theirs = video == number, np.flatnonzero(video[place] == number)
        segments = Segments(times[ours], tuple(names[n] for n in label[ours]))
        truth.append(Annotation(f"v{number}", segments=segments))
        labels = tuple(names[n] for n in other[theirs])
        by_video[f"v{number}"] = Segments(found[theirs], labels, scores[theirs])
    return truth, by_video


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def measure(name: str) -> dict[str, Any]:
    *sizes, protocol, allowed = SIZES[name]
    truth, found = drawn(*sizes, np.random.default_rng(0))
    judged = gather(truth, found, protocol, "", "error", "count", ())
    arrays = judged.truth, judged.detections, protocol.thresholds, len(judged.classes)
    precisions, wall, cpu = timed(lambda: average_precisions(*arrays, protocol.ties))
    result, all_wall, all_cpu = timed(lambda: evaluate(truth, found, protocol, split=""))
    return {
        "videos": sizes[0], "true_segments": sizes[1], "classes": sizes[2], "predictions": sizes[3],
        "thresholds": len(protocol.thresholds), "map": round(float(precisions.mean()), 6),
        "video_map": round(result.video_map, 4), "metric_seconds": round(wall, 3), "metric_cpu_seconds": round(cpu, 3),
        "evaluate_seconds": round(all_wall, 3), "evaluate_cpu_seconds": round(all_cpu, 3), "allowed_seconds": allowed,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }  # fmt: skip


def main() -> None:
    figures = {name: measure(name) for name in SIZES}
    facts = {
        "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version(),
        "numpy": np.__version__,
    }  # fmt: skip
    print(json.dumps(figures | facts, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, figures | facts)


if __name__ == "__main__":
    main()
