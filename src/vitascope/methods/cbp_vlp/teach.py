"""What one branch teaches the other: labels of whole videos, made once a stage by copies that no step changes."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor

from vitascope.methods.cbp_vlp.model import probabilities
from vitascope.methods.cbp_vlp.targets import Background, pseudo_labels
from vitascope.methods.cbp_vlp.vlp import Vlp


class Teacher:
    """One branch as it is at the start of a stage; calling it labels a video.

    Args:
        cbp: The CBP branch.
        vlp: The VLP branch.
        text: Of the classes, float32 `[K, D]`.
        branch: Which of them teaches.
        background: Kinds of the background logits of CBP and of VLP.
        high: Probability from which on foreground is confident.
        low: Below which background is.
        normalise: Of the probabilities, by video.
        trust: Both sides of the teacher, or its strong side alone: of CBP background, of VLP foreground.
    """

    def __init__(
        self,
        cbp: torch.nn.Module,
        vlp: Vlp,
        text: Tensor,
        branch: Literal["cbp", "vlp"],
        *,
        background: tuple[Background, Background],
        high: float,
        low: float,
        normalise: Literal["none", "video_minmax"],
        trust: Literal["both", "own"],
    ) -> None:
        self.cbp, self.vlp = (copy.deepcopy(part).cpu().eval() for part in (cbp, vlp))
        self.text, self.branch, self.background, self.trust = text.detach().cpu(), branch, background, trust
        self.thresholds = {"high": high, "low": low, "normalise": normalise}

    @torch.no_grad()
    def __call__(self, features: Tensor, frames: Tensor, tags: Tensor) -> Tensor:
        """Label the snippets of one video, features `[S, D]` and frames `[S, D]`: int8 `[S, K]`."""
        said = self._say(self.branch, features, frames, tags)
        if self.trust == "both":
            return said
        is_foreground = (said == 1).any(1)
        weak = is_foreground if self.branch == "cbp" else ~is_foreground
        said[weak] = -1
        return said

    def _say(self, branch: str, features: Tensor, frames: Tensor, tags: Tensor) -> Tensor:
        mask = torch.ones(1, len(features), dtype=torch.bool)
        out = self.cbp(features[None], mask) if branch == "cbp" else self.vlp(frames[None], mask, self.text)
        p = probabilities(out, len(tags), self.background[branch == "vlp"])
        return pseudo_labels(p, tags[None], mask, **self.thresholds)[0]
