"""How fast the reader is, as ratios to the plainest way with PyAV, in one run, on one thread, taking turns.

    python benchmarks/bench_reader.py            # all, about two minutes, most of it to make the files
    python benchmarks/bench_reader.py --rounds 3

Prints the figures and writes them to `benchmarks/results/bench_reader.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter

from vitascope.video.check import check
from vitascope.video.container import OpenVideo
from vitascope.video.index import build
from vitascope.video.reader import VideoReader

RESULTS = Path(__file__).parent / "results" / "bench_reader.json"
SIDE = 224  # frames are scaled to SIDE x SIDE


def make(path: Path, seconds: int, width: int, height: int, group: int) -> None:
    """A panning, noisy texture at 30 frames/s, H.264."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 60, 100)))
    texture = torch.nn.functional.interpolate(coarse, (height + 200, width + 300), mode="bicubic")[0]
    texture = (
        (texture + torch.from_numpy(rng.normal(0, 6, texture.shape))).clamp(0, 255).byte().permute(1, 2, 0).numpy()
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "23", "g": str(group)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * 30):
            y, x = int(100 + 99 * np.sin(number / 41)), int(150 + 149 * np.sin(number / 67))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[y : y + height, x : x + width]), "rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def one_thread(container: av.container.InputContainer) -> av.VideoStream:
    stream = container.streams.video[0]
    stream.thread_type, stream.thread_count = "SLICE", 1
    return stream


def scaled(scaler: VideoReformatter, frame: av.VideoFrame) -> np.ndarray:
    image = scaler.reformat(frame, SIDE, SIDE, "rgb24", interpolation=Interpolation.AREA, threads=1)
    return image.to_ndarray()  # [H, W, C]


def bare_pass(path: Path) -> int:
    """The plainest loop: decode, scale, array."""
    scaler, num_frames = VideoReformatter(), 0
    with av.open(str(path)) as container:
        for frame in container.decode(one_thread(container)):
            scaled(scaler, frame)
            num_frames += 1
    return num_frames


def our_pass(path: Path) -> int:
    with VideoReader(path) as reader:
        return sum(1 for _ in reader.iterate(size=(SIDE, SIDE)))


def clips_by_single_seeks(path: Path, clips: np.ndarray) -> None:
    """For each frame of each clip: seek to the key frame before it, decode up to it."""
    scaler = VideoReformatter()
    with av.open(str(path)) as container:
        stream = one_thread(container)
        for clip in clips:
            for number in clip:
                pts = round(number / 30 / stream.time_base)
                container.seek(pts, stream=stream)
                frame = next(frame for frame in container.decode(stream) if frame.pts >= pts)
                scaled(scaler, frame)


def clips_by_reader(path: Path, clips: np.ndarray) -> None:
    with VideoReader(path) as reader:
        for clip in clips:
            reader.frames_at(clip, size=(SIDE, SIDE))


def take_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Best CPU seconds of each way."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - start)
    return best


def machine() -> dict[str, object]:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    model = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    versions = {"python": platform.python_version(), "av": av.__version__, "torch": torch.__version__}
    return {"cpu": (model or [platform.machine()])[0], "cores": os.cpu_count(), "system": platform.system(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        minute, long, small = (Path(folder) / f"{name}.mp4" for name in ("minute", "long", "small"))
        make(minute, 60, 640, 360, 250)
        make(long, 20 * 60, 320, 180, 250)
        make(small, 2, 112, 112, 250)
        starts = np.random.default_rng(0).integers(0, 1800 - 64, (8, 1))
        clips = starts + 4 * np.arange(16)
        passes = take_turns({"bare": lambda: bare_pass(minute), "ours": lambda: our_pass(minute)}, rounds)
        jumps = take_turns(
            {"single": lambda: clips_by_single_seeks(minute, clips), "ours": lambda: clips_by_reader(minute, clips)},
            max(2, rounds // 2),
        )
        opens = take_turns(
            {"open": lambda: OpenVideo(long).close(), "index": lambda: build(long), "check": lambda: check(small)},
            2 * rounds,
        )
    figures = {
        "sequential_vs_bare_pyav": passes["bare"] / passes["ours"],
        "sequential_frames_per_second": 1800 / passes["ours"],
        "clips_vs_seeking_per_frame": jumps["single"] / jumps["ours"],
        "clip_of_16_milliseconds": 1000 * jumps["ours"] / 8,
        "open_20_minutes_milliseconds": 1000 * opens["open"],
        "index_20_minutes_milliseconds": 1000 * opens["index"],
        "check_2_seconds_112_milliseconds": 1000 * opens["check"],
    }
    for name, value in figures.items():
        print(f"{name:36s} {value:10.2f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine(), "rounds": rounds, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
