"""Time the DAVIS scorer: 3 objects, 70 frames of 854x480, palette PNGs, one process.

    python benchmarks/bench_davis_score.py

`end_to_end` reads the files as `vitascope evaluate davis` does; `scoring_only` has the masks in memory. Both are wall time
for one object in one frame that counts (68 of 70); the peak memory is that of this process after the end-to-end runs, with
the libraries. The official scorer takes 30 to 37 ms and 1.94 GB on such a set. The result goes to
benchmarks/results/bench_davis_score.json.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from vitascope.datasets.davis import read_annotation, write_annotation
from vitascope.evaluation.segmentation import score_davis
from vitascope.metrics.segmentation import object_scores
from vitascope.store.atomic import write_json

RESULTS = Path(__file__).parent / "results" / "bench_davis_score.json"
NUM_FRAMES, NUM_OBJECTS, HEIGHT, WIDTH = 70, 3, 480, 854
ROUNDS = 5
OFFICIAL_MS = 30.0  # the faster end of the official scorer's range


def frame(t: int, shift: float, rng: np.random.Generator) -> np.ndarray:
    """Three drifting bodies with wavy outlines, about 20% of the frame. uint8 [H, W]"""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number in range(1, NUM_OBJECTS + 1):
        y, x = rows - 130 * number + 20 + shift, columns - 180 * number - 2 * t + shift
        outline = 70 + 20 * number + 8 * np.sin(7 * np.arctan2(y, x) + t / 5)
        mask[np.hypot(y, x) < outline] = number
    mask[rng.integers(0, HEIGHT, 20), rng.integers(0, WIDTH, 20)] = 0
    return mask


def best(function) -> float:
    """Seconds of the fastest of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    cv2.setNumThreads(1)
    counted = NUM_OBJECTS * (NUM_FRAMES - 2)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        truth, result = Path(folder) / "truth" / "a", Path(folder) / "result" / "a"
        for place in (truth, result):
            place.mkdir(parents=True)
            for t in range(NUM_FRAMES):
                write_annotation(place / f"{t:05d}.png", frame(t, 0 if place == truth else rng.uniform(-8, 8), rng))
        scores = {}
        end_to_end = best(lambda: scores.update(score_davis(truth.parent, result.parent)))
        peak_memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        pairs = [
            [read_annotation(place / f"{t:05d}.png") for place in (truth, result)] for t in range(1, NUM_FRAMES - 1)
        ]
        ids = list(range(1, NUM_OBJECTS + 1))
        scoring = best(lambda: [object_scores(*pair, ids) for pair in pairs])
    figures = {
        "end_to_end_ms_per_object_frame": round(1e3 * end_to_end / counted, 3),
        "scoring_only_ms_per_object_frame": round(1e3 * scoring / counted, 3),
        "times_faster_than_official": round(OFFICIAL_MS * counted / (1e3 * end_to_end), 1),
        "peak_memory_mb": peak_memory_mb,
        "j_mean": scores["j_mean"], "f_mean": scores["f_mean"],
        "cores": os.cpu_count(), "python": platform.python_version(),
    }  # fmt: skip
    print(json.dumps(figures, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, figures)


if __name__ == "__main__":
    main()
