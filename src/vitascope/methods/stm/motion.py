"""Stills that move: affine views of a picture, objects pasted over it, and colours that change."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from vitascope.methods.stm.config import STMConfig

SMALLEST = 0.005  # share of a picture that an object covers, to be worth enlarging


class Picture(NamedTuple):
    image: np.ndarray  # uint8 RGB [H, W, 3]
    mask: np.ndarray  # uint8 [H, W], ids


def affine(
    angle: float, shear: float, zoom: tuple[float, float], shift: tuple[float, float], centre: float
) -> np.ndarray:
    """A turn, shear and zoom about `(centre, centre)`, then a shift; angles in degrees, `[3, 3]` on `(x, y, 1)`.

    Example:
        >>> affine(0, 0, (1, 1), (2, 3), 50).tolist()
        [[1.0, 0.0, 2.0], [0.0, 1.0, 3.0], [0.0, 0.0, 1.0]]
    """
    turn, lean = np.deg2rad(angle), np.tan(np.deg2rad(shear))
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = spin @ np.array([[1, lean], [0, 1]]) @ np.diag(zoom)
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre - linear @ np.array([centre, centre]) + shift
    return matrix


def wander(
    num_frames: int, size: int, c: STMConfig, rng: np.random.Generator, strength: float = 1.0
) -> list[np.ndarray]:
    """A view for each frame, each an affine away from the first, drawn within the configuration's ranges."""

    def draw(most: float) -> float:
        return float(rng.uniform(-most, most)) * strength

    views = []
    for _ in range(num_frames):
        zoom = (1 + draw(c.zoom) / max(1.0, strength), 1 + draw(c.zoom) / max(1.0, strength))
        shift = (draw(c.shift) * size, draw(c.shift) * size)
        views.append(affine(draw(c.rotate), draw(c.shear), zoom, shift, size / 2))
    return views


def background_view(picture: Picture, size: int, rng: np.random.Generator) -> np.ndarray:
    """From a training frame's pixels to the picture's: a square of half to all of the short side, near an object, at times mirrored."""
    height, width = picture.mask.shape
    side = min(height, width) * rng.uniform(0.5, 1.0)
    rows, columns = np.nonzero((picture.mask > 0) & (picture.mask < 255))
    x, y = width / 2, height / 2
    if len(rows) and rng.random() < 0.9:
        k = int(rng.integers(len(rows)))
        x, y = columns[k] + rng.uniform(-0.3, 0.3) * side, rows[k] + rng.uniform(-0.3, 0.3) * side
    x = np.clip(x, side / 2, width - side / 2)
    y = np.clip(y, side / 2, height - side / 2)
    flip = -1 if rng.random() < 0.5 else 1
    scale = side / size
    return np.array([[flip * scale, 0, x - flip * side / 2], [0, scale, y - side / 2], [0, 0, 1.0]])


def patch_view(picture: Picture, size: int, rng: np.random.Generator) -> tuple[Picture, np.ndarray]:
    """One object of a picture as id 1, and a view that puts it somewhere in a training frame, a tenth to two thirds wide."""
    numbers, areas = np.unique(picture.mask, return_counts=True)
    ids = [
        i for i, area in zip(numbers, areas, strict=True) if i not in (0, 255) and area >= SMALLEST * picture.mask.size
    ]
    ids = ids or [i for i in numbers if i not in (0, 255)]
    chosen = ids[int(rng.integers(len(ids)))] if ids else 0
    inside = picture.mask == chosen
    rows, columns = np.nonzero(inside)
    high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    scale = max(high, wide) / (size * rng.uniform(0.12, 0.65))
    middle = np.array([columns.mean(), rows.mean()])
    place = rng.uniform(0.15, 0.85, size=2) * size
    flip = np.diag([-1.0 if rng.random() < 0.5 else 1.0, 1.0])
    view = np.eye(3)
    view[:2, :2] = scale * flip
    view[:2, 2] = middle - view[:2, :2] @ place
    return Picture(picture.image, (inside & (chosen > 0)).astype(np.uint8)), view


def warp(picture: Picture, view: np.ndarray, size: int, is_mirrored: bool = True) -> Picture:
    """A square of the picture, seen through `view`, which takes the square's pixels to the picture's.

    Beyond the picture's edges its mirror image goes on, with its objects unless `is_mirrored` is off.
    """
    flags, square = cv2.WARP_INVERSE_MAP, (size, size)
    edge = cv2.BORDER_REFLECT_101
    image = cv2.warpAffine(picture.image, view[:2], square, flags=flags | cv2.INTER_LINEAR, borderMode=edge)
    edge = edge if is_mirrored else cv2.BORDER_CONSTANT
    mask = cv2.warpAffine(picture.mask, view[:2], square, flags=flags | cv2.INTER_NEAREST, borderMode=edge)
    return Picture(image, mask)


def joined(below: Picture, above: Picture, number: int) -> Picture:
    """The object of one picture over another, as object `number`, its edge softened over a pixel or two."""
    inside = above.mask > 0
    share = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.8)[..., None]
    image = (above.image * share + below.image * (1 - share)).astype(np.uint8)
    return Picture(image, np.where(inside, np.uint8(number), below.mask))


def colours(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and the balance of channels changed by up to `strength` each, through a table of 256 values."""
    levels = np.arange(256, dtype=np.float64)
    contrast, brightness = 1 + rng.uniform(-strength, strength, size=2)
    balance = 1 + rng.uniform(-strength, strength, size=3) / 2
    tables = np.clip(((levels - 128) * contrast + 128)[:, None] * brightness * balance, 0, 255).astype(np.uint8)
    return cv2.LUT(image, tables.reshape(1, 256, 3))


def blurred(image: np.ndarray, factor: float) -> np.ndarray:
    """The image as if it had been enlarged from `factor` of its size, as small videos are before the network sees them."""
    size = image.shape[1::-1]
    small = cv2.resize(
        image, (max(1, round(size[0] * factor)), max(1, round(size[1] * factor))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
