"""What can be chosen in contrastive pre-training on untrimmed video, and the rows of the paper's tables as recipes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vitascope.methods.base import Frozen, Optim

Backbone = Literal["s3dg", "s3d", "r2plus1d-10", "r3d-18", "tiny3d", "vit"]


class HiCoConfig(Frozen):
    """Hierarchical consistency learning. Paper values are those of its released recipe, S3D-G on HACS; "clip" is a window
    of `num_frames * stride_frames / target_fps` seconds, the same at any rate of the video."""

    backbone: Backbone = Field("s3dg", description="Network. Paper: S3D-G; R(2+1)D-10 and R3D-18 in its tables.")
    num_frames: int = Field(16, gt=0, description="Frames of a clip. Paper: 16.")
    stride_frames: int = Field(4, gt=0, description="Distance of two frames, at `target_fps`. Paper: 4.")
    target_fps: float = Field(30.0, gt=0, description="Rate at which a clip is counted. Paper: 30.")
    size: int = Field(112, gt=0, description="Height and width of a clip, in pixels. Paper: 112.")
    short_side: int = Field(
        256, gt=0, description="Short side in pixels at which videos are read, before the crop. Paper: as they are."
    )

    sampling: Literal["hico", "fixed", "simclr", "cvrl"] = Field(
        "hico",
        description="Clips of a video: two near ones, whose distance grows with training (fixed: as far from the start), and "
        "one anywhere; or two: anywhere (simclr), or near ones likelier (cvrl). Paper: hico.",
    )
    delta_seconds: float = Field(1.0, ge=0, description="Largest distance of the near clips' centres. Paper: 1.")
    topic_min_gap_seconds: float = Field(
        0.0,
        ge=0,
        description="Least distance of the third clip from both, where the video is long enough. Paper: 0.",
    )
    content: Literal["off", "cuts", "content"] = Field(
        "off",
        description="Draw clips by what the index of shots says: none with a cut inside, or also pairs by their content. "
        "Paper: off.",
    )
    content_delta_seconds: float = Field(
        8.0, ge=0, description="With `content`: largest distance of the near clips within a shot. Paper: none."
    )
    content_reentry: float = Field(
        0.3,
        ge=0,
        le=1,
        description="With `content`: how often the second is of another shot of the place. Paper: none.",
    )
    content_topic_scale: float = Field(
        2.0, gt=0, description="With `content`: likeness from which on the third counts in full. Paper: none."
    )
    content_most_alike: float = Field(
        4.0, description="With `content`: likeness from which on clips of two videos are no negatives. Paper: none."
    )

    crop_area: tuple[float, float] = Field(
        (0.3243, 0.5765), description="Share of the frame that a crop covers, a square. Paper: 0.3243 to 0.5765."
    )
    colour_jitter: float = Field(
        0.8, ge=0, le=1, description="Change of brightness, contrast, saturation; hue a quarter of it. Paper: 0.8."
    )
    colour_probability: float = Field(0.8, ge=0, le=1, description="Share of the clips it is applied to. Paper: 0.8.")
    grey_probability: float = Field(0.2, ge=0, le=1, description="Share of the clips made grey. Paper: 0.2.")
    flip: bool = Field(True, description="Mirror every other clip. Paper: yes.")

    topical: bool = Field(True, description="Learn topics too; without it the near clips alone. Paper: yes.")
    topic_scope: Literal["local", "global"] = Field(
        "local", description="Topical pairs of one process, or of all. Paper: local."
    )
    temperature: float = Field(0.1, gt=0, description="Of the visual term. Paper: 0.1.")
    focal_gamma: float = Field(0.5, ge=0, description="Of the topical term. Paper: 0.5.")
    topical_weight: float = Field(1.0, ge=0, description="Of the topical term. Paper: 1.")
    hidden_dim: int = Field(1024, gt=0, description="Hidden width of both projection heads. Paper: 1024.")
    projection_dim: int = Field(128, gt=0, description="Width of the embeddings. Paper: 128.")
    head_norm: Literal["batch", "layer"] = Field(
        "batch", description="Norm of the heads; with batch, clips of a process depend on each other. Paper: batch."
    )
    chunk_clips: int | None = Field(
        None,
        gt=0,
        description="Clips that go through the network at once, computed again for the gradient: memory does not grow with "
        "the batch. None: all at once. Paper: none.",
    )
    memory_mb: int = Field(
        0, ge=0, description="Memory of each loading process for decoded videos of small data. Paper: none."
    )

    tubelet_frames: int = Field(2, gt=0, description="Of `vit`: frames of one token. Paper: none.")
    patch_size: int = Field(16, gt=0, description="Of `vit`: height and width of one token, in pixels. Paper: none.")
    embed_dim: int = Field(768, gt=0, description="Of `vit`: width. Paper: none.")
    depth: int = Field(12, gt=0, description="Of `vit`: blocks. Paper: none.")
    num_heads: int = Field(12, gt=0, description="Of `vit`: attention heads. Paper: none.")
    mlp_ratio: float = Field(4.0, gt=0, description="Of `vit`: hidden width over width. Paper: none.")
    layer_norm_eps: float = Field(1e-6, gt=0, description="Of `vit`: epsilon of every norm. Paper: none.")
    tiny_width: int = Field(32, gt=0, description="Of `tiny3d`: channels of its first layer. Paper: none.")

    length: int = Field(120, gt=0, description="How long to train, in `unit`. Paper: 120 epochs (long: 600).")
    unit: Literal["steps", "epochs"] = Field("epochs", description="Unit of `length`. Paper: epochs.")
    batch_size: int = Field(
        1024, gt=1, description="Videos per optimiser step, over all processes. Paper: not said; 32 a GPU."
    )
    optim: Optim = Field(
        Optim(
            name="lars",
            lr=3.6,
            warmup=5 / 120,
            warmup_lr=1e-3,
            betas=(0.9, 0.999),
            nesterov=True,
            weight_decay=1e-6,
            clip_norm=None,
        ),
        description="Paper: LARS, Nesterov's momentum 0.9, decay 1e-6, rate 0.3 per 256 clips, 5 epochs of warm-up from 0.001.",
    )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens of `vit` along T, H, W."""
        side = self.size // self.patch_size
        return self.num_frames // self.tubelet_frames, side, side

    @property
    def clip_seconds(self) -> float:
        """Length of a clip."""
        return self.num_frames * self.stride_frames / self.target_fps

    @property
    def num_clips(self) -> int:
        """Clips of a video in a batch."""
        return 3 if self.sampling in ("hico", "fixed") else 2

    @model_validator(mode="after")
    def _fits(self) -> HiCoConfig:
        if self.topical and self.num_clips < 3:
            raise ValueError(f"topical (True) needs a third clip: sampling hico or fixed, and not {self.sampling}")
        if self.content != "off" and self.num_clips < 3:
            raise ValueError(f"content ({self.content}) needs sampling hico or fixed, and not {self.sampling}")
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area ({self.crop_area}) must be a range within (0, 1]")
        if self.backbone == "vit":
            for whole, part in (("size", "patch_size"), ("num_frames", "tubelet_frames"), ("embed_dim", "num_heads")):
                if getattr(self, whole) % getattr(self, part):
                    raise ValueError(
                        f"{whole} ({getattr(self, whole)}) must be a multiple of {part} ({getattr(self, part)})"
                    )
        return self


def hico() -> HiCoConfig:
    """The paper's short recipe: S3D-G on HACS, 120 epochs."""
    return HiCoConfig()


def hico_long() -> HiCoConfig:
    """The paper's long recipe: 600 epochs, 60 of warm-up."""
    return HiCoConfig(length=600, optim=HiCoConfig().optim.model_copy(update={"warmup": 0.1}))


def hico_r2plus1d() -> HiCoConfig:
    """The paper's R(2+1)D-10 on untrimmed Kinetics: 500 epochs, 50 of warm-up."""
    return HiCoConfig(backbone="r2plus1d-10", length=500, optim=HiCoConfig().optim.model_copy(update={"warmup": 0.1}))


def hico_small() -> HiCoConfig:
    """S3D-G for one GPU: 64 videos a step through chunks of 48 clips, AdamW."""
    optim = Optim(lr=5e-4, min_lr=1e-6, warmup=0.05, weight_decay=0.05, clip_norm=1.0)
    return HiCoConfig(batch_size=64, chunk_clips=48, optim=optim)


TINY = dict(
    backbone="tiny3d",
    num_frames=8,
    stride_frames=4,
    target_fps=16.0,
    size=64,
    short_side=80,
    delta_seconds=4.0,  # nearer ones are told too easily to learn from (`vitascope repro hico`)
    colour_jitter=0.3,
    grey_probability=0.1,
    hidden_dim=256,
    memory_mb=512,
    length=600,
    unit="steps",
    batch_size=16,
    optim=Optim(lr=1e-3, min_lr=1e-5, warmup=0.1, weight_decay=0.05, clip_norm=1.0),
)


def hico_tiny() -> HiCoConfig:
    """For two CPU cores and minutes: 2 s clips of 8 frames of 64 pixels, half the change of colours, a small network."""
    return HiCoConfig(**TINY)


def simclr_tiny() -> HiCoConfig:
    """The baseline of the paper's tables: two clips from anywhere in a video, no topics."""
    return HiCoConfig(**TINY, sampling="simclr", topical=False)


def cvrl_tiny() -> HiCoConfig:
    """Two clips of a video, near ones likelier, as CVRL draws them; no topics."""
    return HiCoConfig(**TINY, sampling="cvrl", topical=False)


RECIPES = {
    "hico": hico,
    "hico-long": hico_long,
    "hico-r2plus1d": hico_r2plus1d,
    "hico-small": hico_small,
    "hico-tiny": hico_tiny,
    "simclr-tiny": simclr_tiny,
    "cvrl-tiny": cvrl_tiny,
}
