"""Scan 2,000 small files twice: files per second, and how much faster the second time is.

python benchmarks/bench_scan.py
"""

import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from vitascope import api
from vitascope.video.writer import VideoWriter

NUM_FILES = 2000
RESULTS = Path(__file__).parent / "results" / "bench_scan.json"


def write_files(folder: Path) -> None:
    """Two-second clips of 112 pixels, each of its own content."""
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES):
        texture = rng.integers(0, 255, (3, 14, 14), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        frames = np.stack([np.roll(texture, 3 * t, axis=2) for t in range(20)])
        (folder / f"{number % 20:02d}").mkdir(exist_ok=True)
        with VideoWriter(folder / f"{number % 20:02d}" / f"{number:04d}.mp4", 10) as writer:
            writer.write(frames)


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        data = Path(root) / "data"
        data.mkdir()
        write_files(data)
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            summary = api.scan(data)
            seconds.append(time.perf_counter() - began)
            assert summary.num_files == summary.done == NUM_FILES, summary
        assert summary.opened == 0
    result = {
        "files_per_second": round(NUM_FILES / seconds[0], 1),
        "second_scan_times_faster": round(seconds[0] / seconds[1], 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "command": "python benchmarks/bench_scan.py",
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
