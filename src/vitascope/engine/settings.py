"""How a training run is carried out, as against what is learned (that is the method's configuration)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from vitascope.engine.configure import sentence
from vitascope.methods.base import Frozen


class Settings(Frozen):
    """Settings that a user gives by name: what does not fit is told in one sentence.

    Example:
        >>> TrainSettings(seed=-1)
        Traceback (most recent call last):
        ValueError: seed (-1) must be greater than or equal to 0
    """

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(sentence(error)) from None


class TrainSettings(Settings):
    """Settings of a run that any method takes.

    Example:
        >>> TrainSettings(num_workers=2).keep_last
        2
    """

    seed: int = Field(0, ge=0, description="All randomness of the run follows from it and the sampler's position.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes an accelerator if there is one.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Of the forward pass; weights stay as built."
    )
    num_workers: int = Field(0, ge=0, description="Processes that read video; 0 reads in the training process.")
    micro_batch: int | None = Field(
        None,
        gt=0,
        description="Samples at once on a device; gradients add up to the whole batch. None: all at once. "
        "A loss that compares samples sees those of one micro-batch.",
    )
    save_every_steps: int = Field(500, gt=0, description="Steps between checkpoints; the end of a stage is saved too.")
    keep_last: int = Field(2, gt=0, description="Checkpoints kept.")
    log_every: int = Field(10, gt=0, description="Steps between lines of metrics.jsonl.")
    tensorboard: bool = Field(False, description="Also write event files (needs the extra `tensorboard`).")
    max_steps: int | None = Field(
        None, gt=0, description="Stop after so many steps of the run. Schedules keep their full length: go on later."
    )
