"""What can be chosen in masked pre-training, and the rows of the papers' tables as recipes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vitascope.methods.base import Frozen, Optim
from vitascope.video.flow import FlowMethod

Prediction = Literal["pixels", "position", "shape", "visibility"]
MOTION = ("position", "shape", "visibility")


class MMEConfig(Frozen):
    """Masked pre-training of a video encoder, towards pixels (VideoMAE) or motion (MME).

    Paper values are those of VideoMAE, ViT-B on Kinetics-400, and for what only MME has those of its text; where its
    released code differs, that is told as "Release".
    """

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

    predicts: tuple[Prediction, ...] = Field(
        ("pixels",),
        min_length=1,
        description="What is predicted of masked tokens: pixels, or any of position (where tracks go), shape (HOG) and "
        "visibility (whether they stay in the frame). Paper: pixels in VideoMAE, position and shape in MME.",
    )
    track_steps: int = Field(6, gt=0, description="Steps of a track, in frames of the video. Paper: 6. Release: 4.")
    flow: FlowMethod = Field("dis-medium", description="Optical flow that carries the tracks. Paper: Farneback.")
    camera: Literal["none", "homography"] = Field(
        "none", description="Motion of the camera, taken off the positions. Paper: a homography."
    )
    tracker: Literal["float", "integer"] = Field(
        "float", description="Whether tracks move by parts of a pixel. Paper: not said. Release: integer."
    )
    end_where_inconsistent: bool = Field(
        False, description="End a track where the flow back does not agree; doubles the flow's cost. Paper: not done."
    )
    interpolate: bool = Field(
        True,
        description="Follow tracks through the frames between those of the clip. Paper: yes, its motion interpolation.",
    )
    position_norm: Literal["rms", "clip", "whole", "patch-std", "none"] = Field(
        "rms",
        description="How displacements are scaled; see `targets.normalise_moves`. Paper: whole. Release: patch-std.",
    )
    position_floor: float = Field(
        0.1, ge=0, description="Least scale of displacements in pixels, so that noise is not magnified. Paper: none."
    )
    visibility_weights: Literal["per_track", "any", "all", "off"] = Field(
        "per_track", description="Which displacements count: see `targets.move_weights`. Paper: not said. Release: any."
    )
    visibility_weight: float = Field(
        0.1,
        ge=0,
        description="Weight of the visibility term, if it is predicted. Paper: in its supplement, not at hand.",
    )
    shape: Literal["tracks", "grid"] = Field(
        "tracks",
        description="HOG along the tracks, or of the second frame of each tubelet. Paper: tracks. Release: grid.",
    )
    shape_gray: bool = Field(
        True, description="HOG of grey frames, or of each colour. Paper: not said. Release: colours."
    )
    shape_norm: Literal["standard", "l2hys", "none"] = Field(
        "standard", description="How HOG is normalised, per token or (l2hys) per cell. Paper: standard. Release: none."
    )
    head_dim: int | None = Field(
        512, gt=0, description="Hidden width of each head of motion, None for one linear layer. Paper: 512."
    )
    bounded_heads: bool = Field(
        False, description="Sigmoid after the shape's head, tanh after the position's. Paper: not said. Release: yes."
    )
    sum_loss: bool = Field(
        False,
        description="Sum the shape's errors over a token, as the release does, not average them. Release: yes. Paper: sum.",
    )
    shuffle: Literal["off", "frames", "frames-and-tracks"] = Field(
        "off",
        description="Permute the frames of each clip, for an experiment. What a token shows follows its frame; tracks "
        "keep their order, or follow too. Paper: frames.",
    )
    memory_mb: int = Field(
        0,
        ge=0,
        description="Memory of each loading process for decoded videos and their flow; those beyond it are read at every "
        "draw. Paper: none.",
    )

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

    @property
    def predicts_motion(self) -> bool:
        """Whether targets are made of tracks or HOG, and not of pixels."""
        return self.predicts != ("pixels",)

    @property
    def needs_flow(self) -> bool:
        """Whether something that is predicted follows tracks."""
        return self.predicts_motion and (self.predicts != ("shape",) or self.shape == "tracks")

    @property
    def num_steps(self) -> int:
        """Steps of a track as it is predicted: fewer than `track_steps` without interpolation."""
        return self.track_steps if self.interpolate else self.track_steps // self.stride_frames

    @property
    def shape_values(self) -> int:
        """Values of the shape's target of one token: HOG of 9 bins at 2 x 2 places."""
        return 4 * 9 * (1 if self.shape_gray else 3) * (self.num_steps if self.shape == "tracks" else 1)

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
        if self.predicts_motion and self.patch_size % 2:
            raise ValueError(f"patch_size ({self.patch_size}) must be even: a token owns 2 x 2 tracks")
        if self.predicts_motion and ("pixels" in self.predicts or len(set(self.predicts)) < len(self.predicts)):
            raise ValueError(
                f"predicts ({', '.join(self.predicts)}) must be pixels alone, or parts of motion ({', '.join(MOTION)}), "
                "each once"
            )
        owned = self.tubelet_frames * self.stride_frames
        if self.predicts_motion and self.track_steps > owned:
            raise ValueError(
                f"track_steps ({self.track_steps}) must be at most {owned}, the frames of the video that a tubelet covers"
            )
        if self.predicts_motion and not self.interpolate and self.track_steps < self.stride_frames:
            raise ValueError(
                f"track_steps ({self.track_steps}) must be at least stride_frames ({self.stride_frames}) without "
                "interpolation, where one step leads from frame to frame of the clip"
            )
        positions = self.grid[1] * self.grid[2]
        if not 0 < int(self.mask_ratio * positions) < positions:
            raise ValueError(
                f"mask_ratio ({self.mask_ratio}) masks {int(self.mask_ratio * positions)} of {positions} "
                "positions; at least one must be masked and one visible"
            )
        return self


SMALL = dict(embed_dim=384, num_heads=6, batch_size=64, optim=Optim(lr=2e-4, min_lr=1e-5, warmup=0.05, clip_norm=1.0))
PAPER_SCHEDULE = dict(  # of MME on Kinetics-400, and its small decoder
    mask_ratio=0.7,
    decoder_dim=192,
    decoder_depth=1,
    length=1600,
    batch_size=1024,
    optim=Optim(lr=6e-4, min_lr=4e-5, warmup=0.025, clip_norm=None),
)


def mme() -> MMEConfig:
    """Ours: tracks by DIS flow, float and bilinear, HOG along them, linear heads, the weights of VideoMAE's schedule."""
    return MMEConfig(predicts=MOTION, decoder_dim=192, decoder_depth=1, head_dim=512)


def mme_paper() -> MMEConfig:
    """The paper's text: Farneback flow, camera removed, six steps, HOG along the tracks, everything standardised."""
    return MMEConfig(
        **PAPER_SCHEDULE,
        predicts=("position", "shape"),
        flow="farneback",
        camera="homography",
        position_norm="whole",
        visibility_weights="any",
        sum_loss=True,
    )


def mme_release() -> MMEConfig:
    """The published code with its flaws kept: integer tracks of four steps, HOG of one frame, bounded heads."""
    return MMEConfig(
        **PAPER_SCHEDULE,
        predicts=("shape", "position"),
        track_steps=4,
        flow="farneback",
        tracker="integer",
        position_norm="patch-std",
        visibility_weights="any",
        shape="grid",
        shape_gray=False,
        shape_norm="none",
        bounded_heads=True,
        sum_loss=True,
    )


def mme_small() -> MMEConfig:
    """ViT-S for one GPU: batch 64, the rate scaled by the square root of the batch."""
    return MMEConfig(**SMALL, predicts=MOTION, decoder_dim=192, decoder_depth=1, decoder_heads=3)


def mme_tiny() -> MMEConfig:
    """For two CPU cores and minutes, as `videomae-tiny`; tracks of all the eight frames that a tubelet covers.

    Frames are so small that flow has to be of their own resolution, and videos so small that they can stay in memory.
    """
    motion = {"predicts": MOTION, "stride_frames": 4, "track_steps": 8, "decoder_depth": 1, "head_dim": 128}
    motion["optim"] = Optim(lr=5e-4, min_lr=1e-5, warmup=0.1, clip_norm=1.0)
    return MMEConfig.model_validate(videomae_tiny().model_dump() | motion | {"flow": "dis-fine", "memory_mb": 512})


def videomae() -> MMEConfig:
    """VideoMAE ViT-B on Kinetics-400, 800 epochs: the paper's main row."""
    return MMEConfig()


def videomae_small() -> MMEConfig:
    """ViT-S, a quarter of the parameters, for one GPU: batch 64, the rate scaled by the square root of the batch."""
    return MMEConfig(**SMALL, decoder_dim=192, decoder_heads=3)


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


RECIPES = {
    "mme": mme,
    "mme-small": mme_small,
    "mme-tiny": mme_tiny,
    "mme-paper": mme_paper,
    "mme-release": mme_release,
    "videomae": videomae,
    "videomae-small": videomae_small,
    "videomae-tiny": videomae_tiny,
}
