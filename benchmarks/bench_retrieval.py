"""Time the measure of retrieval: queries against a large gallery, everything compared exactly.

    python benchmarks/bench_retrieval.py      # 3,783 queries, as in the test of UCF101, and a gallery of 100,000
    python benchmarks/bench_retrieval.py --count 1000000 --width 256 --queries 200

Features are Gaussian about the centres of 101 classes; all of `score` is timed, from features to the result with its
figures and the nearest of each query. `load` is how many processes the machine had to run meanwhile, this one included;
`cpu_seconds` does not depend on them. The result goes to benchmarks/results/bench_retrieval.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np

from vitascope.evaluation.retrieval import score
from vitascope.store.atomic import write_json
from vitascope.structures import Record

RESULTS = Path(__file__).parent / "results" / "bench_retrieval.json"
NUM_CLASSES = 101


def drawn(count: int, width: int, centres: np.ndarray, random: np.random.Generator, name: str):
    """Features `[count, width]` and their records."""
    labels = random.integers(0, NUM_CLASSES, count)
    features = random.standard_normal((count, width), np.float32)
    features += centres[labels]
    return features, [Record(f"{name}{n}.mp4", labels=(f"class {label}",)) for n, label in enumerate(labels.tolist())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="Entries of the gallery.")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=3783)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    centres = 0.25 * random.standard_normal((NUM_CLASSES, options.width), np.float32)
    gallery = drawn(options.count, options.width, centres, random, "g")
    queries = drawn(options.queries, options.width, centres, random, "q")
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    wall, cpu = time.perf_counter(), time.process_time()
    result = score(*queries, *gallery)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    figures = {
        "gallery": options.count, "queries": options.queries, "width": options.width,
        "seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), "queries_per_second": round(options.queries / wall, 1),
        "features_mb": round(4 * options.width * (options.count + options.queries) / 2**20), "memory_before_mb": before_mb,
        "peak_memory_mb": peak_mb, "recall_at_1": result.recall[1], "mean_ap": round(result.mean_ap, 4),
        "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version(),
        "numpy": np.__version__,
    }  # fmt: skip
    print(json.dumps(figures, indent=2))
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, stored | {f"{options.queries}-in-{options.count}x{options.width}": figures})


if __name__ == "__main__":
    main()
