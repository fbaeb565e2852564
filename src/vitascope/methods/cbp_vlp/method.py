"""When actions happen, learned from tags: the glue.

Distilling Vision-Language Pre-training to Collaborate with Weakly-Supervised Temporal Action Localization (Chen Ju, Kunhao
Zheng, Jinxiang Liu, Peisen Zhao, Ya Zhang, Jianlong Chang, Qi Tian, Yanfeng Wang; CVPR 2023). No code was released: what
the paper leaves open is a field of the configuration, and its default the reading that does not collapse.

Differs from the paper:
- Attention sees a window of snippets: where each sees all, every snippet learns the tag of the video.
- Below 12 classes both branches have a background logit: a softmax over few classes is never certain of background.
- A class is in a video by its score against the best class's: the paper's gate drops every video with two classes.
- Both kinds of confident frames are taught in both steps, by a divergence of each class: other readings collapse.
- Each stage begins with a fresh optimiser, so that every stage can be gone on with from its checkpoint alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Batch, Method, Snippet, Stage
from vitascope.methods.cbp_vlp.branches import make_cbp, make_vlp, tokens_of, warmup_loss
from vitascope.methods.cbp_vlp.config import RECIPES, CbpVlpConfig
from vitascope.methods.cbp_vlp.data import Snippets
from vitascope.methods.cbp_vlp.localize import localize
from vitascope.methods.cbp_vlp.loss import contrast_loss, kd_loss
from vitascope.methods.cbp_vlp.model import probabilities
from vitascope.methods.cbp_vlp.targets import coverage, thresholds
from vitascope.methods.cbp_vlp.teach import Teacher
from vitascope.nn.clip_files import load_clip
from vitascope.structures import Localized, Record, Segments


class CbpVlp(Method):
    """Two branches that find actions in snippets, after `config`: `cbp` from video features, `vlp` from frames and text.

    Example:
        >>> config = CbpVlp.recipes["cbp-vlp-tiny"]().model_copy(update={"classes": ("orbit", "sway")})
        >>> [stage.name for stage in CbpVlp(config).stages()]
        ['warm-up', 'B1', 'F1']
    """

    recipes = RECIPES
    config: CbpVlpConfig
    snippet = Snippet(num_frames=1, stride_frames=1, size=224)

    def __init__(self, config: CbpVlpConfig) -> None:
        super().__init__()
        if not config.classes:
            raise ValueError("classes () must name one or more; they are the tags of the videos to learn from")
        for kind in (config.background_kind, config.vlp_background_kind):
            thresholds(config.high, config.low, len(config.classes), kind, config.normalise)
        self.config = config
        self.compares_samples = config.cbp == "co2net" or config.fb_scope == "batch"
        self.cbp, self.vlp, self.prompts = make_cbp(config), None, None
        if config.clip:
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # read, and not drawn
                clip = load_clip(config.clip)
            self._clip = (clip,)  # in a tuple: it is frozen, and no part of what a checkpoint keeps
            self.tokens = tokens_of(config, clip)
            self.vlp, self.prompts = make_vlp(config, clip)

    def stages(self) -> list[Stage]:
        c = self.config
        of_cbp = {"learns": ("cbp.",), "batch_size": c.batch_size, "unit": "steps", "optim": c.cbp_optim}
        of_vlp = of_cbp | {"learns": ("vlp.", "prompts."), "optim": c.vlp_optim}
        stages = [Stage(name="supervised" if c.supervised else "warm-up", length=c.warmup_steps, **of_cbp)]
        if c.supervised:
            return stages
        for k in range(1, c.rounds + 1):
            stages += [Stage(name=f"B{k}", length=c.b_steps, **of_vlp)] if c.b_steps else []
            stages += [Stage(name=f"F{k}", length=c.f_steps, **of_cbp)] if c.f_steps else []
        return stages

    def samples(self, stage: Stage, records: list[Record]) -> Dataset:
        """Tagged videos, and in B and F stages what the other branch, as it is now, says of them."""
        c, teach = self.config, None
        if stage.name not in ("warm-up", "supervised"):
            how = {name: getattr(c, name) for name in ("high", "low", "normalise", "trust")}
            if stage.name.startswith("B"):
                teach = Teacher(self.cbp, None, background=c.background_kind, **how)
            else:
                with torch.no_grad():
                    teach = Teacher(self.vlp, self.text(), background=c.vlp_background_kind, **how)
        branch = "vlp" if stage.name.startswith("B") else "cbp"
        how = {name: getattr(c, name) for name in ("max_snippets", "sampling")}
        return Snippets(records, c.classes, branch, teach=teach, supervised=c.supervised, **how)

    def training_step(self, batch: Batch) -> Batch:
        """Tell a video's tags from its best snippets, or each confident snippet as the other branch does."""
        c, mask, y = self.config, batch["mask"], batch["targets"]
        of_cbp = "features" in batch
        out = self.cbp(batch["features"], mask) if of_cbp else self.vlp(batch["frames"], mask, self.text())
        if "labels" not in batch:
            return warmup_loss(c, out, y, mask)
        labels = batch["labels"]
        p = probabilities(out, len(c.classes), c.background_kind if of_cbp else c.vlp_background_kind)
        terms = {"kd": kd_loss(p, labels, c.divergence)}
        terms["fb"] = contrast_loss(out["features"], labels, mask, temperature=c.fb_temperature, scope=c.fb_scope)
        loss = c.kd_weight * terms["kd"] + c.fb_weight * terms["fb"]
        if of_cbp and c.keep_warmup:
            terms["warmup"] = warmup_loss(c, out, y, mask)["loss"]
            loss = loss + c.keep_warmup * terms["warmup"]
        shares = {name: loss.new_tensor(share) for name, share in coverage(labels, mask).items()}
        return terms | shares | {"loss": loss}

    def text(self, learned: bool = True) -> Tensor:
        """What the text encoder says of the classes, between the learned vectors or by themselves: `[K, D]`."""
        prefix, postfix = self.prompts() if learned else (None, None)
        clip = self._clip[0].to(self.vlp.log_temperature.device)
        is_positional, count = self.config.postfix == "positional", self.config.num_postfix
        return clip.encode_text(self.tokens, prefix, postfix, is_positional, count if is_positional else None)

    def features(self, clips: Tensor) -> Tensor:
        """Vectors of the image encoder: of each clip its middle frame.

        Args:
            clips: uint8 `[B, T, C, H, W]`, any H and W.

        Returns:
            float32 `[B, D]`.

        Raises:
            TypeError: There is no image-text encoder.
            ValueError: The clips are not uint8.
        """
        if not self.config.clip:
            raise TypeError("clip ('') leaves no encoder of frames; embed with the run that made the CBP features")
        if clips.dtype != torch.uint8:
            raise ValueError(f"clips ({clips.dtype}) must be uint8 [B, T, C, H, W], as a VideoReader gives them")
        return self._clip[0].to(clips.device).encode_image(clips[:, clips.shape[1] // 2])

    def predict(self, record: Record) -> Segments:
        """When which action happens in a video whose snippet features are known, best first."""
        return self.localize(record).segments

    def localize(self, record: Record) -> Localized:
        """The segments of a video of any length, and the curves that they are read from (`localize.localize`)."""
        was_training = self.training
        self.eval()
        with torch.no_grad():
            found = localize(self.config, self.cbp, self.vlp, self.text() if self.vlp is not None else None, record)
        self.train(was_training)
        return found
