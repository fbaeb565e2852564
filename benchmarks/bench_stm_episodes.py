"""Long episodes of the objects world: does a session lose its object, find it again, and show nothing while it is away?

Seven kinds of episodes with exact masks, 128 pixels, 8 frames a second; the object is followed from one mask. The network
works on them enlarged to 256 pixels (`vitascope segment` would enlarge them to 480, at four times the cost).

| kind | what happens |
| --- | --- |
| plain | one shot; other objects pass by |
| cuts | shots elsewhere, with and without the object, and back |
| away | it leaves the frame, for more than a minute, in one shot |
| away, cuts | more than a minute of shots without it, seen twice a second |
| occlusion | a larger object passes and hides it |
| double | it leaves, and an object of the same texture and another outline stays |
| late | it is given when it first comes, while another one is followed already; then a cut |

    python benchmarks/bench_stm_episodes.py [--weights FILE] [--episodes 7] [--policies paper default]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.datasets.worlds.scene import Scene, pose
from vitascope.datasets.worlds.truth import WorldVideo, runs

RESULTS = Path(__file__).parent / "results" / "bench_stm_episodes.json"
SIZE, FPS, SEED = 128, 8.0, 2026
POLICIES = ("paper", "first_previous", "bounded", "default")
AWAY_SECONDS, AWAY_FPS = 62.0, 2.0
SHORT_SIDE = 256  # at which the network works
MIN_START = 0.012  # share of the frame that an object fills at least where it is given
MIN_SHARE = 0.003  # of the frame; an object counts as back from here on
FOUND_J = 0.5


@dataclass(frozen=True)
class Episode:
    """Frames uint8 `[T, 3, H, W]`, labels uint8 `[T, H, W]`, and for each object id the frame in which it is given."""

    kind: str
    number: int
    frames: np.ndarray
    labels: np.ndarray
    given: dict[int, int]
    fps: np.ndarray  # [T], of each frame: how long it stands for


def video(number: int, seconds: float, doubles: int = 0) -> WorldVideo:
    world = ObjectsWorld(number + 1, SEED, SIZE, round(seconds * FPS), FPS, num_objects=4, num_doubles=doubles)
    return world[number]


def draw(scene: Scene, times: list[int], without: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Frames and labels of a scene, some objects left out."""
    scene = replace(scene, layers=tuple(layer for layer in scene.layers if layer.id == 0 or layer.id not in without))
    drawn = [scene.draw(t, with_flow=False) for t in times]
    return np.stack([d.frame.transpose(2, 0, 1) for d in drawn]), np.stack([d.mask for d in drawn])


def joined(kind: str, number: int, parts: list, given: dict[int, int], fps: np.ndarray | None = None) -> Episode:
    frames, labels = (np.concatenate([part[k] for part in parts]) for k in range(2))
    return Episode(kind, number, frames, labels, given, np.full(len(frames), FPS) if fps is None else fps)


def share(labels: np.ndarray, one: int) -> np.ndarray:
    return (labels == one).mean((1, 2))


def steady_shot(number: int) -> tuple[Scene, list[int]] | None:
    """The longest shot of a video in which an object is seen well in every frame, and such objects."""
    found, start, best = video(number, 17.5), 0, None
    for scene in found.scenes:
        labels = found.masks[start : start + scene.num_frames]
        start += scene.num_frames
        steady = [o for o in range(1, 5) if share(labels, o).min() > MIN_START]
        if steady and (best is None or scene.num_frames > best[0].num_frames):
            best = scene, steady
    return best


def plain(number: int) -> Episode | None:
    """A shot to and fro, with up to two objects."""
    found = steady_shot(number)
    if found is None:
        return None
    scene, steady = found
    times = [*range(scene.num_frames), *range(scene.num_frames - 2, -1, -1)]
    return joined("plain", number, [draw(scene, times)], dict.fromkeys(steady[:2], 0))


def cuts(number: int) -> Episode | None:
    found = video(number, 17.5)
    target = next((o for o in range(2, 5) if share(found.masks[:1], o) > MIN_START), None)
    if target is None:
        return None
    return Episode("cuts", number, found.frames, found.masks, {target: 0}, np.full(len(found.frames), FPS))


def away(number: int) -> Episode | None:
    """Object 1 of a single shot leaves in its middle third, which is played to and fro for a minute."""
    found = video(number, 5.0)
    gone = max(runs(found.reaches[:, 0] == 0), key=lambda run: run[1] - run[0], default=None)
    if (
        gone is None
        or share(found.masks[:1], 1) < MIN_START
        or gone[1] - gone[0] < 6
        or gone[1] + 6 > len(found.frames)
    ):
        return None
    middle = list(range(gone[0], gone[1]))
    swing = (middle + middle[::-1]) * 99
    count = round(AWAY_SECONDS * AWAY_FPS)
    times = [*range(gone[0]), *swing[:count], *range(gone[1], len(found.frames))]
    fps = np.r_[np.full(gone[0], FPS), np.full(count, AWAY_FPS), np.full(len(found.frames) - gone[1], FPS)]
    return joined("away", number, [draw(found.scenes[0], times)], {1: 0}, fps)


def away_cuts(number: int) -> Episode | None:
    """Its shot, a minute of other videos' shots without it, and its shot again."""
    found = video(number, 17.5)
    target = next((o for o in range(2, 5) if share(found.masks[:20], o).min() > MIN_START), None)
    if target is None:
        return None
    last = max(
        (s for s in found.scenes[1:] if target in {x.id for x in s.layers}), key=lambda s: s.num_frames, default=None
    )
    if last is None:
        return None
    start, end = draw(found.scenes[0], list(range(20))), draw(last, list(range(last.num_frames)))
    step, parts, other = round(FPS / AWAY_FPS), [], 1000 + 7 * number
    while sum(len(part[0]) for part in parts) < AWAY_SECONDS * AWAY_FPS:
        for scene in video(other, 17.5).scenes:
            frames, labels = draw(scene, list(range(0, scene.num_frames, step)))
            parts.append((frames, np.zeros_like(labels)))
        other += 1
    count = sum(len(part[0]) for part in parts)
    fps = np.r_[np.full(20, FPS), np.full(count, AWAY_FPS), np.full(len(end[0]), FPS)]
    labels = [np.where(part[1] == target, part[1], 0) for part in (start, end)]
    return joined("away, cuts", number, [(start[0], labels[0]), *parts, (end[0], labels[1])], {target: 0}, fps)


def occlusion(number: int) -> Episode | None:
    """Another object, enlarged, crosses the frame over the target's place in the middle of the shot."""
    found = steady_shot(number)
    if found is None or len(found[0].layers) < 3:
        return None
    scene, (target, *_) = found
    layers = {layer.id: layer for layer in scene.layers}
    cover = next(layer for o, layer in layers.items() if o not in (0, target))
    count, middle = scene.num_frames, scene.num_frames // 2
    height, width = layers[target].level.shape
    x, y = layers[target].place(middle, np.array([(width - 1) / 2]), np.array([(height - 1) / 2]))
    rng = np.random.default_rng([SEED, number])
    seconds, speed = (np.arange(count) - middle) / FPS, SIZE * 0.45 * rng.choice([-1, 1])
    scale = 2.4 * np.sqrt(abs(np.linalg.det(cover.matrix[:, :2, :2])).mean())
    centre = tuple((n - 1) / 2 for n in reversed(cover.level.shape))
    matrix = pose(x + speed * seconds, y + np.zeros(count), 0.4 * seconds, scale, np.zeros(1), centre)
    order = [layer for layer in scene.layers if layer.id not in (target, cover.id)]
    moved = replace(scene, layers=(*order, layers[target], replace(cover, matrix=matrix)))
    parts = draw(moved, list(range(count)))
    hidden = share(parts[1], target) == 0
    if not 2 <= hidden.sum() < count // 2 or hidden[:8].any():
        return None
    return joined("occlusion", number, [parts], {target: 0})


def double(number: int) -> Episode | None:
    found = video(number, 5.0, doubles=1)
    is_there = share(found.masks, 5).mean() > MIN_START
    gone = found.reaches[:, 0] == 0
    if not is_there or share(found.masks[:1], 1) < MIN_START or gone.sum() < 6 or gone[-6:].any():
        return None
    return Episode("double", number, found.frames, found.masks, {1: 0}, np.full(len(found.frames), FPS))


def late(number: int) -> Episode | None:
    """Object 1, taken out of the shot's first half, comes in its middle third or later; a cut follows."""
    found = video(number, 10.5)
    first = next((o for o in range(2, 5) if share(found.masks[:1], o) > MIN_START), None)
    edge = found.scenes[0].num_frames
    if first is None:
        return None
    frames, labels = found.frames.copy(), found.masks.copy()
    begin = edge // 3
    frames[:begin], labels[:begin] = draw(found.scenes[0], list(range(begin)), without=(1,))
    if share(labels[begin : begin + 1], 1) < MIN_START:
        return None
    return Episode("late", number, frames, labels, {first: 0, 1: begin}, np.full(len(frames), FPS))


KINDS = (plain, cuts, away, away_cuts, occlusion, double, late)


def episodes(per_kind: int) -> Iterator[tuple[str, int]]:
    """Kind and number of each episode; numbers whose video does not suit are passed over."""
    for kind in KINDS:
        count, number = 0, 0
        while count < per_kind:
            if kind(number) is not None:
                yield kind.__name__, number
                count += 1
            number += 1


def follow(episode: Episode, network, policy: str) -> tuple[np.ndarray, float]:
    """Labels `[T, H, W]` and CPU seconds per frame."""
    import torch

    from vitascope.methods.stm.session import VideoObjectSession

    session, labels = VideoObjectSession(network, policy, short_side=SHORT_SIDE), np.zeros_like(episode.labels)
    frames, began = torch.from_numpy(episode.frames), time.process_time()
    for t, frame in enumerate(frames):
        if t:
            labels[t] = session.step(frame).masks[0]
        for one, start in episode.given.items():
            if start == t:
                session.add_object(frame, episode.labels[t] == one, one)
                labels[t][episode.labels[t] == one] = one
    return labels, (time.process_time() - began) / max(1, len(frames) - 1)


def score(episode: Episode, labels: np.ndarray) -> list[dict]:
    """One row for each object: sums and lists, to be joined over episodes."""
    from vitascope.metrics.segmentation import boundary_accuracy, region_similarity

    rows = []
    for one, start in episode.given.items():
        truth, found = episode.labels[start + 1 :] == one, labels[start + 1 :] == one
        fps, there = episode.fps[start + 1 :], truth.mean((1, 2))
        j = np.array([region_similarity(f, t) for f, t in zip(found, truth)])
        f = np.array([boundary_accuracy(f, t) for f, t in zip(found, truth)])
        j_and_f = (j + f) / 2
        absent, returns, after = there == 0, [], []
        for _, back in runs(absent):
            begin = next((t for t in range(back, len(there)) if there[t] >= MIN_SHARE), None)
            if begin is None or absent[back:begin].any():
                continue
            end = next((t for t in range(begin, len(there)) if absent[t]), len(there))
            if end - begin < fps[begin] / 2:
                continue  # gone again within half a second
            hits = np.flatnonzero(j[begin:end] >= FOUND_J)
            returns.append(int(hits[0]) if len(hits) else None)
            after += j_and_f[begin:end].tolist()
        rows.append({
            "absent_frames": int(absent.sum()),
            "absent_with_mask": int(found[absent].any((1, 2)).sum()),
            "false_area": float(found[absent].mean((1, 2)).sum()),
            "returns": returns,
            "after_return": after,
            "j_and_f": j_and_f[~absent].tolist(),
        })  # fmt: skip
    return rows


def summary(rows: list[dict]) -> dict[str, float | int | None]:
    """Figures of one policy on some episodes."""
    returns = [wait for row in rows for wait in row["returns"]]
    waits = [wait for wait in returns if wait is not None]
    absent = sum(row["absent_frames"] for row in rows)

    def mean(values: list) -> float | None:
        return round(float(np.mean(values)), 4) if len(values) else None

    def of_absent(name: str) -> float | None:
        return round(sum(row[name] for row in rows) / absent, 4) if absent else None

    return {
        "objects": len(rows),
        "j_and_f": mean([value for row in rows for value in row["j_and_f"]]),
        "absent_frames": absent,
        "absent_with_mask": of_absent("absent_with_mask"),
        "false_area": of_absent("false_area"),
        "returns": len(returns),
        "found_within_1_s": mean([wait is not None and wait < FPS for wait in returns]),
        "frames_to_recover": mean(waits),
        "j_and_f_after_return": mean([value for row in rows for value in row["after_return"]]),
    }


def load(weights: str):
    import torch

    from vitascope.methods.stm.starter import WEIGHTS, load_starter

    torch.set_num_threads(1)
    return load_starter(weights or WEIGHTS)


def work(task: tuple[str, int, str, tuple[str, ...]]) -> tuple[str, int, dict[str, list[dict]], dict[str, float]]:
    kind, number, weights, policies = task
    network, episode = load(weights), globals()[kind](number)
    rows, seconds = {}, {}
    for policy in policies:
        labels, seconds[policy] = follow(episode, network, policy)
        rows[policy] = score(episode, labels)
    return episode.kind, len(episode.frames), rows, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="", help="safetensors of LightSTM; by default those of the package")
    parser.add_argument("--episodes", type=int, default=7, help="of each kind")
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    began, collected, cost, frames = time.perf_counter(), {}, {p: [] for p in options.policies}, 0
    tasks = [(*episode, options.weights, tuple(options.policies)) for episode in episodes(options.episodes)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for done, (kind, count, rows, seconds) in enumerate(pool.imap_unordered(work, tasks), 1):
            frames += count
            for policy in options.policies:
                collected.setdefault(policy, {}).setdefault(kind, []).extend(rows[policy])
                cost[policy].append(seconds[policy])
            print(f"\r{done} of {len(tasks)} episodes, {time.perf_counter() - began:.0f} s", end="", flush=True)
    print()
    result = {
        "episodes": len(tasks),
        "short_side": SHORT_SIDE,
        "frames": frames,
        "policies": {
            policy: {
                "all": {**summary(sum(kinds.values(), [])), "cpu_ms_per_frame": round(1e3 * float(np.mean(cost[policy])), 1)},
                **{kind: summary(rows) for kind, rows in sorted(kinds.items())},
            }
            for policy, kinds in collected.items()
        },
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "command": "python benchmarks/bench_stm_episodes.py",
    }  # fmt: skip
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)


def show(result: dict) -> None:
    columns = ("j_and_f", "absent_with_mask", "false_area", "returns", "found_within_1_s", "frames_to_recover", "j_and_f_after_return")  # fmt: skip
    print(f"{'policy':15}{'kind':12}" + "".join(f"{name:>22}" for name in columns))
    for policy, kinds in result["policies"].items():
        for kind, row in kinds.items():
            print(
                f"{policy:15}{kind:12}" + "".join(f"{'-' if row[name] is None else row[name]:>22}" for name in columns)
            )
        print(f"{policy:15}{kinds['all']['cpu_ms_per_frame']} ms of CPU a frame")


if __name__ == "__main__":
    main()
