"""Which clips of a batch belong together, which do not, and about which pairs nothing is known.

Clips stand in the order of their videos, `[N, S]` as one row of R = N * S: clip s of video n is number n * S + s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def visual_negatives(num_videos: int, num_clips: int, device: torch.device | str | None = None) -> Tensor:
    """Which clips the first two of each video are told from: all of all other videos, and none of their own.

    Returns:
        bool `[2 * N, R]`; rows are the first and second clip of the first video, then those of the next.

    Example:
        >>> visual_negatives(2, 3).int().tolist()
        [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0]]
    """
    own = torch.eye(num_videos, dtype=torch.bool, device=device)
    return ~own.repeat_interleave(2, 0).repeat_interleave(num_clips, 1)


def topic_pairs(num_videos: int, num_clips: int, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Ordered pairs of clips of one video, and of two; a clip and itself are neither.

    Returns:
        Positives and negatives, bool `[R, R]` each.

    Example:
        >>> positives, negatives = topic_pairs(2, 2)
        >>> positives.int().tolist()
        [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
        >>> negatives.int().tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    """
    video = torch.arange(num_videos, device=device).repeat_interleave(num_clips)  # [R]
    is_same = video[:, None] == video
    return is_same & ~torch.eye(len(video), dtype=torch.bool, device=device), ~is_same


def unknown_pairs(
    num_clips: int, videos: Tensor | None = None, descriptors: Tensor | None = None, most_alike: float = math.inf
) -> Tensor | None:
    """Pairs of clips of two samples that must not be taken for negatives, since they may show the same.

    Args:
        num_clips: Clips of a sample.
        videos: Number of each sample's video, int64 `[N]`: one can come twice in a batch.
        descriptors: Of each clip `[N, S, E]`; a pair with a scalar product above `most_alike` looks too much alike.
        most_alike: See above.

    Returns:
        bool `[R, R]`; None if nothing is known of any clip. Pairs within a sample have no meaning.

    Example:
        >>> unknown_pairs(1, videos=torch.tensor([7, 4, 7])).int().tolist()
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    unknown = None
    if videos is not None:
        number = videos.repeat_interleave(num_clips)
        unknown = number[:, None] == number
    if descriptors is not None:
        flat = descriptors.flatten(0, 1).float()
        with torch.autocast(flat.device.type, enabled=False):
            is_alike = flat @ flat.T > most_alike
        unknown = is_alike if unknown is None else unknown | is_alike
    return unknown
