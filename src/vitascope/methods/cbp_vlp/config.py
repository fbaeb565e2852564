"""What can be chosen in learning when actions happen from tags alone, and the rows of the paper's tables as recipes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vitascope.methods.base import Frozen, Optim

MANY_CLASSES = 12  # from here on a softmax over the classes alone can tell background: its even level is below `low`
CONSTANT = Optim(name="adam", lr=1e-4, min_lr=1e-4, warmup=0.0, betas=(0.9, 0.999), weight_decay=1e-4)


class CbpVlpConfig(Frozen):
    """Classification (CBP) and image-text (VLP) branches that teach each other. Paper values are those of THUMOS14."""

    classes: tuple[str, ...] = Field(
        (),
        description="Names of the actions; where none are given, the tags of the data, sorted. Paper: 20 of THUMOS14.",
    )
    prompt_names: tuple[str, ...] = Field(
        (), description="What the text encoder is given in the place of `classes`, in their order. Paper: the names."
    )
    dim: int = Field(2048, gt=0, description="Width of the CBP features. Paper: 2048, of I3D, RGB and flow.")
    encoder: str = Field("", description="What made the CBP features; told by the command, for later. Paper: I3D.")
    hop_seconds: float = Field(0.64, gt=0, description="Distance of two snippets. Paper: 16 frames at 25 a second.")
    clip: str = Field(
        "tiny",
        description="Image-text encoder: a local folder or file, `tiny` for the package's own, or empty for no VLP branch. "
        "Paper: CLIP ViT-B/16.",
    )

    max_snippets: int = Field(
        1000,
        gt=0,
        description="Snippets of a training sample; longer videos are cropped. Paper: 1000; ActivityNet 400.",
    )
    sampling: Literal["crop", "stratified"] = Field(
        "crop",
        description="Of longer videos: consecutive snippets, or one of each of `max_snippets` equal parts. Paper: crop.",
    )
    background: Literal["auto", "none", "zero", "class"] = Field(
        "auto",
        description="A logit for background besides the classes: none, a constant 0, a learned one; auto learns one below "
        f"{MANY_CLASSES} classes. Paper: none.",
    )
    vlp_background: Literal["auto", "none", "class"] = Field(
        "auto", description="The same for the VLP branch. Paper: none."
    )
    topk_ratio: int = Field(8, gt=0, description="A video's logit is the mean of its T / this best. Paper: not said.")

    cbp: Literal["transformer", "mil", "untrimmednet", "basnet", "co2net"] = Field(
        "transformer", description="Network of the CBP branch. Paper: transformer; others in its ablation."
    )
    width: int = Field(512, gt=0, description="Width of the CBP transformer. Paper: not said.")
    depth: int = Field(2, gt=0, description="Its blocks. Paper: not said.")
    num_heads: int = Field(8, gt=0, description="Its attention heads. Paper: not said.")
    window: int | None = Field(
        8,
        gt=0,
        description="Snippets before and after that attention sees; None: all, which collapses. Paper: not said.",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Of the CBP branch. Paper: not said.")

    vlp_depth: int = Field(2, gt=0, description="Blocks of the VLP branch. Paper: 2.")
    vlp_heads: int = Field(8, gt=0, description="Its attention heads. Paper: not said.")
    vlp_window: int | None = Field(8, gt=0, description="As `window`. Paper: not said.")
    num_prefix: int = Field(16, ge=0, description="Learned vectors before the class name. Paper: 16.")
    num_postfix: int = Field(16, ge=0, description="Learned vectors after it. Paper: 16.")
    postfix: Literal["shared", "positional"] = Field(
        "shared", description="Vectors after the name by their number, or by their place in the text. Paper: not said."
    )
    similarity_temperature: float = Field(
        0.01, ge=0.005, le=0.1, description="Of image-text likeness at the start; learned. Paper: not said."
    )

    high: float = Field(0.3, gt=0, lt=1, description="Probability from which on foreground is confident. Paper: 0.3.")
    low: float = Field(0.1, gt=0, lt=1, description="Probability below which background is confident. Paper: 0.1.")
    normalise: Literal["none", "video_minmax"] = Field(
        "none", description="Of the probabilities before these thresholds, by video. Paper: none."
    )
    trust: Literal["both", "own"] = Field(
        "both",
        description="Of a teacher: foreground and background, or its strong side alone, which collapses. Paper: both.",
    )
    divergence: Literal["bernoulli", "categorical"] = Field(
        "bernoulli",
        description="Distillation of each class by itself, or over classes, which collapses. Paper: not said.",
    )
    kd_weight: float = Field(1.0, ge=0, description="Of the distillation. Paper: 1.")
    fb_weight: float = Field(0.05, ge=0, description="Of the contrast of foreground and background. Paper: 0.05.")
    fb_temperature: float = Field(0.07, gt=0, description="Of that contrast. Paper: 0.07.")
    fb_scope: Literal["video", "batch"] = Field(
        "video", description="Frames that are compared: of one video, or of a batch. Paper: not said."
    )
    keep_warmup: float = Field(0.0, ge=0, description="Weight of the warm-up's loss in the F steps. Paper: not said.")

    supervised: bool = Field(
        False,
        description="Learn the CBP branch from the true times of actions (a third file of features), and nothing else: what tags "
        "can at best come to. Paper: no.",
    )
    warmup_steps: int = Field(2000, gt=0, description="Steps of the CBP branch on tags alone. Paper: not said.")
    rounds: int = Field(3, ge=0, description="Rounds of B and F steps after that. Paper: not said.")
    b_steps: int = Field(500, ge=0, description="Steps in which CBP teaches VLP, a round. Paper: not said.")
    f_steps: int = Field(500, ge=0, description="Steps in which VLP teaches CBP, a round. Paper: not said.")
    batch_size: int = Field(16, gt=0, description="Videos per optimiser step. Paper: not said.")
    cbp_optim: Optim = Field(CONSTANT, description="Of the CBP branch. Paper: Adam, 1e-4.")
    vlp_optim: Optim = Field(
        CONSTANT.model_copy(update={"weight_decay": 0.0}), description="Of the VLP branch. Paper: Adam, 1e-4."
    )

    output: Literal["cbp", "vlp", "mean", "weighted"] = Field(
        "cbp", description="Branch that timelines are read from, or a mean of both. Paper: cbp."
    )
    cbp_share: float = Field(0.7, ge=0, le=1, description="With `weighted`: share of CBP. Paper: not said.")
    class_gate: float = Field(
        0.85, ge=0, le=1, description="Score from which on a class is in the video; the best always is. Paper: 0.85."
    )
    video_score: Literal["logits", "probabilities"] = Field(
        "logits",
        description="How much a class is in a video: a softmax over classes of pooled logits, in which the actions of a video "
        "compete, or pooled probabilities, in which they do not. Paper: not said.",
    )
    gate: Literal["relative", "absolute"] = Field(
        "relative", description="Whether this counts from the best class's score. Paper: not said."
    )
    thresholds: tuple[float, ...] = Field((0.45,), description="At which curves are cut into proposals. Paper: 0.45.")
    upsample: int = Field(24, gt=0, description="Points a snippet at which curves are cut. Paper: not said.")
    nms_sigma: float = Field(0.3, gt=0, description="Of the Gaussian soft-NMS of each class. Paper: not said.")
    max_proposals: int = Field(200, gt=0, description="Proposals kept of a video. Paper: not said.")

    @property
    def background_kind(self) -> Literal["none", "zero", "class"]:
        """`background`, decided; BaS-Net and CO2-Net always have one of their own."""
        if self.cbp in ("basnet", "co2net"):
            return "class"
        if self.background != "auto":
            return self.background
        return "class" if len(self.classes) < MANY_CLASSES else "none"

    @property
    def vlp_background_kind(self) -> Literal["none", "class"]:
        """`vlp_background`, decided."""
        if self.vlp_background != "auto":
            return self.vlp_background
        return "class" if len(self.classes) < MANY_CLASSES else "none"

    @model_validator(mode="after")
    def _fits(self) -> CbpVlpConfig:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes ({', '.join(self.classes)}) must each be named once")
        if self.prompt_names and len(self.prompt_names) != len(self.classes):
            raise ValueError(
                f"prompt_names ({len(self.prompt_names)}) must be as many as classes ({len(self.classes)}), in their order"
            )
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be < high ({self.high})")
        if not self.thresholds or not all(0 < value < 1 for value in self.thresholds):
            raise ValueError(f"thresholds ({self.thresholds}) must be one or more numbers between 0 and 1")
        if not self.clip and (self.output != "cbp" or (self.rounds and self.b_steps + self.f_steps)):
            raise ValueError(
                f"clip ('') leaves the CBP branch alone, so output ({self.output}) must be cbp and rounds ({self.rounds}) 0"
            )
        return self


def cbp_vlp() -> CbpVlpConfig:
    """The paper's THUMOS14 setting, with what it leaves open as its specification decides."""
    return CbpVlpConfig()


def cbp_vlp_anet() -> CbpVlpConfig:
    """ActivityNet-1.2: 400 snippets."""
    return CbpVlpConfig(max_snippets=400)


def only_b() -> CbpVlpConfig:
    """Ablation: CBP teaches VLP alone; both are averaged."""
    return CbpVlpConfig(f_steps=0, rounds=1, b_steps=1500, output="mean")


def only_f() -> CbpVlpConfig:
    """Ablation: VLP, as it comes, teaches CBP alone; both are averaged."""
    return CbpVlpConfig(b_steps=0, rounds=1, f_steps=1500, output="mean")


def without_kd() -> CbpVlpConfig:
    """Ablation: no distillation."""
    return CbpVlpConfig(kd_weight=0.0)


def without_fb() -> CbpVlpConfig:
    """Ablation: no contrast of foreground and background."""
    return CbpVlpConfig(fb_weight=0.0)


def cbp_only() -> CbpVlpConfig:
    """The CBP branch on tags alone: no image-text encoder is needed."""
    return CbpVlpConfig(clip="", rounds=0)


def cbp_vlp_small() -> CbpVlpConfig:
    """For 2 cores: a CBP branch of one convolution, fewer steps at a higher rate, and F steps alone.

    A CBP branch that has learned little from few videos teaches the VLP branch its errors in B steps; one that has learned
    much gains by F steps as much as by both. Timelines are read from both branches, since either may be the better one.
    """
    return _small(CbpVlpConfig()).model_copy(update={"rounds": 1, "b_steps": 0, "f_steps": 150, "output": "weighted"})


def cbp_only_small() -> CbpVlpConfig:
    """For 2 cores, and without an image-text encoder: one convolution, which from few videos learns more than a transformer."""
    return _small(cbp_only())


def cbp_vlp_tiny() -> CbpVlpConfig:
    """For tests: seconds, and every stage."""
    steps = {"cbp": "transformer", "warmup_steps": 40, "b_steps": 10, "f_steps": 10, "rounds": 1, "batch_size": 4}
    sizes: dict = {
        "dim": 32,
        "width": 32,
        "num_heads": 4,
        "depth": 1,
        "max_snippets": 64,
        "num_prefix": 4,
        "num_postfix": 4,
        "dropout": 0.0,
    }
    return _small(CbpVlpConfig()).model_copy(update=steps | sizes)


def _small(config: CbpVlpConfig) -> CbpVlpConfig:
    fast = {"lr": 1e-3, "min_lr": 1e-4}
    changes = {
        "cbp": "mil",
        "width": 128,
        "num_heads": 4,
        "warmup_steps": 200,
        "video_score": "probabilities",
        "class_gate": 0.25,
        "cbp_optim": config.cbp_optim.model_copy(update=fast),
        "vlp_optim": config.vlp_optim.model_copy(update=fast),
    }
    return config.model_copy(update=changes)


RECIPES = {
    "cbp-vlp": cbp_vlp,
    "cbp-vlp-anet": cbp_vlp_anet,
    "cbp-vlp-only-b": only_b,
    "cbp-vlp-only-f": only_f,
    "cbp-vlp-without-kd": without_kd,
    "cbp-vlp-without-fb": without_fb,
    "cbp-only": cbp_only,
    "cbp-vlp-small": cbp_vlp_small,
    "cbp-only-small": cbp_only_small,
    "cbp-vlp-tiny": cbp_vlp_tiny,
}
