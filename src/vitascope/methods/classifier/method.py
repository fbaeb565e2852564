"""Recognition of clips: the glue.

The fine-tuning and the linear probe of Masked Motion Encoding for Self-Supervised Video Representation Learning (Xinyu Sun,
Peihao Chen, Liangwei Chen, Changhao Li, Thomas H. Li, Mingkui Tan, Chuang Gan; CVPR 2023), which are those of VideoMAE
(Zhan Tong, Yibing Song, Jue Wang, Limin Wang; NeurIPS 2022).

Differs from the paper:
- Brightness, contrast and saturation change in place of RandAugment; no random erasing, no repeated augmentation: one
  decoded clip a sample, and fewer parts.
- Mixing is drawn for each sample, not once for a batch, so that it does not depend on the number of processes.
- A training clip takes every 4th frame, as pre-training does; the release's 4.27 is `sampling="linspace"`.
- Weights that no pre-training gives begin as in pre-training (Xavier), but for the head.
- Learning rates are the ones used, not per 256 clips, so that what a checkpoint says is what happened.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Batch, Method, Snippet, Stage
from vitascope.methods.classifier.config import RECIPES, ClassifierConfig
from vitascope.methods.classifier.data import LabelledClips, dense_test_indices, frames_of, mixed, segment_test_indices
from vitascope.methods.classifier.loss import classification_loss
from vitascope.methods.classifier.model import ClipClassifier
from vitascope.methods.classifier.targets import mixed_labels, shares_of, soft_labels
from vitascope.structures import Figure, Labels, Record
from vitascope.video.footage import Footage
from vitascope.video.transforms import centre_crop, normalise, resize, three_crop


class Classifier(Method):
    """A classifier of clips, after `config`.

    Example:
        >>> config = Classifier.recipes["finetune-tiny"]().model_copy(update={"classes": ("jump", "run")})
        >>> Classifier(config).features(torch.zeros(1, 8, 3, 120, 160, dtype=torch.uint8)).shape
        torch.Size([1, 128])
    """

    recipes = RECIPES
    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        if not config.classes:
            raise ValueError("classes () must name at least two; they are those of the labelled records to learn from")
        self.config = config
        self.snippet = Snippet(num_frames=config.num_frames, stride_frames=config.stride_frames, size=config.size)
        self.model = ClipClassifier(
            grid=config.grid,
            num_classes=len(config.classes),
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_ratio,
            tubelet_frames=config.tubelet_frames,
            patch_size=config.patch_size,
            layer_norm_eps=config.layer_norm_eps,
            drop_path=config.drop_path,
        )

    @property
    def protocol(self) -> str:
        """How `predict` comes to its answer, as a sentence."""
        c = self.config
        spread = "each of equal parts of the video" if c.sampling == "segments" else f"every {c.stride_frames} frames"
        return (
            f"{c.test_clips} clips of {c.num_frames} frames (one of {spread}) times {c.test_crops} crops of {c.size} pixels; "
            "softmax of each view, then the mean."
        )

    def stages(self) -> list[Stage]:
        c = self.config
        learns = ("model.head.",) if c.learns == "head" else ("",)
        name = "probe" if c.learns == "head" else "finetune"
        return [Stage(name=name, length=c.length, unit=c.unit, batch_size=c.batch_size, learns=learns, optim=c.optim)]

    def samples(self, stage: Stage, records: list[Record]) -> Dataset:
        return LabelledClips(records, self.config)

    def training_step(self, batch: Batch) -> Batch:
        """Say the class of each clip, or of a mixed clip both."""
        clips = mixed(batch["clips"].float() / 255, batch["blends"], batch["boxes"])
        logits = self.model(normalise(clips))
        targets = soft_labels(batch["labels"], len(self.config.classes), self.config.label_smoothing)
        shares = shares_of(batch["blends"], batch["boxes"], self.config.size)
        return classification_loss(logits, mixed_labels(targets, shares), batch["labels"])

    def features(self, clips: Tensor) -> Tensor:
        """What the head sees: the mean over all tokens after `fc_norm`.

        Args:
            clips: uint8 `[B, T, C, H, W]`, any H and W; they are resized to the short side `size` and cropped at the
                centre. Another T than the trained one has its positions interpolated.

        Returns:
            float32 `[B, D]`.

        Raises:
            ValueError: The clips are not uint8, or T is no multiple of `tubelet_frames`.
        """
        if clips.dtype != torch.uint8:
            raise ValueError(f"clips ({clips.dtype}) must be uint8 [B, T, C, H, W], as a VideoReader gives them")
        size = self.config.size
        return self.model.features(normalise(centre_crop(resize(clips.float() / 255, size), size))).float()

    @torch.inference_mode()
    def predict(self, record: Record) -> Labels:
        """All classes of a video or a stretch of it, best first, by the test of several views (`protocol`).

        Raises:
            VideoError: The video cannot be read, or the record's stretch holds no frame.
        """
        c, was_training, device = self.config, self.training, self.model.head.weight.device

        def choose(count: int) -> np.ndarray:
            if c.sampling == "segments":
                return segment_test_indices(count, c.num_frames, c.test_clips)
            return dense_test_indices(count, c.num_frames, c.stride_frames, c.test_clips)

        clips = frames_of(Footage(c.size), record, choose)  # [V, T, C, H, W]
        self.eval()
        total = torch.zeros(len(c.classes), dtype=torch.float64)
        for clip in clips:
            shown = resize(clip[None].to(device).float() / 255, c.size)
            views = three_crop(shown, c.size)[0] if c.test_crops == 3 else centre_crop(shown, c.size)  # [V, T, C, H, W]
            total += self.model(normalise(views)).double().softmax(1).mean(0).cpu()
        self.train(was_training)
        scores, order = (total / len(clips)).sort(descending=True, stable=True)
        return Labels(tuple(c.classes[number] for number in order.tolist()), tuple(scores.tolist()))

    def layer_of(self, name: str) -> int:
        """Patch embedding 0, block i of the encoder i + 1, everything after it one more than the last block."""
        if name.startswith("model.encoder.patch_embed."):
            return 0
        block = re.match(r"model\.encoder\.blocks\.(\d+)\.", name)
        return int(block[1]) + 1 if block else self.config.depth + 1

    def figures(self, batch: Batch) -> list[Figure]:
        """Each clip as the network is given it, with its class."""
        clips = (
            (mixed(batch["clips"].float() / 255, batch["blends"], batch["boxes"]) * 255).to(torch.uint8).cpu().numpy()
        )
        names = [self.config.classes[label] for label in batch["labels"].tolist()]
        return [Figure(title=f"A clip of {name!r}", rows=(("input", clip),)) for name, clip in zip(names, clips)]
