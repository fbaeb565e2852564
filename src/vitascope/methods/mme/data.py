"""Record -> sample -> batch.

| key | dtype and shape of a sample | in a batch | what |
| --- | --- | --- | --- |
| `clips` | uint8 `[T, C, H, W]` | `[B, T, C, H, W]` | RGB, cropped and resized to the recipe's size, not normalised |
| `mask` | bool `[N]` | `[B, N]` | true where a token is masked; tokens run over T, then H, then W |
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Draw
from vitascope.nn.vit import Grid
from vitascope.structures import Record, VideoError
from vitascope.video.index import FrameIndex
from vitascope.video.reader import VideoReader
from vitascope.video.transforms import crop_and_resize, draw_multi_scale_boxes

MAX_INDICES = 1000  # frame indices kept per worker; one of a 10 s video takes about 2 KB


def clip_indices(num_available: int, num_frames: int, stride_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Frames of a clip that starts anywhere: `num_frames` frames, `stride_frames` apart, all within the video.

    A clip covers `num_frames * stride_frames` frames. In a video of fewer it starts at 0 and, where the next step would
    pass the end, stays where it is.

    Args:
        num_available: Frames of the video.
        num_frames: Frames of the clip.
        stride_frames: Distance of two of them.
        rng: Where the start comes from.

    Returns:
        int64 `[num_frames]`.

    Example:
        >>> clip_indices(5, num_frames=4, stride_frames=2, rng=np.random.default_rng(0)).tolist()
        [0, 2, 4, 4]
    """
    covered = num_frames * stride_frames
    steps = np.arange(num_frames) * stride_frames
    if num_available >= covered:
        return int(rng.integers(num_available - covered + 1)) + steps
    return np.minimum(steps, (num_available - 1) // stride_frames * stride_frames)


def tube_mask(grid: Grid, ratio: float, rng: np.random.Generator | np.random.RandomState) -> np.ndarray:
    """Mask the same places at all times: `floor(ratio * H * W)` places, repeated over T.

    Args:
        grid: Tokens along T, H, W.
        ratio: Share of the places that is masked.
        rng: Where the places come from.

    Returns:
        bool `[N]`, true where masked.

    Example:
        >>> int(tube_mask((8, 14, 14), 0.9, np.random.default_rng(0)).sum())
        1408
    """
    t, h, w = grid
    places = np.arange(h * w) >= h * w - int(ratio * h * w)
    rng.shuffle(places)
    return np.tile(places, t)


class MaskedClips(Dataset):
    """Clips of videos and masks of their tokens; a sample follows from its `Draw` alone.

    Args:
        records: Videos, or stretches of them.
        num_frames: Frames of a clip.
        stride_frames: Distance of two of them, in frames of the video.
        size: Height and width of a clip, in pixels.
        short_side: Short side at which videos are read, in pixels.
        crop_scales: Crop sides over the short side.
        grid: Tokens along T, H, W.
        mask_ratio: Share of the tokens that is masked.
    """

    def __init__(
        self,
        records: list[Record],
        num_frames: int,
        stride_frames: int,
        size: int,
        short_side: int,
        crop_scales: tuple[float, ...],
        grid: Grid,
        mask_ratio: float,
    ) -> None:
        self.records = records
        self.num_frames, self.stride_frames = num_frames, stride_frames
        self.size, self.short_side, self.crop_scales = size, short_side, crop_scales
        self.grid, self.mask_ratio = grid, mask_ratio
        self._indices: dict[str, FrameIndex] = {}  # by path: a video is demuxed once, not at every draw

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        """One sample, as the module's table tells.

        Raises:
            VideoError: The video cannot be read, or the record's stretch holds no frame.
        """
        rng = np.random.default_rng(draw.seed)
        mask = torch.from_numpy(tube_mask(self.grid, self.mask_ratio, rng))
        frames = self._read(self.records[draw.index], rng)  # [T, C, H, W]
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        boxes = draw_multi_scale_boxes(1, tuple(frames.shape[-2:]), self.size, generator, self.crop_scales)
        clips = crop_and_resize(frames[None] / 255, boxes, self.size)[0]
        return {"clips": (clips * 255).round().to(torch.uint8), "mask": mask}

    def _read(self, record: Record, rng: np.random.Generator) -> Tensor:
        with VideoReader(record.path, index=self._indices.get(record.path)) as reader:
            self._remember(record.path, reader.index)
            first, end = stretch(record, reader.index.times_seconds)
            indices = first + clip_indices(end - first, self.num_frames, self.stride_frames, rng)
            return reader.frames_at(indices.tolist(), size=self.short_side).frames

    def _remember(self, path: str, index: FrameIndex) -> None:
        if path not in self._indices and len(self._indices) >= MAX_INDICES:
            self._indices.pop(next(iter(self._indices)))
        self._indices[path] = index


def stretch(record: Record, times_seconds: np.ndarray) -> tuple[int, int]:
    """Frames `[first, end)` of a record, given when each frame of its video is shown.

    Raises:
        VideoError: No frame is shown in that time.

    Example:
        >>> stretch(Record("a.mp4", start_seconds=0.5, end_seconds=1.5), np.array([0.0, 0.5, 1.0, 1.5, 2.0]))
        (1, 3)
    """
    first, end = 0, len(times_seconds)
    if record.start_seconds is not None:
        first = int(np.searchsorted(times_seconds, record.start_seconds - 1e-6))
    if record.end_seconds is not None:
        end = int(np.searchsorted(times_seconds, record.end_seconds - 1e-6))
    if first >= end:
        last = times_seconds[-1] if len(times_seconds) else 0.0
        raise VideoError(
            record.path,
            "out_of_range",
            f"no frame is shown in [{record.start_seconds}, {record.end_seconds}) seconds; the last is at {last:.3f}",
        )
    return first, end
