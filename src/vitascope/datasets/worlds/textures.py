"""Tileable textures and object looks made of noise, cells and waves: a family is a pattern, a palette its colours."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

NUM_VARIANTS = 6  # fields of a family that are kept; palettes, crops and poses make every use of one look different


def noise(rng: np.random.Generator, side: int, rows: int, columns: int | None = None, octaves: int = 4) -> np.ndarray:
    """Tileable multi-octave value noise, float32 `[side, side]` of mean 0.5 and standard deviation 0.2, in [0, 1]."""
    columns = columns or rows
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        n, m = min(rows << octave, side // 2), min(columns << octave, side // 2)
        lattice = np.pad(rng.random((n, m), dtype=np.float32), 2, mode="wrap")
        high, wide = side // n, side // m  # powers of two divide
        smooth = cv2.resize(lattice, ((m + 4) * wide, (n + 4) * high), interpolation=cv2.INTER_CUBIC)
        total += 0.55**octave * smooth[2 * high : 2 * high + side, 2 * wide : 2 * wide + side]
    return np.clip(0.5 + 0.2 * (total - total.mean()) / total.std(), 0, 1)


def voronoi(rng: np.random.Generator, side: int, n: int, jitter: float = 0.85) -> tuple[np.ndarray, ...]:
    """Tileable cells around one point in each of `n` x `n` squares.

    Returns:
        Three float32 `[side, side]`: the distance to the nearest point and to the second nearest, in squares, and a
        random value in [0, 1] that is the same all over a cell.
    """
    offsets = 0.5 + jitter * (rng.random((n, n, 2), dtype=np.float32) - 0.5)
    values = rng.random((n, n), dtype=np.float32)
    at = (np.arange(side, dtype=np.float32) + 0.5) * n / side
    square = at.astype(int)
    first = np.full((side, side), 9, np.float32)
    second, value = first.copy(), np.zeros((side, side), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            rows, columns = square + dy, square + dx
            pick = np.ix_(rows % n, columns % n)
            x = columns[None, :] + offsets[..., 0][pick] - at[None, :]
            y = rows[:, None] + offsets[..., 1][pick] - at[:, None]
            distance = np.sqrt(x * x + y * y)
            second = np.minimum(second, np.maximum(distance, first))
            value = np.where(distance < first, values[pick], value)
            first = np.minimum(first, distance)
    return first, second, value


def _axes(side: int) -> tuple[np.ndarray, np.ndarray]:
    at = ((np.arange(side, dtype=np.float32) + 0.5) / side)[None, :]
    return at, at.T


def _step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) / (high - low), 0, 1)


def _clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    return noise(rng, side, 8, octaves=5)


def _marble(rng: np.random.Generator, side: int) -> np.ndarray:
    ridge = np.abs(noise(rng, side, 8, octaves=4) - 0.5) * 5
    return np.clip(ridge, 0, 1) ** 0.7


def _stripes(rng: np.random.Generator, side: int) -> np.ndarray:
    x, y = _axes(side)
    angle, count = rng.uniform(0, np.pi), rng.uniform(18, 24)
    kx, ky = round(count * np.cos(angle)), round(count * np.sin(angle))  # whole numbers, so that it tiles
    wave = np.sin(2 * np.pi * (kx * x + ky * y + 0.8 * noise(rng, side, 4, octaves=2)))
    return 0.5 + 0.5 * np.tanh(2.5 * wave)


def _plaid(rng: np.random.Generator, side: int) -> np.ndarray:
    x, y = _axes(side)
    n, m = rng.integers(10, 15, size=2)
    bands = [0.5 + 0.5 * np.tanh(4 * (np.sin(2 * np.pi * k * a) + 0.3)) for k, a in ((n, x), (m, y))]
    thin = (np.sin(2 * np.pi * 2 * n * x + 1) > 0.8) | (np.sin(2 * np.pi * 2 * m * y + 1) > 0.8)
    return np.clip(0.4 * bands[0] + 0.4 * bands[1] + 0.2 * thin, 0, 1)


def _cells(rng: np.random.Generator, side: int) -> np.ndarray:
    first, _, _ = voronoi(rng, side, 16)
    return _step(first, 0.05, 0.8)


def _cobbles(rng: np.random.Generator, side: int) -> np.ndarray:
    first, second, value = voronoi(rng, side, 16)
    return _step(second - first, 0.02, 0.22) * (0.35 + 0.65 * value)


def _dots(rng: np.random.Generator, side: int) -> np.ndarray:
    first, _, value = voronoi(rng, side, 16, jitter=0.45)
    return 0.15 + 0.85 * (1 - _step(first, 0.22 + 0.1 * value, 0.32 + 0.1 * value)) * (0.6 + 0.4 * value)


def _rings(rng: np.random.Generator, side: int) -> np.ndarray:
    first, _, value = voronoi(rng, side, 8)
    return 0.5 + 0.5 * np.sin(2 * np.pi * (3.2 * first + value))


def _bricks(rng: np.random.Generator, side: int) -> np.ndarray:
    x, y = _axes(side)
    rows, columns = 20, 10
    row = np.floor(y * rows).astype(int)
    along = x * columns + 0.5 * (row % 2)
    shade = rng.random((rows, columns), dtype=np.float32)[row % rows, np.floor(along).astype(int) % columns]
    edge = np.minimum(np.minimum(along % 1, 1 - along % 1) * 2, np.minimum(y * rows % 1, 1 - y * rows % 1))
    return _step(edge, 0.06, 0.2) * (0.4 + 0.6 * shade)


def _blotches(rng: np.random.Generator, side: int) -> np.ndarray:
    field = noise(rng, side, 16, octaves=2)
    return sum(_step(field, at - 0.015, at + 0.015) for at in (0.35, 0.5, 0.65)) / 3


def _weave(rng: np.random.Generator, side: int) -> np.ndarray:
    x, y = _axes(side)
    n = int(rng.integers(11, 15)) * 2
    over = (np.floor(x * n) + np.floor(y * n)) % 2
    across, down = np.sin(np.pi * (y * n % 1)), np.sin(np.pi * (x * n % 1))
    return np.where(over > 0, 0.25 + 0.75 * across, 0.75 * down)


def _grass(rng: np.random.Generator, side: int) -> np.ndarray:
    fine = noise(rng, side, 4, 32, octaves=3)
    return np.clip(0.5 + 1.6 * (fine - 0.5), 0, 1)


_FAMILIES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "clouds": _clouds,
    "marble": _marble,
    "stripes": _stripes,
    "plaid": _plaid,
    "cells": _cells,
    "cobbles": _cobbles,
    "dots": _dots,
    "rings": _rings,
    "bricks": _bricks,
    "blotches": _blotches,
    "weave": _weave,
    "grass": _grass,
}
FAMILIES = tuple(_FAMILIES)


def side_for(size: int) -> int:
    """Texels of a texture for frames of `size` pixels: a power of two, about 2.3 frames wide, so one texel a pixel."""
    return max(128, 1 << round(np.log2(256 * size / 112)))


@lru_cache(maxsize=256)
def pattern(family: str, variant: int, side: int) -> np.ndarray:
    """One tileable texture without colours, uint8 `[side, side]`, the same for the same arguments; do not write to it.

    Example:
        >>> pattern("cells", 0, 128).shape
        (128, 128)
    """
    if family not in _FAMILIES:
        raise ValueError(f"family ({family!r}) must be one of {', '.join(FAMILIES)}")
    rng = np.random.default_rng([FAMILIES.index(family), variant, 7])
    field = _FAMILIES[family](rng, side)
    grain = noise(rng, side, side // 8, octaves=2) - 0.5  # no real surface is clean
    field = np.clip(field * 0.88 + 0.06 + 0.16 * grain, 0, 1)
    soft = cv2.GaussianBlur(np.pad(field, 4, mode="wrap").astype(np.float32), (0, 0), 0.6)[4:-4, 4:-4]
    result = (soft * 255).round().astype(np.uint8)
    result.setflags(write=False)
    return result


def palette(rng: np.random.Generator, hue: float | None = None, vivid: float = 1.0) -> np.ndarray:
    """Colours for the 256 levels of a pattern, uint8 `[256, 3]`: four related hues, dark to light or light to dark.

    Args:
        rng: Where the colours come from.
        hue: The main hue in [0, 1); None draws it.
        vivid: Factor on the saturation.
    """
    hue = rng.random() if hue is None else hue
    hues = hue + np.cumsum(rng.uniform(-0.1, 0.1, size=4)) + (rng.random() < 0.3) * np.array([0, 0, 0, 0.5])
    values = np.array([0.14, 0.42, 0.7, 0.95]) + rng.uniform(-0.08, 0.05, size=4)
    saturations = np.clip(vivid * rng.uniform([0.5, 0.5, 0.35, 0.1], [0.95, 0.95, 0.9, 0.6]), 0, 1)
    anchors = np.array([colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in zip(hues, saturations, values, strict=True)])
    if rng.random() < 0.35:
        anchors = anchors[::-1]
    at = np.linspace(0, 3, 256)
    return np.stack([np.interp(at, np.arange(4), anchors[:, c]) * 255 for c in range(3)], axis=1).astype(np.uint8)


def colour(field: np.ndarray, first: np.ndarray, second: np.ndarray, blend: np.ndarray) -> np.ndarray:
    """RGB uint8 `[h, w, 3]` of a pattern in two palettes, `blend` uint8 `[h, w]` from the first (0) to the second."""
    share = blend[..., None].astype(np.uint16)
    return ((first[field] * (255 - share) + second[field] * share) // 255).astype(np.uint8)


@dataclass(frozen=True)
class Surface:
    """A texture with its colours: what makes a background or an object look as it does."""

    family: str
    variant: int
    seed: int  # of the palettes, the blend and the crop

    def paint(self, side: int, height: int, width: int, vivid: float = 1.0) -> np.ndarray:
        """A crop of the tile of `side` texels, uint8 RGB `[height, width, 3]`; `side` x `side` is the whole of it."""
        rng = np.random.default_rng([self.seed, 1])
        first, second = palette(rng, vivid=vivid), palette(rng, vivid=vivid)
        fields = []
        for family, variant in ((self.family, self.variant), ("blotches", int(rng.integers(NUM_VARIANTS)))):
            top, left = rng.integers(0, side, size=2)
            crop = np.ix_((np.arange(height) + top) % side, (np.arange(width) + left) % side)
            fields.append(pattern(family, variant, side)[crop])
        return colour(fields[0], first, second, fields[1] // 2)


def draw_surface(rng: np.random.Generator, family: str | None = None) -> Surface:
    """A surface of a family, or of any."""
    drawn = FAMILIES[int(rng.integers(len(FAMILIES)))]  # drawn always: what follows must not depend on the family
    return Surface(family or drawn, int(rng.integers(NUM_VARIANTS)), int(rng.integers(2**31)))


def outline(rng: np.random.Generator, radius: float) -> np.ndarray:
    """How far inside a random blob, polygon or star each texel lies, float32 `[n, n]`: 0 on its edge, negative outside.

    The widest reach from the centre is `1.3 * radius` texels, plus a border of 2.
    """
    reach = int(np.ceil(1.3 * radius)) + 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    angle, corners = np.arctan2(y, x), int(rng.integers(3, 7))
    turned = (angle + rng.uniform(0, 2 * np.pi)) % (2 * np.pi / corners) - np.pi / corners
    kinds = (
        np.ones_like(x),
        1.15 * np.cos(np.pi / corners) / np.cos(turned) * (1 + 0.25 * (corners == 3)),
        1 + 0.25 * np.cos(corners * angle),
    )
    edge = kinds[int(rng.integers(len(kinds)))]
    for wave in (2, 3, 5):
        edge = edge + rng.uniform(0, 0.16 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return (radius * np.minimum(edge, 1.3) - np.hypot(x, y)).astype(np.float32)


def cut_out(surface: Surface, level: np.ndarray, side: int) -> np.ndarray:
    """The look of an object, uint8 RGB of `level`'s shape: a crop of the surface, rounded by shade toward its edge."""
    height, width = level.shape
    crop = surface.paint(side, height, width, vivid=1.25).astype(np.float32)
    depth = np.clip(level / max(level.max(), 1), 0, 1)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = 0.45 + 0.55 * np.sqrt(depth) + 0.25 * np.exp(-((x + 0.3) ** 2 + (y + 0.3) ** 2) / 0.08)
    return np.clip(crop * light[..., None], 0, 255).astype(np.uint8)
