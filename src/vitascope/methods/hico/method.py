"""Contrastive pre-training on untrimmed video: the glue.

Learning from Untrimmed Videos: Self-Supervised Video Representation Learning with Hierarchical Consistency (Zhiwu Qing,
Shiwei Zhang, Ziyuan Huang, Yi Xu, Xiang Wang, Mingqian Tang, Changxin Gao, Rong Jin, Nong Sang; CVPR 2022).

Differs from the paper:
- Progress of the gradual sampling is that of each draw, not of an epoch told to the loading processes: it resumes exactly.
- A video that cannot be read is left out and reported; the release takes its neighbour in the list.
- Both maps of topical pairs are transposes of each other, so one is made.
- The predictor begins with weights that fit unit vectors, so that it tells pairs apart from the start.
- The release's blur has a kernel of one pixel and does nothing, so there is none.
- The gather passes gradients on, so no factor makes up for those that are lost.
- Clips of a pair may be guided by an index of shots (`content`), which the paper has not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Batch, Method, Snippet, Stage
from vitascope.methods.hico.config import RECIPES, HiCoConfig
from vitascope.methods.hico.content import Guide
from vitascope.methods.hico.data import Augment, HicoClips
from vitascope.methods.hico.loss import hico_loss
from vitascope.methods.hico.model import VIT_SIZES, HiCoModel, make_encoder
from vitascope.methods.hico.sampling import Sampling
from vitascope.structures import Record
from vitascope.video.shots import WIDTH as LOOK_WIDTH
from vitascope.video.transforms import centre_crop, normalise, resize

MEAN, STD = (0.45,) * 3, (0.225,) * 3  # of pixels in [0, 1], as the paper normalises them
TEST_CROP = 0.875  # of the frame's short side that features are of


class HiCo(Method):
    """Hierarchical consistency, after `config`.

    Example:
        >>> method = HiCo(HiCo.recipes["hico-tiny"]())
        >>> method.features(torch.zeros(1, 8, 3, 120, 160, dtype=torch.uint8)).shape
        torch.Size([1, 256])
    """

    recipes = RECIPES
    config: HiCoConfig
    compares_samples = True

    def __init__(self, config: HiCoConfig) -> None:
        super().__init__()
        self.config = config
        clip = {name: getattr(config, name) for name in ("num_frames", "stride_frames")}
        self.snippet = Snippet(**clip, fps=config.target_fps, size=round(config.size / TEST_CROP))
        vit = {name: getattr(config, name) for name in VIT_SIZES}
        encoder = make_encoder(config.backbone, config.tiny_width, grid=config.grid, **vit)
        self.model = HiCoModel(
            encoder,
            config.embed_dim if config.backbone == "vit" else encoder.dim,
            topical=config.topical,
            hidden_dim=config.hidden_dim,
            projection_dim=config.projection_dim,
            head_norm=config.head_norm,
        )

    def stages(self) -> list[Stage]:
        c = self.config
        return [Stage(name="pretrain", length=c.length, unit=c.unit, batch_size=c.batch_size, optim=c.optim)]

    def samples(self, stage: Stage, records: list[Record]) -> Dataset:
        if len({record.path for record in records}) < 2:
            raise ValueError(
                "the data hold 1 video; at least 2 are needed, since clips are compared with other videos'"
            )
        c, j = self.config, self.config.colour_jitter
        sampling = Sampling(c.clip_seconds, (0.0, c.delta_seconds), c.topic_min_gap_seconds, c.sampling)
        augment = Augment(c.crop_area, (j, j, j, j / 4), c.colour_probability, c.grey_probability, c.flip / 2)
        guide = None
        if c.content != "off":
            guide = Guide(c.content, c.content_delta_seconds, c.content_reentry, c.content_topic_scale)
        return HicoClips(records, c.num_frames, c.size, c.short_side, sampling, augment, guide, c.memory_mb)

    def training_step(self, batch: Batch) -> Batch:
        """Embed all clips of all videos, and compare them within and across videos."""
        c, (videos, clips) = self.config, batch["clips"].shape[:2]
        out = self.model(self._pixels(batch["clips"].flatten(0, 1).float() / 255), c.chunk_clips)
        guard = {}
        if "descriptors" in batch:
            mean, deviation = batch["calibration"][0]
            guard = {"descriptors": batch["descriptors"], "most_alike": float(mean + c.content_most_alike * deviation)}
        out = {name: value.unflatten(0, (videos, clips)) for name, value in out.items()}
        return self._loss(out["visual"], out.get("topical"), batch["topic_weights"], batch["video"], **guard)

    def idle_step(self) -> Batch:
        """The part of a process that could read no video in what all compare."""
        c, device = self.config, next(self.parameters()).device
        none = torch.zeros(0, c.num_clips, c.projection_dim, device=device, requires_grad=True)
        weights = torch.zeros(0, c.num_clips, c.num_clips, device=device)
        guard = (
            {"descriptors": torch.zeros(0, c.num_clips, LOOK_WIDTH, device=device)} if c.content == "content" else {}
        )
        videos = torch.zeros(0, dtype=torch.int64, device=device)
        return self._loss(none, none if c.topical else None, weights, videos, **guard)

    def _loss(
        self, visual: Tensor, topical: Tensor | None, weights: Tensor, videos: Tensor, **guard: Tensor | float
    ) -> Batch:
        c = self.config
        return hico_loss(
            visual,
            topical,
            self.model.pair_logits if c.topical else None,
            temperature=c.temperature,
            gamma=c.focal_gamma,
            topical_weight=c.topical_weight,
            scope=c.topic_scope,
            weights=weights,
            videos=videos,
            **guard,
        )

    def features(self, clips: Tensor) -> Tensor:
        """Pooled features, in front of the heads.

        Args:
            clips: uint8 `[B, T, C, H, W]`, any H and W: of the middle, a square of 0.875 of the short side is seen.

        Returns:
            float32 `[B, D]`.

        Raises:
            ValueError: The clips are not uint8.
        """
        if clips.dtype != torch.uint8:
            raise ValueError(f"clips ({clips.dtype}) must be uint8 [B, T, C, H, W], as a VideoReader gives them")
        size = self.config.size
        square = centre_crop(resize(clips.float() / 255, round(size / TEST_CROP)), size)
        return self.model.encode(self._pixels(square)).float()  # [B, D]

    def _pixels(self, clips: Tensor) -> Tensor:
        """Pixels in [0, 1] as the encoder takes them: a `vit` as MME trains it."""
        return normalise(clips) if self.config.backbone == "vit" else normalise(clips, MEAN, STD)
