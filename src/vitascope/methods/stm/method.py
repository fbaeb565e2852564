"""Video object segmentation using space-time memory networks: the glue.

Video Object Segmentation using Space-Time Memory Networks.
Seoung Wug Oh, Joon-Young Lee, Ning Xu, Seon Joo Kim. ICCV 2019.

Differs from the paper:
- The form is that of the released code where the two differ, because the released weights need it: the memory half comes
  first, similarities are divided by sqrt(128), the other objects' masks go into the memory encoder.
- Stills get objects of other stills pasted over them: re-trainings gained 9 points of stage 1 by it.
- Stage 2 may follow a clip backwards, and stage 1 may end in a picture without the object, which teaches absence.
- The small network (`light.py`) is not the paper's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vitascope.methods.base import Batch, Method, Snippet, Stage
from vitascope.methods.stm.config import RECIPES, STMConfig
from vitascope.methods.stm.data import StillClips, VideoClips, open_frames, read_masks
from vitascope.methods.stm.follow import follow
from vitascope.methods.stm.light import LightSTM
from vitascope.methods.stm.loss import mask_loss
from vitascope.methods.stm.resnet50 import STM as ResNet50STM
from vitascope.methods.stm.rollout import roll_out
from vitascope.methods.stm.session import VideoObjectSession
from vitascope.nn.lite0 import trunk_state
from vitascope.structures import Figure, Masks, Record
from vitascope.video.transforms import resize
from vitascope.video.writer import overlay_masks

FEATURE_SIZE = 240  # short side in pixels of what `features` looks at


class STM(Method):
    """A space-time memory network in training, after `config`; `methods/stm/session.py` uses the trained `network`.

    Example:
        >>> method = STM(STM.recipes["stm-tiny"]())
        >>> method.features(torch.zeros(1, 2, 3, 120, 160, dtype=torch.uint8)).shape
        torch.Size([1, 112])
    """

    recipes = RECIPES
    config: STMConfig

    def __init__(self, config: STMConfig) -> None:
        super().__init__()
        self.config = config
        self.snippet = Snippet(num_frames=config.num_frames, stride_frames=5, size=config.size)
        if config.network == "resnet50":
            self.network = ResNet50STM()
        else:
            self.network = LightSTM(config.key_width, config.value_width, decoder_widths=config.decoder_widths)
            if config.trunk_weights:
                self.network.trunk.load_state_dict(trunk_state(config.trunk_weights))
            stem = [self.network.trunk.stem, *self.network.trunk.stages[:2]] if config.frozen_stem else []
            for part in stem:
                part.requires_grad_(False)
        self.train()  # sets the norms as configured

    def train(self, mode: bool = True) -> STM:
        """Batch norms stay in evaluation where `frozen_norms`; their weights and biases learn."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(mode and not self.config.frozen_norms)
        return self

    def stages(self) -> list[Stage]:
        c = self.config
        rates = {"stills": 1.0, "videos": c.videos_rate}
        lengths = {"stills": c.stills_length, "videos": c.videos_length}
        optims = {
            n: c.optim.model_copy(update={"lr": c.optim.lr * r, "layer_decay": c.trunk_rate}) for n, r in rates.items()
        }
        return [
            Stage(name=name, length=length, unit="steps", data=name, batch_size=c.batch_size, optim=optims[name])
            for name, length in lengths.items()
            if length
        ]

    def samples(self, stage: Stage, records: list[Record]) -> Dataset:
        return (StillClips if stage.name == "stills" else VideoClips)(records, self.config)

    def training_step(self, batch: Batch) -> Batch:
        """Memorise the first frame with its true masks; segment each later one, and memorise what was said of it."""
        logits = roll_out(self.network, batch["frames"], batch["labels"], self.config.max_objects)
        return mask_loss(logits, batch["labels"][:, 1:].long(), self.config.loss)

    def features(self, clips: Tensor) -> Tensor:
        """Mean over frames and places of the coarsest features of the trunk, `[B, D]`; clips as in `Method`."""
        frames = resize(clips.float() / 255, FEATURE_SIZE).flatten(0, 1)
        height, width = (side // 16 * 16 for side in frames.shape[-2:])
        coarse = self.network.encode_query(frames[..., :height, :width]).trunk[-1]
        return coarse.float().mean((2, 3)).unflatten(0, clips.shape[:2]).mean(1)  # [B, D]

    def predict(self, record: Record) -> Masks:
        """Follow the objects of the first mask of `record.masks` through the video; other masks are not looked at."""
        with open_frames(record) as frames:
            first = read_masks(record, np.array([0]), None)[0]
            said = list(follow(VideoObjectSession(self.eval().network), frames, {0: first}))
        return Masks(np.stack([mask for _, mask in said]), np.array([seconds for seconds, _ in said]))

    def layer_of(self, name: str) -> int:
        return 0 if name.startswith(("network.trunk.", "network.Encoder_")) else 1

    @torch.no_grad()
    def figures(self, batch: Batch) -> list[Figure]:
        """Frames, true masks, and what follows from the first of them."""
        frames, labels = batch["frames"].cpu().numpy(), batch["labels"].cpu().numpy()
        logits = roll_out(self.network, batch["frames"], batch["labels"], self.config.max_objects)
        said = logits.argmax(2).to(torch.uint8).cpu().numpy()
        rows = []
        for clip, truth, guess in zip(frames, labels, said, strict=True):
            followed = overlay_masks(clip, [truth[0], *guess])
            rows.append((("frames", clip), ("true masks", overlay_masks(clip, truth)), ("followed", followed)))
        return [
            Figure("Objects followed", row, "The first mask is given, the others are the network's.") for row in rows
        ]
