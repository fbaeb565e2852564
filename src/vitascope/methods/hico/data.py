"""Record -> sample -> batch. S clips of one video: i, j, k of HiCo, or the two of SimCLR and CVRL.

| key | dtype and shape of a sample | in a batch | what |
| --- | --- | --- | --- |
| `clips` | uint8 `[S, T, C, H, W]` | `[B, S, T, C, H, W]` | RGB, cropped, coloured, mirrored, not normalised |
| `seconds` | float64 `[S]` | `[B, S]` | where the centres of the clips lie in the video |
| `video` | int64 `[]` | `[B]` | number of the first record of its file: a batch may hold a video twice |
| `topic_weights` | float32 `[S, S]` | `[B, S, S]` | weight of each pair of clips as one topic; 1 unless content guides |
| `descriptors` | float32 `[S, E]` | `[B, S, E]` | what the clips look like; only where content guides |
| `calibration` | float32 `[2]` | `[B, 2]` | mean and deviation of the cosine of other videos' descriptors; likewise |
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Draw
from vitascope.methods.hico.content import Content, Guide
from vitascope.methods.hico.sampling import Sampling, draw_centres, frame_numbers, frames_shown, window
from vitascope.structures import Record
from vitascope.video.footage import Footage
from vitascope.video.sampling import stretch
from vitascope.video.transforms import (
    ColourJitter,
    colour_jitter,
    draw_chosen,
    draw_colour_jitter,
    draw_random_resized_boxes,
    grayscale,
)

TICK_SECONDS = 1e-3  # to which some containers round times


class Augment(NamedTuple):
    """How a clip's pictures are changed, the same for all its frames; officially as these are (spec 1.3).

    The official blur has a kernel of one pixel and changes nothing, so there is none.
    """

    area: tuple[float, float] = (0.3243, 0.5765)  # of a square crop, as a share of the frame
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)  # brightness, contrast, saturation, hue
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    flip_probability: float = 0.5


class HicoClips(Dataset):
    """Clips of videos that belong together; a sample follows from its `Draw` alone.

    Args:
        records: Videos, or stretches of them.
        num_frames: Frames of a clip.
        size: Height and width of a clip, in pixels.
        short_side: Short side at which videos are read, in pixels.
        sampling: Where clips lie.
        augment: What is done to them.
        guide: What the records' index of shots is used for; a record without one is drawn from as if this were None.
        memory_mb: Memory for decoded frames of small videos, of each process that reads.

    Example:
        >>> HicoClips([Record("nothing.mp4")], 16, 112, 256, Sampling(), Augment())[Draw(0, 0, 0.0)]
        Traceback (most recent call last):
        vitascope.structures.VideoError: nothing.mp4: missing: no such file; local files only, no URLs
    """

    def __init__(
        self,
        records: list[Record],
        num_frames: int,
        size: int,
        short_side: int,
        sampling: Sampling,
        augment: Augment,
        guide: Guide | None = None,
        memory_mb: int = 0,
    ) -> None:
        self.records, self.num_frames, self.size = records, num_frames, size
        self.sampling, self.augment = sampling, augment
        self._content = Content(records, guide, sampling) if guide else None
        self._footage = Footage(short_side, memory_mb)
        self._first: dict[str, int] = {}  # record of each file
        for number, record in enumerate(records):
            self._first.setdefault(record.path, number)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        """One sample, as the module's table tells.

        Raises:
            VideoError: The video cannot be read, or the record's stretch holds no frame.
        """
        rng, record = np.random.default_rng(draw.seed), self.records[draw.index]
        with self._footage.opened(record) as film:
            first, end = stretch(record, film.times_seconds)
            times = film.times_seconds[first:end] - film.times_seconds[first]
            duration = _duration(film.times_seconds, first, end)
            begin = float(film.times_seconds[first])
            sample = self._where(record, begin, duration, draw.progress, rng)
            numbers = clip_frames(sample["seconds"].numpy() - begin, self.sampling, duration, times, self.num_frames)
            wanted, rows = np.unique(numbers, return_inverse=True)
            frames = film.frames(first + wanted)  # [R, C, H, W]: clips overlap
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        rows = torch.from_numpy(rows.reshape(numbers.shape))
        clips = augmented(frames, rows, self.size, self.augment, generator)
        return {"clips": clips, "video": torch.tensor(self._first[record.path])} | sample

    def _where(
        self, record: Record, begin: float, duration: float, progress: float, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Everything of a sample but its clips."""
        if self._content:
            return self._content.draw(record, begin, duration, progress, rng.random)
        centres = draw_centres(duration, progress, self.sampling, rng.random)
        num_clips = len(centres)
        return {"seconds": torch.from_numpy(begin + centres), "topic_weights": torch.ones(num_clips, num_clips)}


def clip_frames(
    centres: np.ndarray, sampling: Sampling, duration_seconds: float, times_seconds: np.ndarray, num_frames: int
) -> np.ndarray:
    """The frames of clips around some centres.

    Args:
        centres: `[S]`, in seconds.
        sampling: Says how long a clip is.
        duration_seconds: Of the video.
        times_seconds: When each frame is shown, `[N]`, the first at 0.
        num_frames: Frames of a clip.

    Returns:
        int64 `[S, T]`.

    Example:
        >>> clip_frames(np.array([1.0, 2.0]), Sampling(1.0), 4.0, np.arange(40) / 10, 3).tolist()
        [[5, 10, 14], [15, 20, 24]]
    """
    windows = [window(float(centre), sampling.clip_seconds, duration_seconds) for centre in centres]
    count = len(times_seconds)
    fps = (count - 1) / times_seconds[-1] if count > 1 else 0.0
    if count > 1 and np.abs(times_seconds * fps - np.arange(count)).max() > max(0.05, fps * TICK_SECONDS):
        return np.stack([frames_shown(*span, times_seconds, num_frames) for span in windows])
    return np.stack([frame_numbers(*span, fps, count, num_frames) for span in windows])


def augmented(frames: Tensor, rows: Tensor, size: int, augment: Augment, generator: Generator) -> Tensor:
    """Clips cut out, resized, coloured and mirrored, each by its own draw, which holds for all its frames.

    Small pictures are cheaper to colour, so the crop comes first.

    Args:
        frames: uint8 `[R, C, H, W]`.
        rows: Which of them make each clip, int64 `[S, T]`.
        size: Height and width of the result, in pixels.
        augment: What is done.
        generator: Where the randomness comes from.

    Returns:
        uint8 `[S, T, C, size, size]`.
    """
    count, how = len(rows), augment
    boxes = draw_random_resized_boxes(count, tuple(frames.shape[-2:]), generator, how.area, (1.0, 1.0))
    jitter = draw_colour_jitter(count, generator, *how.jitter)
    is_coloured = draw_chosen(count, how.jitter_probability, generator)
    is_grey = draw_chosen(count, how.grey_probability, generator)
    is_flipped = draw_chosen(count, how.flip_probability, generator)
    clips = torch.empty((count, rows.shape[1], frames.shape[1], size, size), dtype=torch.uint8)
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):  # one clip fits into the processor's cache, three do not
        crop = frames[..., y0:y1, x0:x1].index_select(0, rows[number])  # [T, C, h, w]; indexing is 10 times slower
        # in 8 bits: 5 times faster than `transforms.resize`, and less than one level away from it
        clip = F.interpolate(crop, size=(size, size), mode="bilinear", antialias=True)
        if is_coloured[number] or is_grey[number]:
            clip = clip[None].float().div_(255)  # [1, T, C, size, size]
            if is_coloured[number]:
                clip = colour_jitter(clip, ColourJitter(*(drawn[number : number + 1] for drawn in jitter)))
            if is_grey[number]:
                clip = grayscale(clip, is_grey[number : number + 1])
            clip = clip[0].mul_(255).round_()
        clips[number] = clip.flip(-1) if is_flipped[number] else clip
    return clips


def _duration(times_seconds: np.ndarray, first: int, end: int) -> float:
    """Seconds from the first frame of `[first, end)` to the end of the last, taking the video's last frame as long as others."""
    if end < len(times_seconds):
        return float(times_seconds[end] - times_seconds[first])
    step = times_seconds[-1] / max(1, len(times_seconds) - 1)
    return float(times_seconds[-1] + step - times_seconds[first])
