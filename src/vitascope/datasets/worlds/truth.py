"""What a synthetic video is and what is true of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vitascope.datasets.worlds.scene import Scene
from vitascope.structures import Segments


@dataclass(frozen=True, slots=True)
class Shot:
    """One camera's stretch `[start_seconds, end_seconds)`; shots of the same `setup` show the same place."""

    start_seconds: float
    end_seconds: float
    setup: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The change from one shot to the next.

    A hard cut lies at `time_seconds`, the first frame of the shot that comes. A dissolve (one shot into the other) and
    a fade (through black) fill `[start_seconds, end_seconds)` around it; for a hard cut all three times are equal.
    """

    time_seconds: float
    kind: Literal["cut", "dissolve", "fade"]
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class WorldVideo:
    """A synthetic video with its truth; what a world does not have is None or empty.

    Attributes:
        id: Name, unique in its world.
        fps: Frames per second; frame `k` shows the time `k / fps`.
        num_frames: T.
        labels: The class, or the tags, in alphabetical order.
        frames: uint8 RGB `[T, C, H, W]`; None where the world only renders in chunks.
        masks: uint8 `[T, H, W]` of object ids, 0 for the background.
        flow: float32 `[T-1, 2, H, W]`, (x, y) pixels from each frame to the next; NaN over a cut.
        areas: int64 `[T, O]`, visible pixels of object `o + 1`.
        reaches: int64 `[T, O]`, its pixels in the frame were nothing before it; above its area means occluded.
        objects: Name of each object; two objects that look alike share the name up to the colon.
        segments: Action instances.
        shots: In order; they fill the video.
        cuts: Between the shots.
        topic: Name of the topic.
        props: When the prop of each action is in the picture, labelled by the action.
        scenes: One for each shot, what the truth is computed from.
    """

    id: str
    fps: float
    num_frames: int
    labels: tuple[str, ...]
    segments: Segments
    shots: tuple[Shot, ...]
    cuts: tuple[Cut, ...] = ()
    topic: str | None = None
    props: Segments | None = None
    frames: np.ndarray | None = None
    masks: np.ndarray | None = None
    flow: np.ndarray | None = None
    areas: np.ndarray | None = None
    reaches: np.ndarray | None = None
    objects: tuple[str, ...] = ()
    scenes: tuple[Scene, ...] = field(default=(), repr=False)

    @property
    def times_seconds(self) -> np.ndarray:
        """Presentation times, float64 `[T]`."""
        return np.arange(self.num_frames) / self.fps

    def tracks(self, points: np.ndarray, frame: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Where the material under `points` of one frame lies in every frame: exact, through occlusion and cuts.

        Args:
            points: `[N, 2]`, (x, y) in pixels, pixel centres at whole numbers.
            frame: The frame in which they are given.

        Returns:
            Positions float64 `[T, N, 2]`, NaN in shots without their object or place; visibility bool `[T, N]`, False
            when out of the frame or hidden by a nearer object.

        Raises:
            ValueError: The video has no scenes, or no such frame.
        """
        if not self.scenes:
            raise ValueError(f"{self.id} keeps no scenes, so it has no tracks; use a motion or an objects world")
        if not 0 <= frame < self.num_frames:
            raise ValueError(f"frame ({frame}) must be in [0, {self.num_frames})")
        points = np.asarray(points, np.float64).reshape(-1, 2)
        starts = np.cumsum([0, *(scene.num_frames for scene in self.scenes)])
        shot = int(np.searchsorted(starts, frame, side="right")) - 1
        scene, t = self.scenes[shot], int(frame - starts[shot])
        owner = scene.owner(t, points)
        positions = np.full((self.num_frames, len(points), 2), np.nan)
        visible = np.zeros((self.num_frames, len(points)), bool)
        for index in np.unique(owner):
            chosen = np.flatnonzero(owner == index)
            layer = scene.layers[index]
            material = np.stack(layer.material(t, points[chosen, 0], points[chosen, 1]), axis=1)
            for other, start in zip(self.scenes, starts[:-1], strict=True):
                names = [candidate.name for candidate in other.layers]
                if layer.name in names:
                    found = other.follow(names.index(layer.name), material)
                    rows = np.ix_(np.arange(start, start + other.num_frames), chosen)
                    positions[rows], visible[rows] = found
        return positions, visible

    def to_json(self) -> dict[str, Any]:
        """The truth that is not pixels, as plain values; intervals are `[start, end]` in seconds, half-open."""
        return {
            "fps": self.fps,
            "num_frames": self.num_frames,
            "duration_seconds": self.num_frames / self.fps,
            "labels": list(self.labels),
            "topic": self.topic,
            "segments": _segments_json(self.segments),
            "shots": [
                {"start_seconds": s.start_seconds, "end_seconds": s.end_seconds, "setup": s.setup} for s in self.shots
            ],
            "cuts": [
                {
                    "time_seconds": c.time_seconds,
                    "kind": c.kind,
                    "start_seconds": c.start_seconds,
                    "end_seconds": c.end_seconds,
                }
                for c in self.cuts
            ],
            "objects": self._objects_json(),
            **({} if self.props is None else {"props": _segments_json(self.props)}),
        }

    def _objects_json(self) -> list[dict[str, Any]]:
        if self.areas is None:
            return []
        return [
            {
                "id": o + 1,
                "name": name,
                "absences": [[start / self.fps, end / self.fps] for start, end in runs(self.areas[:, o] == 0)],
            }
            for o, name in enumerate(self.objects)
        ]


def _segments_json(segments: Segments) -> list[dict[str, Any]]:
    return [
        {"label": label, "start_seconds": float(start), "end_seconds": float(end)}
        for (start, end), label in zip(segments.times_seconds, segments.labels, strict=True)
    ]


def runs(flags: Sequence[bool] | np.ndarray) -> list[tuple[int, int]]:
    """Half-open stretches in which `flags` hold.

    Example:
        >>> runs([True, True, False, True])
        [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def check_index(index: int, count: int) -> int:
    """A video's number, counted from the end when negative.

    Raises:
        IndexError: There is no such video.
    """
    if not -count <= index < count:
        raise IndexError(f"index ({index}) must be in [0, {count}), the videos of this world")
    return index % count


def check_counts(seed: int, **values: float) -> None:
    """Refuses a seed below 0, and other parameters of a world that are not above 0, by name."""
    if seed < 0:
        raise ValueError(f"seed ({seed}) must be >= 0")
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} ({value}) must be > 0")


def class_of(index: int, num_classes: int, seed: int) -> int:
    """A class for each video, each once in every `num_classes` videos, in random order and whatever their number.

    Example:
        >>> sorted(class_of(i, 4, seed=0) for i in range(4, 8))
        [0, 1, 2, 3]
    """
    block, place = divmod(index, num_classes)
    return int(np.random.default_rng([seed, 11, block]).permutation(num_classes)[place])
