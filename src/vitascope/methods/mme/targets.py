"""What the model should say of the masked tokens: their pixels, or their motion.

Pixels (VideoMAE): each patch normalised by its own mean and deviation. Motion (MME, section 3.2 and 3.3): where the tracks
of a token go, what they look like on their way, and whether they stay in the frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitascope.methods.mme.hog import normalise_cells

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


RELEASE_PIXELS = 20.0  # displacements over this, in the released code
LEAST_SPREAD = 0.01  # of HOG of a token, of images in [0, 1]: weaker gradients are noise


def move_scale(moves: Tensor, seen: Tensor, kind: str, floor: float) -> tuple[Tensor, Tensor]:
    """Centre and scale of displacements; the target is `(moves - centre) / scale`.

    | kind | centre, scale |
    | --- | --- |
    | `rms` | 0; root mean square of the token's seen displacements: direction and course count, and not how fast |
    | `clip` | 0; root mean square of all seen displacements of the clip: slow parts stay slow |
    | `whole` | mean and deviation over all values of a token (the paper); a step of (1, 1) everywhere becomes 0 |
    | `patch-std` | mean and deviation over the K tracks of each step and axis (the release); what all share becomes 0 |
    | `none` | 0; 20 pixels |

    Args:
        moves: Pixels `[B, N, K, L, 2]`.
        seen: bool `[B, N, K, L]`.
        kind: As above.
        floor: Least scale, in pixels; not of `patch-std` and `none`.

    Returns:
        Two that broadcast to `moves`.

    Raises:
        ValueError: No such kind.
    """
    weight = seen[..., None].float()
    if kind == "none":
        return moves.new_zeros(1), moves.new_full((1,), RELEASE_PIXELS)
    if kind == "patch-std":
        std = (moves / RELEASE_PIXELS).std(2, keepdim=True) + 1e-6
        return moves.mean(2, keepdim=True), std * RELEASE_PIXELS
    if kind == "whole":
        centre = moves.mean((2, 3, 4), keepdim=True)
        return centre, moves.std((2, 3, 4), keepdim=True, correction=0).clamp(min=floor)
    if kind not in ("rms", "clip"):
        raise ValueError(f"kind ({kind!r}) must be rms, clip, whole, patch-std or none")
    over = (2, 3, 4) if kind == "rms" else (1, 2, 3, 4)
    counted = 2 * weight.sum(over, keepdim=True).clamp(min=0.5)
    rms = ((moves.square() * weight).sum(over, keepdim=True) / counted).sqrt()
    return moves.new_zeros(1), rms.clamp(min=floor)


def as_vector(values: Tensor) -> Tensor:
    """Values of tracks as one vector a token, in the papers' order: `[B, N, K, L, F]` -> `[B, N, F * L * K]`.

    Example:
        >>> as_vector(torch.arange(8).reshape(1, 1, 2, 2, 2)).flatten().tolist()
        [0, 4, 2, 6, 1, 5, 3, 7]
    """
    return values.permute(0, 1, 4, 3, 2).flatten(2)


def from_vector(vectors: Tensor, num_tracks: int, num_steps: int) -> Tensor:
    """The inverse of `as_vector`, `[B, N, F * L * K]` -> `[B, N, K, L, F]`."""
    return vectors.unflatten(2, (-1, num_steps, num_tracks)).permute(0, 1, 4, 3, 2)


def position_targets(moves: Tensor, seen: Tensor, kind: str, floor: float) -> Tensor:
    """Scaled displacements, `[B, N, K, L, 2]` -> `[B, N, 2 * L * K]`; see `move_scale`.

    Example:
        >>> moves = torch.tensor([3.0, 0.0]).expand(1, 1, 4, 6, 2)
        >>> seen = torch.ones(1, 1, 4, 6, dtype=torch.bool)
        >>> position_targets(moves, seen, "rms", 0.1)[0, 0, [0, -1]].square().round().tolist()
        [2.0, 0.0]
    """
    centre, scale = move_scale(moves, seen, kind, floor)
    return as_vector((moves - centre) / scale)


def move_weights(seen: Tensor, kind: str) -> Tensor:
    """Which displacements count.

    | kind | counts |
    | --- | --- |
    | `per_track` | each track as long as it is seen |
    | `any` | everything of a token of which one track is seen to the end (the release) |
    | `all` | everything of a token of which all tracks are |
    | `off` | everything |

    Args:
        seen: bool `[B, N, K, L]`.
        kind: As above.

    Returns:
        float32 `[B, N, 2 * L * K]`, 0 or 1.

    Raises:
        ValueError: No such kind.
    """
    to_the_end = seen[..., -1:]  # [B, N, K, 1]
    if kind == "per_track":
        weights = seen
    elif kind in ("any", "all"):
        weights = to_the_end.any(2, keepdim=True) if kind == "any" else to_the_end.all(2, keepdim=True)
    elif kind == "off":
        weights = torch.ones_like(seen)
    else:
        raise ValueError(f"kind ({kind!r}) must be per_track, any, all or off")
    return as_vector(weights.expand_as(seen)[..., None].expand(*seen.shape, 2).float())


def shape_targets(cells: Tensor, kind: str) -> Tensor:
    """Normalised HOG, `[B, N, K, L, F]` -> `[B, N, F * L * K]`.

    `standard` brings each token's whole vector to mean 0 and variance 1, `l2hys` each histogram to length 1.
    """
    if kind == "standard":
        return normalise_cells(as_vector(cells), "standard", LEAST_SPREAD)
    return as_vector(normalise_cells(cells, kind))
