"""Crowds of textured objects that perform actions; an action is a motion, and no single frame tells which.

Every pose is drawn from a law that its action leaves as it is: places are uniform on a torus that is wider than the
frame (who leaves on one side comes back on the other, out of sight), angles are uniform, the logarithm of the scale is
uniform on the range of a lopsided swing (slow up and quick down is "grow", slow down and quick up is "shrink"), and
the phases of shears and ripples are uniform in objects at rest too. So frame `t` looks the same under every action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitascope.datasets.worlds import textures
from vitascope.datasets.worlds.scene import Layer, pose

ACTIONS = (
    "left",
    "right",
    "up",
    "down",
    "clockwise",
    "counterclockwise",
    "grow",
    "shrink",
    "sway",
    "orbit",
    "ripple",
    "shear",
)
ROWS = 5  # a crowd is ROWS x ROWS objects, scattered over the torus; about eight of them touch the frame at a time
TORUS = 2.3  # its side in frames: no object that wraps around can be seen, whatever its scale, shear and camera
RISE = 0.85  # share of a swing of the scale that is slow


@dataclass(frozen=True)
class Look:
    """An object at rest: `texture` uint8 RGB `[h, w, 3]`, `level` float32 `[h, w]`, positive inside."""

    name: str
    texture: np.ndarray
    level: np.ndarray


def pixels_per_texel(size: int) -> float:
    """Scale at which a texture is meant to be seen in frames of `size` pixels."""
    return size / 112 * 256 / textures.side_for(size)


def make_look(rng: np.random.Generator, name: str, surface: textures.Surface, size: int, radius: float) -> Look:
    """An object of a random outline; `radius` is in frames."""
    level = textures.outline(rng, radius * size / pixels_per_texel(size))
    return Look(name, textures.cut_out(surface, level, textures.side_for(size)), level)


def background(rng: np.random.Generator, name: str, surface: textures.Surface, size: int, camera: np.ndarray) -> Layer:
    """A place that fills the frame, seen at a random spot, angle and scale through a camera `[T, 3, 3]`."""
    side, middle = textures.side_for(size), (size - 1) / 2
    spot = tuple(rng.uniform(0, side, size=2))
    scale = pixels_per_texel(size) * rng.uniform(0.9, 1.5)
    still = pose(np.full(1, middle), middle, rng.uniform(0, 2 * np.pi), scale, 0, spot)
    return Layer(0, name, surface.paint(side, side, side, vivid=0.8), None, camera @ still)


def swing(phase: np.ndarray, rise: float) -> np.ndarray:
    """A triangle wave in [0, 1] of period 1, rising for the share `rise`; a uniform phase makes its value uniform."""
    phase = phase % 1.0
    return np.where(phase < rise, phase / rise, (1 - phase) / (1 - rise))


def _growth(height: float, is_slow: bool, grown: np.ndarray, shrunk: np.ndarray) -> np.ndarray:
    """Change of an object's place `height` in the range of scales.

    With `height` uniform and `is_slow` of probability RISE, its phase is uniform in either swing.
    """
    growing = RISE * height if is_slow else 1 - (1 - RISE) * height
    shrinking = 1 - RISE * height if is_slow else (1 - RISE) * height
    return swing(growing + grown, RISE) + swing(shrinking + shrunk, 1 - RISE) - 2 * height


def crowd(
    rng: np.random.Generator, looks: Sequence[Look], progress: Mapping[str, np.ndarray], size: int, camera: np.ndarray
) -> list[Layer]:
    """Objects that perform actions together, from back to front, with ids from 1.

    Args:
        rng: Where speeds and poses come from; what is drawn does not depend on `progress`.
        looks: `ROWS * ROWS` of them.
        progress: For each action the seconds for which it has been performed, `[T]`; what stands still is at rest.
        size: Height and width of the frame.
        camera: `[T, 3, 3]`.
    """
    none = np.zeros(len(camera))
    done = {action: np.asarray(progress.get(action, none), float) for action in ACTIONS}
    unit = pixels_per_texel(size)
    dx, dy = _march(rng, done, size)
    turned = rng.uniform(1.0, 2.2) * (done["clockwise"] - done["counterclockwise"])
    swings = rng.uniform(0.3, 0.45)  # per second
    shear_rate, shear_most = 2 * np.pi * rng.uniform(0.7, 1.2), rng.uniform(0.3, 0.55)
    ripple_rate, ripple_most = 2 * np.pi * rng.uniform(1.0, 1.8), rng.uniform(0.012, 0.028) * size / unit
    wave_number = 2 * np.pi / (rng.uniform(0.14, 0.24) * size / unit)
    spacing, origin = TORUS * size / ROWS, rng.uniform(0, TORUS * size, size=2)
    layers = []
    for k, place in enumerate(rng.permutation(ROWS * ROWS)):
        at = origin + spacing * (np.array(divmod(int(place), ROWS)) + rng.uniform(-0.3, 0.3, size=2))
        x, y = ((at[axis] + moved) % (TORUS * size) - (TORUS - 1) / 2 * size for axis, moved in ((0, dx), (1, dy)))
        height, angle, phases = rng.random(), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi, size=2)
        changes = _growth(height, rng.random() < RISE, swings * done["grow"], swings * done["shrink"])
        scale = unit * np.exp(np.log(0.72) + np.log(1.35 / 0.72) * (height + changes))
        shear = shear_most * np.sin(phases[0] + shear_rate * done["shear"])
        wave = np.stack([none + ripple_most, phases[1] + ripple_rate * done["ripple"]], axis=1)
        look = looks[k]
        middle = tuple((n - 1) / 2 for n in reversed(look.level.shape))
        matrix = camera @ pose(x, y, angle + turned, scale, shear, middle)
        layers.append(Layer(k + 1, look.name, look.texture, look.level, matrix, wave, wave_number))
    return layers


def _march(rng: np.random.Generator, done: Mapping[str, np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The way of the whole crowd in pixels, `[T]` each: left, right, up, down, sway and orbit."""
    speed = size * rng.uniform(0.14, 0.28)  # per second
    dx, dy = speed * (done["right"] - done["left"]), speed * (done["down"] - done["up"])
    axis, reach, rate = rng.uniform(0, np.pi), size * rng.uniform(0.06, 0.11), 2 * np.pi * rng.uniform(0.7, 1.2)
    to_and_fro = reach * np.sin(rate * done["sway"])
    turn = rng.choice([-1, 1]) * 2 * np.pi * rng.uniform(0.7, 1.2) * done["orbit"]
    start, radius = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.05, 0.09)
    dx = dx + np.cos(axis) * to_and_fro + radius * (np.cos(start + turn) - np.cos(start))
    dy = dy + np.sin(axis) * to_and_fro + radius * (np.sin(start + turn) - np.sin(start))
    return dx, dy
