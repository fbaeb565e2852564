"""What can be chosen in masked pre-training, and the rows of the papers' tables as recipes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vitascope.methods.base import Frozen, Optim


class MMEConfig(Frozen):
    """Masked pre-training of a video encoder. Paper values are those of VideoMAE, ViT-B on Kinetics-400."""

    num_frames: int = Field(16, gt=0, description="Frames of a clip. Paper: 16.")
    stride_frames: int = Field(
        4, gt=0, description="Distance of two frames of a clip, in frames of the video. Paper: 4."
    )
    size: int = Field(224, gt=0, description="Height and width of a clip, in pixels. Paper: 224.")
    short_side: int = Field(
        320, gt=0, description="Short side in pixels at which videos are read, before the crop. Paper: 320."
    )
    crop_scales: tuple[float, ...] = Field(
        (1.0, 0.875, 0.75, 0.66),
        min_length=1,
        description="Crop sides over the short side, drawn for width and height. Paper: 1, 0.875, 0.75, 0.66.",
    )
    tubelet_frames: int = Field(2, gt=0, description="Frames of one token. Paper: 2.")
    patch_size: int = Field(16, gt=0, description="Height and width of one token, in pixels. Paper: 16.")
    mask_ratio: float = Field(0.9, gt=0, lt=1, description="Share of the tokens that is masked. Paper: 0.9.")

    embed_dim: int = Field(768, gt=0, description="Width of the encoder. Paper: 768.")
    depth: int = Field(12, gt=0, description="Blocks of the encoder. Paper: 12.")
    num_heads: int = Field(12, gt=0, description="Attention heads of the encoder. Paper: 12.")
    mlp_ratio: float = Field(4.0, gt=0, description="Hidden width of every MLP over the block's width. Paper: 4.")
    layer_norm_eps: float = Field(1e-6, gt=0, description="Epsilon of every LayerNorm. Paper: 1e-6.")
    decoder_dim: int = Field(384, gt=0, description="Width of the decoder. Paper: 384.")
    decoder_depth: int = Field(4, ge=0, description="Blocks of the decoder. Paper: 4.")
    decoder_heads: int = Field(6, gt=0, description="Attention heads of the decoder. Paper: 6.")

    length: int = Field(800, gt=0, description="How long to train, in `unit`. Paper: 800 (and 1600) epochs.")
    unit: Literal["steps", "epochs"] = Field("epochs", description="Unit of `length`. Paper: epochs.")
    batch_size: int = Field(2048, gt=0, description="Clips per optimiser step, over all processes. Paper: 2048.")
    optim: Optim = Field(
        Optim(lr=1.2e-3, min_lr=8e-5, warmup=0.05, clip_norm=None),
        description="Paper: AdamW, betas 0.9 and 0.95, decay 0.05, rate 1.5e-4 per 256 clips, 40 epochs of warm-up.",
    )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along T, H, W of a training clip."""
        side = self.size // self.patch_size
        return self.num_frames // self.tubelet_frames, side, side

    @model_validator(mode="after")
    def _fits(self) -> MMEConfig:
        pairs = (
            ("size", "patch_size"),
            ("num_frames", "tubelet_frames"),
            ("embed_dim", "num_heads"),
            ("decoder_dim", "decoder_heads"),
        )
        for whole, part in pairs:
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole} ({getattr(self, whole)}) must be a multiple of {part} ({getattr(self, part)})"
                )
        if not all(0 < scale <= 1 for scale in self.crop_scales):
            raise ValueError(f"crop_scales ({self.crop_scales}) must be in (0, 1]")
        positions = self.grid[1] * self.grid[2]
        if not 0 < int(self.mask_ratio * positions) < positions:
            raise ValueError(
                f"mask_ratio ({self.mask_ratio}) masks {int(self.mask_ratio * positions)} of {positions} "
                "positions; at least one must be masked and one visible"
            )
        return self


def videomae() -> MMEConfig:
    """VideoMAE ViT-B on Kinetics-400, 800 epochs: the paper's main row."""
    return MMEConfig()


def videomae_small() -> MMEConfig:
    """ViT-S, a quarter of the parameters, for one GPU: batch 64, the rate scaled by the square root of the batch."""
    return MMEConfig(
        embed_dim=384,
        num_heads=6,
        decoder_dim=192,
        decoder_heads=3,
        batch_size=64,
        optim=Optim(lr=2e-4, min_lr=1e-5, warmup=0.05, clip_norm=1.0),
    )


def videomae_tiny() -> MMEConfig:
    """For two CPU cores and minutes: 8 frames of 64 pixels, smaller patches, less masked because so few tokens are left."""
    return MMEConfig(
        num_frames=8,
        stride_frames=2,
        size=64,
        short_side=80,
        patch_size=8,
        mask_ratio=0.75,
        embed_dim=128,
        depth=4,
        num_heads=4,
        decoder_dim=96,
        decoder_depth=2,
        decoder_heads=3,
        length=1000,
        unit="steps",
        batch_size=8,
        optim=Optim(lr=1e-3, min_lr=1e-5, warmup=0.1, clip_norm=1.0),
    )


RECIPES = {"videomae": videomae, "videomae-small": videomae_small, "videomae-tiny": videomae_tiny}
