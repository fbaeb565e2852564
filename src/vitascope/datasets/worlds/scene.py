"""Layers that move over each other: frames, masks, dense flow and point tracks, all from the same exact maps.

A layer's material point `u` (texels) is bent by a wave, `v = (u_x + a sin(k u_y + phase), u_y)`, and set into the frame
by a matrix, `p = A v` (pixels; pixel centres at whole numbers). Both steps have exact inverses, so every pixel
knows its material point, and where that point is at any other time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np


@dataclass(frozen=True)
class Layer:
    """One textured thing and its motion.

    Attributes:
        id: Value in the masks: 0 for a background, which fills the frame by tiling; else the object.
        name: Same name in two shots, same thing; point tracks go on through a cut by it.
        texture: uint8 RGB `[h, w, 3]`.
        level: float32 `[h, w]`, positive inside the object; None for a background.
        matrix: float64 `[T, 3, 3]`, bent material point to frame.
        wave: float64 `[T, 2]`, amplitude in texels and phase in radians; None for a rigid layer.
        wave_number: Radians per texel.
    """

    id: int
    name: str
    texture: np.ndarray
    level: np.ndarray | None
    matrix: np.ndarray
    wave: np.ndarray | None = None
    wave_number: float = 0.0

    @cached_property
    def inverse(self) -> np.ndarray:
        return np.linalg.inv(self.matrix)

    def material(self, t: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The material point seen at `(x, y)` of frame `t`."""
        (a, b, c), (d, e, f), _ = self.inverse[t].tolist()
        u, v = a * x + b * y + c, d * x + e * y + f
        if self.wave is not None:
            amplitude, phase = self.wave[t].tolist()
            u = u - amplitude * np.sin(self.wave_number * v + phase)
        return u, v

    def place(self, t: int, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a material point lies in frame `t`."""
        (a, b, c), (d, e, f), _ = self.matrix[t].tolist()
        if self.wave is not None:
            amplitude, phase = self.wave[t].tolist()
            u = u + amplitude * np.sin(self.wave_number * v + phase)
        return a * u + b * v + c, d * u + e * v + f

    def covers(self, t: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether the layer covers the points `(x, y)` [N] of frame `t`, were nothing before it."""
        if self.level is None:
            return np.ones(x.shape, bool)
        u, v = self.material(t, x, y)
        found = cv2.remap(self.level, *_column(u, v), cv2.INTER_LINEAR, borderValue=-1e3)
        return found.reshape(x.shape) > 0

    def box(self, t: int, height: int, width: int) -> tuple[slice, slice] | None:
        """Rows and columns of frame `t` that the layer can touch; None when it is out of the frame."""
        h, w = self.level.shape
        bend = 0.0 if self.wave is None else abs(float(self.wave[t, 0]))
        corners = np.array([[-bend, w + bend, -bend, w + bend], [0, 0, h, h], [1, 1, 1, 1]])
        x, y = (self.matrix[t, :2] @ corners).tolist()
        left, right = max(0, int(min(x))), min(width, int(max(x)) + 2)
        top, bottom = max(0, int(min(y))), min(height, int(max(y)) + 2)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _column(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(u, np.float32).reshape(-1, 1), np.asarray(v, np.float32).reshape(-1, 1)


@lru_cache(maxsize=16)
def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y


class Drawn(NamedTuple):
    """One frame and its truth."""

    frame: np.ndarray  # uint8 RGB [H, W, 3]
    mask: np.ndarray  # uint8 [H, W]
    flow: np.ndarray | None  # float32 [2, H, W], pixels (x, y) to the next frame of the scene; None at its last
    reach: dict[int, int]  # object id -> pixels in the frame, were nothing before it


@dataclass(frozen=True)
class Scene:
    """Layers from back to front, the first of them a background, seen for `num_frames` frames of `height` x `width`."""

    layers: tuple[Layer, ...]
    num_frames: int
    height: int
    width: int

    def draw(self, t: int, with_flow: bool = True) -> Drawn:
        """Frame `t` with its truth."""
        frame = np.empty((self.height, self.width, 3), np.uint8)
        mask = np.zeros((self.height, self.width), np.uint8)
        flow = np.empty((2, self.height, self.width), np.float32) if with_flow and t + 1 < self.num_frames else None
        _draw_background(self.layers[0], t, frame, flow)
        reach = {layer.id: _draw_object(layer, t, frame, mask, flow) for layer in self.layers[1:]}
        return Drawn(frame, mask, flow, reach)

    def owner(self, t: int, points: np.ndarray) -> np.ndarray:
        """Index of the front layer at each of `points` `[N, 2]` of frame `t`."""
        found = np.zeros(len(points), int)
        for index, layer in enumerate(self.layers):
            found[layer.covers(t, points[:, 0], points[:, 1])] = index
        return found

    def follow(self, layer_index: int, material: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions `[T, N, 2]` and visibility `[T, N]` of material points `[N, 2]` of one layer.

        Visible means within the frame, whose first pixel covers [-0.5, 0.5), and with no nearer layer over it.
        """
        layer = self.layers[layer_index]
        positions = np.empty((self.num_frames, len(material), 2))
        visible = np.empty((self.num_frames, len(material)), bool)
        for t in range(self.num_frames):
            x, y = layer.place(t, material[:, 0], material[:, 1])
            positions[t, :, 0], positions[t, :, 1] = x, y
            seen = (x >= -0.5) & (x < self.width - 0.5) & (y >= -0.5) & (y < self.height - 0.5)
            for nearer in self.layers[layer_index + 1 :]:
                seen &= ~nearer.covers(t, x, y)
            visible[t] = seen
        return positions, visible


def _draw_background(layer: Layer, t: int, frame: np.ndarray, flow: np.ndarray | None) -> None:
    height, width = frame.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(layer.texture, layer.inverse[t, :2], (width, height), frame, flags, cv2.BORDER_WRAP)
    if flow is not None:
        x, y = _grid(height, width)
        (a, b, c), (d, e, f), _ = (layer.matrix[t + 1] @ layer.inverse[t] - np.eye(3)).tolist()
        flow[0], flow[1] = a * x + b * y + c, d * x + e * y + f


def _draw_object(layer: Layer, t: int, frame: np.ndarray, mask: np.ndarray, flow: np.ndarray | None) -> int:
    """Draws one object over what is there; returns how many pixels of the frame it reaches."""
    box = layer.box(t, *mask.shape)
    if box is None:
        return 0
    x, y = (axis[box] for axis in _grid(*mask.shape))
    u, v = layer.material(t, x, y)
    level = cv2.remap(layer.level, u, v, cv2.INTER_LINEAR, borderValue=-1e3)
    texture = cv2.remap(layer.texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    pixels_per_texel = float(np.sqrt(abs(np.linalg.det(layer.matrix[t, :2, :2]))))
    alpha = np.clip(level * pixels_per_texel + 0.5, 0, 1)  # an edge one pixel soft
    frame[box] = cv2.blendLinear(texture, frame[box], alpha, 1 - alpha)
    inside = level > 0
    mask[box][inside] = layer.id
    if flow is not None:
        next_x, next_y = layer.place(t + 1, u, v)
        np.copyto(flow[0][box], next_x - x, where=inside)
        np.copyto(flow[1][box], next_y - y, where=inside)
    return int(np.count_nonzero(inside))


def pose(
    x: np.ndarray, y: np.ndarray, angle: np.ndarray, scale: np.ndarray, shear: np.ndarray, centre: tuple[float, float]
) -> np.ndarray:
    """Matrices `[T, 3, 3]` that set `centre` (texels) at `(x, y)` (pixels): scale, then shear, then turn, then place.

    `angle` is in radians, clockwise on the screen; `scale` is pixels per texel.
    """
    x, y, angle, scale, shear = np.broadcast_arrays(x, y, angle, scale, shear)
    matrix = np.zeros((len(x), 3, 3))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    matrix[:, 0, 0], matrix[:, 0, 1] = cos, cos * shear - sin
    matrix[:, 1, 0], matrix[:, 1, 1] = sin, sin * shear + cos
    matrix[:, 2, 2] = 1
    matrix[:, 0, 2] = x - matrix[:, 0, 0] * centre[0] - matrix[:, 0, 1] * centre[1]
    matrix[:, 1, 2] = y - matrix[:, 1, 0] * centre[0] - matrix[:, 1, 1] * centre[1]
    return matrix


def camera(rng: np.random.Generator, seconds: np.ndarray, size: int, strength: float = 1.0) -> np.ndarray:
    """A hand-held camera, matrices `[T, 3, 3]` from where a still camera sees a point to where this one does.

    Slow pans of up to 7 % of the frame, rolls of up to 3 degrees, zooms of up to 4 %, each times `strength`.
    """

    def drift() -> np.ndarray:  # in [-1, 1]
        rates, phases = rng.uniform(0.05, 0.45, size=3), rng.uniform(0, 2 * np.pi, size=3)
        weights = np.array([0.6, 0.3, 0.1])
        return (weights * np.sin(2 * np.pi * rates * seconds[:, None] + phases)).sum(axis=1)

    middle = (size - 1) / 2
    x, y = (middle + 0.07 * size * strength * drift() for _ in range(2))
    angle, zoom = strength * np.deg2rad(3) * drift(), np.exp(strength * 0.04 * drift())
    return pose(x, y, angle, zoom, np.zeros(1), (middle, middle))
