"""What is measured of an object in a frame: numbers for the state machine, by-products of reading and decoding."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitascope.methods.stm.memory import Bank
from vitascope.methods.stm.model import MaskNetwork, pad
from vitascope.methods.stm.states import Thresholds

THUMBNAIL = (64, 36)  # width, height
MOTION_SHARE = 0.2  # of the latest step in the running mean of motion
NOISE = 2.0  # distance of thumbnails that noise makes
COLOURS = 6  # bins of each channel
MOST_ANCHORS = 64  # tokens of the given frames whose best match is sought


def thumbnail(frame: Tensor) -> np.ndarray:
    """A frame `[3, H, W]` uint8 as luma and colour differences, float32 `[36, 64, 3]`, 0..255."""
    small = cv2.resize(frame.permute(1, 2, 0).contiguous().cpu().numpy(), THUMBNAIL, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb).astype(np.float32)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of a pixel of two thumbnails, added over the three planes."""
    return float(np.abs(a - b).mean((0, 1)).sum())


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of the luma of two thumbnails; it goes to 0 where there is hardly a picture."""
    x, y = a[..., 0] - a[..., 0].mean(), b[..., 0] - b[..., 0].mean()
    return float((x * y).mean() / np.sqrt((x * x).mean() * (y * y).mean() + 16))


def cut_score(before: np.ndarray, now: np.ndarray, motion: float, t: Thresholds) -> tuple[float, float]:
    """How far a frame is from belonging to the shot of the one before it: above 1 it does not; and the motion from here on.

    A cut is a step much larger than those before it, to a picture of another structure (`video/cuts.py` knows the frames
    that come too; here only the past is known, so a flash counts as two cuts).

    Args:
        before: Thumbnail of the frame before.
        now: Thumbnail of the frame.
        motion: Running mean of the steps so far.
        t: Thresholds.
    """
    step = distance(before, now)
    level = max(t.cut_distance, t.cut_contrast * (motion + NOISE))
    score = step / level if likeness(before, now) < t.cut_likeness else min(step / level, 1.0)
    return score, motion + MOTION_SHARE * (min(step, level) - motion)


class Appearance(NamedTuple):
    """What the pixels under a mask look like."""

    colours: Tensor  # [216], shares of 6 x 6 x 6 colours
    features: tuple[Tensor, ...]  # mean of each level of the trunk under the mask, [C] each
    ground: tuple[Tensor, ...]  # and over the whole frame


def appearance(frame: Tensor, trunk: tuple[Tensor, ...], mask: Tensor) -> Appearance:
    """Colours and features under a mask.

    Args:
        frame: `[1, 3, h, w]` in [0, 1].
        trunk: Levels of `Query.trunk` of the padded frame.
        mask: Probabilities `[h, w]`; pixels of at least 0.5 count, or the most probable ones.
    """
    inside = (mask >= min(0.5, float(mask.max()))).float()
    bins = (frame[0].float() * (COLOURS - 1e-3)).long().clamp(0, COLOURS - 1)  # [3, h, w]
    places = ((bins[0] * COLOURS + bins[1]) * COLOURS + bins[2]).flatten()
    colours = torch.zeros(COLOURS**3, device=mask.device).index_add_(0, places, inside.flatten())
    padded = pad(inside)[None, None]
    features, ground = [], []
    for level in trunk:
        weights = functional.adaptive_avg_pool2d(padded, level.shape[-2:])[0, 0]
        features.append((level[0].float() * weights).sum((1, 2)) / weights.sum().clamp(min=1e-6))
        ground.append(level[0].float().mean((1, 2)))
    return Appearance(colours / colours.sum().clamp(min=1), tuple(features), tuple(ground))


def alike(given: list[Appearance], found: Appearance) -> tuple[float, float]:
    """Likeness of colours, in [0, 1], and of features, in [-1, 1], to the given mask that is most alike.

    Features are compared by the cosine of what sets them apart from the given frame as a whole, mean over the levels.
    """
    best = (0.0, -1.0)
    for one in given:
        colours = float(torch.minimum(one.colours, found.colours).sum())
        levels = zip(one.features, found.features, one.ground, strict=True)
        cosines = [float(functional.cosine_similarity(a - ground, b - ground, 0)) for a, b, ground in levels]
        best = max(best, (colours, sum(cosines) / len(cosines)), key=sum)
    return best


class Given(NamedTuple):
    """Keys of an object's given frames: tokens that are the object, and all others."""

    own: list[Tensor]  # for each frame [Ck, A]
    others: Tensor  # [Ck, N]


def given_tokens(bank: Bank) -> Given:
    """An object's tokens are at least half covered by it, or the most covered one; the others hardly at all."""
    keys, coverage = bank.frames_of("given")  # [F, Ck, n], [F, n]
    own = []
    for one, covered in zip(keys, coverage, strict=True):
        if float(covered.max()) > 0:  # else the frame was given to say that the object is not there
            chosen = (covered >= min(0.5, float(covered.max()))).nonzero()[:, 0]
            places = torch.linspace(0, len(chosen) - 1, min(len(chosen), MOST_ANCHORS)).round().long()
            own.append(one[:, chosen[places.to(chosen.device)]].float())
    return Given(own, keys.transpose(0, 1)[:, coverage < 0.1].float())


def match(network: MaskNetwork, given: Given, query: Tensor) -> tuple[float, float]:
    """How well a frame `[1, Ck, h, w]` matches the object's given tokens; nothing is read and nothing decoded.

    Returns:
        match: Mean over the given tokens of their best similarity to any token of the frame, of the given frame that
            matches best (spec 7.4, ii). Where similarity is a squared distance but for what all memory tokens share, it
            is made one: at most 0.
        margin: The most by which a token of the frame is more similar to a given token of the object than to any other
            given token. Above 0 the object may be there.
    """
    tokens = query[0].flatten(1).float()  # [Ck, M]

    def similarity(keys: Tensor) -> Tensor:
        bias = network.bias(keys[None])
        return network.scale * (keys.T @ tokens) + (0 if bias is None else bias[0][:, None])  # [A, M]

    bias = network.bias(tokens[None])
    of_itself = 0 if bias is None else network.scale * tokens.square().sum(0) + bias[0]  # [M]
    each = [similarity(keys) for keys in given.own]
    best = max(float((one - of_itself).amax(1).mean()) for one in each)
    most = torch.cat(each).amax(0)
    if given.others.shape[1]:
        most = most - similarity(given.others).amax(0)
    return best, float(most.max())


def place(mask: Tensor, probabilities: Tensor) -> tuple[float, tuple[float, float], float]:
    """Area as a share of the frame, centre (y, x) in shares of height and width, and mean probability, of a bool mask."""
    rows, columns = mask.sum(1).double(), mask.sum(0).double()
    count = float(rows.sum())
    if count == 0:
        return 0.0, (0.5, 0.5), 0.0
    y = float((rows * torch.arange(len(rows), device=rows.device)).sum() / count + 0.5) / len(rows)
    x = float((columns * torch.arange(len(columns), device=rows.device)).sum() / count + 0.5) / len(columns)
    return count / mask.numel(), (y, x), float(probabilities[mask].double().mean())
