"""What one branch teaches the other: labels of whole videos, made once a stage by copies that no step changes."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from vitascope.methods.cbp_vlp.model import probabilities
from vitascope.methods.cbp_vlp.targets import Background, pseudo_labels


class Teacher:
    """One branch as it is at the start of a stage; calling it labels a video.

    Args:
        network: Of the branch.
        text: Of the classes, float32 `[K, D]`, for VLP; None for CBP.
        background: Kind of its background logit.
        high: Probability from which on foreground is confident.
        low: Below which background is.
        normalise: Of the probabilities, by video.
        trust: Both sides of the teacher, or its strong side alone: of CBP background, of VLP foreground.
    """

    def __init__(
        self,
        network: nn.Module,
        text: Tensor | None,
        *,
        background: Background,
        high: float,
        low: float,
        normalise: Literal["none", "video_minmax"],
        trust: Literal["both", "own"],
    ) -> None:
        self.network = copy.deepcopy(network).cpu().eval()
        self.text, self.background, self.trust = None if text is None else text.detach().cpu(), background, trust
        self.thresholds = {"high": high, "low": low, "normalise": normalise}

    @torch.no_grad()
    def __call__(self, features: Tensor, frames: Tensor, tags: Tensor) -> Tensor:
        """Label the snippets of one video, features `[S, D]` and frames `[S, D]`: int8 `[S, K]`."""
        mask = torch.ones(1, len(features), dtype=torch.bool)
        is_cbp = self.text is None
        out = self.network(features[None], mask) if is_cbp else self.network(frames[None], mask, self.text)
        p = probabilities(out, len(tags), self.background)
        said = pseudo_labels(p, tags[None], mask, **self.thresholds)[0]
        if self.trust == "own":
            is_foreground = (said == 1).any(1)
            said[is_foreground if is_cbp else ~is_foreground] = -1
        return said
