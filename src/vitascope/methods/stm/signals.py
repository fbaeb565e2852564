"""What is measured of an object in a frame: numbers for the state machine, by-products of reading and decoding."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from vitascope.methods.stm.memory import Bank
from vitascope.methods.stm.model import MaskNetwork
from vitascope.methods.stm.states import Thresholds

THUMBNAIL = (64, 36)  # width, height
MOTION_SHARE = 0.2  # of the latest step in the running mean of motion
NOISE = 2.0  # distance of thumbnails that noise makes
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


def match(network: MaskNetwork, anchors: Tensor, query: Tensor) -> float:
    """Mean over an object's given tokens of their best similarity to any token of the frame (spec 7.4, ii).

    Where the network's similarity is a squared distance but for what all memory tokens share, it is made one: at most 0.

    Args:
        network: Whose similarity it is.
        anchors: Keys of the object's tokens in its given frames, `[Ck, A]`.
        query: `[1, Ck, h, w]`.
    """
    tokens = query[0].flatten(1)  # [Ck, M]
    similarity = network.scale * (anchors.T @ tokens)  # [A, M]
    bias = network.bias(anchors[None])
    if bias is not None:
        own = network.scale * tokens.square().sum(0) + network.bias(tokens[None])[0]  # [M], of a token with itself
        similarity = similarity + bias[0, :, None] - own
    return float(similarity.float().amax(1).mean())


def anchors(bank: Bank) -> Tensor:
    """Keys of the object's tokens in its given frames, `[Ck, A]`: at least half covered by it, or the most covered one."""
    given = bank.tokens(("given",))
    coverage = given.coverage[0, 0]
    chosen = (coverage >= min(0.5, float(coverage.max()))).nonzero()[:, 0]
    chosen = chosen[torch.linspace(0, len(chosen) - 1, min(len(chosen), MOST_ANCHORS)).round().long().to(chosen.device)]
    return given.keys[0][:, chosen]


def attention(network: MaskNetwork, bank: Bank, query: Tensor) -> float:
    """The most attention that a token of the frame pays to the object's tokens in memory, in [0, 1] (spec 7.4, iii).

    It needs the keys only: no value is read and nothing is decoded.
    """
    tokens = bank.tokens(("given", "kept"))
    mass = network.read(tokens.keys, tokens.coverage.to(tokens.keys.dtype), query, tokens.bias)
    return float(mass.float().max())


def overlap(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two masks of probabilities, at 0.5; 0 for two empty ones."""
    a, b = a > 0.5, b > 0.5
    return float((a & b).sum() / (a | b).sum().clamp(min=1))


def place(mask: Tensor, probabilities: Tensor) -> tuple[float, tuple[float, float], float]:
    """Area as a share of the frame, centre (y, x) in shares of height and width, and mean probability, of a bool mask."""
    rows, columns = mask.sum(1).double(), mask.sum(0).double()
    count = float(rows.sum())
    if count == 0:
        return 0.0, (0.5, 0.5), 0.0
    y = float((rows * torch.arange(len(rows), device=rows.device)).sum() / count + 0.5) / len(rows)
    x = float((columns * torch.arange(len(columns), device=rows.device)).sum() / count + 0.5) / len(columns)
    return count / mask.numel(), (y, x), float(probabilities[mask].double().mean())
