"""Embeddings and logits of pairs -> named scalars.

The first two clips of a video are near each other in time, and so look alike; the third comes from anywhere in it, and so
only shares its topic. Computed in float32 at least: exp(10) overflows half precision after six terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vitascope.methods.hico.targets import topic_pairs, unknown_pairs, visual_negatives
from vitascope.nn.gather import gather


def visual_loss(embeddings: Tensor, temperature: float = 0.1, excluded: Tensor | None = None) -> Tensor:
    """Visual consistency: each of the first two clips has to find the other among all clips of all other videos.

    The mean over both clips of all videos of `-log(exp(p / t) / (exp(p / t) + sum of exp(n / t)))`, p being the cosine of
    the two and n those with the S * (N - 1) clips of other videos. Further clips of the own video are in neither sum.

    Args:
        embeddings: Of length 1 `[N, S, D]`.
        temperature: t.
        excluded: Pairs of clips that are no negatives, bool `[R, R]`; see `unknown_pairs`.

    Raises:
        ValueError: There are fewer than two videos or clips.

    Example:
        >>> round(float(visual_loss(torch.ones(4, 3, 1)).exp()), 4)  # 1 + 3 * (4 - 1)
        10.0
    """
    n, s, _ = embeddings.shape
    _require_pairs("visual", n, s)
    z = _precise(embeddings)
    with torch.autocast(z.device.type, enabled=False):
        positive = (z[:, 0] * z[:, 1]).sum(-1).clamp(max=1).repeat_interleave(2) / temperature  # [2N]
        logits = z[:, :2].flatten(0, 1) @ z.flatten(0, 1).T / temperature  # [2N, R]
    negatives = visual_negatives(n, s, z.device)
    if excluded is not None:
        negatives &= ~excluded.view(n, s, n * s)[:, :2].flatten(0, 1)
    logits = torch.cat([positive[:, None], logits.masked_fill(~negatives, -math.inf)], 1)  # [2N, 1 + R]
    return (logits.logsumexp(1) - positive).mean()


def nt_xent(embeddings: Tensor, temperature: float = 0.1, excluded: Tensor | None = None) -> Tensor:
    """SimCLR's loss of two clips a video, `[N, 2, D]`: the visual term, of which it is the case without a third clip.

    Raises:
        ValueError: There are not two clips, or fewer than two videos.
    """
    if embeddings.shape[1] != 2:
        raise ValueError(f"nt_xent needs 2 clips of each video and got {embeddings.shape[1]}; use visual_loss")
    return visual_loss(embeddings, temperature, excluded)


def topical_loss(
    logits: Tensor,
    num_clips: int = 3,
    gamma: float = 0.5,
    eps: float = 1e-5,
    weights: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Tensor:
    """Topical consistency: which pairs of clips are of one video, by a focal loss that takes either kind's own mean.

    With s the sigmoid of a logit: minus the mean over pairs of one video of `(1 - s) ** gamma * log(s + eps)`, minus the
    mean over pairs of two of `s ** gamma * log(1 - s + eps)`. A mean of no pairs, where all are left out, is 0.

    Args:
        logits: `[R, R]`.
        num_clips: S, clips of each video.
        gamma: Larger, and pairs that are told well count less.
        eps: In the logarithms.
        weights: Of the pairs of one video, `[N, S, S]`; 0 leaves one out. None for 1.
        excluded: Pairs of two videos that are left out, bool `[R, R]`; see `unknown_pairs`.

    Raises:
        ValueError: There are fewer than two videos or clips.

    Example:
        >>> round(float(topical_loss(torch.zeros(12, 12))), 5)
        0.98023
    """
    n = len(logits) // num_clips
    _require_pairs("topical", n, num_clips)
    logits = _precise(logits)
    positives, negatives = topic_pairs(n, num_clips, logits.device)
    # powers as exponentials: the slope of (1 - s) ** 0.5 is infinite where s rounds to 1, and times 0 it is no number
    missed = -(gamma * F.logsigmoid(-logits)).exp() * (logits.sigmoid() + eps).log()
    mistaken = -(gamma * F.logsigmoid(logits)).exp() * ((-logits).sigmoid() + eps).log()
    same = positives.to(logits.dtype)
    if weights is not None:
        same = same * weights.to(logits.dtype)[:, :, None].expand(n, num_clips, n, num_clips).reshape_as(logits)
    other = (negatives if excluded is None else negatives & ~excluded).to(logits.dtype)
    return _mean(missed, same) + _mean(mistaken, other)


def hico_loss(
    visual: Tensor,
    topical: Tensor | None = None,
    pair_logits: Callable[[Tensor], Tensor] | None = None,
    *,
    temperature: float = 0.1,
    gamma: float = 0.5,
    topical_weight: float = 1.0,
    scope: Literal["local", "global"] = "local",
    weights: Tensor | None = None,
    videos: Tensor | None = None,
    descriptors: Tensor | None = None,
    most_alike: float = math.inf,
) -> dict[str, Tensor]:
    """Both terms of hierarchical consistency, over the videos of all processes.

    Each process gives its own videos and gets the same visual term. All processes call it alike; one that could read no
    video passes empty tensors of the others' dtypes and widths, and embeddings that require a gradient as theirs do.

    Args:
        visual: Embeddings of length 1 `[N, S, D]`.
        topical: The same of the topical head; None for the visual term alone, which with S = 2 is SimCLR's.
        pair_logits: `[R, D]` -> `[R, R]`, whether two clips are of one video.
        temperature: Of the visual term.
        gamma: Of the topical term.
        topical_weight: Of the topical term in the sum.
        scope: Topical pairs of this process's clips (the paper), or of those of all.
        weights: Of the topical pairs of one video `[N, S, S]`.
        videos: Numbers of the videos, int64 `[N]`: samples of the same one are no negatives.
        descriptors: Of the clips `[N, S, E]`: pairs of two videos with a scalar product above `most_alike` are none either.

    Returns:
        `loss`, and its terms `visual` and `topical`.

    Raises:
        ValueError: There are fewer than two videos, for the topical term with scope `local` in this process.

    Example:
        >>> terms = hico_loss(torch.ones(4, 3, 1), torch.zeros(4, 3, 1), lambda rows: rows @ rows.T)
        >>> {name: round(float(value), 4) for name, value in terms.items()}
        {'loss': 3.2828, 'visual': 2.3026, 'topical': 0.9802}
    """
    clips = visual.shape[1]

    def unknown(shared: Callable[[Tensor], Tensor]) -> Tensor | None:
        known = (None if each is None else shared(each) for each in (videos, descriptors))
        return unknown_pairs(clips, *known, most_alike=most_alike)

    excluded = unknown(gather)
    near = visual_loss(gather(_precise(visual)), temperature, excluded)
    if topical is None:
        return {"loss": near, "visual": near.detach()}
    if scope == "global":
        rows, weights = gather(_precise(topical)), weights if weights is None else gather(weights)
    else:
        rows, excluded = topical, unknown(lambda each: each)
    topic = near * 0
    if len(rows):
        topic = topical_loss(pair_logits(rows.flatten(0, 1)), clips, gamma, weights=weights, excluded=excluded)
    return {"loss": near + topical_weight * topic, "visual": near.detach(), "topical": topic.detach()}


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum()
    return (values * weights).sum() / total.where(total > 0, 1)


def _require_pairs(term: str, num_videos: int, num_clips: int) -> None:
    if num_videos < 2 or num_clips < 2:
        raise ValueError(
            f"the {term} term needs at least 2 videos of 2 clips and got {num_videos} of {num_clips}; use a larger "
            "batch_size, for the topical term at least 2 videos in each process, or its scope 'global'"
        )
