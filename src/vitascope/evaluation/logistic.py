"""Multinomial logistic regression on frozen features, with its strength chosen inside the training set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001)  # from strong to weak: each fit starts from the one before
MAX_ITERATIONS = 2000
TOLERANCE = 1e-6  # of the largest partial derivative


@dataclass(frozen=True)
class Logistic:
    """A fitted regression: `classes` int `[K']` are those that the training set holds."""

    mean: np.ndarray  # [D]
    scale: np.ndarray  # [D]
    weight: np.ndarray  # [D, K']
    bias: np.ndarray  # [K']
    classes: np.ndarray
    strength: float

    def log_probabilities(self, features: np.ndarray, num_classes: int) -> np.ndarray:
        """float64 `[S, num_classes]`; a class that the training set lacks has minus infinity."""
        logits = (np.asarray(features, np.float64) - self.mean) / self.scale @ self.weight + self.bias
        known = torch.from_numpy(logits).log_softmax(1).numpy()
        full = np.full((len(features), num_classes), -np.inf)
        full[:, self.classes] = known
        return full


def fit(features: np.ndarray, labels: np.ndarray, folds: np.ndarray | None = None) -> Logistic:
    """Fit on standardised features: minimise the mean cross-entropy plus `strength / 2 * |W|²`, the bias free.

    Mean and deviation are those of `features`; one that is constant is left at 0. All is float64 and deterministic.

    Args:
        features: `[S, D]`.
        labels: int `[S]`.
        folds: int `[S]`; the strength of `STRENGTHS` with the lowest cross-entropy on held-out folds is taken, the
            stronger of equals. None, or a single fold, takes the middle one.

    Raises:
        ValueError: Features are not finite, there are no two classes, or the regression does not converge.

    Example:
        >>> x, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
        >>> fit(x, y).log_probabilities(x, 2).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    features, labels = np.asarray(features, np.float64), np.asarray(labels)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(
            f"features ({list(features.shape)}) must be finite numbers [S, D]; look at the encoder's weights"
        )
    if len(np.unique(labels)) < 2:
        raise ValueError("the training samples are all of one class; a regression needs two")
    if folds is None or len(np.unique(folds)) < 2:
        return _path(features, labels, STRENGTHS[: len(STRENGTHS) // 2 + 1])[-1]
    losses = np.zeros(len(STRENGTHS))
    for fold in np.unique(folds):
        held = folds == fold
        if len(np.unique(labels[~held])) < 2:
            continue
        for place, model in enumerate(_path(features[~held], labels[~held], STRENGTHS)):
            known = np.isin(labels[held], model.classes)  # of a class never seen nothing can be asked
            told = model.log_probabilities(features[held][known], int(labels.max()) + 1)
            losses[place] -= told[np.arange(known.sum()), labels[held][known]].sum()
    return _path(features, labels, STRENGTHS[: int(losses.argmin()) + 1])[-1]


def _path(features: np.ndarray, labels: np.ndarray, strengths: tuple[float, ...]) -> list[Logistic]:
    """A model for each strength, in their order."""
    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-12 * (1 + np.abs(mean)), scale, np.inf)  # a constant becomes 0
    standard = (features - mean) / scale
    # The best weights lie in the span of the samples, and the penalty does not change under a rotation: work there.
    basis = np.linalg.svd(standard, full_matrices=False)[2] if len(standard) < standard.shape[1] else None
    inputs = torch.from_numpy(standard if basis is None else standard @ basis.T)  # [S, R]
    classes, targets = np.unique(labels, return_inverse=True)
    targets = torch.from_numpy(targets.astype(np.int64))
    weight = torch.zeros(inputs.shape[1], len(classes), dtype=torch.float64)
    bias = torch.zeros(len(classes), dtype=torch.float64)
    models = []
    for strength in strengths:
        _minimise(inputs, targets, weight, bias, strength)
        found = weight.numpy()
        found = found.copy() if basis is None else basis.T @ found
        models.append(Logistic(mean, scale, found, bias.numpy().copy(), classes, strength))
    return models


def _minimise(inputs: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, strength: float) -> None:
    """Move weight and bias in place to the minimum."""
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MAX_ITERATIONS,
        max_eval=10 * MAX_ITERATIONS,
        tolerance_grad=TOLERANCE,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    wanted = F.one_hot(targets, weight.shape[1]).double() / len(targets)  # [S, K']

    def loss() -> Tensor:
        told = (inputs @ weight + bias).log_softmax(1)
        error = told.exp() / len(targets) - wanted
        weight.grad, bias.grad = inputs.T @ error + strength * weight, error.sum(0)
        return strength / 2 * weight.square().sum() - (wanted * told).sum()

    with torch.no_grad():  # the gradient is written out: a third of the time of tracing it
        solver.step(loss)
        loss()
    steepest = max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))
    if not steepest < 100 * TOLERANCE:
        raise ValueError(
            f"the regression did not converge (slope {steepest:.1e} at strength {strength}); scale the features"
        )
