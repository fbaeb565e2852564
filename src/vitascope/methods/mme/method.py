"""Masked pre-training of a video encoder: the glue.

Masked Motion Encoding for Self-Supervised Video Representation Learning. Xinyu Sun, Peihao Chen, Liangwei Chen, Changhao
Li, Thomas H. Li, Mingkui Tan, Chuang Gan. CVPR 2023. And the pixel target that it is measured against, VideoMAE: Masked
Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training. Zhan Tong, Yibing Song, Jue Wang, Limin
Wang. NeurIPS 2022.

Differs from the papers:
- Only visible tubelets are embedded: the result is the same, and nine tenths of the first layer are not computed.
- Learning rates are the ones used, not per 256 clips, so that what a checkpoint says is what happened.
- Motion is made while reading, from the crop that the network sees, and not extracted beforehand from the whole frame:
  nothing has to be scaled or mirrored, and no file is needed. Recipe `mme` tracks by parts of a pixel, scales each token's
  displacements by their own size (without taking off their mean, in which a whole motion can vanish), predicts without
  bounds, and counts a track as long as it is seen. `mme-paper` and `mme-release` keep to theirs.
- The camera's motion is taken off the targets only; tracks follow the raw flow, or they would leave their objects."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Batch, Method, Snippet, Stage
from vitascope.methods.mme.config import RECIPES, MMEConfig
from vitascope.methods.mme.data import MaskedClips
from vitascope.methods.mme.look import motion_figures, pixel_figures
from vitascope.methods.mme.loss import motion_loss, pixel_loss
from vitascope.methods.mme.model import MaskedAutoencoder
from vitascope.methods.mme.motion import motion_of
from vitascope.methods.mme.targets import move_weights, normalized_pixels, position_targets, shape_targets
from vitascope.nn.vit import patchify, select_tokens
from vitascope.structures import Figure, Record
from vitascope.video.transforms import centre_crop, normalise, resize


class MME(Method):
    """A masked autoencoder of clips, after `config`.

    Example:
        >>> method = MME(MME.recipes["videomae-tiny"]())
        >>> method.features(torch.zeros(1, 8, 3, 120, 160, dtype=torch.uint8)).shape
        torch.Size([1, 128])
    """

    recipes = RECIPES
    no_decay = ("model.mask_token",)
    config: MMEConfig

    def __init__(self, config: MMEConfig) -> None:
        super().__init__()
        self.config = config
        self.snippet = Snippet(num_frames=config.num_frames, stride_frames=config.stride_frames, size=config.size)
        self.model = MaskedAutoencoder(
            grid=config.grid,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            decoder_dim=config.decoder_dim,
            decoder_depth=config.decoder_depth,
            decoder_heads=config.decoder_heads,
            mlp_ratio=config.mlp_ratio,
            tubelet_frames=config.tubelet_frames,
            patch_size=config.patch_size,
            layer_norm_eps=config.layer_norm_eps,
            decoder_norm_eps=config.layer_norm_eps,
            heads=self._heads() if config.predicts_motion else None,
            head_dim=config.head_dim,
            activations={"shape": "sigmoid", "position": "tanh"} if config.bounded_heads else None,
        )

    def _heads(self) -> dict[str, int]:
        c = self.config
        widths = {"position": 8 * c.num_steps, "shape": c.shape_values, "visibility": 4}
        return {name: widths[name] for name in c.predicts}

    def stages(self) -> list[Stage]:
        c = self.config
        return [Stage(name="pretrain", length=c.length, unit=c.unit, batch_size=c.batch_size, optim=c.optim)]

    def samples(self, stage: Stage, records: list[Record]) -> Dataset:
        c = self.config
        clip = (c.num_frames, c.stride_frames, c.size, c.short_side, c.crop_scales, c.grid, c.mask_ratio)
        return MaskedClips(records, *clip, motion=motion_of(c), shuffle=c.shuffle, memory_mb=c.memory_mb)

    def training_step(self, batch: Batch) -> Batch:
        """Predict the masked tokens of `clips` and compare them with their normalised pixels, or their motion."""
        c, mask = self.config, batch["mask"]
        predictions = self.model(normalise(batch["clips"].float() / 255), mask)
        if not c.predicts_motion:
            patches = patchify(batch["clips"], c.tubelet_frames, c.patch_size)
            return pixel_loss(predictions, normalized_pixels(select_tokens(patches, mask)))
        targets, weights = self.targets(batch)
        targets = {name: select_tokens(target, mask) for name, target in targets.items()}
        return motion_loss(
            predictions,
            targets,
            None if weights is None else select_tokens(weights, mask),
            visibility_weight=c.visibility_weight,
            sum_loss=c.sum_loss,
            num_shape_steps=c.num_steps if c.shape == "tracks" else 1,
        )

    @torch.no_grad()
    def targets(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """What motion is to be predicted of all tokens, `[B, N, D]` by name, and which displacements count."""
        c, targets = self.config, {}
        if "shape" in c.predicts:
            targets["shape"] = shape_targets(batch["shape"], c.shape_norm)
        if "moves" not in batch:
            return targets, None
        if "position" in c.predicts:
            targets["position"] = position_targets(batch["moves"], batch["seen"], c.position_norm, c.position_floor)
        targets["visibility"] = batch["seen"][..., -1]
        return targets, move_weights(batch["seen"], c.visibility_weights)

    def features(self, clips: Tensor) -> Tensor:
        """Mean over all tokens after the encoder's last norm.

        Args:
            clips: uint8 `[B, T, C, H, W]`, any H and W; they are resized to the short side `size` and cropped at the
                centre. Another T than the trained one has its positions interpolated (`resample_positions`).

        Returns:
            float32 `[B, D]`.

        Raises:
            ValueError: The clips are not uint8, or T is no multiple of `tubelet_frames`.
        """
        if clips.dtype != torch.uint8:
            raise ValueError(f"clips ({clips.dtype}) must be uint8 [B, T, C, H, W], as a VideoReader gives them")
        size = self.config.size
        square = centre_crop(resize(clips.float() / 255, size), size)
        return self.model.encoder(normalise(square)).mean(1).float()  # [B, D]

    def layer_of(self, name: str) -> int:
        """Patch embedding 0, block i of the encoder i + 1, everything after it one more than the last block."""
        if name.startswith("model.encoder.patch_embed."):
            return 0
        block = re.match(r"model\.encoder\.blocks\.(\d+)\.", name)
        return int(block[1]) + 1 if block else self.config.depth + 1

    @torch.no_grad()
    def figures(self, batch: Batch) -> list[Figure]:
        """What was seen of the input, what the model makes of it, and the truth; one figure a clip."""
        predictions = self.model(normalise(batch["clips"].float() / 255), batch["mask"])
        if self.config.predicts_motion:
            return motion_figures(batch, predictions, self.config)
        return pixel_figures(batch, predictions, self.config.grid, self.config.patch_size)
