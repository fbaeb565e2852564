"""Frames per second of the synthetic worlds on one core, with their truth; prints JSON.

python benchmarks/bench_worlds.py
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable

import cv2

from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.datasets.worlds.write import write_world

REPEATS = 3


def rate(work: Callable[[int], int]) -> dict[str, float]:
    """Median frames per CPU second and per wall second of `work(repeat)`, which returns how many frames it made."""
    cpu, wall = [], []
    for repeat in range(REPEATS):
        start = time.process_time(), time.perf_counter()
        frames = work(repeat)
        cpu.append(frames / (time.process_time() - start[0]))
        wall.append(frames / (time.perf_counter() - start[1]))
    return {"frames_per_cpu_second": round(statistics.median(cpu)), "frames_per_second": round(statistics.median(wall))}


def fresh(size: int) -> int:
    """The first videos of a process: textures are made too."""
    world = MotionWorld(num_videos=8, seed=9, size=size)
    return sum(video.num_frames for video in world)


def written(repeat: int) -> int:
    world = MotionWorld(num_videos=4, seed=repeat)
    with tempfile.TemporaryDirectory() as folder:
        write_world(world, folder)
    return len(world) * world.num_frames


def main() -> None:
    cv2.setNumThreads(1)
    start = time.process_time()
    first = fresh(112) / (time.process_time() - start)
    results: dict[str, object] = {"first 8 videos of a process": {"frames_per_cpu_second": round(first)}}
    for size in (112, 224):
        for by in ("motion", "texture"):
            world = MotionWorld(num_videos=4, size=size, by=by)
            world[0]
            results[f"{by} world {size}, masks, flow"] = rate(lambda _, w=world: sum(v.num_frames for v in w))
        objects = ObjectsWorld(num_videos=2, size=size)
        objects[0]
        results[f"objects world {size}, masks, flow"] = rate(lambda _, w=objects: sum(v.num_frames for v in w))
    untrimmed = UntrimmedWorld(num_videos=3, seconds=60.0)
    results["untrimmed world 112, rendered"] = rate(lambda i: sum(len(chunk) for chunk in untrimmed.render(i)))
    results["motion world 112, written as mp4 with masks"] = rate(written)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
