"""Time the search over many stored vectors: building the index, a query, and recall against exact search.

    python benchmarks/bench_store.py                      # 1,000,000 x 256, clustered
    python benchmarks/bench_store.py --kind spectrum      # harder: no clusters at all

`clustered`: one centre for every 50 vectors, uniform on the sphere; a vector is its centre plus Gaussian noise of norm
0.75, so that two of one cluster have a cosine of 0.64. `spectrum`: Gaussian with variance 1/i in dimension i: no
clusters, neighbours hardly nearer than the rest. Queries are fresh draws, which are not stored. Features are written,
read and indexed through the library, as the commands do. The result goes to benchmarks/results/bench_store.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from vitascope.store.atomic import write_json
from vitascope.store.catalogue import Scanned
from vitascope.store.library import Library
from vitascope.store.neighbours import unit
from vitascope.structures import Features

RESULTS = Path(__file__).parent / "results" / "bench_store.json"
PER_FILE = 1000


class Draws:
    """A seeded source of unit vectors `[N, D]` of one kind."""

    def __init__(self, kind: str, width: int, count: int, seed: int = 0) -> None:
        self.kind, self.width, self.random = kind, width, np.random.default_rng(seed)
        self.centres = unit(self.random.standard_normal((max(1, count // 50), width), np.float32))
        self.scale = 1 / np.sqrt(np.arange(1, width + 1, dtype=np.float32))

    def __call__(self, count: int) -> np.ndarray:
        noise = self.random.standard_normal((count, self.width), np.float32)
        if self.kind == "spectrum":
            return unit(noise * self.scale)
        chosen = self.random.integers(0, len(self.centres), count)
        return unit(self.centres[chosen] + 0.75 / np.sqrt(self.width) * noise)


def fill(library: Library, draws: Draws, count: int) -> None:
    """Write `count` vectors as the features of files with 1,000 snippets each."""
    names = [str(library.data_root / f"{i:05d}.mp4") for i in range(count // PER_FILE)]
    library.catalogue.add(Scanned(name, 1, 1, f"{i:032x}", "done") for i, name in enumerate(names))
    starts = 0.5 * np.arange(PER_FILE)
    times = np.stack([starts, starts + 1], 1)
    for entry in library.catalogue.entries():
        library.features.put(entry, "bench", Features(draws(PER_FILE).astype(np.float16), times))


def exact(library: Library, queries: np.ndarray, k: int) -> list[set[tuple[str, float]]]:
    """Return for each query the true nearest snippets as (path, start)."""
    paths, scores, keys = library.catalogue.paths(), [], []
    for part in library.features.parts("bench"):
        values, times = library.features.read("bench", part)
        scores.append(queries @ unit(values).T)
        keys += [(paths[part.file_id], start) for start in times[:, 0].tolist()]
    ranked = np.argpartition(-np.concatenate(scores, 1), k, axis=1)[:, :k]
    return [{keys[i] for i in row} for row in ranked.tolist()]


def timed(search, queries: np.ndarray) -> tuple[list, dict[str, float]]:
    results, milliseconds = [], []
    for query in queries:
        start = time.perf_counter()
        results.append(search(query))
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return results, {f"p{p}_ms": round(float(np.percentile(milliseconds, p)), 2) for p in (50, 95, 99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--kind", choices=("clustered", "spectrum"), default="clustered")
    options = parser.parse_args()
    draws = Draws(options.kind, options.width, options.count)
    with tempfile.TemporaryDirectory() as folder, Library(Path(folder) / "library", create=True) as library:
        clock = [time.perf_counter()]
        fill(library, draws, options.count)
        clock.append(time.perf_counter())
        library.vectors("bench")
        clock.append(time.perf_counter())
        vectors = library.vectors("bench")
        clock.append(time.perf_counter())
        queries = draws(options.queries)
        timed(vectors.search, queries[:20])
        _, apart = timed(vectors.search, queries)
        results, plain = timed(lambda query: vectors.search(query, 10, apart_seconds=None), queries)
        peak_memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        truth = exact(library, queries, 10)
        found = [{(hit.path, hit.start_seconds) for hit in hits} for hits in results]
        facts = json.loads((library.path / "index" / "bench" / "index.json").read_text())
    result = {
        "kind": options.kind, "count": options.count, "width": options.width, "queries": options.queries,
        "write_features_seconds": round(clock[1] - clock[0], 1), "build_seconds": round(clock[2] - clock[1], 1),
        "open_seconds": round(clock[3] - clock[2], 2), "search": apart, "search_every_snippet": plain,
        "recall_at_10": round(sum(len(a & b) for a, b in zip(found, truth)) / (10 * len(truth)), 4),
        "lists": facts["num_lists"], "lists_visited": facts["num_probed"], "recall_at_10_tuned": facts["recall_at_10"],
        "peak_memory_mb": peak_memory_mb,
        "cores": os.cpu_count(), "python": platform.python_version(),
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, stored | {f"{options.kind}-{options.count}x{options.width}": result})


if __name__ == "__main__":
    main()
