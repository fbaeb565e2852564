"""Dealing samples to the folds of a cross-validation, so that what belongs together stays on one side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def stratified_folds(labels: np.ndarray, num_folds: int, seed: int = 0) -> np.ndarray:
    """Deal samples to folds so that each holds as many of every class, give or take one.

    Example:
        >>> stratified_folds(np.array([0, 0, 1, 1]), 2).tolist() in ([0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 1, 0])
        True
    """
    rng, folds, dealt = np.random.default_rng(seed), np.zeros(len(labels), np.int64), 0
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        folds[members] = (dealt + np.arange(len(members))) % num_folds
        dealt += len(members)
    return folds


def grouped_folds(groups: np.ndarray, num_folds: int) -> np.ndarray:
    """Deal whole groups to folds, the largest first, each to the fold that holds the fewest samples.

    Example:
        >>> grouped_folds(np.array([0, 0, 0, 1, 2, 2]), 2).tolist()
        [0, 0, 0, 1, 1, 1]
    """
    sizes, loads = np.bincount(groups), np.zeros(num_folds, np.int64)
    fold_of = np.zeros(len(sizes), np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of[group] = loads.argmin()
        loads[fold_of[group]] += sizes[group]
    return fold_of[groups]


def deal(
    labels: np.ndarray, groups: Sequence[Any] | None, num_folds: int | None, seed: int
) -> tuple[np.ndarray, list[str]]:
    """The fold of each sample int `[S]`, and the names of the folds.

    Args:
        labels: int `[S]`; without `groups` the folds are stratified by them.
        groups: What must not be parted; by default each group is a fold.
        num_folds: None for 5, or with `groups` for as many as there are groups.
        seed: Of stratified folds.

    Raises:
        ValueError: There are fewer samples or groups than folds, or fewer than two folds.
    """
    names, numbers = (None, None) if groups is None else numbered(groups)
    most = len(labels) if groups is None else len(names)
    count = num_folds or (min(5, most) if groups is None else most)
    if not 2 <= count <= most:
        what = "samples" if groups is None else "groups"
        raise ValueError(f"num_folds ({count}) must be > 1 and <= the number of {what} ({most})")
    if groups is None:
        return stratified_folds(labels, count, seed), [str(number + 1) for number in range(count)]
    if count == most:
        return numbers, list(names)
    return grouped_folds(numbers, count), [str(number + 1) for number in range(count)]


def numbered(names: Sequence[Any]) -> tuple[tuple[str, ...], np.ndarray]:
    """The different names, sorted, and the number of each.

    Example:
        >>> numbered(["b", "a", "b"])[1].tolist()
        [1, 0, 1]
    """
    found = sorted({str(name) for name in names})
    places = {name: number for number, name in enumerate(found)}
    return tuple(found), np.array([places[str(name)] for name in names], np.int64)
