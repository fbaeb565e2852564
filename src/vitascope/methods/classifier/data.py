"""Record -> sample -> batch; and the views of a test.

| key | dtype and shape of a sample | in a batch | what |
| --- | --- | --- | --- |
| `clips` | uint8 `[T, C, H, W]` | `[B, T, C, H, W]` | RGB, cropped, mirrored, coloured, not normalised |
| `labels` | int64 `[]` | `[B]` | number of the class |
| `blends` | float32 `[]` | `[B]` | share that mixup leaves of the clip; 1 for no mixup |
| `boxes` | int64 `[4]` | `[B, 4]` | where cutmix puts the partner's pixels, `xyxy`; all 0 for no cutmix |

The partner of a clip is that of the same place from the other end of the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Draw
from vitascope.methods.classifier.config import ClassifierConfig
from vitascope.structures import Record
from vitascope.video.footage import Footage
from vitascope.video.sampling import clip_indices, stretch
from vitascope.video.transforms import (
    colour_jitter,
    crop_and_resize,
    draw_chosen,
    draw_colour_jitter,
    draw_random_resized_boxes,
    flip,
)


def linspace_indices(num_available: int, num_frames: int, stride_frames: int, rng: np.random.Generator) -> np.ndarray:
    """The release's training clip on Kinetics: points spread over a stretch of `num_frames * stride_frames` frames.

    Both ends count, so frames are not 4 apart but 4.27: 0, 4, 8, 12, 17, ... A shorter video gives as many points as
    strides fit into it, and its last frame for the rest. Spec 2.2.

    Returns:
        int64 `[T]`.

    Example:
        >>> linspace_indices(65, 16, 4, np.random.default_rng(0))[:6].tolist()
        [0, 4, 8, 12, 17, 21]
    """
    covered = num_frames * stride_frames
    if num_available <= covered:
        points = np.linspace(0, num_available, num_available // stride_frames)
        points = np.r_[points, np.full(num_frames - len(points), num_available)]
        return np.clip(points, 0, num_available - 1).astype(np.int64)
    end = int(rng.integers(covered, num_available))
    return np.clip(np.linspace(end - covered, end, num_frames), end - covered, end - 1).astype(np.int64)


def segment_indices(num_available: int, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """One frame, drawn uniformly, of each of `num_frames` parts of `num_available // num_frames` frames (spec 2.2).

    A video of fewer frames than parts shows each as often as evenly goes.

    Returns:
        int64 `[T]`.

    Example:
        >>> segment_indices(4, 8, np.random.default_rng(0)).tolist()
        [0, 0, 1, 1, 2, 2, 3, 3]
    """
    part = num_available // num_frames
    if part == 0:
        return np.arange(num_frames) * num_available // num_frames
    return np.arange(num_frames) * part + rng.integers(part, size=num_frames)


def dense_test_indices(num_available: int, num_frames: int, stride_frames: int, num_clips: int) -> np.ndarray:
    """The clips of a test: starts spread evenly over every `stride_frames`-th frame of the whole video (spec 2.2).

    A video that is too short for a clip has its last frame repeated. One clip is in the middle.

    Returns:
        int64 `[V, T]`.

    Example:
        >>> dense_test_indices(20, 2, 4, 2).tolist()
        [[0, 4], [12, 16]]
    """
    frames = np.arange(0, num_available, stride_frames)
    frames = np.r_[frames, np.full(max(0, num_frames - len(frames)), frames[-1])]
    room = len(frames) - num_frames
    step = room / (num_clips - 1) if num_clips > 1 else 0.0
    starts = [int(clip * step) for clip in range(num_clips)] if num_clips > 1 else [room // 2]
    return np.stack([frames[start : start + num_frames] for start in starts])


def segment_test_indices(num_available: int, num_frames: int, num_clips: int) -> np.ndarray:
    """The clips of a test over segments: of each part its `num_clips` equal pieces, clip `c` the middle of piece `c`.

    This is MME's rule; VideoMAE's two clips take the beginning and the middle of each part (spec 2.2).

    Returns:
        int64 `[V, T]`.

    Example:
        >>> segment_test_indices(16, 4, 2).tolist()
        [[1, 5, 9, 13], [3, 7, 11, 15]]
    """
    part = num_available / num_frames
    middles = (np.arange(num_clips) + 0.5)[:, None] / num_clips  # [V, 1]
    return ((np.arange(num_frames) + middles) * part).astype(np.int64)


def draw_mixing(config: ClassifierConfig, rng: np.random.Generator) -> tuple[float, tuple[int, int, int, int]]:
    """The blend of a sample and its box: mixup (Zhang et al., 2018) or cutmix (Yun et al., 2019) or neither.

    Mixup leaves a share drawn from Beta(a, a). Cutmix draws the area beside the box from it; the box has the clip's
    shape, its centre is anywhere, and what is outside is cut off.
    """
    none = (0, 0, 0, 0)
    if not (config.mixup or config.cutmix) or rng.random() >= config.mix_probability:
        return 1.0, none
    cuts = rng.random() < config.cutmix_share if config.mixup and config.cutmix else bool(config.cutmix)
    strength = config.cutmix if cuts else config.mixup
    share = float(rng.beta(strength, strength))
    if not cuts:
        return share, none
    side = int(config.size * np.sqrt(1 - share))
    x, y = (int(centre) for centre in rng.integers(config.size, size=2))
    low, high = -(side // 2), side - side // 2
    x0, y0, x1, y1 = (int(np.clip(at, 0, config.size)) for at in (x + low, y + low, x + high, y + high))
    return 1.0, (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else none


def mixed(clips: Tensor, blends: Tensor, boxes: Tensor) -> Tensor:
    """Blend each clip with its partner, or put the partner's pixels into its box.

    Args:
        clips: float `[B, T, C, H, W]`.
        blends: float `[B]`.
        boxes: int64 `[B, 4]`.

    Returns:
        `[B, T, C, H, W]`.

    Example:
        >>> clips = torch.tensor([0.0, 1.0])[:, None, None, None, None].expand(2, 1, 1, 2, 2)
        >>> boxes = torch.tensor([[0, 0, 1, 2], [0, 0, 0, 0]])
        >>> mixed(clips, torch.tensor([1.0, 0.5]), boxes).flatten(1).tolist()
        [[1.0, 0.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5]]
    """
    height, width = clips.shape[-2:]
    rows, columns = torch.arange(height, device=clips.device), torch.arange(width, device=clips.device)
    x0, y0, x1, y1 = boxes.to(clips.device).T[:, :, None]  # [B, 1] each
    inside = ((rows >= y0) & (rows < y1))[:, :, None] & ((columns >= x0) & (columns < x1))[:, None]  # [B, H, W]
    blends = blends.to(clips)[:, None, None, None, None]
    partners = clips.flip(0)
    return torch.where(inside[:, None, None], partners, clips * blends + partners * (1 - blends))


def frames_of(footage: Footage, record: Record, choose: Callable[[int], np.ndarray]) -> Tensor:
    """Frames of a record.

    Args:
        footage: Reads them.
        record: A video, or a stretch of it.
        choose: Is given the record's number of frames, and gives the numbers of those wanted, of any shape.

    Returns:
        uint8 `[*shape, C, H, W]`.

    Raises:
        VideoError: The video cannot be read, or the record's stretch holds no frame.
    """
    with footage.opened(record) as film:
        first, end = stretch(record, film.times_seconds)
        return film.frames(first + choose(end - first))


class LabelledClips(Dataset):
    """Clips with their classes; a sample follows from its `Draw` alone.

    Args:
        records: Videos, or stretches of them, of exactly one class each.
        config: The recipe.

    Raises:
        ValueError: A record has not exactly one class, or one that `config.classes` does not name.
    """

    def __init__(self, records: list[Record], config: ClassifierConfig) -> None:
        self.records, self.config = records, config
        numbers = {name: number for number, name in enumerate(config.classes)}
        for record in records:
            if len(record.labels) != 1 or record.labels[0] not in numbers:
                raise ValueError(
                    f"{record.id or record.path} is labelled {list(record.labels)}; a classifier takes records of exactly "
                    f"one of its {len(numbers)} classes ({', '.join(config.classes[:8])}{', ...' * (len(numbers) > 8)})"
                )
        self.labels = [numbers[record.labels[0]] for record in records]
        self.footage = Footage(config.short_side, config.memory_mb)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        """One sample, as the module's table tells.

        Raises:
            VideoError: The video cannot be read, or the record's stretch holds no frame.
        """
        c, rng = self.config, np.random.default_rng(draw.seed)
        frames = frames_of(
            self.footage, self.records[draw.index], lambda count: self.choose(count, rng)
        )  # [T, C, H, W]
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        box = draw_random_resized_boxes(1, tuple(frames.shape[-2:]), generator, c.crop_area, c.crop_aspect)
        clips = crop_and_resize(frames[None] / 255, box, c.size)
        clips = flip(clips, draw_chosen(1, 0.5 if c.flip else 0.0, generator))
        if c.colour_jitter:
            strengths = [c.colour_jitter] * 3
            clips = colour_jitter(clips, draw_colour_jitter(1, generator, *strengths, hue=0.0))
        blend, mix_box = draw_mixing(c, rng)
        return {
            "clips": (clips[0] * 255).round().to(torch.uint8),
            "labels": torch.tensor(self.labels[draw.index]),
            "blends": torch.tensor(blend, dtype=torch.float32),
            "boxes": torch.tensor(mix_box),
        }

    def choose(self, num_available: int, rng: np.random.Generator) -> np.ndarray:
        """Frames of a training clip, int64 `[T]`."""
        c = self.config
        if c.sampling == "segments":
            return segment_indices(num_available, c.num_frames, rng)
        rule = clip_indices if c.sampling == "dense" else linspace_indices
        return rule(num_available, c.num_frames, c.stride_frames, rng)
