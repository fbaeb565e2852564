"""The losses against slow loops, and what they make of void, empty and absent objects."""

import math

import pytest
import torch

from vitascope.methods.stm.loss import SMOOTH, dice, mask_loss
from vitascope.methods.stm.model import aggregate
from vitascope.methods.stm.targets import VOID, one_hot


def batch(seed: int = 0, b: int = 2, t: int = 2, k: int = 3, side: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(b, t, k, side, side, generator=generator)
    labels = torch.randint(0, k, (b, t, side, side), generator=generator)
    labels[0, 0, 0, :3] = VOID
    return logits, labels


def slow_entropies(logits: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Of each pixel, 0 where void."""
    values = []
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = int(labels[y, x])
            at = [float(v) for v in logits[:, y, x]]
            total = math.log(sum(math.exp(v) for v in at))
            values.append(0.0 if label == VOID else total - at[label])
    return values


def test_cross_entropy_is_the_mean_over_pixels_that_are_not_void():
    logits, labels = batch()
    means = []
    for clip in range(2):
        for frame in range(2):
            values = slow_entropies(logits[clip, frame], labels[clip, frame])
            means.append(sum(values) / int((labels[clip, frame] != VOID).sum()))
    assert float(mask_loss(logits, labels)["loss"]) == pytest.approx(sum(means) / 4, abs=1e-5)


def test_hardest_takes_the_worst_pixels_of_each_frame_and_adds_the_overlap():
    logits, labels = batch(1)
    worst, overlap = [], []
    for clip in range(2):
        for frame in range(2):
            values = sorted(slow_entropies(logits[clip, frame], labels[clip, frame]), reverse=True)[: int(0.4 * 36)]
            worst.append(sum(values) / len(values))
            overlap.append(1 - slow_dice(logits[clip, frame], labels[clip, frame]))
    terms = mask_loss(logits, labels, "hardest_and_overlap", hardest=0.4)
    assert float(terms["cross_entropy"]) == pytest.approx(sum(worst) / 4, abs=1e-5)
    assert float(terms["overlap"]) == pytest.approx(sum(overlap) / 4, abs=1e-5)
    assert float(terms["loss"]) == pytest.approx(sum(worst) / 4 + sum(overlap) / 4, abs=1e-5)


def slow_dice(logits: torch.Tensor, labels: torch.Tensor) -> float:
    probabilities, counted, values = logits.softmax(0), labels != VOID, []
    for channel in range(1, len(logits)):
        p, m = probabilities[channel][counted], (labels[counted] == channel).float()
        values.append(float((2 * (p * m).sum() + SMOOTH) / (p.sum() + m.sum() + SMOOTH)))
    return sum(values) / len(values)


def test_a_true_answer_has_next_to_no_loss():
    _, labels = batch(2)
    labels[labels == VOID] = 0
    probabilities = one_hot(labels.flatten(0, 1), 2) * 0.9999
    logits = aggregate(probabilities).unflatten(0, (2, 2))
    for kind in ("cross_entropy", "hardest_and_overlap"):
        assert float(mask_loss(logits, labels, kind)["loss"]) < 2e-3


def test_a_frame_without_objects_that_is_called_empty_has_no_loss():
    labels = torch.zeros(1, 1, 8, 8, dtype=torch.long)
    logits = aggregate(torch.zeros(1, 2, 8, 8))[None]
    assert float(mask_loss(logits, labels, "hardest_and_overlap")["loss"]) < 1e-4
    wrong = aggregate(torch.full((1, 2, 8, 8), 0.9))[None]
    assert float(mask_loss(wrong, labels, "hardest_and_overlap")["loss"]) > 1


def test_the_overlap_counts_an_unused_channel_for_nothing():
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[0, 2:6, 2:6] = 1
    one = aggregate(one_hot(labels, 1) * 0.7)
    two = aggregate(one_hot(labels, 1) * 0.7, num_channels=3)
    assert float(dice(two, labels)) == pytest.approx(float(dice(one, labels)), abs=1e-4)


def test_a_frame_that_is_all_void_has_a_finite_loss():
    labels = torch.full((1, 1, 4, 4), VOID)
    logits = torch.randn(1, 1, 3, 4, 4, requires_grad=True)
    for kind in ("cross_entropy", "hardest_and_overlap"):
        loss = mask_loss(logits, labels, kind)["loss"]
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()
