"""A world of feature vectors: untrimmed videos as a video network and an image-text network would describe them.

Each action has a core, which the vectors of the video network tell from everything else; its beginning and end (the context)
leave another trace there, weaker and its own for each class; and some of the background shows the same scene, which an
image-text network takes for the action. So classification finds cores alone (it is incomplete), and image and text find
too much (they are over-complete), as CBP+VLP claims of real ones. Nothing is rendered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitascope.datasets.worlds.truth import check_counts, check_index
from vitascope.structures import Segments

HOP_SECONDS = 0.64  # of 16 frames at 25 a second
CORE, CONTEXT, SCENE = 1, 2, 3  # what a snippet shows; 0 is other background
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "violet", "pink")
SHAPES = tuple(
    ["arrow", "cross", "flower", "gear", "heart", "hourglass", "moon", "ring", "square", "star", "stick", "triangle"]
)
SPAN = {"gap": (4, 16), "context": (1, 5), "core": (1, 4)}  # snippets


@dataclass(frozen=True)
class SnippetVideo:
    """One video: `cbp` float32 `[S, D]`, `kinds` and `numbers` int64 `[S]`: what a snippet shows, and of which class (-1: none)."""

    id: str
    labels: tuple[str, ...]
    segments: Segments
    times_seconds: np.ndarray  # float64 [S, 2]
    cbp: np.ndarray
    kinds: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True)
class SnippetWorld:
    """Untrimmed videos of one or two classes each, as vectors of snippets.

    Args:
        num_videos: Length; classes come in turn.
        seed: Of the classes' vectors and of the videos.
        num_classes: How many actions there are.
        width: Of the vectors.
        snippets: Least and most snippets of a video.
        core: Strength of an action's core, in deviations of the noise of one component.
        context: Strength of its beginning and end.
        scene: Share of the gaps between actions that show the scene of the action.
        fooled: How much such a gap looks like the action to an image-text network, 1 for just as much.
        two_classes: Share of the videos with two classes.
        frame_noise: Length of the noise in the vectors of the image-text network, against the distance of a class's text
            from the mean text.

    Raises:
        ValueError: A parameter is out of its range.

    Example:
        >>> world = SnippetWorld(num_videos=4, num_classes=3, width=16)
        >>> video = world[1]
        >>> video.cbp.shape[1], video.labels == tuple(sorted(set(video.segments.labels)))
        (16, True)
        >>> world.frames(1, np.eye(3, dtype=np.float32)).shape == (len(video.cbp), 3)
        True
    """

    num_videos: int = 120
    seed: int = 0
    num_classes: int = 12
    width: int = 64
    snippets: tuple[int, int] = (80, 200)
    core: float = 6.0
    context: float = 3.0
    scene: float = 0.4
    fooled: float = 0.8
    two_classes: float = 0.15
    frame_noise: float = 1.0

    def __post_init__(self) -> None:
        check_counts(self.seed, num_videos=self.num_videos, num_classes=self.num_classes, width=self.width)
        if self.num_classes > len(COLOURS) * len(SHAPES):
            raise ValueError(f"num_classes ({self.num_classes}) must be <= {len(COLOURS) * len(SHAPES)}")
        low, high = self.snippets
        if not 20 <= low <= high:
            raise ValueError(f"snippets ({low}, {high}) must be two numbers >= 20, the smaller first")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the actions: words that the tiny CLIP knows, and up to 12 of them apart."""
        if self.num_classes <= len(SHAPES):
            return SHAPES[: self.num_classes]
        return tuple(f"{COLOURS[k // len(SHAPES)]} {SHAPES[k % len(SHAPES)]}" for k in range(self.num_classes))

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, index: int) -> SnippetVideo:
        index = check_index(index, self.num_videos)
        rng = np.random.default_rng([self.seed, 1, index])
        kinds, numbers, found = self._plan(rng, index)
        directions = self._directions()
        values = rng.normal(size=(len(kinds), self.width))
        values += self.core * np.where((kinds == CORE)[:, None], directions[0][numbers], 0)
        values += self.context * np.where((kinds == CONTEXT)[:, None], directions[1][numbers], 0)
        values += self.context * np.where((kinds == SCENE)[:, None], directions[2][numbers], 0)
        edges = np.arange(len(kinds) + 1) * HOP_SECONDS
        names = tuple(self.classes[number] for _, _, number in found)
        times = np.array([(start, end) for start, end, _ in found], np.float64).reshape(-1, 2) * HOP_SECONDS
        return SnippetVideo(
            id=f"snippets_{index:05d}",
            labels=tuple(sorted(set(names))),
            segments=Segments(times, names),
            times_seconds=np.stack([edges[:-1], edges[1:]], 1),
            cbp=values.astype(np.float32),
            kinds=kinds,
            numbers=numbers,
        )

    def frames(self, index: int, text: np.ndarray) -> np.ndarray:
        """Vectors of an image-text network for the same snippets, in the space of its `text` vectors.

        Args:
            index: Of the video.
            text: float32 `[K, D]`, of the classes.

        Returns:
            float32 `[S, D]`.
        """
        if len(text) != self.num_classes:
            raise ValueError(f"text ({len(text)} rows) must have one row for each of {self.num_classes} classes")
        video, rng = self[index], np.random.default_rng([self.seed, 2, index])
        mean = text.mean(0)
        away = text - mean  # [K, D]
        length = np.linalg.norm(away, axis=1).mean()
        strength = np.select([video.kinds == SCENE, video.kinds == 0], [self.fooled, 0.0], 1.0)[:, None]
        drawn = rng.normal(size=(len(video.kinds), text.shape[1])) * (
            self.frame_noise * length / np.sqrt(text.shape[1])
        )
        return (mean + strength * away[video.numbers] + drawn).astype(np.float32)

    def _directions(self) -> np.ndarray:
        """Unit vectors of cores, contexts and scenes, `[3, K, D]`; those of the first two are each class's own."""
        rng = np.random.default_rng([self.seed, 0])
        drawn = rng.normal(size=(3, self.num_classes, self.width))
        return drawn / np.linalg.norm(drawn, axis=2, keepdims=True)

    def _plan(self, rng: np.random.Generator, index: int) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
        """What each snippet shows, of which class, and the actions: first snippet, end, class."""
        first = index % self.num_classes
        classes = [first]
        if self.num_classes > 1 and rng.random() < self.two_classes:
            classes.append((first + 1 + int(rng.integers(self.num_classes - 1))) % self.num_classes)
        count = int(rng.integers(self.snippets[0], self.snippets[1] + 1))
        kinds, numbers = np.zeros(count, np.int64), np.full(count, -1)
        found, at = [], 0
        while True:
            lengths = {name: int(rng.integers(low, high + 1)) for name, (low, high) in SPAN.items()}
            after, number = int(rng.integers(*SPAN["context"])), classes[len(found) % len(classes)]
            start, is_scene = at + lengths["gap"], rng.random() < self.scene
            core = start + lengths["context"]
            end = core + lengths["core"] + after
            if end > count - 1:
                return kinds, numbers, found
            if is_scene:
                kinds[at:start], numbers[at:start] = SCENE, number
            kinds[start:end], numbers[start:end] = CONTEXT, number
            kinds[core : core + lengths["core"]] = CORE
            found.append((start, end, number))
            at = end
