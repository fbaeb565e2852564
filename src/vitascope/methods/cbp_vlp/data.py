"""Record -> sample -> batch.

| key | shape | what |
| --- | --- | --- |
| `features` | float32 `[B, T, D]` | CBP vectors of snippets; in warm-up and F stages |
| `frames` | float32 `[B, T, D]` | VLP vectors of the same snippets, in the place of `features`; in B stages |
| `mask` | bool `[B, T]` | True where there is a snippet, False in the padding |
| `targets` | float32 `[B, K]` | 1 for the tags of the video |
| `labels` | int8 `[B, T, K]` | what the teacher says, or the truth: 1 foreground, 0 background, -1 not certain or padding; not in the warm-up |

T is that of the longest video, or `max_snippets`. A record's `features` are the files of its CBP vectors and of its VLP
vectors (and of its true labels), each with its own times; the VLP vector of a snippet is the one nearest to its middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Batch, Draw
from vitascope.structures import NOTHING, Record, VideoError

Teach = Callable[[Tensor, Tensor, Tensor], Tensor]  # features [S, D], frames [S, D], tags [K] -> int8 [S, K]


class Snippets(Dataset):
    """Snippets of tagged videos, for one of the branches.

    Args:
        records: With `features`; labels are tags.
        classes: What the tags may be.
        branch: Whose vectors a sample holds.
        max_snippets: Longer videos are cropped to it.
        sampling: How (`config.CbpVlpConfig.sampling`).
        teach: Gives the labels of a whole video; each is asked for once. None in the warm-up.
        supervised: The labels are those of the record's third file, 1 where an action is and 0 where it is not.

    Raises:
        ValueError: A tag is no class, or a record has no vectors.
    """

    def __init__(
        self,
        records: Sequence[Record],
        classes: Sequence[str],
        branch: Literal["cbp", "vlp"],
        *,
        max_snippets: int,
        sampling: Literal["crop", "stratified"],
        teach: Teach | None = None,
        supervised: bool = False,
    ) -> None:
        self.records, self.branch, self.sampling, self.teach = list(records), branch, sampling, teach
        self.targets = [tags(record, classes) for record in self.records]
        self.length = min(max_snippets, max((num_snippets(record) for record in self.records), default=max_snippets))
        self.supervised = supervised
        self.taught: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> Batch:
        record, y = self.records[draw.index], self.targets[draw.index]
        values, times = read_vectors(record, 0)
        frames = self._frames(record, times) if self.branch == "vlp" or self.teach else None
        shown = frames if self.branch == "vlp" else values
        rows = self._rows(len(times), draw)
        mask = torch.arange(self.length) < len(rows)
        sample = {"frames" if self.branch == "vlp" else "features": padded(shown[rows], self.length, 0)}
        sample |= {"mask": mask, "targets": y}
        if self.teach:
            if draw.index not in self.taught:
                self.taught[draw.index] = self.teach(values, frames, y)  # int8 [S, K]
            sample["labels"] = padded(self.taught[draw.index][rows], self.length, -1)
        if self.supervised:
            sample["labels"] = padded(read_vectors(record, 2)[0].to(torch.int8)[rows], self.length, -1)
        return sample

    def _frames(self, record: Record, times: np.ndarray) -> Tensor:
        return at_times(*read_vectors(record, 1), times, record.path)

    def _rows(self, count: int, draw: Draw) -> Tensor:
        """The snippets of a sample, in order."""
        rng = np.random.default_rng(draw.seed)
        if count <= self.length:
            return torch.arange(count)
        if self.sampling == "crop":
            first = int(rng.integers(count - self.length + 1))
            return torch.arange(first, first + self.length)
        edges = np.arange(self.length + 1) * (count / self.length)
        drawn = edges[:-1] + rng.random(self.length) * np.diff(edges)
        return torch.from_numpy(np.minimum(drawn.astype(np.int64), count - 1))


def padded(values: Tensor, length: int, fill: float) -> Tensor:
    """`[S, ...]` filled up to `[length, ...]`."""
    whole = values.new_full((length, *values.shape[1:]), fill)
    whole[: len(values)] = values
    return whole


def tags(record: Record, classes: Sequence[str]) -> Tensor:
    """1 for each class that a record is tagged with: float32 `[K]`; none of them is 1 where it is tagged `nothing`.

    Raises:
        ValueError: A tag is no class.

    Example:
        >>> tags(Record("a.mp4", labels=("run",)), ("jump", "run"))
        tensor([0., 1.])
    """
    unknown = [label for label in record.labels if label not in classes and label != NOTHING]
    if unknown:
        raise ValueError(
            f"{record.id or record.path}: tag {unknown[0]!r} is none of the {len(classes)} classes ({', '.join(classes[:8])}"
            f"{', ...' if len(classes) > 8 else ''}); correct it, or train anew with it"
        )
    return torch.tensor([float(name in record.labels) for name in classes])


def read_vectors(record: Record, which: int) -> tuple[Tensor, np.ndarray]:
    """Vectors of a record's snippets, of CBP (0) or VLP (1).

    Returns:
        float32 `[S, D]`, and their times in seconds, float64 `[S, 2]`.

    Raises:
        ValueError: The record names no such file.
        VideoError: The file is not there, is damaged, or holds no snippet.
    """
    from safetensors import SafetensorError, safe_open

    path = _file(record, which)
    try:
        with safe_open(path, framework="pt") as file:
            values, times = file.get_tensor("values").float(), file.get_tensor("times_seconds").double().numpy()
    except (SafetensorError, OSError, ValueError) as error:
        raise VideoError(
            record.path, "missing", f"its features {path} cannot be read ({error}); embed it again"
        ) from None
    if not len(values):
        raise VideoError(record.path, "empty", f"its features {path} hold no snippet; leave the video out")
    return values, times


def num_snippets(record: Record) -> int:
    """CBP snippets of a record; 0 where they cannot be read, which reading them tells."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(_file(record, 0), framework="pt") as file:
            return file.get_slice("values").get_shape()[0]
    except (SafetensorError, OSError):
        return 0


def at_times(values: Tensor, own: np.ndarray, times: np.ndarray, path: str) -> Tensor:
    """For each stretch of `times` `[S, 2]` the vector whose own stretch has the nearest middle.

    Raises:
        VideoError: The nearest one is farther than two stretches: vectors and times are not of one video.

    Example:
        >>> own = np.array([[0.0, 0.1], [1.0, 1.1], [2.0, 2.1]])
        >>> at_times(torch.arange(3.0)[:, None], own, np.array([[0.0, 1.0], [1.0, 2.0]]), "a.mp4")[:, 0]
        tensor([0., 1.])
    """
    middles, wanted = own.mean(1), times.mean(1)
    after = np.clip(np.searchsorted(middles, wanted), 1, max(1, len(middles) - 1))
    before = after - 1
    after = np.minimum(after, len(middles) - 1)
    nearest = np.where(wanted - middles[before] <= middles[after] - wanted, before, after)
    allowed = 2 * max(float((times[:, 1] - times[:, 0]).max()), float(np.diff(middles).max(initial=0.0)))
    apart = float(np.abs(middles[nearest] - wanted).max())
    if apart > allowed:
        raise VideoError(
            path,
            "out_of_range",
            f"its VLP features are {apart:.1f} s away from its CBP features (at most {allowed:.1f}): {len(own)} and "
            f"{len(times)} snippets; make both of the same file",
        )
    return values[torch.from_numpy(nearest)]


def _file(record: Record, which: int) -> str:
    if len(record.features) <= which:
        kind = ("CBP", "VLP", "true")[which]
        raise ValueError(f"{record.id or record.path}: no {kind} features; `vitascope localize` makes them")
    return record.features[which]
