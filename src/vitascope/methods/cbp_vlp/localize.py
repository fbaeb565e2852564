"""The branches' curves over a whole video -> dated actions. Section 1.10 of the specification."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vitascope.methods.cbp_vlp.config import CbpVlpConfig
from vitascope.methods.cbp_vlp.data import at_times, read_vectors, tags
from vitascope.methods.cbp_vlp.model import final_logits, probabilities
from vitascope.methods.cbp_vlp.proposals import propose
from vitascope.methods.cbp_vlp.targets import Background, pseudo_labels, topk_mean
from vitascope.methods.cbp_vlp.vlp import Vlp
from vitascope.structures import Localized, Record, Segments


def localize(c: CbpVlpConfig, cbp: nn.Module, vlp: Vlp | None, text: Tensor | None, record: Record) -> Localized:
    """Find the actions of a video whose snippet features are known.

    Args:
        c: The configuration.
        cbp: The CBP branch.
        vlp: The VLP branch, if there is one.
        text: Of the classes, `[K, D]`, likewise.
        record: Its features are read. Where it has labels, these actions alone are looked for, and confident snippets are
            told too; else those whose scores pass the gate.

    Raises:
        ValueError: A branch that counts has no features of this video.
        VideoError: Features cannot be read.
    """
    values, times = read_vectors(record, 0)
    curves, scores = {}, {}
    curves["CBP"], scores["CBP"] = _curve(c, cbp, c.background_kind, values)
    if vlp is not None and len(record.features) > 1:
        frames = at_times(*read_vectors(record, 1), times, record.path)
        curves["VLP"], scores["VLP"] = _curve(c, vlp, c.vlp_background_kind, frames, text)
    shares = _shares(c, tuple(curves), record)
    curve, score = (sum(share * of[name] for name, share in shares.items()) for of in (curves, scores))
    end, confident = float(times[-1, 1]), None
    if record.labels:
        mask, y = torch.ones(1, len(times), dtype=torch.bool), tags(record, c.classes)
        how = {"high": c.high, "low": c.low, "normalise": c.normalise}
        confident = pseudo_labels(curve[None], y[None], mask, **how)[0].numpy()
        tagged = y.nonzero().flatten()
        names = tuple(c.classes[k] for k in tagged.tolist())
        found = proposals(c, curve[:, tagged], score[tagged], times, end, names, class_gate=0.0)
    else:
        found = proposals(c, curve, score, times, end, c.classes, class_gate=c.class_gate)
    shown = {name: values.numpy().astype(np.float32) for name, values in curves.items()}
    return Localized(record.path, end, found, times, c.classes, shown, confident)


def proposals(
    c: CbpVlpConfig,
    curve: Tensor,
    score: Tensor,
    times: np.ndarray,
    end_seconds: float,
    names: tuple[str, ...],
    class_gate: float,
) -> Segments:
    """The actions that a curve `[S, K]` and scores of the video `[K]` tell of, of the classes `names`."""
    if not names:
        return Segments(np.zeros((0, 2)), (), np.zeros(0))
    return propose(
        curve.numpy(),
        score.numpy(),
        times,
        names,
        class_gate=class_gate,
        gate=c.gate,
        thresholds=c.thresholds,
        upsample=c.upsample,
        sigma=c.nms_sigma,
        max_proposals=c.max_proposals,
        duration_seconds=end_seconds,
    )


def _curve(
    c: CbpVlpConfig, branch: nn.Module, background: Background, values: Tensor, *text: Tensor
) -> tuple[Tensor, Tensor]:
    """Probabilities `[S, K]` of a whole video and its scores `[K]`, on the CPU."""
    device, num_classes = next(branch.parameters()).device, len(c.classes)
    mask = torch.ones(1, len(values), dtype=torch.bool, device=device)
    out = branch(values[None].to(device), mask, *text)
    curve = probabilities(out, num_classes, background)
    if c.video_score == "probabilities":
        score = topk_mean(curve, mask, c.topk_ratio)[0]
    else:
        score = topk_mean(final_logits(out), mask, c.topk_ratio)[0, :num_classes].float().softmax(0)
    return curve[0].float().cpu(), score.float().cpu()


def _shares(c: CbpVlpConfig, there: tuple[str, ...], record: Record) -> dict[str, float]:
    """How much each branch counts in what is told."""
    of_cbp = {"cbp": 1.0, "vlp": 0.0, "mean": 0.5, "weighted": c.cbp_share}[c.output]
    shares = {name: share for name, share in (("CBP", of_cbp), ("VLP", 1 - of_cbp)) if share}
    missing = [name for name in shares if name not in there]
    if missing:
        raise ValueError(f"{record.path}: no {missing[0]} features, which output ({c.output}) needs")
    return shares
