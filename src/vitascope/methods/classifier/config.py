"""What can be chosen in training a classifier, and the rows of the papers' tables as recipes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vitascope.methods.base import Frozen, Optim


class ClassifierConfig(Frozen):
    """A classifier of clips. Paper values are those of MME's fine-tuning of ViT-B on Kinetics-400."""

    classes: tuple[str, ...] = Field(
        (), description="Names of the classes; where none are given, those of the data, sorted. Paper: 400 of Kinetics."
    )
    num_frames: int = Field(16, gt=0, description="Frames of a clip. Paper: 16.")
    stride_frames: int = Field(
        4, gt=0, description="Distance of two frames of a clip, in frames of the video. Paper: 4."
    )
    size: int = Field(224, gt=0, description="Height and width of a clip, in pixels. Paper: 224.")
    short_side: int = Field(
        320, gt=0, description="Short side in pixels at which videos are read, before the crop. Paper: 320."
    )
    tubelet_frames: int = Field(2, gt=0, description="Frames of one token. Paper: 2.")
    patch_size: int = Field(16, gt=0, description="Height and width of one token, in pixels. Paper: 16.")
    embed_dim: int = Field(768, gt=0, description="Width of the encoder. Paper: 768.")
    depth: int = Field(12, gt=0, description="Blocks of the encoder. Paper: 12.")
    num_heads: int = Field(12, gt=0, description="Attention heads of the encoder. Paper: 12.")
    mlp_ratio: float = Field(4.0, gt=0, description="Hidden width of every MLP over the block's width. Paper: 4.")
    layer_norm_eps: float = Field(1e-6, gt=0, description="Epsilon of every LayerNorm. Paper: 1e-6.")

    learns: Literal["all", "head"] = Field(
        "all", description="Everything, or the last linear layer alone (linear probe). Paper: all."
    )
    sampling: Literal["dense", "linspace", "segments"] = Field(
        "dense",
        description="Frames of a training clip: `stride_frames` apart; the release's points spread over the same stretch, "
        "4.27 apart; or one of each of `num_frames` equal parts of the video. Paper: linspace; segments on "
        "Something-Something.",
    )
    flip: bool = Field(
        True,
        description="Mirror every other clip: only where left and right mean the same. Paper: yes; no on "
        "Something-Something.",
    )
    crop_area: tuple[float, float] = Field(
        (0.25, 1.0), description="Share of the frame that a training crop covers. Paper: 0.25 to 1; VideoMAE 0.08 to 1."
    )
    crop_aspect: tuple[float, float] = Field(
        (0.75, 4 / 3), description="Width over height of a training crop. Paper: 0.75 to 1.333."
    )
    colour_jitter: float = Field(
        0.4,
        ge=0,
        le=1,
        description="Change of brightness, contrast and saturation. Paper: RandAugment m7 n4 in its place.",
    )
    mixup: float = Field(0.8, ge=0, description="Beta's parameter of mixup, 0 for none. Paper: 0.8.")
    cutmix: float = Field(1.0, ge=0, description="Beta's parameter of cutmix, 0 for none. Paper: 1.0.")
    mix_probability: float = Field(1.0, ge=0, le=1, description="Share of the samples that are mixed. Paper: 1.")
    cutmix_share: float = Field(0.5, ge=0, le=1, description="Share of cutmix among them, if both are on. Paper: 0.5.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Part of a label spread over all classes. Paper: 0.1.")
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth of the last block. Paper: 0.1.")
    test_clips: int = Field(7, gt=0, description="Clips of a test, spread over the video. Paper: 7; VideoMAE 5.")
    test_crops: Literal[1, 3] = Field(3, description="Crops of each, along the longer side. Paper: 3.")
    memory_mb: int = Field(
        0, ge=0, description="Memory of each loading process for decoded frames of small data. Paper: none."
    )

    length: int = Field(75, gt=0, description="How long to train, in `unit`. Paper: 75 epochs.")
    unit: Literal["steps", "epochs"] = Field("epochs", description="Unit of `length`. Paper: epochs.")
    batch_size: int = Field(512, gt=0, description="Clips per optimiser step, over all processes. Paper: not said.")
    optim: Optim = Field(
        Optim(
            lr=2e-3,
            min_lr=2e-6,
            warmup=5 / 75,
            betas=(0.9, 0.999),
            weight_decay=0.05,
            layer_decay=0.75,
            clip_norm=None,
        ),
        description="Paper: AdamW, betas 0.9 and 0.999, decay 0.05, rate 1e-3 per 256 clips, 0.75 a layer, 5 epochs of "
        "warm-up.",
    )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along T, H, W of a training clip."""
        side = self.size // self.patch_size
        return self.num_frames // self.tubelet_frames, side, side

    @model_validator(mode="after")
    def _fits(self) -> ClassifierConfig:
        for whole, part in (("size", "patch_size"), ("num_frames", "tubelet_frames"), ("embed_dim", "num_heads")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole} ({getattr(self, whole)}) must be a multiple of {part} ({getattr(self, part)})"
                )
        if len(set(self.classes)) < len(self.classes) or len(self.classes) == 1:
            raise ValueError(f"classes ({', '.join(self.classes)}) must be at least two, each once")
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area ({self.crop_area}) must be a range within (0, 1]")
        if not 0 < self.crop_aspect[0] <= self.crop_aspect[1]:
            raise ValueError(f"crop_aspect ({self.crop_aspect}) must be a range of numbers > 0")
        return self


SMALL = {"embed_dim": 384, "num_heads": 6}
TINY = {
    "num_frames": 8,
    "stride_frames": 2,
    "size": 64,
    "short_side": 80,
    "patch_size": 8,
    "embed_dim": 128,
    "depth": 4,
    "num_heads": 4,
    "flip": False,
    "crop_area": (0.5, 1.0),
    "colour_jitter": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "label_smoothing": 0.0,
    "drop_path": 0.0,
    "test_clips": 3,
    "memory_mb": 512,
    "unit": "steps",
    "batch_size": 8,
}


def finetune() -> ClassifierConfig:
    """ViT-B on Kinetics-400, all of it learning: the paper's main row."""
    return ClassifierConfig()


def finetune_small() -> ClassifierConfig:
    """ViT-S for one GPU: batch 32, the rate scaled by the square root of the batch."""
    optim = Optim(lr=5e-4, min_lr=1e-6, warmup=5 / 75, betas=(0.9, 0.999), layer_decay=0.75, clip_norm=1.0)
    return ClassifierConfig(**SMALL, batch_size=32, optim=optim)


def finetune_tiny() -> ClassifierConfig:
    """For two CPU cores and minutes: 8 frames of 64 pixels, little augmentation, no mirror (it would swap directions)."""
    optim = Optim(lr=1e-3, min_lr=1e-5, warmup=0.1, betas=(0.9, 0.999), layer_decay=0.75, clip_norm=1.0)
    return ClassifierConfig(**TINY, length=400, optim=optim)


def probe() -> ClassifierConfig:
    """The release's linear probe of ViT-B: only the head learns, under all augmentations, 30 epochs."""
    optim = Optim(lr=2e-3, min_lr=2e-6, warmup=5 / 30, betas=(0.9, 0.999), weight_decay=0.05, clip_norm=None)
    return ClassifierConfig(learns="head", length=30, optim=optim)


def probe_tiny() -> ClassifierConfig:
    """The same at the size of `finetune-tiny`, under its few augmentations."""
    optim = Optim(lr=1e-2, min_lr=1e-4, warmup=0.1, betas=(0.9, 0.999), weight_decay=0.05, clip_norm=1.0)
    return ClassifierConfig(**TINY, learns="head", length=400, optim=optim)


RECIPES = {
    "finetune": finetune,
    "finetune-small": finetune_small,
    "finetune-tiny": finetune_tiny,
    "probe": probe,
    "probe-tiny": probe_tiny,
}
