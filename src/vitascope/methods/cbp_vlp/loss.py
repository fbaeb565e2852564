"""What branches return, and tags or pseudo-labels -> named scalars.

Losses are means over videos, so that the loss of a batch is the mean of those of its parts; the two that compare videos
say so: `contrast_loss` with scope `batch`, and the pairs of CO2-Net.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vitascope.methods.cbp_vlp.targets import Background, confident, topk_mean

Out = dict[str, Tensor]

SURE = 1e-6  # probabilities are held this far from 0 and 1 before a logarithm
CO2_WEIGHTS = {"mutual": 0.5, "sparse": 0.8, "guide": 0.8}
CO2_EPS = 1e-4  # beside the number of tags (released code)
HINGE = 0.5


def with_background(y: Tensor, value: float) -> Tensor:
    """Tags `[B, K]` and what is said of background: float32 `[B, K + 1]`."""
    return F.pad(y.float(), (0, 1), value=value)


def video_loss(logits: Tensor, y: Tensor, mask: Tensor, ratio: float = 8, eps: float | None = None) -> Tensor:
    """Softmax cross-entropy of pooled logits against tags that sum to 1; a video without a tag counts as 0.

    It takes logits: of probabilities, the softmax of 20 classes could not exceed 0.125.

    Args:
        logits: `[B, T, K]`.
        y: `[B, K]`.
        mask: Which snippets are real, bool `[B, T]`.
        ratio: As `topk_mean` takes it.
        eps: Added to the number of tags, if at all.

    Example:
        >>> loss = video_loss(torch.zeros(1, 8, 20), torch.eye(20)[:1], torch.ones(1, 8, dtype=torch.bool))
        >>> round(float(loss.exp()), 4)
        20.0
    """
    pooled = topk_mean(_precise(logits), mask, ratio)  # [B, K]
    return _cross_entropy(pooled.log_softmax(1), y, eps).mean()


def mil_loss(
    out: Out, targets: Tensor, mask: Tensor, *, ratio: float = 8, background: Background | None = None
) -> dict[str, Tensor]:
    """The warm-up of a branch without attention: `video_loss`.

    A background class is in every video. A logit of 0 in its place competes with the best snippets of each class, and
    so is the answer in videos without a tag alone.

    Args:
        out: `logits` `[B, T, K]`, or of a branch with background `[B, T, K + 1]`.
        targets: Tags `[B, K]`.
        mask: Which snippets are real, bool `[B, T]`.
        ratio: As `topk_mean` takes it.
        background: What the softmax has beside the classes; None for what the logits have.

    Returns:
        `loss`.

    Example:
        >>> mask = torch.ones(1, 8, dtype=torch.bool)
        >>> loss = mil_loss({"logits": torch.zeros(1, 8, 4)}, torch.tensor([[1, 0, 0]]), mask)["loss"]
        >>> round(float(loss.exp()), 4)
        4.0
    """
    logits, y = _beside(out["logits"], targets, background)
    return {"loss": video_loss(logits, y, mask, ratio)}


def untrimmednet_loss(
    out: Out, targets: Tensor, mask: Tensor, *, ratio: float = 8, background: Background | None = None
) -> dict[str, Tensor]:
    """UntrimmedNet: cross-entropy of the attention's mean of snippet probabilities; with hard selection `mil_loss`."""
    if "weights" not in out:
        return mil_loss(out, targets, mask, ratio=ratio, background=background)
    logits, y = _beside(out["logits"], targets, background)
    p = (out["weights"] * _precise(logits).softmax(-1)).sum(1)  # [B, K]; weights are 0 in the padding
    return {"loss": _cross_entropy(p.clamp(min=SURE).log(), y).mean()}


def basnet_loss(
    out: Out, targets: Tensor, mask: Tensor, *, ratio: float = 8, sparsity: float = 1e-4
) -> dict[str, Tensor]:
    """BaS-Net: background is in every video, and gone once the attention has held it down; attention is sparse.

    Args:
        out: `logits` and `suppressed` `[B, T, K + 1]`, `attention` `[B, T, 1]`.
        targets: Tags `[B, K]`.
        mask: Which snippets are real, bool `[B, T]`.
        ratio: As `topk_mean` takes it.
        sparsity: Weight of the sum of the attention over time.

    Returns:
        `loss`, and its terms `base`, `suppressed` and `sparse`.
    """

    def of(logits: Tensor, background: float) -> Tensor:
        y = with_background(targets, background)
        p = topk_mean(_precise(logits), mask, ratio).softmax(1)
        return F.binary_cross_entropy(p, y / y.sum(1, keepdim=True).clamp(min=1))

    base, held = of(out["logits"], 1), of(out["suppressed"], 0)
    sparse = (_precise(out["attention"]).squeeze(-1) * mask).sum(1).mean()
    terms = {"base": base, "suppressed": held, "sparse": sparse}
    return {"loss": base + held + sparsity * sparse} | {name: term.detach() for name, term in terms.items()}


def co2net_loss(out: Out, targets: Tensor, mask: Tensor, *, ratio: float = 7) -> dict[str, Tensor]:
    """CO2-Net: tags with and without background, agreement of both streams' attentions, and likeness of equal actions.

    The likeness is taken of all pairs of videos in the batch that share a tag, where the released code wants them at the
    first six places; without such a pair it is 0.

    Args:
        out: `logits` and `suppressed` `[B, T, K + 1]`, `features` `[B, T, D]`, `attention`, `attention_first` and
            `attention_second` `[B, T, 1]`.
        targets: Tags `[B, K]`.
        mask: Which snippets are real, bool `[B, T]`.
        ratio: As `topk_mean` takes it.

    Returns:
        `loss`, and its terms `base`, `suppressed`, `alike`, `mutual`, `sparse` and `guide`.
    """
    logits = _precise(out["logits"])
    both, first, second = (_precise(out[f"attention{name}"]) for name in ("", "_first", "_second"))
    background = logits.softmax(-1)[..., -1:]
    maps = (both, first, second)
    terms = {
        "base": video_loss(logits, with_background(targets, 1), mask, ratio, CO2_EPS),
        "suppressed": video_loss(out["suppressed"], with_background(targets, 0), mask, ratio, CO2_EPS),
        "alike": alike_loss(_precise(out["features"]), _precise(out["suppressed"]), targets, mask),
        "mutual": _mean((first - second.detach()) ** 2 + (second - first.detach()) ** 2, mask),
        "sparse": _mean(sum(maps) / 3, mask),
        "guide": _mean(sum((1 - each - background).abs() for each in maps) / 3, mask),
    }
    loss = sum(CO2_WEIGHTS.get(name, 1.0) * term for name, term in terms.items())
    return {"loss": loss} | {name: term.detach() for name, term in terms.items()}


def alike_loss(features: Tensor, logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Co-activity: videos of one action look alike where it is, more than either does where the other lacks it.

    For each pair of videos and each tag of both, with the mean feature h of a video where the class's softmax over time
    is high and l where it is low, and cosine distances d: half of `max(0, d(h, h') - d(h, l') + 0.5)` and the same
    with the videos exchanged; the mean over pairs and tags.

    Args:
        features: `[B, T, D]`.
        logits: `[B, T, K or more]`.
        targets: Tags `[B, K]`.
        mask: Which snippets are real, bool `[B, T]`.

    Returns:
        A scalar; 0 if no two videos share a tag.
    """
    lowest = torch.finfo(logits.dtype).min
    weights = logits[..., : targets.shape[1]].masked_fill(~mask[..., None], lowest).softmax(1)  # [B, T, K]
    others = (1 - weights) * mask[..., None] / (mask.sum(1) - 1).clamp(min=1)[:, None, None]
    total, count = features.sum() * 0, 0
    for k in (targets.bool().sum(0) > 1).nonzero().flatten().tolist():
        rows = targets[:, k].bool()
        shown = features[rows]  # [n, T, D]
        high, low = (F.normalize((each[rows][..., k, None] * shown).sum(1), dim=1) for each in (weights, others))
        beyond = (low - high) @ high.T  # [n, n]; of the distances d(h, h') - d(h, l'): row is l', column h
        hinge = (beyond + HINGE).relu()
        n = len(shown)
        pairs = ~torch.eye(n, dtype=torch.bool, device=hinge.device)
        total, count = total + hinge[pairs].sum() / 2, count + n * (n - 1) // 2
    return total / max(1, count)


WARMUP: dict[str, Callable[..., dict[str, Tensor]]] = {  # (out, targets, mask) -> scalars
    "transformer": mil_loss,
    "mil": mil_loss,
    "untrimmednet": untrimmednet_loss,
    "basnet": basnet_loss,
    "co2net": co2net_loss,
}


def kd_loss(p: Tensor, labels: Tensor, divergence: Literal["bernoulli", "categorical"] = "bernoulli") -> Tensor:
    """What a student says of the snippets that its teacher is confident of.

    The sum over classes, the mean over a video's confident snippets, the mean over videos; one without any counts as 0.
    By `bernoulli` each class is a yes or no of its own: -log p where it is there, -log(1 - p) where it is not. By
    `categorical` classes share one distribution, and background teaches nothing: students that learn so call all foreground.

    Args:
        p: The student's probabilities `[B, T, K]`.
        labels: The teacher's pseudo-labels `[B, T, K]`.
        divergence: Which of the two.

    Raises:
        ValueError: `divergence` is neither.

    Example:
        >>> loss = kd_loss(torch.full((1, 2, 2), 0.5), torch.tensor([[[1, 0], [-1, 0]]]))
        >>> round(float(loss.exp()), 4)
        4.0
    """
    if divergence not in ("bernoulli", "categorical"):
        raise ValueError(f"divergence ({divergence}) must be bernoulli or categorical")
    known = confident(labels)  # [B, T]
    p = _precise(p).clamp(SURE, 1 - SURE)
    if divergence == "bernoulli":
        costs = -torch.where(labels == 1, p, 1 - p).log()
    else:
        share = (labels == 1) / (labels == 1).sum(-1, keepdim=True).clamp(min=1)
        costs = torch.xlogy(share, share) - share * p.log()
    costs = costs.sum(-1).masked_fill(~known, 0)  # [B, T]
    return (costs.sum(1) / known.sum(1).clamp(min=1)).mean()


def contrast_loss(
    features: Tensor,
    labels: Tensor,
    mask: Tensor,
    *,
    temperature: float = 0.07,
    scope: Literal["video", "batch"] = "video",
    max_foreground: int = 256,
    max_background: int = 1024,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Confident snippets of an action have to find each other among confident background.

    Of each foreground snippet i of a class: minus the logarithm of the share that the class's others have in the sum of
    `exp(f_i . f_j / temperature)` over them and background, itself left out. The mean over snippets, then classes, then,
    with scope `video`, videos; a video or batch without two such snippets and background counts as 0.

    Args:
        features: `[B, T, D]`, of any length.
        labels: Pseudo-labels `[B, T, K]`.
        mask: Which snippets are real, bool `[B, T]`.
        temperature: Smaller, and the nearest count more.
        scope: Whether snippets are compared within a video, or within the batch.
        max_foreground: Most foreground snippets of a class, drawn if there are more; memory grows with their square.
        max_background: Most background snippets, likewise.
        generator: Of these draws, on the CPU.

    Raises:
        ValueError: `scope` is neither, or `max_foreground` leaves no pair.

    Example:
        >>> labels = torch.tensor([[[1], [1], [0], [-1]]])
        >>> loss = contrast_loss(torch.ones(1, 4, 2), labels, torch.ones(1, 4, dtype=torch.bool))
        >>> round(float(loss.exp()), 4)
        2.0
    """
    if scope not in ("video", "batch"):
        raise ValueError(f"scope ({scope}) must be video or batch")
    if max_foreground < 2:
        raise ValueError(f"max_foreground ({max_foreground}) must be > 1, for a snippet to find another")
    units = F.normalize(_precise(features.masked_fill(~mask[..., None], 0)), dim=-1)
    known = confident(labels) & mask
    foreground = (labels == 1) & known[..., None]  # [B, T, K]
    background = known & ~foreground.any(-1)
    if scope == "batch":
        units, foreground, background = (x.flatten(0, 1)[None] for x in (units, foreground, background))
    counts = foreground.sum(1) * background.any(1)[:, None]  # [B, K]
    losses: dict[int, list[Tensor]] = {}
    for i, k in (counts > 1).nonzero().tolist():
        same = units[i][_drawn(foreground[i, :, k], max_foreground, generator)]
        other = units[i][_drawn(background[i], max_background, generator)]
        losses.setdefault(i, []).append(_contrast(same, other, temperature))
    return units.sum() * 0 + sum(torch.stack(each).mean() for each in losses.values()) / len(units)


def _contrast(same: Tensor, other: Tensor, temperature: float) -> Tensor:
    own = torch.eye(len(same), dtype=torch.bool, device=same.device)
    near = (same @ same.T / temperature).masked_fill(own, -torch.inf)  # [n, n]
    far = same @ other.T / temperature  # [n, m]
    return (torch.cat([near, far], 1).logsumexp(1) - near.logsumexp(1)).mean()


def _drawn(chosen: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
    places = chosen.nonzero().flatten()
    if len(places) <= most:
        return places
    return places[torch.randperm(len(places), generator=generator)[:most].to(places.device)]


def _beside(logits: Tensor, targets: Tensor, background: Background | None) -> tuple[Tensor, Tensor]:
    """Logits and targets of what the softmax is over."""
    k = targets.shape[1]
    wanted = logits.shape[-1] if background is None else k + (background == "class")
    if logits.shape[-1] != wanted or wanted not in (k, k + 1):
        raise ValueError(f"logits ({logits.shape[-1]}) must be {wanted} for {k} tags and background '{background}'")
    if background == "zero":
        untagged = ~targets.bool().any(1, keepdim=True)
        return F.pad(logits, (0, 1)), torch.cat([targets.float(), untagged.float()], 1)
    return logits, with_background(targets, 1) if wanted > k else targets.float()


def _cross_entropy(log_p: Tensor, y: Tensor, eps: float | None = None) -> Tensor:
    number = y.sum(1, keepdim=True)
    shares = y / (number.clamp(min=1) if eps is None else number + eps)
    return -(shares * log_p).sum(1)  # [B]


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Of `[B, T, 1]`: over the real snippets of each video, then over videos."""
    return ((values.squeeze(-1) * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
