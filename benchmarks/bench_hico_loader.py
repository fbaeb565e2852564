"""How fast HiCo's loader draws from a long film, against films cut into 5-second files; and how fast shots are indexed.

    python benchmarks/bench_hico_loader.py            # all, about four minutes, much of it to make the files
    python benchmarks/bench_hico_loader.py --draws 8

The film has 156 s, H.264, short side 256, 30 frames/s, with a key frame every 250 and every 32 frames. The other way is
that of the release: the film is encoded anew in files of 5 s with one key frame each; of each clip every file that it touches
is opened and decoded, and its frames are picked. `all` decodes each file to its end, `frugal` stops after the last frame that
is needed. All ways draw the same clips and change the pictures in the same way, on one thread, taking turns; figures are CPU
seconds. Prints the figures and writes them to `benchmarks/results/bench_hico_loader.json`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from bench_reader import machine, one_thread

from vitascope.methods.base import Draw
from vitascope.methods.hico.data import Augment, HicoClips, augmented, clip_frames
from vitascope.methods.hico.sampling import Sampling, draw_centres
from vitascope.structures import Record
from vitascope.video.shots import index_shots

RESULTS = Path(__file__).parent / "results" / "bench_hico_loader.json"
SECONDS, FPS, WIDTH, HEIGHT = 156, 30, 456, 256
PIECE = 5 * FPS  # frames of a file
SAMPLING, AUGMENT = Sampling(), Augment()


def pictures(seconds: int, width: int, height: int) -> Iterator[av.VideoFrame]:
    """A panning picture under moving ripples.

    The ripples give it what real clips of this size have: 0.3 to 0.4 Mbit/s, and 15 % more with a key frame every 32 frames.
    """
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 40, 66)))
    fine = torch.from_numpy(rng.normal(0, 4, (1, 1, (height + 128) // 8, (width + 128) // 8)))
    picture, ripples = enlarged(coarse, height + 200, width + 300), enlarged(fine, height + 128, width + 128)
    for number in range(seconds * FPS):
        y, x = int(100 + 99 * np.sin(number / 41)), int(150 + 149 * np.sin(number / 67))
        v, u = rng.integers(128, size=2)
        image = picture[y : y + height, x : x + width] + ripples[v : v + height, u : u + width]
        yield av.VideoFrame.from_ndarray(np.ascontiguousarray(image.clip(0, 255).astype(np.uint8)), "rgb24")


def encode(frames: Iterable[av.VideoFrame], path: Path, group: int) -> None:
    """H.264 with a key frame every `group` frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23", "g": str(group)})
        for number, frame in enumerate(frames):
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def enlarged(picture: torch.Tensor, height: int, width: int) -> np.ndarray:
    """`[1, C, h, w]` -> int16 `[height, width, C]`."""
    large = torch.nn.functional.interpolate(picture, (height, width), mode="bicubic")[0]
    return large.permute(1, 2, 0).round().numpy().astype(np.int16)


def encode_files(folder: Path) -> list[Path]:
    """The film as files of 5 s, each with one key frame."""
    folder.mkdir()
    frames, paths = pictures(SECONDS, WIDTH, HEIGHT), []
    while piece := list(islice(frames, PIECE)):
        paths.append(folder / f"{len(paths):03d}.mp4")
        encode(piece, paths[-1], PIECE)
    return paths


def by_files(paths: list[Path], draw: Draw, is_frugal: bool) -> torch.Tensor:
    """The sample of a draw from files of 5 s."""
    rng = np.random.default_rng(draw.seed)
    times = np.arange(SECONDS * FPS) / FPS
    centres = draw_centres(SECONDS, draw.progress, SAMPLING, rng.random)
    numbers = clip_frames(centres, SAMPLING, SECONDS, times, 16)
    clips = np.empty((*numbers.shape, 3, HEIGHT, WIDTH), np.uint8)
    for clip, wanted in zip(clips, numbers, strict=True):
        for piece in range(wanted[0] // PIECE, wanted[-1] // PIECE + 1):
            pick(paths[piece], wanted - piece * PIECE, clip, is_frugal)
    rows = torch.arange(numbers.size).reshape(numbers.shape)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    return augmented(torch.from_numpy(clips).flatten(0, 1), rows, 112, AUGMENT, generator)


def pick(path: Path, wanted: np.ndarray, out: np.ndarray, is_frugal: bool) -> None:
    """Decodes a file and puts the frames that are wanted into their places, as upright planes."""
    scaler, last = VideoReformatter(), int(wanted[wanted < PIECE].max())
    places = {int(number): place for place, number in enumerate(wanted)}
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(one_thread(container))):
            if number in places:
                image = scaler.reformat(frame, WIDTH, HEIGHT, "gbrp", interpolation=Interpolation.AREA, threads=1)
                out[places[number]] = image.to_ndarray().transpose(2, 0, 1)
            if is_frugal and number == last:
                return


def seconds_a_draw(ways: dict[str, Callable[[Draw], object]], draws: int) -> dict[str, float]:
    """Mean CPU seconds of each way, all drawing the same samples in turns."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(draws):
        for name, way in ways.items():
            start = time.process_time()
            way(Draw(0, seed, (seed + 0.5) / draws))
            spent[name].append(time.process_time() - start)
    return {name: float(np.mean(times)) for name, times in spent.items()}


def growth_megabytes(samples: HicoClips, draws: int) -> tuple[float, float]:
    """How much memory grows over some draws, after a few to warm up: what is in use, and what the system counts.

    The second holds what the allocator keeps for later, which wanders up and down.
    """
    for seed in range(50):
        samples[Draw(0, seed, 0.5)]
    counted = resident_megabytes()
    in_use = resident_megabytes(is_trimmed=True)
    for seed in range(draws):
        samples[Draw(0, seed, 0.5)]
    counted = resident_megabytes() - counted
    return resident_megabytes(is_trimmed=True) - in_use, counted


def resident_megabytes(is_trimmed: bool = False) -> float:
    """Memory of the process; trimmed, without what glibc keeps for later."""
    if is_trimmed:
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--memory-draws", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        films = {group: Path(folder) / f"film{group}.mp4" for group in (250, 32)}
        for group, film in films.items():
            encode(pictures(SECONDS, WIDTH, HEIGHT), film, group)
        files = encode_files(Path(folder) / "files")
        loaders = {
            group: HicoClips([Record(str(film))], 16, 112, 256, SAMPLING, AUGMENT) for group, film in films.items()
        }
        for samples in loaders.values():
            samples[Draw(0, 0, 0.0)]  # makes the frame index, once a film
        ways = {f"gop_{group}": samples.__getitem__ for group, samples in loaders.items()}
        ways["files_all"] = lambda draw: by_files(files, draw, is_frugal=False)
        ways["files_frugal"] = lambda draw: by_files(files, draw, is_frugal=True)
        spent = seconds_a_draw(ways, options.draws)
        for name, seconds in spent.items():
            figures[f"draws_per_cpu_second_{name}"] = 1 / seconds
        for group in films:
            for way in ("files_all", "files_frugal"):
                figures[f"gop_{group}_vs_{way}"] = spent[way] / spent[f"gop_{group}"]
        figures["megabytes_gop_250"], figures["megabytes_gop_32"] = (os.path.getsize(f) / 1e6 for f in films.values())
        figures["megabytes_files"] = sum(map(os.path.getsize, files)) / 1e6
        grown = growth_megabytes(loaders[32], options.memory_draws)
        figures["megabytes_in_use_grown_over_the_draws"], figures["megabytes_resident_grown_over_the_draws"] = grown
        minute, index = Path(folder) / "minute.mp4", Path(folder) / "minute.shots"
        encode(pictures(60, 640, 360), minute, 250)
        start = time.process_time()
        index_shots(minute, index)
        figures["shots_360p_times_real_time"] = 60 / (time.process_time() - start)
        figures["shots_kilobytes_a_minute"] = os.path.getsize(index) / 1e3
    for name, value in figures.items():
        print(f"{name:40s} {value:10.2f}")
    RESULTS.parent.mkdir(exist_ok=True)
    facts = {"machine": machine(), "draws": options.draws, "memory_draws": options.memory_draws, "figures": figures}
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
