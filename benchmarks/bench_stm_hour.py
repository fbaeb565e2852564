"""One hour of 25-fps video at 432x240 through the session: memory at its end against memory after two minutes.

The film is a minute of the objects world, played over and over (its cuts, absences and occlusions with it); an object that
was outlined once is followed through all of it. Peak memory is that of the whole process, weights and decoder too.

    python benchmarks/bench_stm_hour.py [--minutes 60] [--weights FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from bench_stm_episodes import load

from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.methods.stm.fast import prepare
from vitascope.methods.stm.session import VideoObjectSession
from vitascope.video.reader import VideoReader
from vitascope.video.writer import VideoWriter

RESULTS = Path(__file__).parent / "results" / "bench_stm_hour.json"
FPS, WIDTH, HEIGHT, SIZE = 25, 432, 240, 240
MINUTE = 60 * FPS


def write_film(folder: str) -> None:
    """A minute as `film.mp4`, 432x240, and `mask.npy`, that of object 2 in its first frame."""
    number = 0
    while True:  # the first video whose second object can be outlined in its first frame
        video = ObjectsWorld(number + 1, seed=7, size=SIZE, num_frames=MINUTE, fps=FPS)[number]
        if (video.masks[0] == 2).mean() > 0.01:
            break
        number += 1
    with VideoWriter(Path(folder) / "film.mp4", FPS) as writer:
        for frame in video.frames:
            writer.write(cv2.resize(frame.transpose(1, 2, 0), (WIDTH, HEIGHT)).transpose(2, 0, 1)[None])
    mask = cv2.resize((video.masks[0] == 2).astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    np.save(Path(folder) / "mask.npy", mask)


def stream(path: Path, minutes: int) -> Iterator[torch.Tensor]:
    """Its frames, decoded anew for every minute."""
    for _ in range(minutes):
        with VideoReader(path) as reader:
            yield from (frame for _, frame in reader.iterate())


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--weights", default="", help="safetensors of LightSTM; by default those of the package")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # in a process of its own: drawing the world takes more memory than following it
        child = multiprocessing.get_context("spawn").Process(target=write_film, args=(folder,))
        child.start()
        child.join()
        run(Path(folder), options)


def run(folder: Path, options: argparse.Namespace) -> None:
    session = VideoObjectSession(prepare(load(options.weights), bf16="auto"))
    peaks, states, began = [], {}, time.perf_counter()
    for t, frame in enumerate(stream(folder / "film.mp4", options.minutes)):
        if t == 0:
            session.add_object(frame, np.load(folder / "mask.npy"), 2)
        else:
            session.step(frame, t / FPS)
            state = session.status[0].state
            states[state] = states.get(state, 0) + 1
        if (t + 1) % MINUTE == 0:
            peaks.append(round(peak_mib(), 1))
            left = (time.perf_counter() - began) / len(peaks) * (options.minutes - len(peaks))
            print(f"minute {len(peaks)}: peak {peaks[-1]} MiB, {left / 60:.0f} min left", flush=True)
    second = peaks[min(1, len(peaks) - 1)]
    result = {
        "minutes": options.minutes,
        "frames": options.minutes * MINUTE,
        "peak_mib_after_minute_2": second,
        "peak_mib_at_the_end": peaks[-1],
        "growth": round(peaks[-1] / second, 4),
        "milliseconds_per_frame": round(1e3 * (time.perf_counter() - began) / (options.minutes * MINUTE), 1),
        "states": states,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "command": "python benchmarks/bench_stm_hour.py",
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
