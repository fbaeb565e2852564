"""Clips drawn by what a video shows, not by time alone (spec 9.1).

`cuts` draws as ever, but no clip crosses a cut, and i and j lie in one shot. `content` besides lets j lie farther away within
the shot, or in another shot that looks like the same place again; and draws k from other shots, the likelier the more they
look like i, with the likeness as its weight as a topic. In a video without cuts the first is exactly the official sampler;
so is the second where its `delta_seconds` is the official one and `reentry` is 0.

Likeness is told in deviations `z` of the cosine of two videos that have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitascope.methods.hico.sampling import Sampling, beside, domain, draw_centres, draw_near, piece_around, place
from vitascope.structures import Record
from vitascope.video.shots import HOP_SECONDS, PARTS, WIDTH, ShotIndex

LUMA_SHARE = 0.25  # of a look's luma beside its colours, so that neither rules the cosine
MAX_VIDEOS, MAX_PAIRS = 256, 100_000  # that the data set is calibrated on
MAX_CELLS = 512  # of a video, that its own likeness is told from
MEMORY_BYTES = 64 * 2**20  # for indices, of each process that reads

Uniform = Callable[[], float]


class Guide(NamedTuple):
    """What an index of shots is used for; numbers count for `content` only.

    Attributes:
        mode: No clip crosses a cut, or also pairs by content.
        delta_seconds: Largest distance of i and j within a shot, at the end of training.
        reentry: Probability that j lies in another shot, at the end of training.
        topic_scale: Likeness of k to i from which on its weight is 1.
    """

    mode: Literal["cuts", "content"] = "cuts"
    delta_seconds: float = 8.0
    reentry: float = 0.3
    topic_scale: float = 2.0


class Calibration(NamedTuple):
    """What is common to all videos, and how alike two of them are by chance."""

    look: np.ndarray  # float32 [E], the mean
    cosine_mean: float = 0.0
    cosine_deviation: float = 1.0

    def likeness(self, one: np.ndarray, others: np.ndarray) -> np.ndarray:
        """`z` of descriptors `[..., E]` and `[N, E]`: `[..., N]`."""
        return (one @ others.T - self.cosine_mean) / self.cosine_deviation


def allowed(low: float, high: float, spans_seconds: np.ndarray, clip_seconds: float) -> np.ndarray:
    """Where between `low` and `high` the centre of a clip may lie that shows one shot only: float64 `[P, 2]`.

    Args:
        low: First centre.
        high: Last centre.
        spans_seconds: Of the cuts, in order, `[N, 2]`, as `Cuts` has them.
        clip_seconds: Length of a clip.

    Example:
        >>> allowed(2.0, 8.0, np.array([[5.0, 5.0]]), 2.0).tolist()
        [[2.0, 4.0], [6.0, 8.0]]
    """
    first = np.maximum(np.r_[low, np.maximum.accumulate(spans_seconds[:, 1]) + clip_seconds / 2], low)
    last = np.minimum(np.r_[spans_seconds[:, 0] - clip_seconds / 2, high], high)
    fits = first <= last
    return np.stack([first[fits], last[fits]], 1)


class Shots:
    """One video's shots, ready to draw from; times are relative to where its record begins.

    Attributes:
        pieces: Where centres may lie, a row for each shot that a clip fits into, float64 `[P, 2]`.
        cells: The pieces cut into parts of at most half a second, float64 `[N, 2]`.
        shot: The piece of each cell, int64 `[N]`.
        descriptors: Of a clip in the middle of each cell, float32 `[N, E]`.
        same_place: The median likeness of two clips of one shot; infinite if there are none.
    """

    def __init__(
        self, index: ShotIndex, begin: float, duration: float, clip_seconds: float, calibration: Calibration
    ) -> None:
        self._clip_seconds, self._calibration = clip_seconds, calibration
        self.pieces = allowed(*domain(duration, clip_seconds), index.cuts.spans_seconds - begin, clip_seconds)
        inside = (index.times_seconds >= begin - 1e-6) & (index.times_seconds < begin + duration)
        self._times = index.times_seconds[inside] - begin  # [M]
        looks = as_vectors(index.looks[inside])
        self._sums = np.concatenate([np.zeros((1, WIDTH)), np.cumsum(looks, 0, np.float64)])  # [M + 1, E]
        parts = [cut_up(*piece) for piece in self.pieces]
        self.cells = np.concatenate([np.zeros((0, 2)), *parts])
        self.shot = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self.descriptors = self.describe(self.cells.mean(1))
        self.same_place = self._same_place()
        self.nbytes = self.descriptors.nbytes + self._sums.nbytes + self.cells.nbytes

    def describe(self, centres: np.ndarray) -> np.ndarray:
        """What clips look like: the mean of the looks within each, less what is common to all videos, of length 1.

        Args:
            centres: `[S]`.

        Returns:
            float32 `[S, E]`; zeros where it was not looked.
        """
        half = self._clip_seconds / 2
        first = np.searchsorted(self._times, centres - half - 1e-6)
        behind = np.maximum(np.searchsorted(self._times, centres + half), np.minimum(first + 1, len(self._times)))
        count = (behind - first)[:, None]
        mean = (self._sums[behind] - self._sums[first]) / np.maximum(count, 1)
        return normalised(np.where(count > 0, mean - self._calibration.look, 0))

    def _same_place(self) -> float:
        some = np.unique(np.linspace(0, len(self.cells) - 1, MAX_CELLS).astype(int)) if len(self.cells) else []
        one, other = np.triu_indices(len(some), 1)
        kept = self.shot[some][one] == self.shot[some][other]
        if not kept.any():
            return np.inf
        z = self._calibration.likeness(self.descriptors[some], self.descriptors[some])
        return float(np.median(z[one[kept], other[kept]]))


class Content:
    """Draws clips of a data set's videos with the help of their indices of shots.

    Args:
        records: The data set's; what is alike by chance is told from them.
        guide: What the indices are used for.
        sampling: How clips are drawn otherwise.

    Raises:
        ValueError: `content` is asked for pairs that have no third clip.
    """

    def __init__(self, records: list[Record], guide: Guide, sampling: Sampling) -> None:
        if guide.mode == "content" and sampling.num_clips != 3:
            raise ValueError(f"guide mode (content) needs sampling of three clips, hico or fixed, not {sampling.mode}")
        self.guide, self.sampling = guide, sampling
        self.near = sampling._replace(delta_seconds=(sampling.delta_seconds[0], guide.delta_seconds))
        self.calibration = Calibration(np.zeros(WIDTH, np.float32))
        if guide.mode == "content":
            self.calibration = calibrated([record.shots for record in records if record.shots], sampling.clip_seconds)
        self._kept: dict[tuple[str, float, float], Shots] = {}
        self._used = 0

    def draw(
        self, record: Record, begin: float, duration: float, progress: float, uniform: Uniform
    ) -> dict[str, Tensor]:
        """Where the clips of a sample lie, and what content says of them: all keys of `data` but `clips`.

        Args:
            record: The video, or the stretch of it.
            begin: Where the record begins in the video, in seconds.
            duration: Its seconds.
            progress: Position within training, in [0, 1).
            uniform: Gives the next number in [0, 1).

        Raises:
            ValueError: The file of the shots is damaged.
        """
        shots = self._shots(record.shots, begin, duration) if record.shots else None
        centres, weight = None, 1.0
        if shots is not None and len(shots.pieces) and self.guide.mode == "content":
            centres, weight = draw_by_content(shots, self, progress, uniform)
        if centres is None:
            pieces = None if shots is None else shots.pieces
            centres = draw_centres(duration, progress, self.sampling, uniform, pieces)
        weights = torch.ones(len(centres), len(centres))
        weights[:-1, -1] = weights[-1, :-1] = weight
        sample = {"seconds": torch.from_numpy(begin + centres), "topic_weights": weights}
        if self.guide.mode == "content":
            seen = np.zeros((len(centres), WIDTH), np.float32) if shots is None else shots.describe(centres)
            calibration = self.calibration.cosine_mean, self.calibration.cosine_deviation
            sample |= {"descriptors": torch.from_numpy(seen), "calibration": torch.tensor(calibration)}
        return sample

    def _shots(self, path: str, begin: float, duration: float) -> Shots:
        key = path, begin, duration
        if key not in self._kept:
            shots = Shots(ShotIndex.open(path), begin, duration, self.sampling.clip_seconds, self.calibration)
            while self._kept and self._used + shots.nbytes > MEMORY_BYTES:
                self._used -= self._kept.pop(next(iter(self._kept))).nbytes
            self._kept[key] = shots
            self._used += shots.nbytes
        return self._kept[key]


def draw_by_content(shots: Shots, content: Content, progress: float, uniform: Uniform) -> tuple[np.ndarray, float]:
    """The centres of i, j and k, float64 `[3]`, and the weight of k as a topic, in [0, 1].

    In a video of one shot all clips are of one content: k is drawn from all of it, and has the weight 1.
    """
    guide, calibration = content.guide, content.calibration
    i = place(shots.pieces, uniform())
    own = int(np.searchsorted(shots.pieces[:, 0], i, side="right")) - 1
    z = calibration.likeness(shots.describe(np.array([i]))[0], shots.descriptors)  # [N]
    away = shots.shot != own
    reentry = guide.reentry * progress
    again = away & (z >= shots.same_place)
    if reentry > 0 and uniform() < reentry and again.any():
        j = place(shots.cells[again], uniform())
    else:
        j = draw_near(i, content.near.delta_at(progress), piece_around(shots.pieces, i), uniform)
    uniform()  # as in `draw_centres`
    gap = content.sampling.topic_min_gap_seconds
    weights = np.clip(z / guide.topic_scale, 0, 1) * away
    if gap:
        middles = shots.cells.mean(1)
        weights = weights * ((middles < min(i, j) - gap) | (middles > max(i, j) + gap))
    if away.any() and weights.any():
        k, cell = place_by_weight(shots.cells, weights, uniform())
        return np.array([i, j, k]), float(weights[cell])
    pieces = beside(shots.pieces, min(i, j) - gap, max(i, j) + gap) if gap else shots.pieces
    return np.array([i, j, place(pieces, uniform())]), 0.0 if away.any() else 1.0


def place_by_weight(cells: np.ndarray, weights: np.ndarray, share: float) -> tuple[float, int]:
    """The point at a share in [0, 1) of cells, each as wide as it is times its weight; and its cell.

    Example:
        >>> place_by_weight(np.array([[0.0, 1.0], [1.0, 2.0]]), np.array([0.0, 1.0]), 0.25)
        (1.25, 1)
    """
    mass = (cells[:, 1] - cells[:, 0]) * weights
    if not mass.any():  # shots as long as a clip, where one centre is all there is
        mass = weights
    behind = np.cumsum(mass)
    at = behind[-1] * share
    cell = min(int(np.searchsorted(behind, at, side="right")), int(np.flatnonzero(mass)[-1]))
    inside = min(max((at - behind[cell]) / mass[cell] + 1, 0.0), 1.0)
    return float(cells[cell, 0] + inside * (cells[cell, 1] - cells[cell, 0])), cell


def cut_up(low: float, high: float) -> np.ndarray:
    """A stretch in equal parts of at most half a second: float64 `[N, 2]`, at least one."""
    edges = np.linspace(low, high, max(1, int(np.ceil((high - low) / HOP_SECONDS))) + 1)
    return np.stack([edges[:-1], edges[1:]], 1)


def as_vectors(looks: np.ndarray) -> np.ndarray:
    """Looks of an index, uint8 `[M, E]`, as float32 whose parts have about the same say."""
    scale = np.full(WIDTH, 1 / 255, np.float32)
    scale[: PARTS**2] *= LUMA_SHARE
    return looks * scale


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors `[N, E]` of length 1, float32; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def calibrated(paths: list[str], clip_seconds: float) -> Calibration:
    """What is common to the videos of some indices, and how alike two of them are, told from up to 256, spread evenly."""
    paths = list(dict.fromkeys(paths))
    chosen = np.unique(np.linspace(0, len(paths) - 1, MAX_VIDEOS).astype(int)) if paths else []
    indices = [ShotIndex.open(paths[number]) for number in chosen]
    indices = [index for index in indices if len(index.looks)]
    if not indices:
        return Calibration(np.zeros(WIDTH, np.float32))
    mean = np.mean([as_vectors(index.looks).mean(0) for index in indices], 0)
    if len(indices) < 2:
        return Calibration(mean)
    rng, plain = np.random.default_rng(0), Calibration(mean)
    seen = []  # of each video the same number of windows
    for index in indices:
        begin, end = float(index.times_seconds[0]), float(index.times_seconds[-1]) + HOP_SECONDS
        shots = Shots(index, begin, end - begin, clip_seconds, plain)
        centres = rng.uniform(*domain(end - begin, clip_seconds), max(8, 2048 // len(indices)))
        seen.append(shots.describe(centres))
    each = len(seen[0])
    one, other = rng.integers(len(seen) * each, size=(2, MAX_PAIRS))
    apart = one // each != other // each
    vectors = np.concatenate(seen)
    cosines = np.einsum("ne,ne->n", vectors[one[apart]], vectors[other[apart]])
    return Calibration(mean, float(cosines.mean()), max(float(cosines.std()), 1e-6))
