"""Masked pre-training of a video encoder: the glue.

VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training.
Zhan Tong, Yibing Song, Jue Wang, Limin Wang. NeurIPS 2022.

The package is named after Masked Motion Encoding for Self-Supervised Video Representation Learning (Xinyu Sun,
Peihao Chen, Liangwei Chen, Changhao Li, Thomas H. Li, Mingkui Tan, Chuang Gan; CVPR 2023), which keeps this encoder and
masking; the pixel target here is the baseline that it is measured against.

Differs from the paper:
- Only visible tubelets are embedded: the result is the same, and nine tenths of the first layer are not computed.
- Learning rates are the ones used, not per 256 clips, so that what a checkpoint says is what happened.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Batch, Method, Snippet, Stage
from vitascope.methods.mme.config import RECIPES, MMEConfig
from vitascope.methods.mme.data import MaskedClips
from vitascope.methods.mme.loss import pixel_loss
from vitascope.methods.mme.model import MaskedAutoencoder
from vitascope.methods.mme.targets import as_pixels, normalized_pixels
from vitascope.nn.vit import patchify, select_tokens, unpatchify
from vitascope.structures import Figure, Record
from vitascope.video.transforms import centre_crop, normalise, resize

GREY = 127  # of a masked patch in figures


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
        )

    def stages(self) -> list[Stage]:
        c = self.config
        return [Stage(name="pretrain", length=c.length, unit=c.unit, batch_size=c.batch_size, optim=c.optim)]

    def samples(self, stage: Stage, records: list[Record]) -> Dataset:
        c = self.config
        return MaskedClips(
            records, c.num_frames, c.stride_frames, c.size, c.short_side, c.crop_scales, c.grid, c.mask_ratio
        )

    def training_step(self, batch: Batch) -> Batch:
        """Predict the masked tokens of `clips` and compare them with their normalised pixels."""
        predictions = self.model(normalise(batch["clips"].float() / 255), batch["mask"])
        masked = select_tokens(self._patches(batch["clips"]), batch["mask"])
        return pixel_loss(predictions, normalized_pixels(masked))

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
        """Input, what was seen of it, and what the model makes of it; one figure a clip."""
        clips, mask = batch["clips"], batch["mask"]
        patches = self._patches(clips)  # [B, N, frames, rows, columns, C]
        seen, filled = patches.clone(), patches.clone()
        seen[mask] = GREY
        predictions = self.model(normalise(clips.float() / 255), mask)
        filled[mask] = as_pixels(predictions, select_tokens(patches, mask)).flatten(0, 1)
        rows = (clips, unpatchify(seen, self.config.grid), unpatchify(filled, self.config.grid))
        input_, masked, reconstruction = (row.cpu().numpy() for row in rows)
        caption = (
            f"{float(mask.float().mean()):.0%} of the tokens are masked. Visible patches are the input's; masked ones show "
            "the predicted pattern with the true mean and contrast of the patch, which the model is not asked for."
        )
        return [
            Figure(
                title="Masked input and reconstruction",
                rows=(("input", input_[i]), ("masked input", masked[i]), ("reconstruction", reconstruction[i])),
                caption=caption,
            )
            for i in range(len(clips))
        ]

    def _patches(self, clips: Tensor) -> Tensor:  # -> [B, N, frames, rows, columns, C]
        return patchify(clips, self.config.tubelet_frames, self.config.patch_size)
