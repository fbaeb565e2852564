"""What can be chosen in space-time memory networks, and the rows of the paper's table as recipes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vitascope.methods.base import Frozen, Optim
from vitascope.methods.stm.loss import Kind


class STMConfig(Frozen):
    """Training of a space-time memory network: stills with masks first, then videos with masks."""

    network: Literal["resnet50", "small"] = Field("resnet50", description="Which network. Paper: ResNet-50.")
    key_width: int = Field(
        64, gt=0, description="Width of a key of the small network. Paper: 128, always so in its own."
    )
    value_width: int = Field(192, gt=0, description="Width of a value of the small network. Paper: 512.")
    decoder_widths: tuple[int, int, int] = Field(
        (160, 96, 64), description="Of the small network's decoder at 1/16, 1/8, 1/4. Paper: 256."
    )
    trunk_weights: str = Field(
        "",
        description="File of an ImageNet trunk to start from: EfficientNet-lite0's for the small network. "
        "Paper: ImageNet, always.",
    )
    frozen_norms: bool = Field(True, description="Batch norms keep the statistics they came with. Paper: True.")
    frozen_stem: bool = Field(False, description="The trunk as far as stride 4 does not learn. Paper: False.")

    size: int = Field(384, gt=0, multiple_of=16, description="Height and width of a training frame. Paper: 384.")
    num_frames: int = Field(3, ge=2, description="Frames of a training clip. Paper: 3.")
    max_objects: int = Field(10, gt=0, description="Most objects followed in a clip. Paper: 10.")
    min_pixels: int = Field(100, gt=0, description="Fewest pixels of an object in the first frame. Paper: not given.")
    max_skip: int = Field(25, ge=0, description="Frames skipped between two of a clip, at most. Paper: 25.")
    skip_rise: float = Field(
        100 / 260,
        ge=0,
        le=1,
        description="Share of the video stage in which the skip grows from 0, in steps. Paper: 100/260.",
    )
    rotate: float = Field(
        20.0, ge=0, description="Largest turn between frames of a still, in degrees. Paper: not given."
    )
    shear: float = Field(
        10.0, ge=0, description="Largest shear between frames of a still, in degrees. Paper: not given."
    )
    zoom: float = Field(0.1, ge=0, lt=1, description="Largest zoom of a frame, each way; x and y apart. Paper: 0.1.")
    shift: float = Field(0.08, ge=0, description="Largest shift between frames, in sides. Paper: not given.")
    paste: float = Field(0.5, ge=0, le=1, description="Share of stills that get an object of another. Paper: 0.")
    leave: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of still clips whose last frame is another picture, with no object. Paper: 0.",
    )
    blur: float = Field(
        0.5, ge=0, le=1, description="Share of clips blurred as if enlarged, up to 2.5 times. Paper: 0."
    )
    colour: float = Field(0.1, ge=0, lt=1, description="Strength of colour jitter, apart for each frame. Paper: 0.")

    loss: Kind = Field("cross_entropy", description="Which loss. Paper: cross_entropy.")
    stills_length: int = Field(500_000, ge=0, description="Steps on stills; 0 for none. Paper: 500,000.")
    videos_length: int = Field(245_000, ge=0, description="Steps on videos; 0 for none. Paper: 245,000.")
    batch_size: int = Field(4, gt=0, description="Clips per step. Paper: 4.")
    optim: Optim = Field(
        Optim(name="adam", lr=1e-5, min_lr=1e-5, warmup=0.0, betas=(0.9, 0.999), weight_decay=0.0, clip_norm=None),
        description="Of both stages. Paper: Adam, 1e-5; its author later: reduced regularly.",
    )
    trunk_rate: float = Field(
        1.0, gt=0, le=1, description="Learning rate of the trunk over that of the rest. Paper: 1."
    )
    videos_rate: float = Field(1.0, gt=0, description="Learning rate on videos over that on stills. Paper: 1.")

    @model_validator(mode="after")
    def _fits(self) -> STMConfig:
        if self.stills_length + self.videos_length == 0:
            raise ValueError("stills_length (0) and videos_length (0) must not both be 0; there would be no training")
        if self.trunk_weights and self.network != "small":
            raise ValueError(
                f"trunk_weights ({self.trunk_weights!r}) fits network small, not {self.network}; load_official reads the paper's"
            )
        return self


def stm() -> STMConfig:
    """STM (+YV), DAVIS and YouTube-VOS: the paper's main row. From random weights unless loaded from a file."""
    return STMConfig()


def stm_small() -> STMConfig:
    """The light network as the starter weights were trained: small frames, larger steps, on CPUs in hours."""
    return STMConfig(
        network="small",
        frozen_stem=True,
        size=240,
        max_objects=2,
        min_pixels=60,
        rotate=25.0,
        shear=15.0,
        zoom=0.2,
        shift=0.15,
        max_skip=10,
        skip_rise=0.5,
        paste=0.7,
        loss="hardest_and_overlap",
        stills_length=3000,
        videos_length=2000,
        batch_size=4,
        optim=Optim(lr=4e-4, min_lr=1e-6, warmup=0.03, betas=(0.9, 0.99), weight_decay=0.01, clip_norm=3.0),
        trunk_rate=0.1,
        videos_rate=0.5,
    )


def stm_tiny() -> STMConfig:
    """For tests: 96 pixels, a narrow network from random weights."""
    return STMConfig(
        network="small",
        key_width=16,
        value_width=32,
        decoder_widths=(32, 24, 16),
        size=96,
        max_objects=2,
        min_pixels=16,
        max_skip=2,
        leave=0.0,
        loss="hardest_and_overlap",
        stills_length=300,
        videos_length=300,
        batch_size=4,
        optim=Optim(lr=2e-3, warmup=0.05, betas=(0.9, 0.99), weight_decay=0.0, clip_norm=5.0),
    )


RECIPES = {"stm": stm, "stm-small": stm_small, "stm-tiny": stm_tiny}
