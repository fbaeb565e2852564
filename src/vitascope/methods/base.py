"""The contract that every method keeps: a `Method` has `Stage`s, and a `Stage` turns `Draw`s into batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn, utils

from vitascope.structures import Figure, Labels, Masks, Record, Segments

Batch = dict[str, Tensor]


class Draw(NamedTuple):  # what a data set is asked for; all randomness of a sample follows from it
    index: int  # which record
    seed: int  # of this draw alone, 63 bits
    progress: float  # position within the stage, in [0, 1)


class Frozen(BaseModel):  # base of every configuration: immutable, and an unknown field is an error
    model_config = ConfigDict(frozen=True, extra="forbid")


class Optim(Frozen):  # how the weights of a stage learn; learning rates are the ones used, not per 256 samples
    name: Literal["adamw", "adam", "lars", "sgd"] = Field("adamw", description="Optimiser.")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    min_lr: float = Field(0.0, ge=0, description="Learning rate at the end of the cosine.")
    warmup: float = Field(0.05, ge=0, le=1, description="Share of the stage that warms up linearly from 0.")
    warmup_lr: float | None = Field(None, ge=0, description="Warm up from here to a cosine that spans the whole stage.")
    betas: tuple[float, float] = Field((0.9, 0.95), description="Adam's betas; the first is LARS's and SGD's momentum.")
    nesterov: bool = Field(False, description="Nesterov's momentum, for LARS and SGD.")
    eps: float = Field(1e-8, gt=0, description="Adam's epsilon.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay; none on biases, norms and other 1-D parameters.")
    layer_decay: float = Field(1.0, gt=0, le=1, description="Factor on the learning rate per layer below the head.")
    clip_norm: float | None = Field(1.0, gt=0, description="Largest gradient norm; None for no clipping.")


class Stage(Frozen):  # one stretch of training
    name: str
    length: int = Field(gt=0, description="In `unit`s.")
    unit: Literal["steps", "epochs"] = "epochs"
    data: str = Field("train", description="Name of the data set; the caller maps it to records.")
    batch_size: int = Field(gt=0, description="Samples per optimiser step, over all processes.")
    learns: tuple[str, ...] = Field(("",), description="Prefixes of the names of the parameters that learn.")
    optim: Optim = Optim()


class Snippet(Frozen):  # the clip that a method's encoder takes
    num_frames: int = Field(gt=0)
    stride_frames: int = Field(gt=0, description="Distance of two frames of the clip, in frames at `fps`.")
    fps: float | None = Field(None, gt=0, description="Rate at which the stride counts; None for the video's own.")
    size: int = Field(gt=0, description="Height and width, in pixels.")


class Method(nn.Module, ABC):  # a published method: built as `cls(config)`, which it keeps as `self.config`
    config: Frozen
    snippet: Snippet
    recipes: dict = {}  # name -> function that returns a config: a row of the paper's table each
    compares_samples = False  # whether the loss is about a batch as a whole, and no mean over samples
    no_decay: tuple[str, ...] = ()  # names of the parameters free of weight decay, besides the 1-D ones

    @abstractmethod
    def stages(self) -> list[Stage]: ...
    @abstractmethod
    def samples(self, stage: Stage, records: list[Record]) -> utils.data.Dataset: ...  # Draw -> dict[str, Tensor]
    @abstractmethod
    def training_step(self, batch: Batch) -> Batch: ...  # scalars by name; "loss" is a mean over samples
    @abstractmethod
    def features(self, clips: Tensor) -> Tensor: ...  # uint8 [B, T, C, H, W], any H and W -> float32 [B, D]
    def idle_step(self) -> Batch | None: ...  # instead, where no sample could be read: its part in what processes share
    def predict(self, record: Record) -> Labels | Segments | Masks:
        raise TypeError(f"{type(self).__name__} does not predict; use its features, or a method that predicts")

    def layer_of(self, name: str) -> int:  # depth of a parameter for layer decay: 0 is nearest the pixels
        return 0

    def figures(self, batch: Batch) -> list[Figure]:  # what the method saw and said, for the report
        return []
