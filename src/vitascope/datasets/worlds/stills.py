"""Stills of textured objects over textured ground, with their masks: pictures to pre-train on that nobody photographed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from vitascope.datasets.worlds import textures
from vitascope.datasets.worlds.actions import background, make_look, pixels_per_texel
from vitascope.datasets.worlds.scene import Layer, Scene, camera, pose
from vitascope.structures import Record
from vitascope.video.writer import move_into_place, temporary_beside, write_mask_png


def draw_still(index: int, seed: int = 0, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """One picture of 2 to 5 objects, the nearer hiding the farther.

    Args:
        index: Which; a picture depends on the arguments alone.
        seed: Of everything.
        size: Height and width in pixels.

    Returns:
        uint8 RGB `[H, W, 3]` and ids uint8 `[H, W]`.

    Example:
        >>> image, mask = draw_still(0, size=64)
        >>> image.shape, mask.shape, bool(mask.max() >= 1)
        ((64, 64, 3), (64, 64), True)
    """
    rng = np.random.default_rng([seed, 41, index])
    view, unit = camera(rng, np.zeros(1), size), pixels_per_texel(size)
    layers = [background(rng, "ground", textures.draw_surface(rng), size, view)]
    for number in range(1, int(rng.integers(2, 6)) + 1):
        look = make_look(rng, str(number), textures.draw_surface(rng), size, float(np.exp(rng.uniform(-2.6, -1.3))))
        middle = tuple((n - 1) / 2 for n in reversed(look.level.shape))
        x, y = rng.uniform(0.1, 0.9, size=2) * size
        at = [np.array([value]) for value in (x, y, rng.uniform(0, 2 * np.pi), unit, rng.uniform(-0.3, 0.3))]
        wave = np.array([[rng.uniform(0, 0.04) * size / unit, rng.uniform(0, 2 * np.pi)]])
        wave_number = 2 * np.pi / (rng.uniform(0.15, 0.4) * size / unit)
        layers.append(Layer(number, look.name, look.texture, look.level, pose(*at, middle), wave, wave_number))
    drawn = Scene(tuple(layers), 1, size, size).draw(0, with_flow=False)
    return drawn.frame, drawn.mask


def write_stills(folder: str | os.PathLike[str], count: int, seed: int = 0, size: int = 256) -> list[Record]:
    """Write pictures as `images/NNNNN.jpg` and `masks/NNNNN.png`; what is there is kept.

    Returns:
        A record for each.
    """
    images, masks = Path(folder) / "images", Path(folder) / "masks"
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    records = []
    for index in range(count):
        image, mask = images / f"{index:05d}.jpg", masks / f"{index:05d}.png"
        if not (image.exists() and mask.exists()):
            pixels, ids = draw_still(index, seed, size)
            write_mask_png(mask, ids)
            _save_jpeg(pixels, image)
        records.append(Record(str(image), id=f"images/{image.name}", masks=str(mask)))
    return records


def _save_jpeg(pixels: np.ndarray, path: Path) -> None:
    temporary = temporary_beside(path)
    try:
        Image.fromarray(pixels).save(temporary, format="JPEG", quality=92)
        move_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
