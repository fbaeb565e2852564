"""What motion targets cost: ours beside the released recipe, and beside the training step that they feed; one CPU thread.

Parts, all by default; what is measured again replaces what stands in the results:

- `flow`: optical flow of a 16x4 clip at 224 pixels. Ours: DIS-medium between the frames that tracks go through (8 L pairs),
  on the crop with its margin of 24 pixels. The released recipe, put together from OpenCV (specification, 1.7): between all 64
  frames Farneback, then the camera (features, matches within 25 pixels, corners, RANSAC), then Farneback again on the frame
  with the camera's motion taken off. SURF is in no wheel of OpenCV: SIFT and the much cheaper ORB stand in, and the verdict is
  that of ORB. It gets the crop without margin, features once a frame, and storing its flow as video is left out: all in its
  favour.
- `hog`: histograms of gradients of the clip. Ours: 48 grey frames along the tracks, the looking up included. The released
  recipe: 16 RGB frames, each pixel's two shares scattered into a map of nine planes.
- `target`: a sample of the recipe `mme` less decoding, as a share of a training step of it (ViT-B, batch 1).
- `loader`: how long a run of `mme-tiny` waits for one loading process, as a share of its time: with everything made anew at
  each draw, and with decoded frames and flow of small videos kept in memory. The verdict is of what the recipe asks for.
- `step`: a step of `mme-tiny` with the making of its targets, beside the bare step of VideoMAE in transformers with an equal
  encoder and the decoder of `videomae-tiny`, which is given its pixels normalised. CPU time of both processes is added up;
  kept in memory, the flow of the first pass is not counted.

Ways take turns; figures are medians of CPU seconds (of `loader`: wall time).

    python benchmarks/bench_motion.py                 # about two minutes
    python benchmarks/bench_motion.py flow hog
    python benchmarks/bench_motion.py flow --video some.mp4     # prints, and stores nothing
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEForPreTraining

from vitascope.api import configure, train
from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.datasets.worlds.write import write_world
from vitascope.methods.base import Draw
from vitascope.methods.mme.config import MMEConfig
from vitascope.methods.mme.footage import FlowFilm
from vitascope.methods.mme.hog import along_tracks, hog_cells
from vitascope.methods.mme.method import MME
from vitascope.structures import Record
from vitascope.video.flow import DenseFlow, grey
from vitascope.video.reader import VideoReader
from vitascope.video.transforms import normalise

RESULTS = Path(__file__).parent / "results" / "bench_motion.json"
SIZE, MARGIN, CELL, STRIDE, NUM_FRAMES, TUBELET = 224, 24, 8, 4, 16, 2
LEAST_TIMES = {"flow": 8.0, "hog": 10.0}
MOST_SHARE = {"target": 0.30, "loader": 0.10, "step": 1.5}
REACH_PIXELS, LEAST_PAIRS, LEAST_INLIERS = 25, 50, 25  # of the released camera stage

MEMORY_MB = {"made anew": 0, "kept in memory": 512}  # of decoded frames and flow, in the runs of `mme-tiny`
STEPS = 120  # of a run of which the waiting is measured

Ways = dict[str, Callable[[], Any]]


def taking_turns(ways: Ways, rounds: int) -> dict[str, float]:
    """Median CPU seconds of each way, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if round_:
                seconds[name].append(time.process_time() - start)
    return {name: round(statistics.median(taken), 4) for name, taken in seconds.items()}


def clip_frames(video: str | None) -> np.ndarray:
    """The 64 frames that a 16x4 clip covers, the crop with its margin: uint8 `[64, 3, 272, 272]`."""
    side, count = SIZE + 2 * MARGIN, NUM_FRAMES * STRIDE
    if video is None:
        return MotionWorld(num_videos=1, size=side, num_frames=count, fps=25.0)[0].frames
    with VideoReader(video) as reader:
        frames = reader.frames_at(list(range(count)), size=side).frames.numpy()
    top, left = (frames.shape[2] - side) // 2, (frames.shape[3] - side) // 2
    return np.ascontiguousarray(frames[:, :, top : top + side, left : left + side])


def inner(frames: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frames[..., MARGIN:-MARGIN, MARGIN:-MARGIN])


# flow


def our_flow(greys: np.ndarray, num_steps: int) -> None:
    flow = DenseFlow("dis-medium")
    for start in range(0, len(greys), TUBELET * STRIDE):
        for t in range(start, min(start + num_steps, len(greys) - 1)):
            flow(greys[t], greys[t + 1])


def farneback(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 5, 13, 10, 5, 1.1, 0)


class ReleasedFlow:
    """The released recipe with one kind of features."""

    def __init__(self, features: str) -> None:
        self.detector = cv2.SIFT_create() if features == "sift" else cv2.ORB_create(nfeatures=1000)
        self.matcher = cv2.BFMatcher(cv2.NORM_L2 if features == "sift" else cv2.NORM_HAMMING)

    def __call__(self, greys: np.ndarray) -> int:
        """Flow of all pairs; how many of them had their camera found."""
        found = 0
        described = self.detector.detectAndCompute(greys[0], None)
        for first, second in zip(greys, greys[1:]):
            flow, before = farneback(first, second), described
            described = self.detector.detectAndCompute(second, None)
            camera = self.camera(first, second, flow, before, described)
            if camera is None:
                continue
            found += 1
            farneback(first, self.without_camera(first, second, camera))
        return found

    def camera(self, first: np.ndarray, second: np.ndarray, flow: np.ndarray, *described: Any) -> np.ndarray | None:
        pairs = [self.matched(*described), self.carried(second, flow)]
        sources, targets = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        if len(sources) <= LEAST_PAIRS:
            return None
        camera, inliers = cv2.findHomography(sources, targets, cv2.RANSAC, 1.0)
        return camera if camera is not None and inliers.sum() > LEAST_INLIERS else None

    def matched(self, before: tuple, after: tuple) -> tuple[np.ndarray, np.ndarray]:
        (points, vectors), (others, other_vectors) = before, after
        if vectors is None or other_vectors is None:
            return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
        at, to = (np.array([point.pt for point in side], np.float32) for side in (points, others))
        is_near = (np.abs(at[:, None] - to[None]) < REACH_PIXELS).all(-1).astype(np.uint8)
        matches = self.matcher.match(vectors, other_vectors, is_near)
        rows = np.array([[match.queryIdx, match.trainIdx] for match in matches], np.int64).reshape(-1, 2)
        return at[rows[:, 0]], to[rows[:, 1]]

    @staticmethod
    def carried(second: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        corners = cv2.goodFeaturesToTrack(second, 1000, 0.001, 3)
        if corners is None:
            return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
        corners = corners.reshape(-1, 2)
        column, row = corners.astype(int).T
        return corners, corners + flow[row, column]

    @staticmethod
    def without_camera(first: np.ndarray, second: np.ndarray, camera: np.ndarray) -> np.ndarray:
        size = second.shape[::-1]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(
            second, camera, size, dst=first.copy(), flags=flags, borderMode=cv2.BORDER_TRANSPARENT
        )


def measure_flow(video: str | None) -> dict[str, Any]:
    greys = grey(clip_frames(video))
    crop = inner(greys)
    released = {kind: ReleasedFlow(kind) for kind in ("sift", "orb")}
    seconds = taking_turns(
        {
            "ours L=6, 48 pairs": lambda: our_flow(greys, 6),
            "ours L=4, 32 pairs": lambda: our_flow(greys, 4),
            "released with SIFT, 63 pairs": lambda: released["sift"](crop),
            "released with ORB, 63 pairs": lambda: released["orb"](crop),
            "Farneback once, 63 pairs": lambda: [farneback(a, b) for a, b in zip(crop, crop[1:])],
        },
        rounds=5,
    )
    least = seconds["released with ORB, 63 pairs"]
    return {
        "cpu_seconds_a_clip": seconds,
        "times_as_cheap": round(least / seconds["ours L=6, 48 pairs"], 2),
        "times_as_cheap_L4": round(least / seconds["ours L=4, 32 pairs"], 2),
        "times_as_cheap_with_sift": round(seconds["released with SIFT, 63 pairs"] / seconds["ours L=6, 48 pairs"], 2),
        "pairs_with_a_camera": {kind: recipe(crop) for kind, recipe in released.items()},
        "opencv": cv2.__version__,
    }


# histograms of gradients


def released_hog(images: Tensor) -> Tensor:
    """Normalised images `[M, C, H, W]` -> `[M, C, 9, h, w]`, each pixel into planes of its own size first."""
    channels = images.flatten(0, 1)[:, None]
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    filters = torch.stack([sobel, sobel.T])[:, None]
    gradients = F.conv2d(F.pad(channels, (1, 1, 1, 1), mode="replicate"), filters)
    magnitude = gradients.norm(dim=1, keepdim=True)
    phase = torch.atan2(gradients[:, 1:], gradients[:, :1]) / torch.pi * 9
    phase = torch.where(phase < 0, phase + 9, phase)
    low, high = phase.floor(), phase.ceil()
    planes = torch.zeros(len(channels), 9, *images.shape[-2:])
    planes.scatter_(1, low.long() % 9, (1 - (phase - low)) * magnitude)
    planes.scatter_add_(1, high.long() % 9, (phase - low) * magnitude)
    return F.avg_pool2d(planes, CELL).unflatten(0, images.shape[:2])


def measure_hog(video: str | None) -> dict[str, Any]:
    frames = torch.from_numpy(inner(clip_frames(video)))
    rgb = normalise(frames[::STRIDE].float() / 255)  # [16, 3, H, W]
    starts = torch.arange(0, len(frames), TUBELET * STRIDE)
    through = starts[:, None] + torch.arange(6)  # [S, L]
    greys = torch.from_numpy(grey(frames.numpy()))[through].flatten(0, 1)[:, None].float() / 255
    positions = torch.rand(*through.shape, (SIZE // CELL) ** 2, 2, generator=torch.Generator().manual_seed(0)) * SIZE

    def along() -> Tensor:
        cells = hog_cells(greys, CELL)[:, 0]
        return along_tracks(cells.unflatten(0, through.shape), positions, CELL)

    seconds = taking_turns(
        {
            "ours, 48 grey frames along tracks": along,
            "ours, 8 RGB frames": lambda: hog_cells(rgb[1::2], CELL),
            "ours, 16 RGB frames": lambda: hog_cells(rgb, CELL),
            "released, 16 RGB frames": lambda: released_hog(rgb),
            "released, 16 RGB frames one by one": lambda: [released_hog(frame[None]) for frame in rgb],
        },
        rounds=7,
    )
    released = min(taken for name, taken in seconds.items() if name.startswith("released"))
    return {
        "cpu_seconds_a_clip": seconds,
        "times_as_cheap": round(released / seconds["ours, 48 grey frames along tracks"], 2),
        "times_as_cheap_for_its_target": round(released / seconds["ours, 8 RGB frames"], 2),
        "times_as_cheap_for_its_frames": round(released / seconds["ours, 16 RGB frames"], 2),
        "share_of_values_that_differ": ((released_hog(rgb) - hog_cells(rgb, CELL)).abs() > 1e-4).double().mean().item(),
    }


# samples and steps


class Reading:
    """Footage that takes the time that opening and decoding of video take."""

    def __init__(self, footage: Any) -> None:
        self.footage, self.seconds = footage, 0.0

    @contextmanager
    def opened(self, record: Record) -> Iterator[FlowFilm]:
        with self.timed():
            opening = self.footage.opened(record)
            film = opening.__enter__()
        try:
            yield TimedFilm(film, self)
        finally:
            opening.__exit__(None, None, None)

    @contextmanager
    def timed(self) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds += time.process_time() - start


class TimedFilm:
    """A film of which frames are timed and the rest is not."""

    def __init__(self, film: FlowFilm, reading: Reading) -> None:
        self._film, self._reading = film, reading

    def frames(self, numbers: np.ndarray) -> Tensor:
        with self._reading.timed():
            return self._film.frames(numbers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._film, name)


class Sampling:
    """Draws samples of a recipe from a video, and keeps what reading and the rest of each cost."""

    def __init__(self, method: MME, records: list[Record]) -> None:
        self.samples = method.samples(method.stages()[0], records)
        self.reading = self.samples._footage = Reading(self.samples._footage)
        self.rest: list[float] = []
        self.decode: list[float] = []
        self.count = len(records)

    def __call__(self) -> dict[str, Tensor]:
        start, self.reading.seconds = time.process_time(), 0.0
        draw = len(self.rest)
        sample = self.samples[Draw(index=draw % self.count, seed=draw, progress=0.0)]
        self.decode.append(self.reading.seconds)
        self.rest.append(time.process_time() - start - self.reading.seconds)
        return sample


def our_step(method: MME, batch: dict[str, Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-5)
    method.train()

    def step() -> None:
        method.training_step(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def batch_of(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}


def measure_target(video: str | None) -> dict[str, Any]:
    """Videos have 320 pixels a side, so that the reader scales them as it would those of a library."""
    method, bare = MME(MME.recipes["mme"]()), MME(MME.recipes["videomae"]())
    with tempfile.TemporaryDirectory() as folder:
        records = [Record(video)] if video else write_world(
            MotionWorld(num_videos=1, size=320, num_frames=128, fps=25.0), folder
        )  # fmt: skip
        ours, pixels = Sampling(method, records), Sampling(bare, records)
        step = our_step(method, batch_of([ours()]))
        seconds = taking_turns({"sample": ours, "sample of videomae": pixels, "step of mme": step}, rounds=5)
    rest, decode = statistics.median(ours.rest[1:]), statistics.median(ours.decode[1:])
    plain = statistics.median(pixels.rest[1:])
    step_seconds = seconds["step of mme"]
    return {
        "cpu_seconds": {
            "sample less decoding": round(rest, 4),
            "of it the pixels' crop": round(plain, 4),
            "decoding": round(decode, 4),
            "training step, batch 1": step_seconds,
        },
        "share_of_step": round(rest / step_seconds, 3),
        "share_of_step_targets_alone": round((rest - plain) / step_seconds, 3),
    }


def measure_loader(_: str | None) -> dict[str, Any]:
    """A run that makes everything anew, and one that keeps decoded frames and flow of these small videos in memory."""
    with tempfile.TemporaryDirectory() as folder:
        write_world(MotionWorld(num_videos=24, num_frames=64, fps=25.0), f"{folder}/videos")
        found = {name: waiting(folder, memory) for name, memory in MEMORY_MB.items()}
    return {
        "share_waited": found[as_recipe()]["share_waited"],
        "runs": found,
        "load_average": round(os.getloadavg()[0], 1),
    }


def as_recipe() -> str:
    """Which of `MEMORY_MB` the recipe `mme-tiny` asks for: the verdict is of that one."""
    return "kept in memory" if configure("mme-tiny").memory_mb else "made anew"


def waiting(folder: str, memory_mb: int) -> dict[str, float]:
    settings = {"num_workers": 1, "log_every": 1, "max_steps": STEPS, "device": "cpu"}
    config = configure("mme-tiny", [f"memory_mb={memory_mb}"])
    run = train("mme-tiny", f"{folder}/videos", f"{folder}/library{memory_mb}", config=config, settings=settings)
    lines = [json.loads(line) for line in (Path(run.folder) / "timing.jsonl").read_text().splitlines()]
    later = lines[STEPS // 3 :]  # before, the process starts, and videos are seen for the first time
    waited, took = (sum(line[key] for line in later) for key in ("wait_seconds", "seconds"))
    return {
        "share_waited": round(waited / took, 3),
        "seconds_a_step": round(took / len(later), 4),
        "steps": len(later),
    }


def their_step(config: MMEConfig, decoder: MMEConfig, batch: dict[str, Tensor]) -> Callable[[], None]:
    """VideoMAE of transformers: the encoder of `config`, and a decoder for pixels."""
    theirs = VideoMAEConfig(
        image_size=config.size,
        patch_size=config.patch_size,
        num_frames=config.num_frames,
        tubelet_size=config.tubelet_frames,
        hidden_size=config.embed_dim,
        num_hidden_layers=config.depth,
        num_attention_heads=config.num_heads,
        intermediate_size=4 * config.embed_dim,
        decoder_hidden_size=decoder.decoder_dim,
        decoder_num_hidden_layers=decoder.decoder_depth,
        decoder_num_attention_heads=decoder.decoder_heads,
        decoder_intermediate_size=4 * decoder.decoder_dim,
        layer_norm_eps=config.layer_norm_eps,
        use_mean_pooling=False,
    )
    theirs._attn_implementation = "sdpa"  # the faster of their two
    model = VideoMAEForPreTraining(theirs).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    pixels, mask = normalise(batch["clips"].float() / 255), batch["mask"]

    def step() -> None:
        model(pixels, bool_masked_pos=mask).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure_step(_: str | None) -> dict[str, Any]:
    config, pixels = configure("mme-tiny"), configure("videomae-tiny")
    size = config.batch_size
    with tempfile.TemporaryDirectory() as folder:
        records = write_world(MotionWorld(num_videos=size, num_frames=64, fps=25.0), folder)
        sampling = {
            name: Sampling(MME(configure("mme-tiny", [f"memory_mb={memory}"])), records)
            for name, memory in MEMORY_MB.items()
        }
        batch = batch_of([sampling["made anew"]() for _ in range(size)])
        ways = {name: (lambda draw=draw: [draw() for _ in range(size)]) for name, draw in sampling.items()}
        ways |= {"ours": our_step(MME(config), batch), "transformers": their_step(config, pixels, batch)}
        seconds = taking_turns(ways, rounds=15)
    made = {name: size * statistics.median(draw.rest[2 * size :]) for name, draw in sampling.items()}
    times = {name: round((seconds["ours"] + taken) / seconds["transformers"], 3) for name, taken in made.items()}
    return {
        "cpu_seconds": {
            "step of mme-tiny": seconds["ours"],
            **{f"its samples less decoding, {name}": round(taken, 4) for name, taken in made.items()},
            "step of transformers VideoMAE": seconds["transformers"],
        },
        "times_theirs": times[as_recipe()],
        **{f"times_theirs_{name.replace(' ', '_')}": value for name, value in times.items()},
        "times_theirs_without_samples": round(seconds["ours"] / seconds["transformers"], 3),
        "batch_size": size,
    }


PARTS = {
    "flow": (measure_flow, "times_as_cheap"),
    "hog": (measure_hog, "times_as_cheap"),
    "target": (measure_target, "share_of_step"),
    "loader": (measure_loader, "share_waited"),
    "step": (measure_step, "times_theirs"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; by default all")
    parser.add_argument("--video", help="a clip of this file in place of a synthetic one; nothing is stored")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"PART ({', '.join(unknown)}) must be one of {', '.join(PARTS)}")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    failed = 0
    for name in options.parts or PARTS:
        measure, key = PARTS[name]
        found = measure(options.video)
        least, most = LEAST_TIMES.get(name), MOST_SHARE.get(name)
        held = found[key] >= least if least else found[key] <= most
        failed += not held
        limit = f"at least {least}" if least else f"at most {most}"
        results[name] = found | {"limit": f"{key} {limit}", "held": held, "torch": torch.__version__}
        print(f"{name}: {key} {found[key]} ({limit}){'' if held else ' NOT HELD'}\n{json.dumps(found, indent=2)}")
    results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, one thread"
    if not options.video:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
