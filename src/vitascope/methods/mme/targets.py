"""What the model should say of the masked tokens: their pixels, each patch normalised by its own mean and deviation."""

from __future__ import annotations

import torch
from torch import Tensor

# The papers add 1e-6 to deviations of pixels in [0, 1]. Here pixels stay in 0..255, where the mean of an even patch is
# exact in float32: its target is exactly 0, and not rounding noise divided by 1e-6.
EPS = 255e-6


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch and channel.

    Args:
        patches: Pixels in 0..255, any dtype `[B, N, frames, rows, columns, C]`.

    Returns:
        Mean and unbiased standard deviation plus `EPS`, float32 `[B, N, 1, 1, 1, C]` each.
    """
    pixels = patches.float()
    std, mean = pixels.std(dim=(2, 3, 4), keepdim=True), pixels.mean(dim=(2, 3, 4), keepdim=True)
    return mean, std + EPS


def normalized_pixels(patches: Tensor) -> Tensor:
    """VideoMAE's target: `(x - mean) / (std + 1e-6)` per patch and channel, on pixels that were never normalised before.

    Args:
        patches: Pixels in 0..255, any dtype `[B, N, frames, rows, columns, C]`.

    Returns:
        float32 `[B, N, frames * rows * columns * C]`.

    Example:
        >>> patches = torch.randint(0, 256, (1, 3, 2, 8, 8, 3), dtype=torch.uint8)
        >>> target = normalized_pixels(patches)
        >>> target.shape, bool(target.mean().abs() < 1e-5)
        (torch.Size([1, 3, 384]), True)
    """
    mean, std = patch_statistics(patches)
    return ((patches.float() - mean) / std).flatten(2)


def as_pixels(values: Tensor, patches: Tensor) -> Tensor:
    """Predicted values as pixels, for pictures.

    Args:
        values: Predictions of `normalized_pixels` `[B, N, D]`.
        patches: The true pixels in 0..255 `[B, N, frames, rows, columns, C]`; they lend the values their mean and
            deviation, which the model is not asked for.

    Returns:
        uint8 `[B, N, frames, rows, columns, C]`.
    """
    mean, std = patch_statistics(patches)
    return (values.reshape(patches.shape).float() * std + mean).round().clamp(0, 255).to(torch.uint8)
