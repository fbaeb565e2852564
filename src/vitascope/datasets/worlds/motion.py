"""Two twin worlds of short clips: in one the class is the motion and looks are noise, in the other the reverse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitascope.datasets.worlds.actions import ACTIONS, ROWS, background, crowd, make_look
from vitascope.datasets.worlds.scene import Scene, camera
from vitascope.datasets.worlds.textures import FAMILIES, draw_surface
from vitascope.datasets.worlds.truth import Shot, WorldVideo, check_counts, check_index, class_of
from vitascope.structures import Segments


@dataclass(frozen=True)
class MotionWorld:
    """Short clips of textured crowds over a textured place, seen through a hand-held camera.

    With `by="motion"` the class is one of the 12 `ACTIONS`, and textures, colours, shapes and speeds are noise; every
    single frame has the same distribution under every class. With `by="texture"` the class is one of the 12
    `FAMILIES`, which all objects share, and the action is noise. Video `i` depends on `i` and the other parameters, not
    on `num_videos`; each class comes once in every 12 videos.

    Args:
        num_videos: Length.
        seed: Of everything.
        size: Height and width in pixels.
        num_frames: Of each video.
        fps: Speeds are in frame widths per second, so more frames per second means smaller steps.
        by: What makes the class.

    Raises:
        ValueError: A parameter is out of its range.

    Example:
        >>> video = MotionWorld(num_videos=3, size=64, num_frames=4)[0]
        >>> video.frames.shape, video.masks.shape, video.flow.shape, len(video.labels)
        ((4, 3, 64, 64), (4, 64, 64), (3, 2, 64, 64), 1)
    """

    num_videos: int = 96
    seed: int = 0
    size: int = 112
    num_frames: int = 32
    fps: float = 16.0
    by: Literal["motion", "texture"] = "motion"

    def __post_init__(self) -> None:
        check_counts(self.seed, num_videos=self.num_videos, size=self.size, num_frames=self.num_frames, fps=self.fps)
        if self.by not in ("motion", "texture"):
            raise ValueError(f"by ({self.by!r}) must be 'motion' or 'texture'")

    @property
    def name(self) -> str:
        return self.by

    @property
    def classes(self) -> tuple[str, ...]:
        return ACTIONS if self.by == "motion" else FAMILIES

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, index: int) -> WorldVideo:
        index = check_index(index, self.num_videos)
        label, scene, objects = self._scene(index)
        drawn = [scene.draw(t) for t in range(self.num_frames)]
        end = self.num_frames / self.fps
        return WorldVideo(
            id=f"{self.name}_{index:05d}",
            fps=self.fps,
            num_frames=self.num_frames,
            labels=(label,),
            segments=Segments(np.array([[0.0, end]]), (label,)),
            shots=(Shot(0.0, end, "0"),),
            frames=np.stack([d.frame for d in drawn]).transpose(0, 3, 1, 2),
            masks=np.stack([d.mask for d in drawn]),
            flow=np.stack([d.flow for d in drawn[:-1]]) if len(drawn) > 1 else _no_flow(self.size),
            areas=np.stack([np.bincount(d.mask.ravel(), minlength=ROWS**2 + 1)[1:] for d in drawn]),
            reaches=np.array([[d.reach[o + 1] for o in range(ROWS**2)] for d in drawn]),
            objects=objects,
            scenes=(scene,),
        )

    def render(self, index: int, chunk: int = 64) -> Iterator[np.ndarray]:
        """The frames alone, uint8 `[t, C, H, W]` with `t <= chunk`."""
        _, scene, _ = self._scene(check_index(index, self.num_videos))
        for start in range(0, self.num_frames, chunk):
            frames = [scene.draw(t, with_flow=False).frame for t in range(start, min(start + chunk, self.num_frames))]
            yield np.stack(frames).transpose(0, 3, 1, 2)

    def _scene(self, index: int) -> tuple[str, Scene, tuple[str, ...]]:
        rng = np.random.default_rng([self.seed, 1, index])
        action = ACTIONS[int(rng.integers(len(ACTIONS)))]  # drawn in both worlds: the rest must not depend on the class
        family = None
        label = self.classes[class_of(index, len(self.classes), self.seed)]
        if self.by == "motion":
            action = label
        else:
            family = label
        seconds = np.arange(self.num_frames) / self.fps
        view = camera(rng, seconds, self.size)
        looks = []
        for k in range(ROWS**2):
            surface = draw_surface(rng, family)
            looks.append(
                make_look(rng, f"object {k + 1}: {surface.family}", surface, self.size, rng.uniform(0.14, 0.2))
            )
        place = background(rng, "place", draw_surface(rng), self.size, view)
        layers = (place, *crowd(rng, looks, {action: seconds}, self.size, view))
        return label, Scene(layers, self.num_frames, self.size, self.size), tuple(look.name for look in looks)


def _no_flow(size: int) -> np.ndarray:
    return np.zeros((0, 2, size, size), np.float32)
