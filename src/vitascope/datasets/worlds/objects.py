"""A world of several objects that turn, bend, hide each other, leave, come back and have doubles, through shot cuts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vitascope.datasets.worlds.actions import Look, background, make_look, pixels_per_texel
from vitascope.datasets.worlds.scene import Layer, Scene, camera, pose
from vitascope.datasets.worlds.textures import FAMILIES, NUM_VARIANTS, Surface
from vitascope.datasets.worlds.truth import Cut, Shot, WorldVideo, check_counts, check_index
from vitascope.structures import Segments

SHOT_SECONDS = 3.5  # about


@dataclass(frozen=True)
class ObjectsWorld:
    """Objects with masks, exact motion and visibility, on the trials of following one of them.

    Object 1 is away in the middle third of every video. In each shot two objects meet, and the nearer hides the other.
    Cuts lead to another place, where some objects are not, and back. The last `num_doubles` objects look like
    the first ones but have other outlines. The camera pans, rolls and zooms.

    Args:
        num_videos: Length; video `i` depends on the other parameters and `i` only.
        seed: Of everything.
        size: Height and width in pixels.
        num_frames: Of each video; shots take about 3.5 s.
        fps: Frames per second.
        num_objects: Without doubles.
        num_doubles: At most `num_objects`.

    Raises:
        ValueError: A parameter is out of its range.

    Example:
        >>> video = ObjectsWorld(num_videos=1, size=64, num_frames=8)[0]
        >>> video.masks.shape, video.areas.shape, len(video.objects)
        ((8, 64, 64), (8, 5), 5)
    """

    num_videos: int = 16
    seed: int = 0
    size: int = 112
    num_frames: int = 160
    fps: float = 16.0
    num_objects: int = 4
    num_doubles: int = 1

    def __post_init__(self) -> None:
        check_counts(self.seed, num_videos=self.num_videos, size=self.size, num_frames=self.num_frames, fps=self.fps)
        if not 1 <= self.num_objects <= len(FAMILIES):
            raise ValueError(f"num_objects ({self.num_objects}) must be between 1 and {len(FAMILIES)}, one look each")
        if not 0 <= self.num_doubles <= self.num_objects:
            raise ValueError(f"num_doubles ({self.num_doubles}) must be between 0 and num_objects ({self.num_objects})")

    @property
    def name(self) -> str:
        return "objects"

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, index: int) -> WorldVideo:
        index = check_index(index, self.num_videos)
        shots, scenes, objects = self._scenes(index)
        drawn = [scene.draw(t) for scene in scenes for t in range(scene.num_frames)]
        lost = np.full((2, self.size, self.size), np.nan, np.float32)
        flow = [lost if d.flow is None else d.flow for d in drawn[:-1]]
        ids = range(1, len(objects) + 1)
        return WorldVideo(
            id=f"objects_{index:05d}",
            fps=self.fps,
            num_frames=self.num_frames,
            labels=(),
            segments=Segments(np.zeros((0, 2)), ()),
            shots=shots,
            cuts=tuple(Cut(s.start_seconds, "cut", s.start_seconds, s.start_seconds) for s in shots[1:]),
            frames=np.stack([d.frame for d in drawn]).transpose(0, 3, 1, 2),
            masks=np.stack([d.mask for d in drawn]),
            flow=np.stack(flow) if flow else lost[None][:0],
            areas=np.stack([np.bincount(d.mask.ravel(), minlength=len(objects) + 1)[1:] for d in drawn]),
            reaches=np.array([[d.reach.get(o, 0) for o in ids] for d in drawn]),
            objects=objects,
            scenes=scenes,
        )

    def render(self, index: int, chunk: int = 64) -> Iterator[np.ndarray]:
        """The frames alone, uint8 `[t, C, H, W]` with `t <= chunk`; no chunk spans a cut."""
        for scene in self._scenes(check_index(index, self.num_videos))[1]:
            for start in range(0, scene.num_frames, chunk):
                stop = min(start + chunk, scene.num_frames)
                frames = [scene.draw(t, with_flow=False).frame for t in range(start, stop)]
                yield np.stack(frames).transpose(0, 3, 1, 2)

    def _scenes(self, index: int) -> tuple[tuple[Shot, ...], tuple[Scene, ...], tuple[str, ...]]:
        rng = np.random.default_rng([self.seed, 31, index])
        looks, places = self._looks(rng)
        away = self._away(rng, len(looks))
        depth = rng.permutation(len(looks))
        edges = self._edges(rng)
        shots, scenes = [], []
        for k, (first, end) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            place = 0 if k % 2 == 0 else 1 + (k // 2) % 2  # there, elsewhere, back, ...
            seconds = np.arange(first, end) / self.fps
            view = camera(rng, seconds, self.size, strength=1.3)
            layers = self._layers(rng, looks, seconds, away, view)
            here = np.ones(len(looks), bool) if place == 0 else rng.random(len(looks)) < 0.65
            ground = background(np.random.default_rng([self.seed, 32, index, place]), f"place{place}", places[place],
                                self.size, view)  # fmt: skip
            shown = (ground, *(layers[o] for o in depth if here[o]))
            scenes.append(Scene(shown, end - first, self.size, self.size))
            shots.append(Shot(first / self.fps, end / self.fps, f"place{place}"))
        return tuple(shots), tuple(scenes), tuple(look.name for look in looks)

    def _looks(self, rng: np.random.Generator) -> tuple[list[Look], list[Surface]]:
        surfaces = [
            Surface(FAMILIES[k], int(rng.integers(NUM_VARIANTS)), int(rng.integers(2**31)))
            for k in rng.permutation(len(FAMILIES))
        ]
        owners = [*range(self.num_objects), *range(self.num_doubles)]
        radii = rng.uniform(0.1, 0.16, size=len(owners))
        looks = []
        for k, (owner, radius) in enumerate(zip(owners, radii, strict=True)):
            name = f"{surfaces[owner].family} {owner + 1}: {'double' if k >= self.num_objects else 'first'}"
            looks.append(make_look(rng, name, surfaces[owner], self.size, radius))
        grounds = [
            Surface(
                FAMILIES[int(rng.integers(len(FAMILIES)))], int(rng.integers(NUM_VARIANTS)), int(rng.integers(2**31))
            )
            for _ in range(3)
        ]
        return looks, grounds

    def _edges(self, rng: np.random.Generator) -> list[int]:
        shots = max(1, round(self.num_frames / self.fps / SHOT_SECONDS))
        middle = (np.arange(1, shots) + rng.uniform(-0.15, 0.15, size=shots - 1)) * self.num_frames / shots
        return [0, *(int(edge) for edge in np.rint(middle)), self.num_frames]

    def _away(self, rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
        """For each object the seconds `[start, end)` in which it is out of the frame; object 1 in the middle third."""
        total = self.num_frames / self.fps
        spans = [(total * a, total * (a + b)) for a, b in rng.uniform([0.3, 0.0], [0.8, 0.2], size=(count, 2))]
        return [(total * 0.33, total * 0.67), *spans[1:]]

    def _layers(
        self,
        rng: np.random.Generator,
        looks: list[Look],
        seconds: np.ndarray,
        away: list[tuple[float, float]],
        view: np.ndarray,
    ) -> list[Layer]:
        """All objects in one shot; two of them, drawn anew, meet in its middle."""
        count, unit, none = len(looks), pixels_per_texel(self.size), np.zeros(len(seconds))
        ways = [_way(rng, o, count, seconds) for o in range(count)]
        if count > 1:
            one, two = rng.choice(count, size=2, replace=False)
            near = np.exp(-(((seconds - seconds.mean()) / 0.6) ** 2))
            ways[one] = ways[one] + near[:, None] * (ways[two] - ways[one]) * 0.85
        layers = []
        for o, (look, (start, end)) in enumerate(zip(looks, away, strict=True)):
            heading = rng.uniform(0, 2 * np.pi)
            gone = np.clip(np.minimum(seconds - start, end - seconds) / 1.0 + 1, 0, 1)
            gone = (3 * gone**2 - 2 * gone**3)[:, None] * (end > start)
            at = self.size * (ways[o] + 1.5 * gone * np.array([np.cos(heading), np.sin(heading)]))
            angle = rng.uniform(0, 2 * np.pi) + rng.uniform(-0.9, 0.9) * seconds
            rates, phases = 2 * np.pi * rng.uniform(0.1, 0.5, size=3), rng.uniform(0, 2 * np.pi, size=3)
            scale = unit * np.exp(0.25 * np.sin(rates[0] * seconds + phases[0]))
            shear = 0.3 * np.sin(rates[1] * seconds + phases[1])
            bend = rng.uniform(0.01, 0.03) * self.size / unit
            wave = np.stack([none + bend, phases[2] + 3 * rates[2] * seconds], axis=1)
            middle = tuple((n - 1) / 2 for n in reversed(look.level.shape))
            matrix = view @ pose(at[:, 0], at[:, 1], angle, scale, shear, middle)
            wave_number = 2 * np.pi / (rng.uniform(0.18, 0.3) * self.size / unit)
            layers.append(Layer(o + 1, look.name, look.texture, look.level, matrix, wave, wave_number))
        return layers


def _way(rng: np.random.Generator, number: int, count: int, seconds: np.ndarray) -> np.ndarray:
    """A wandering way around an own place on a ring, `[T, 2]` in frames."""
    turn = 2 * np.pi * (number + rng.uniform(-0.2, 0.2)) / count
    home = 0.5 + 0.27 * np.array([np.cos(turn), np.sin(turn)])
    rates, phases = 2 * np.pi * rng.uniform(0.12, 0.35, size=2), rng.uniform(0, 2 * np.pi, size=2)
    return home + rng.uniform(0.08, 0.16, size=2) * np.sin(rates * seconds[:, None] + phases)
