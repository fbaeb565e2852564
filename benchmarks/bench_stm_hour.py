"""One hour of 25-fps video at 432x240 through the session: memory at its end against memory after two minutes.

The film is a minute of the objects world, played over and over (its cuts, absences and occlusions with it); an object that
was outlined once is followed through all of it. Peak memory is that of the whole process, weights and film too.

    python benchmarks/bench_stm_hour.py [--minutes 60] [--weights FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from bench_stm_episodes import load

from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.methods.stm.session import VideoObjectSession

RESULTS = Path(__file__).parent / "results" / "bench_stm_hour.json"
FPS, WIDTH, HEIGHT, SIZE = 25, 432, 240, 240
MINUTE = 60 * FPS


def film() -> tuple[np.ndarray, np.ndarray]:
    """A minute, frames uint8 `[T, 3, 240, 432]`, and the mask of object 2 in the first one."""
    number = 0
    while True:  # the first video whose second object can be outlined in its first frame
        video = ObjectsWorld(number + 1, seed=7, size=SIZE, num_frames=MINUTE, fps=FPS)[number]
        if (video.masks[0] == 2).mean() > 0.01:
            break
        number += 1
    wide = [cv2.resize(frame.transpose(1, 2, 0), (WIDTH, HEIGHT)).transpose(2, 0, 1) for frame in video.frames]
    mask = cv2.resize((video.masks[0] == 2).astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    return np.stack(wide), mask


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--weights", default="", help="safetensors of LightSTM; by default those of the package")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    frames, mask = film()
    # resize makes floats and the world keeps its maps; what counts is the stream, so the peak is taken from here on
    session = VideoObjectSession(load(options.weights))
    session.add_object(torch.from_numpy(frames[0]), mask, 2)
    peaks, states, high = [], {}, 0.0
    began = time.perf_counter()
    for t in range(1, options.minutes * MINUTE):
        session.step(torch.from_numpy(frames[t % MINUTE]), t / FPS)
        state = session.status[0].state
        states[state] = states.get(state, 0) + 1
        if t % FPS == 0:
            high = max(high, resident_mib())
        if (t + 1) % MINUTE == 0:
            peaks.append(round(high, 1))
            seconds = time.perf_counter() - began
            left = seconds / len(peaks) * (options.minutes - len(peaks))
            print(
                f"minute {len(peaks)} of {options.minutes}: {high:.0f} MiB resident at most, {left / 60:.0f} min left",
                flush=True,
            )
    second = peaks[min(1, len(peaks) - 1)]
    result = {
        "minutes": options.minutes,
        "frames": options.minutes * MINUTE,
        "resident_mib_after_minute_2": second,
        "resident_mib_at_the_end": peaks[-1],
        "growth": round(peaks[-1] / second, 4),
        "peak_mib_of_the_process": round(peak_mib(), 1),
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
