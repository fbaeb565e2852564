"""Which sample comes when: a pure function of the position, so that workers, processes and resume change nothing.

A stage sees the positions `p = 0, 1, 2, ...`; step `s` takes the `batch_size` positions from `s * batch_size` on. The
record at `p` is the `p % n`-th of the permutation of epoch `p // n`. Batches run across the borders of epochs: no sample
is dropped, and a set smaller than a batch fills it from the epochs that follow.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np

from vitascope.methods.base import Draw, Stage


def seed_of(*parts: int | str) -> int:
    """Return 63 well-mixed bits that follow from `parts` alone.

    Example:
        >>> seed_of(0, "pretrain", 7) == seed_of(0, "pretrain", 7) != seed_of(0, "pretrain", 8)
        True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def num_steps(stage: Stage, num_records: int) -> int:
    """Return the number of steps of a stage; epochs are rounded up to whole batches.

    Example:
        >>> num_steps(Stage(name="pretrain", length=3, batch_size=4), 10)  # 30 samples
        8
    """
    if stage.unit == "steps":
        return stage.length
    return math.ceil(stage.length * num_records / stage.batch_size)


class Positions:
    """The batches of one process, from a step on: a batch sampler of `Draw`s.

    Args:
        stage: Its name, length and batch size count.
        num_records: Records of the data set, > 0.
        seed: Of the run.
        first_step: Step of the stage to start at.
        last_step: Step of the stage to stop before; None for the stage's end.
        rank: Of this process.
        num_ranks: Processes; each takes one contiguous slice of each batch. A slice is empty if there are more
            processes than samples.

    Example:
        >>> stage = Stage(name="pretrain", length=2, batch_size=2)
        >>> [[draw.index for draw in batch] for batch in Positions(stage, 3, seed=0)]
        [[2, 1], [0, 1], [2, 0]]
        >>> [[draw.index for draw in batch] for batch in Positions(stage, 3, seed=0, first_step=2)]
        [[2, 0]]
    """

    def __init__(
        self,
        stage: Stage,
        num_records: int,
        *,
        seed: int,
        first_step: int = 0,
        last_step: int | None = None,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.stage, self.num_records, self.seed = stage, num_records, seed
        self.num_steps = num_steps(stage, num_records)
        self.first_step = first_step
        self.last_step = self.num_steps if last_step is None else last_step
        size = stage.batch_size
        self.slice = range(rank * size // num_ranks, (rank + 1) * size // num_ranks)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step)

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.first_step, self.last_step):
            start = step * self.stage.batch_size
            yield [self.at(start + offset) for offset in self.slice]

    def at(self, position: int) -> Draw:
        """Return the draw at a position of the stage."""
        epoch, place = divmod(position, self.num_records)
        if epoch != self._epoch:
            generator = np.random.Generator(np.random.PCG64(seed_of(self.seed, self.stage.name, "epoch", epoch)))
            self._epoch, self._order = epoch, generator.permutation(self.num_records)
        progress = position / (self.num_steps * self.stage.batch_size)
        return Draw(int(self._order[place]), seed_of(self.seed, self.stage.name, "draw", position), progress)
