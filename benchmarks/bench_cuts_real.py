"""How well shots are found, and clips kept from crossing them, in real footage whose cuts are known.

    python benchmarks/bench_cuts_real.py                       # about four minutes
    python benchmarks/bench_cuts_real.py --data FOLDER --films 2

Films of a minute and a half are joined from stretches of 2 to 12 s of the videos and folders of frames below `--data`, as they
come out of the seed: 320 x 240 pixels, 25 frames/s, H.264. So each join is a hard cut at a known time. Stretches hold no cut of
their own: sources that do are left out, or used between their cuts, as seen by eye. Three kinds of films:

- `places`: neighbours are of different folders, so of different places and cameras.
- `files`: neighbours are of different files, each kind of footage as often as others. A quarter of them are of one folder, mostly
  of one camera that stands still; those are counted once more apart (`joins_of_one_folder`).
- `jump_cuts`: neighbours are of the same recording, at least 10 s apart, whose camera stands still: to the eye such a join is a
  person who jumps or appears, at times at the edge or in the dark, or nothing at all.

Of each kind 2000 samples are drawn as HiCo's loader draws them, three clips of 2.13 s each, from indices of shots that are made
of the films: without them, with the guard (`cuts`), and with `content`. A clip crosses a join if the join lies within its window.
A join is found if the index holds a cut less than half a frame from it. Last, the index is made of 60 s of real footage at
640 x 360. Prints the figures and writes them to `benchmarks/results/bench_cuts_real.json`; nothing of the footage is kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vitascope.methods.hico.content import Content, Guide
from vitascope.methods.hico.sampling import Sampling, draw_centres, window
from vitascope.store.atomic import write_json
from vitascope.store.facts import commit, machine
from vitascope.structures import Record
from vitascope.video.frames import FrameFolder
from vitascope.video.reader import VideoReader
from vitascope.video.shots import ShotIndex, index_shots
from vitascope.video.writer import VideoWriter

RESULTS = Path(__file__).parent / "results" / "bench_cuts_real.json"
DATA = Path(__file__).parents[2] / "shared" / "data"
FPS, HEIGHT, WIDTH = 25, 240, 320
STRETCH_SECONDS, FILM_SECONDS, APART_SECONDS = (2.0, 12.0), 90.0, 10.0
SAMPLES = 2000
SAMPLING = Sampling()
WHOLE = ((0.0, np.inf),)
BETWEEN_CUTS = {  # seconds, by eye; other sources have no cut
    "clips/bikes.mp4": ((3.14, 5.38), (5.58, 7.38), (7.58, 9.58)),
    "clips/nasa_13013.mp4": ((0.0, 4.5), (8.11, np.inf)),
    "clips/SOX5yA1l24A.mp4": ((0.0, 4.5), (4.7, 7.21), (7.41, 9.64)),
    "clips/TrumanShow_wave_f_nm_np1_fr_med_26.avi": (),
}


class Source(NamedTuple):
    """A stretch without cuts of one recording."""

    path: Path
    folder: str  # what it is a kind of
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def read(self, start: float, count: int) -> torch.Tensor:
        """Frames from a time on, at the rate of the films: uint8 `[T, C, H, W]`."""
        times = start + np.arange(count) / FPS
        with opened(self.path) as video:
            if isinstance(video, FrameFolder):
                return video.frames_at(np.floor(times * video.fps + 1e-6).astype(int).tolist(), (HEIGHT, WIDTH)).frames
            return video.frames_at_seconds(times, (HEIGHT, WIDTH)).frames


class Join(NamedTuple):
    """A cut that is known."""

    seconds: float
    before: str
    after: str
    is_of_one_folder: bool


class Film(NamedTuple):
    path: Path
    shots: Path
    seconds: float
    joins: list[Join]

    @property
    def record(self) -> Record:
        return Record(str(self.path), shots=str(self.shots))


def opened(path: Path) -> VideoReader | FrameFolder:
    return FrameFolder(path, fps=24) if path.is_dir() else VideoReader(path)


def sources_of(data: Path) -> list[Source]:
    """All stretches that are long enough."""
    files = [path for name in ("clips", "fights", "fir-untrimmed") for path in sorted((data / name).rglob("*.*"))]
    files = [path for path in files if path.suffix in (".mp4", ".avi", ".mkv")]
    found = []
    for path in [*files, *sorted((data / "davis16-train-240p" / "JPEGImages").glob("*/*"))]:
        name = str(path.relative_to(data))
        folder = "asl" if "asl_gestures" in name else name.split("/")[0]
        with opened(path) as video:
            seconds = video.duration_seconds - 1 / FPS
        for start, end in BETWEEN_CUTS.get(name, WHOLE):
            if min(end, seconds) - start >= STRETCH_SECONDS[0] + 1 / FPS:
                found.append(Source(path, folder, start, min(end, seconds)))
    return found


def by_places(sources: Sequence[Source], rng: np.random.Generator) -> Iterator[tuple[Source, float, float]]:
    """Source, start and seconds of stretches, neighbours of different folders; each folder as often as others."""
    return by_files(sources, rng, is_same_folder_allowed=False)


def by_files(
    sources: Sequence[Source], rng: np.random.Generator, is_same_folder_allowed: bool = True
) -> Iterator[tuple[Source, float, float]]:
    """The same, neighbours of different files."""
    folders = sorted({source.folder for source in sources})
    last: Source | None = None
    while True:
        allowed = [folder for folder in folders if is_same_folder_allowed or last is None or folder != last.folder]
        folder = allowed[rng.integers(len(allowed))]
        some = [s for s in sources if s.folder == folder and (last is None or s.path != last.path)]
        last = some[rng.integers(len(some))]
        seconds = min(rng.uniform(*STRETCH_SECONDS), last.seconds)
        yield last, rng.uniform(last.start, last.end - seconds), seconds


def by_jumps(sources: Sequence[Source], rng: np.random.Generator) -> Iterator[tuple[Source, float, float]]:
    """The same of one recording of 40 s or more."""
    long = [source for source in sources if source.seconds >= 39]
    source, last = long[rng.integers(len(long))], -np.inf
    while True:
        seconds = rng.uniform(*STRETCH_SECONDS)
        start = rng.uniform(source.start, source.end - seconds)
        if start > last + APART_SECONDS or start + seconds < last - APART_SECONDS:
            yield source, start, seconds
            last = start + seconds


def make_film(stretches: Iterator[tuple[Source, float, float]], path: Path) -> Film:
    """Joins stretches to a film of about a minute and a half, and makes its index of shots."""
    joins, count, last = [], 0, None
    with VideoWriter(path, FPS, crf=23) as writer:
        while count < FILM_SECONDS * FPS:
            source, start, seconds = next(stretches)
            if last is not None:
                told = (f"{one.folder}/{one.path.name}" for one in (last, source))
                joins.append(Join(count / FPS, *told, last.folder == source.folder))
            frames = source.read(start, int(seconds * FPS))
            writer.write(frames.numpy())
            count, last = count + len(frames), source
    film = Film(path, path.with_suffix(".shots"), count / FPS, joins)
    index_shots(film.path, film.shots)
    return film


def found_and_missed(films: Sequence[Film]) -> dict[str, float | int]:
    """What the index knows of the joins; a cut that is no join is false, as stretches have none."""
    hits, cuts, joins, apart = 0, 0, 0, [0, 0]
    for film in films:
        index = ShotIndex.open(film.shots)
        hard = index.cuts.times_seconds[np.array(index.cuts.kinds) == "cut"] if len(index.cuts) else np.zeros(0)
        cuts, joins = cuts + len(index.cuts), joins + len(film.joins)
        for join in film.joins:
            is_found = bool((np.abs(hard - join.seconds) < 0.5 / FPS).any())
            hits += is_found
            apart[0] += join.is_of_one_folder and is_found
            apart[1] += join.is_of_one_folder
            if not is_found:
                print(f"  missed: {film.path.name} at {join.seconds:.2f} s, {join.before} -> {join.after}")
        for seconds, kind in zip(index.cuts.times_seconds, index.cuts.kinds, strict=True):
            if all(kind != "cut" or abs(join.seconds - seconds) >= 0.5 / FPS for join in film.joins):
                print(f"  false: {film.path.name} at {seconds:.2f} s, {kind}")
    told = {"joins": joins, "found": hits, "recall": hits / joins, "cuts": cuts, "precision": hits / max(cuts, 1)}
    if 0 < apart[1] < joins:
        told |= {"joins_of_one_folder": apart[1], "found_of_one_folder": apart[0]}
    return told


def crossing(films: Sequence[Film], mode: str) -> float:
    """The share of drawn clips whose window holds a join."""
    content = None if mode == "off" else Content([film.record for film in films], Guide(mode), SAMPLING)
    crossed = total = 0
    for number in range(SAMPLES):
        film, rng, progress = films[number % len(films)], np.random.default_rng(number), number / SAMPLES
        if content is None:
            centres = draw_centres(film.seconds, progress, SAMPLING, rng.random)
        else:
            centres = content.draw(film.record, 0.0, film.seconds, progress, rng.random)["seconds"].numpy()
        for centre in centres.tolist():
            start, end = window(centre, SAMPLING.clip_seconds, film.seconds)
            crossed += any(start < join.seconds < end for join in film.joins)
            total += 1
    return crossed / total


def times_real_time(data: Path, folder: Path) -> float:
    """CPU speed of the index at 640 x 360, over a minute of real footage that is 640 x 360 or larger."""
    path, count = folder / "360p.mp4", 0
    with VideoWriter(path, FPS, crf=23) as writer:
        for name in ("bottle-detection.mp4", "one-by-one-person-detection.mp4", "basketball.mp4"):
            with VideoReader(data / "clips" / name) as video:
                for _, frame in video.iterate(size=(360, 640)):
                    if count < 60 * FPS:
                        writer.write(frame.numpy())
                        count += 1
    start = time.process_time()
    index_shots(path, folder / "360p.shots")
    return count / FPS / (time.process_time() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--films", type=int, default=8, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not (options.data / "fir-untrimmed").is_dir():
        print(f"skipped: {options.data} has no fir-untrimmed; name the folder of data with --data", file=sys.stderr)
        raise SystemExit(0)  # so that the others run
    torch.set_num_threads(1)
    sources, told = sources_of(options.data), {}
    with tempfile.TemporaryDirectory() as name:
        for kind, choose in (("places", by_places), ("files", by_files), ("jump_cuts", by_jumps)):
            films = []
            for number in range(options.films):
                rng = np.random.default_rng([options.seed, number])
                films.append(make_film(choose(sources, rng), Path(name) / f"{kind}{number}.mp4"))
            print(f"{kind}: {options.films} films, {sum(film.seconds for film in films):.0f} s")
            told[kind] = {"films": options.films, "seconds": sum(film.seconds for film in films)}
            told[kind] |= found_and_missed(films)
            told[kind]["share_of_clips_over_a_join"] = {
                mode: crossing(films, mode) for mode in ("off", "cuts", "content")
            }
        speed = times_real_time(options.data, Path(name))
    for kind, figures in told.items():
        for key, value in figures.items():
            print(f"{kind:10s} {key:32s} {value}")
    print(f"index at 640 x 360: {speed:.1f} times real time")
    facts = {"commit": commit(), **machine(), "seed": options.seed, "samples": SAMPLES, "sources": len(sources)}
    write_json(options.results, facts | told | {"shots_360p_times_real_time": speed})
    return 0


if __name__ == "__main__":
    sys.exit(main())
