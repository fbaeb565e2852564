"""A linear probe: what frozen features are worth, told by multinomial logistic regression.

How it was done stands as text in each result, since probes differ in it more than encoders do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vitascope.evaluation import logistic
from vitascope.evaluation.folds import deal, grouped_folds, numbered, stratified_folds
from vitascope.metrics.recognition import (
    bootstrap_interval,
    confusion_matrix,
    mean_class_accuracy,
    top_k_accuracy,
    wilson_interval,
)

INNER_FOLDS = 5
REPEATS, FEW_SAMPLES = 5, 500


@dataclass(frozen=True, slots=True)
class Fold:
    """A part of the samples that was told by a model which had not seen it."""

    name: str
    num_samples: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Recognition:
    """How well classes were told; shares in [0, 1], of all samples together.

    `predictions` are `(id, true class, told class, its score)`; `confusion` counts, row the true class, column the told
    one; `majority` is what always saying the most common class would reach; `unreadable` maps an id to the reason.
    """

    protocol: str
    classes: tuple[str, ...]
    num_samples: int
    top1: float
    interval: tuple[float, float]  # 95%, of top1
    top5: float | None  # None where there are no more than 5 classes
    mean_class: float
    majority: float
    confusion: tuple[tuple[int, ...], ...]
    folds: tuple[Fold, ...] = ()
    predictions: tuple[tuple[str, str, str, float], ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)
    repeats: tuple[float, ...] = ()  # top1 of each dealing of the folds


def linear_probe(
    features_train: np.ndarray,
    labels_train: Sequence[str],
    features_test: np.ndarray,
    labels_test: Sequence[str],
    *,
    groups_train: Sequence[Any] | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
) -> Recognition:
    """Learn classes on frozen features of one list and tell those of another.

    Args:
        features_train: `[S, D]`.
        labels_train: `S` classes.
        features_test: `[S', D]`.
        labels_test: `S'` classes; one that the training list lacks counts as told wrong.
        groups_train: What must not be parted when the strength is chosen, e.g. the file of each segment.
        ids: Names of the test samples, for `predictions`.
        seed: Of the folds within which the strength is chosen.

    Raises:
        ValueError: As `evaluation.logistic.fit`, or the lists do not fit.

    Example:
        >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> linear_probe(x, ["a", "a", "b", "b"], x, ["a", "a", "b", "a"]).top1
        0.75
    """
    _check(features_train, labels_train, groups_train)
    _check(features_test, labels_test, None)
    classes, numbers = numbered([*labels_train, *labels_test])
    train, test = numbers[: len(labels_train)], numbers[len(labels_train) :]
    scores, strength = _tell(features_train, train, groups_train, features_test, len(classes), seed)
    protocol = (
        f"Linear probe on frozen features: {len(train)} training and {len(test)} test samples, {np.shape(features_train)[1]} "
        f"values each. {_fitting(groups_train)} The strength taken is {strength:g}. Interval: Wilson, 95%."
    )
    interval = wilson_interval(int((scores.argmax(1) == test).sum()), len(test))
    return summary(protocol, classes, test, scores, interval, ids=ids)


def cross_validate(
    features: np.ndarray,
    labels: Sequence[str],
    groups: Sequence[Any] | None = None,
    *,
    num_folds: int | None = None,
    repeats: int | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
) -> Recognition:
    """Tell each sample by a probe that was fitted on the folds without it.

    Without `groups` the folds are stratified, 5 by default. With them, samples of one group are always in one fold: each
    group is a fold of its own, or whole groups are dealt to `num_folds`. The strength is chosen inside each training part
    by the same rule.

    Few samples that are dealt anew give another accuracy (of 80 clips and features at chance: 0.40 to 0.63). So stratified
    folds are dealt several times and shares are means; predictions, confusion and folds are of the first time.

    Args:
        features: `[S, D]`.
        labels: `S` classes.
        groups: What must not be parted, e.g. the file of each segment.
        num_folds: > 1; None for 5, or with `groups` one fold a group.
        repeats: How often stratified folds are dealt; None for 5 times below 500 samples, else once.
        ids: Names of the samples, for `predictions`.
        seed: Of the folds.

    Raises:
        ValueError: As `linear_probe`, or fewer groups than folds.

    Example:
        >>> x = np.array([[-2.0], [-1.5], [-1.0], [1.0], [1.5], [2.0]])
        >>> cross_validate(x, ["a", "a", "a", "b", "b", "b"], num_folds=3).top1
        1.0
    """
    _check(features, labels, groups)
    features = np.asarray(features)
    classes, numbers = numbered(labels)
    count = 1 if groups is not None else repeats or (REPEATS if len(numbers) < FEW_SAMPLES else 1)
    rounds = [_hold_out(features, numbers, groups, num_folds, len(classes), seed + number) for number in range(count)]
    shares = tuple(float((scores.argmax(1) == numbers).mean()) for scores, _, _ in rounds)
    scores, rows, strengths = rounds[0]
    if groups is None:
        interval, how = wilson_interval(round(float(np.mean(shares)) * len(numbers)), len(numbers)), "Wilson"
        parts = f"{len(rows)} stratified folds, seed {seed}"
        if count > 1:
            parts += f", dealt {count} times (top-1 {100 * min(shares):.1f} to {100 * max(shares):.1f} %, shares are means, and classes and folds those of the first time)"
    else:
        group_numbers = numbered(groups)[1]
        interval, how = bootstrap_interval(scores.argmax(1) == numbers, group_numbers), "bootstrap over groups"
        parts = f"{len(rows)} folds of whole groups ({group_numbers.max() + 1} groups)"
    protocol = (
        f"Linear probe on frozen features, cross-validated over {parts}: {len(numbers)} samples, {features.shape[1]} values "
        f"each. {_fitting(groups)} Strengths taken: {', '.join(f'{s:g}' for s in strengths)}. Interval: {how}, 95%."
    )
    told = [summary(protocol, classes, numbers, values, interval, ids=ids) for values, _, _ in rounds]
    names = ("top1", "mean_class", *(("top5",) if told[0].top5 is not None else ()))
    means = {name: float(np.mean([getattr(one, name) for one in told])) for name in names}
    return replace(told[0], folds=tuple(rows), repeats=shares, **means)


def _hold_out(
    features: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[Any] | None,
    num_folds: int | None,
    num_classes: int,
    seed: int,
) -> tuple[np.ndarray, list[Fold], list[float]]:
    """Log probabilities `[S, K]`, each by a probe that has not seen the sample; the folds, and the strength of each."""
    places, names = deal(labels, groups, num_folds, seed)
    scores, strengths, rows = np.zeros((len(labels), num_classes)), [], []
    for number, name in enumerate(names):
        held = places == number
        kept = None if groups is None else [group for group, out in zip(groups, held, strict=True) if not out]
        scores[held], strength = _tell(features[~held], labels[~held], kept, features[held], num_classes, seed)
        rows.append(Fold(name, int(held.sum()), float((scores[held].argmax(1) == labels[held]).mean())))
        strengths.append(strength)
    return scores, rows, strengths


def _tell(
    train: np.ndarray, labels: np.ndarray, groups: Sequence[Any] | None, test: np.ndarray, num_classes: int, seed: int
) -> tuple[np.ndarray, float]:
    """Log probabilities `[S', K]` of the test samples, and the strength that was chosen inside the training ones."""
    if groups is None:
        fewest = int(np.bincount(labels)[np.unique(labels)].min())
        inner = stratified_folds(labels, max(1, min(INNER_FOLDS, max(fewest, 2), len(labels))), seed)
    else:
        numbers = numbered(groups)[1]
        inner = grouped_folds(numbers, min(INNER_FOLDS, int(numbers.max()) + 1))
    model = logistic.fit(train, labels, inner)
    return model.log_probabilities(test, num_classes), model.strength


def _fitting(groups: Sequence[Any] | None) -> str:
    apart = "stratified folds" if groups is None else "folds of whole groups"
    return (
        "Each value standardised by the training samples; multinomial logistic regression with an L2 penalty on the weights, "
        f"fitted to convergence; its strength, of {', '.join(f'{s:g}' for s in logistic.STRENGTHS)}, is the one with the "
        f"lowest cross-entropy over at most {INNER_FOLDS} {apart} of the training samples. The encoder learns nothing."
    )


def summary(
    protocol: str,
    classes: tuple[str, ...],
    truth: np.ndarray,
    scores: np.ndarray,
    interval: tuple[float, float],
    *,
    folds: tuple[Fold, ...] = (),
    ids: Sequence[str] | None = None,
    unreadable: dict[str, str] | None = None,
) -> Recognition:
    """What there is to say of scores `[S, K]`, probabilities or their logarithms."""
    told = scores.argmax(1)
    confusion = confusion_matrix(truth, told, len(classes))
    shares = scores if scores.max() > 0 else np.exp(scores)  # log probabilities are never above 0
    names = ids or [str(number) for number in range(len(truth))]
    rows = zip(names, truth, told, shares.max(1), strict=True)
    return Recognition(
        protocol=protocol,
        classes=classes,
        num_samples=len(truth),
        top1=top_k_accuracy(scores, truth),
        interval=interval,
        top5=top_k_accuracy(scores, truth, 5) if len(classes) > 5 else None,
        mean_class=mean_class_accuracy(confusion),
        majority=float(np.bincount(truth).max() / len(truth)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        folds=folds,
        predictions=tuple((name, classes[t], classes[p], float(share)) for name, t, p, share in rows),
        unreadable=unreadable or {},
    )


def _check(features: np.ndarray, labels: Sequence[str], groups: Sequence[Any] | None) -> None:
    counts = {"features": len(features), "labels": len(labels)}
    counts |= {} if groups is None else {"groups": len(groups)}
    if not len(labels) or len(set(counts.values())) > 1:
        told = ", ".join(f"{name} ({count})" for name, count in counts.items())
        raise ValueError(f"{told} must be as many, and at least one")
