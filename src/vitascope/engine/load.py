"""A trained method, back from its checkpoint; and pictures of what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch.utils.data import default_collate

from vitascope.engine import checkpoint
from vitascope.engine.checkpoint import CheckpointError
from vitascope.engine.start import read_run
from vitascope.methods.base import Draw, Method
from vitascope.structures import Figure, Record, VideoError


def load_method(folder: Path, methods: Mapping[str, type[Method]], device: str | torch.device = "cpu") -> Method:
    """Build the method that a checkpoint names, with its configuration and weights, ready for use.

    Args:
        folder: Of a checkpoint, or of a run, whose newest readable checkpoint is taken.
        methods: The known ones, by name.
        device: Where the weights go.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, or its method is not known.
    """
    about, weights = read_run(folder)
    if about.get("method") not in methods:
        raise CheckpointError(f"{folder}: method {about.get('method')!r} must be one of {', '.join(sorted(methods))}")
    cls = methods[about["method"]]
    kind = type(next(iter(cls.recipes.values()))())
    method = cls(kind.model_validate(about["config"]))
    checkpoint.load_weights(method, weights, str(folder))
    return method.eval().to(device)


def figures(method: Method, records: list[Record], count: int) -> list[Figure]:
    """What the method sees and says on the first `count` videos that can be read, as its first stage draws them."""
    samples, batch = method.samples(method.stages()[0], records), []
    for index in range(len(records)):
        with suppress(VideoError):  # the scan reports what cannot be read; a picture takes the next video
            batch.append(samples[Draw(index, index, 0.0)])
        if len(batch) == count:
            break
    return method.figures(default_collate(batch)) if batch else []
