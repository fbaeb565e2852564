"""Props: an object for each action that can be named, lying in the picture around its action and at other times too.

A motion cannot be seen in a single frame, but its prop can: who knows what goes with what (the tiny CLIP of
`nn.weights` does) tells from a frame which action is near, and too much of it: the prop comes before its action and
stays after it, and now and then it comes when nobody acts.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from vitascope.datasets.worlds.actions import ACTIONS, Look, pixels_per_texel
from vitascope.datasets.worlds.scene import Layer, pose
from vitascope.datasets.worlds.textures import NUM_VARIANTS, pattern, side_for
from vitascope.datasets.worlds.truth import runs
from vitascope.structures import Segments

AROUND_SECONDS = (0.5, 2.0)  # how long before its action a prop comes, and how long after it stays
ALONE = 0.35  # share of rests in which a prop comes for no action
ALONE_SECONDS = (1.0, 3.0)
ENTER_SECONDS = 0.3  # in which it slides in, or out
DRIFT = 0.03  # of the frame, how far it sways to and fro


class Prop(NamedTuple):
    """A thing with a name: a shape in a colour."""

    shape: str
    colour: str
    hue: float  # in [0, 1)
    family: str  # of its texture

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


PROPS: Mapping[str, Prop] = dict(
    zip(
        ACTIONS,
        (
            Prop("star", "red", 0.0, "dots"),
            Prop("ring", "yellow", 0.15, "stripes"),
            Prop("cross", "blue", 0.61, "weave"),
            Prop("heart", "pink", 0.91, "clouds"),
            Prop("moon", "orange", 0.07, "cobbles"),
            Prop("arrow", "green", 0.33, "plaid"),
            Prop("square", "violet", 0.77, "rings"),
            Prop("triangle", "cyan", 0.5, "marble"),
            Prop("flower", "red", 0.0, "cells"),
            Prop("gear", "yellow", 0.15, "bricks"),
            Prop("hourglass", "blue", 0.61, "stripes"),
            Prop("stick", "green", 0.33, "dots"),
        ),
        strict=True,
    )
)


def plan_props(
    rng: np.random.Generator,
    found: Sequence[tuple[int, int, str]],
    actions: Sequence[str],
    away: Sequence[tuple[int, int]],
    count: int,
    fps: float,
) -> Segments:
    """When each prop is in the picture, labelled by its action; the props of two actions may meet.

    Args:
        rng: Where the times come from.
        found: Action instances `(start, end, action)` in frames, in order.
        actions: What a prop may come for when nobody acts.
        away: Stretches in frames, without anybody or anything.
        count: Frames of the video.
        fps: Frames per second.
    """
    shown = {action: np.zeros(count, bool) for action in ACTIONS}
    for start, end, action in found:
        before, after = np.rint(fps * rng.uniform(*AROUND_SECONDS, size=2)).astype(int)
        shown[action][max(0, start - before) : end + after] = True
    edges = [0, *(edge for start, end, _ in found for edge in (start, end)), count]
    for start, end in zip(edges[::2], edges[1::2]):
        alone, action = rng.random() < ALONE, actions[int(rng.integers(len(actions)))]
        at, length = int(start + rng.random() * (end - start)), round(fps * rng.uniform(*ALONE_SECONDS))
        if alone:
            shown[action][at : min(at + length, end)] = True
    for start, end in away:
        for row in shown.values():
            row[start:end] = False
    spans = sorted((start, end, action) for action, row in shown.items() for start, end in runs(row))
    times = np.array([(start, end) for start, end, _ in spans], float).reshape(-1, 2) / fps
    return Segments(times, tuple(action for _, _, action in spans))


def prop_layers(
    rng: np.random.Generator, props: Segments, seconds: np.ndarray, size: int, camera: np.ndarray, first_id: int
) -> list[Layer]:
    """The props that lie in a shot: each slides in from the nearer side, sways a little whoever acts, and slides out.

    Args:
        rng: Where looks and places come from; what is drawn does not depend on the times.
        props: As `plan_props` gives them.
        seconds: Of the frames of the shot, `[T]`.
        size: Height and width of the frame.
        camera: `[T, 3, 3]`.
        first_id: Of the first of them.
    """
    layers = []
    for (start, end), action in zip(props.times_seconds, props.labels, strict=True):
        look, (x, y) = make_prop(rng, PROPS[action], size), rng.uniform(0.24, 0.76, size=2)
        angle, scale = rng.uniform(-0.6, 0.6), pixels_per_texel(size) * rng.uniform(0.85, 1.15)
        rates, phases = rng.uniform(0.2, 0.5, size=(3, 1)), rng.uniform(0, 2 * np.pi, size=(3, 1))
        if start >= seconds[-1] or end <= seconds[0]:
            continue
        dx, dy, turn = np.sin(2 * np.pi * rates * seconds + phases)
        inside = np.clip(np.minimum(seconds - start, end - seconds) / ENTER_SECONDS, 0, 1)
        out = np.where((seconds >= start) & (seconds < end), 1 - inside, 2.0)  # 1 is just outside of the frame
        x = x + DRIFT * dx + (1 if x > 0.5 else -1) * 0.75 * out
        middle = tuple((n - 1) / 2 for n in reversed(look.level.shape))
        matrix = pose(x * size, (y + DRIFT * dy) * size, angle + 0.15 * turn, scale, 0, middle)
        layers.append(Layer(first_id + len(layers), look.name, look.texture, look.level, camera @ matrix))
    return layers


def make_prop(rng: np.random.Generator, prop: Prop, size: int) -> Look:
    """The look of a prop at rest: its shape, its texture in shades of its colour, and a dark rim."""
    radius = rng.uniform(0.125, 0.165) * size / pixels_per_texel(size)  # texels
    level = _level(prop.shape, round(float(radius)))
    height, width = level.shape
    side, variant = side_for(size), int(rng.integers(NUM_VARIANTS))
    top, left = rng.integers(0, side, size=2)
    field = pattern(prop.family, variant, side)[
        np.ix_((np.arange(height) + top) % side, (np.arange(width) + left) % side)
    ]
    hue = prop.hue + rng.uniform(-0.02, 0.02, size=2)
    ends = np.array([colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in ((hue[0], 0.95, 0.6), (hue[1], 0.75, 1.0))])
    share = field[..., None].astype(np.float32) / 255
    rim = np.clip(level / (0.12 * radius), 0.25, 1)[..., None]
    texture = 255 * rim * (ends[0] * (1 - share) + ends[1] * share)
    return Look(prop.name, texture.astype(np.uint8), level)


@lru_cache(maxsize=256)
def _level(shape: str, radius: int) -> np.ndarray:
    """How far inside a shape each texel lies, float32 `[n, n]`, with a border of 2."""
    fine = 8  # subdivisions of a texel, so that the edge is smooth
    reach = radius + 2
    side = fine * (2 * reach + 1)
    drawn = np.zeros((side, side), np.uint8)
    rings = [np.rint((ring * radius + reach + 0.5) * fine).astype(np.int32) for ring in SHAPES[shape]]
    cv2.fillPoly(drawn, rings, 1)  # a ring within a ring is a hole
    inside, outside = (cv2.distanceTransform(mask, cv2.DIST_L2, 5) for mask in (drawn, 1 - drawn))
    middle = slice(fine // 2, None, fine)
    level = np.ascontiguousarray(((inside - outside) / fine)[middle, middle], np.float32)
    level.setflags(write=False)
    return level


def _polar(radii: np.ndarray) -> np.ndarray:
    """An outline `[N, 2]` with these radii at even angles, the first of them up."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def _points(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, float)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.stack([16 * np.sin(t) ** 3, -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t)], axis=1) / 16.5


def _moon() -> np.ndarray:
    t, u = np.linspace(0.25 * np.pi, 1.75 * np.pi, 48), np.linspace(1.62 * np.pi, 0.38 * np.pi, 48)
    outer, inner = np.stack([np.cos(t), np.sin(t)], axis=1), np.stack([np.cos(u), np.sin(u)], axis=1)
    return np.concatenate([outer, 0.76 * inner + [0.42, 0]])


_TURN = np.linspace(0, 2 * np.pi, 96, endpoint=False)
_ARM = 0.34
SHAPES: Mapping[str, tuple[np.ndarray, ...]] = {  # outlines in a circle of radius 1, y down
    "star": (_polar(np.tile([1.0, 0.42], 5)),),
    "ring": (_polar(np.ones(64)), _polar(np.full(64, 0.52))),
    "cross": (
        np.concatenate(
            [
                _points((-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)),
                _points((_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)),
            ]
        ),
    ),
    "heart": (_heart(),),
    "moon": (_moon(),),
    "arrow": (_points((0, -1), (0.8, -0.1), (0.32, -0.1), (0.32, 1), (-0.32, 1), (-0.32, -0.1), (-0.8, -0.1)),),
    "square": (_points((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)),),
    "triangle": (_points((0, -1), (0.95, 0.75), (-0.95, 0.75)),),
    "flower": (_polar(0.8 + 0.2 * np.cos(6 * _TURN)), _polar(np.full(32, 0.3))),
    "gear": (_polar(np.where(np.sin(8 * _TURN + 0.01) > 0, 1.0, 0.7)), _polar(np.full(32, 0.25))),
    "hourglass": (_points((-0.75, -1), (0.75, -1), (0.12, 0), (0.75, 1), (-0.75, 1), (-0.12, 0)),),
    "stick": (_points((-0.2, -1), (0.2, -1), (0.2, 1), (-0.2, 1)),),
}
