"""A world of minutes-long videos: topics, shots, cuts, places that come back, and actions between stretches of rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vitascope.datasets.worlds.actions import ACTIONS, ROWS, Look, background, crowd, make_look
from vitascope.datasets.worlds.props import plan_props, prop_layers
from vitascope.datasets.worlds.scene import Scene, camera
from vitascope.datasets.worlds.textures import FAMILIES, NUM_VARIANTS, Surface
from vitascope.datasets.worlds.truth import Cut, Shot, WorldVideo, check_counts, check_index, class_of
from vitascope.structures import Segments

CUTAWAY = 0.12  # share of shots that show a place of no topic, and nobody
RAMP_SECONDS = 0.2  # in which an action reaches its speed


@dataclass(frozen=True)
class _Topic:
    places: tuple[Surface, ...]
    cast: tuple[Surface, ...]
    actions: tuple[str, ...]


@dataclass(frozen=True)
class UntrimmedWorld:
    """Minutes-long videos, each about one topic: some of its places, its cast, and its actions now and then.

    A topic has six places, four looks of its cast and three actions; two topics may share one action. A video moves
    between three or four places of its topic, which come back, with a few cutaways to places of no topic. Shots meet in
    hard cuts, dissolves and fades. Actions start and end within a shot or run on through cuts. Frames come in chunks by
    `render`, so that memory does not grow with the length.

    Args:
        num_videos: Length; each topic comes once in every `num_topics` videos.
        seed: Of everything.
        size: Height and width in pixels.
        seconds: Length of each video.
        fps: Frames per second.
        num_topics: At most 12.
        props: Whether each action has a prop, a thing that can be named (see `props`); all else stays as it is.

    Raises:
        ValueError: A parameter is out of its range.

    Example:
        >>> world = UntrimmedWorld(num_videos=2, size=64, seconds=20.0)
        >>> video = world[0]
        >>> video.frames is None, video.num_frames, sum(len(chunk) for chunk in world.render(0))
        (True, 320, 320)
        >>> set(video.segments.labels) <= set(video.labels)
        True
    """

    num_videos: int = 8
    seed: int = 0
    size: int = 112
    seconds: float = 120.0
    fps: float = 16.0
    num_topics: int = 4
    props: bool = False

    def __post_init__(self) -> None:
        check_counts(self.seed, num_videos=self.num_videos, size=self.size, fps=self.fps)
        if not 1 <= self.num_topics <= len(ACTIONS):
            raise ValueError(f"num_topics ({self.num_topics}) must be between 1 and {len(ACTIONS)}")
        if self.seconds < 4:
            raise ValueError(f"seconds ({self.seconds}) must be >= 4, the length of a short shot; use a motion world")

    @property
    def name(self) -> str:
        return "untrimmed"

    @property
    def classes(self) -> tuple[str, ...]:
        """Actions that occur in this world."""
        return tuple(sorted({action for k in range(self.num_topics) for action in self._topic(k).actions}))

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, index: int) -> WorldVideo:
        """The truth of a video, without frames: those come from `render`."""
        return self._plan(check_index(index, self.num_videos))

    def render(self, index: int, chunk: int = 64) -> Iterator[np.ndarray]:
        """The frames in order, uint8 `[t, C, H, W]` with `t <= chunk`."""
        index = check_index(index, self.num_videos)
        frames = []
        for frame in self._frames(index, self._plan(index)):
            frames.append(frame)
            if len(frames) == chunk:
                yield np.stack(frames).transpose(0, 3, 1, 2)
                frames = []
        if frames:
            yield np.stack(frames).transpose(0, 3, 1, 2)

    def _topic(self, topic: int) -> _Topic:
        rng = np.random.default_rng([self.seed, 21, topic])
        families = [FAMILIES[k] for k in rng.permutation(len(FAMILIES))]

        def surface(k: int) -> Surface:
            return Surface(families[k], int(rng.integers(NUM_VARIANTS)), int(rng.integers(2**31)))

        places, cast = tuple(surface(k) for k in range(6)), tuple(surface(k) for k in range(6, 10))
        # steps of five: grow and shrink, each of which needs the whole range of scales, never meet in one topic
        return _Topic(places, cast, tuple(ACTIONS[(topic + 5 * k) % len(ACTIONS)] for k in range(3)))

    def _plan(self, index: int) -> WorldVideo:
        rng = np.random.default_rng([self.seed, 22, index])
        topic = class_of(index, self.num_topics, self.seed)
        count = round(self.seconds * self.fps)
        edges, setups = self._plan_shots(rng, count)
        shots = tuple(
            Shot(a / self.fps, b / self.fps, s) for a, b, s in zip(edges[:-1], edges[1:], setups, strict=True)
        )
        away = [(edges[k], edges[k + 1]) for k, setup in enumerate(setups) if setup.startswith("cutaway")]
        actions = self._topic(topic).actions
        found = self._plan_actions(rng, edges[-1], away, actions)
        times = np.array([(a, b) for a, b, _ in found], float).reshape(-1, 2) / self.fps
        labels = tuple(label for _, _, label in found)
        own = np.random.default_rng([self.seed, 25, index])
        return WorldVideo(
            id=f"untrimmed_{index:05d}",
            fps=self.fps,
            num_frames=count,
            labels=tuple(sorted(set(labels))),
            segments=Segments(times, labels),
            shots=shots,
            cuts=self._plan_cuts(rng, edges),
            topic=f"topic{topic}",
            props=plan_props(own, found, actions, away, count, self.fps) if self.props else None,
        )

    def _plan_shots(self, rng: np.random.Generator, count: int) -> tuple[list[int], list[str]]:
        """Frames at which shots begin, and the end; and the place of each shot, where no place follows itself."""
        shortest = round(2.5 * self.fps)
        edges = [0]
        while count - edges[-1] >= 2 * shortest:
            long = round(self.fps * min(2.5 + rng.gamma(2.0, 1.5), 12.0))
            edges.append(min(edges[-1] + long, count - shortest))
        places = [f"place{k}" for k in rng.permutation(6)[: rng.integers(3, 5)]]
        setups: list[str] = []
        for k in range(len(edges)):
            cutaway = rng.random() < CUTAWAY and 0 < k < len(edges) - 1 and not setups[-1].startswith("cutaway")
            others = [place for place in places if not setups or place != setups[-1]]
            setups.append(f"cutaway{rng.integers(2**31)}" if cutaway else others[int(rng.integers(len(others)))])
        return [*edges, count], setups

    def _plan_actions(
        self, rng: np.random.Generator, count: int, away: list[tuple[int, int]], actions: tuple[str, ...]
    ) -> list[tuple[int, int, str]]:
        """Action instances in frames, in order and apart; none in a cutaway."""
        found, at = [], round(self.fps * rng.uniform(0.5, 2.5))
        while True:
            end = at + round(self.fps * rng.uniform(1.5, 6.0))
            rest, action = round(self.fps * rng.uniform(1.0, 5.0)), actions[int(rng.integers(len(actions)))]
            if end > count:
                return found
            met = [stop for start, stop in away if start < end and at < stop]
            if met:
                at = met[0]  # wait until the cutaway is over
                continue
            found.append((at, end, action))
            at = end + rest

    def _plan_cuts(self, rng: np.random.Generator, edges: list[int]) -> tuple[Cut, ...]:
        cuts = []
        for edge in edges[1:-1]:
            kind = ("cut", "dissolve", "fade")[int(rng.choice(3, p=[0.8, 0.1, 0.1]))]
            half = round(self.fps * rng.uniform(0.25, 0.5)) if kind != "cut" else 0
            cuts.append(Cut(edge / self.fps, kind, (edge - half) / self.fps, (edge + half) / self.fps))
        return tuple(cuts)

    def _frames(self, index: int, video: WorldVideo) -> Iterator[np.ndarray]:
        """Frames uint8 `[H, W, C]`; at most two shots are in memory."""
        topic = self._topic(int(video.topic.removeprefix("topic")))
        looks = self._looks(index, topic)
        firsts = [0, *(round(cut.start_seconds * self.fps) for cut in video.cuts)]
        ends = [*(round(cut.end_seconds * self.fps) for cut in video.cuts), video.num_frames]
        before: Scene | None = None
        for k, (first, end) in enumerate(zip(firsts, ends, strict=True)):
            scene = self._scene(index, video, k, (first, end), (topic, looks))
            mixed = ends[k - 1] - first if k else 0
            for t in range(mixed):
                old = before.draw(before.num_frames - mixed + t, with_flow=False).frame
                new = scene.draw(t, with_flow=False).frame
                yield _mix(old, new, (t + 0.5) / mixed, video.cuts[k - 1].kind)
            alone = firsts[k + 1] if k + 1 < len(firsts) else end
            for t in range(mixed, alone - first):
                yield scene.draw(t, with_flow=False).frame
            before = scene

    def _looks(self, index: int, topic: _Topic) -> list[Look]:
        rng = np.random.default_rng([self.seed, 23, index])
        cast = [topic.cast[k] for k in rng.permutation(len(topic.cast))[:3]]
        radii = rng.uniform(0.14, 0.2, size=ROWS**2)
        return [make_look(rng, f"actor {k + 1}", cast[k % 3], self.size, radii[k]) for k in range(ROWS**2)]

    def _scene(
        self, index: int, video: WorldVideo, shot: int, frames: tuple[int, int], story: tuple[_Topic, list[Look]]
    ) -> Scene:
        topic, looks = story
        rng = np.random.default_rng([self.seed, 24, index, shot])
        setup = video.shots[shot].setup
        seconds = np.arange(*frames) / self.fps
        view = camera(rng, seconds, self.size)
        if setup.startswith("cutaway"):
            number = int(setup.removeprefix("cutaway"))
            surface = Surface(FAMILIES[number % len(FAMILIES)], number % NUM_VARIANTS, number)
        else:
            surface = topic.places[int(setup.removeprefix("place"))]
        layers = [background(rng, setup, surface, self.size, view)]
        if not setup.startswith("cutaway"):
            layers += crowd(rng, looks, _progress(video.segments, seconds), self.size, view)
            if video.props is not None:
                own = np.random.default_rng([self.seed, 26, index, shot])
                layers += prop_layers(own, video.props, seconds, self.size, view, len(layers))
        return Scene(tuple(layers), len(seconds), self.size, self.size)


def _progress(segments: Segments, seconds: np.ndarray) -> dict[str, np.ndarray]:
    """For each action the seconds for which it has been performed at each time, with a smooth start and stop."""
    done: dict[str, np.ndarray] = {}
    for (start, end), label in zip(segments.times_seconds, segments.labels, strict=True):
        since, left = np.clip(seconds, start, end) - start, end - np.clip(seconds, start, end)
        ramp = RAMP_SECONDS
        slow_in = np.minimum(since, ramp) ** 2 / (2 * ramp) + np.maximum(since - ramp, 0)
        slow_out = (ramp - np.minimum(left, ramp)) ** 2 / (2 * ramp)  # what stopping loses
        done[label] = done.get(label, 0) + slow_in - slow_out
    return done


def _mix(old: np.ndarray, new: np.ndarray, share: float, kind: str) -> np.ndarray:
    """A frame of a dissolve, or of a fade through black, at `share` of its length."""
    if kind == "dissolve":
        mixed = old * (1 - share) + new * share
    else:
        mixed = old * (1 - 2 * share) if share < 0.5 else new * (2 * share - 1)
    return np.rint(mixed).astype(np.uint8)
