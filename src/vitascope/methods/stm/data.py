"""Record -> sample -> batch: clips with masks, of stills that are made to move, or of videos.

| key | dtype and shape of a sample | in a batch | what |
| --- | --- | --- | --- |
| `frames` | uint8 `[T, 3, H, W]` | `[B, T, 3, H, W]` | RGB, not normalised |
| `labels` | uint8 `[T, H, W]` | `[B, T, H, W]` | ids from 1 of objects that the first frame shows, 0 the rest, 255 void |
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Draw
from vitascope.methods.stm.config import STMConfig
from vitascope.methods.stm.motion import Picture, background_view, blurred, colours, joined, patch_view, wander, warp
from vitascope.methods.stm.targets import keep_objects
from vitascope.structures import Record, VideoError
from vitascope.video.frames import FrameFolder
from vitascope.video.masks import read_mask
from vitascope.video.reader import VideoReader

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
TRIES = 4  # views of a still, until one shows an object


def max_skip_at(progress: float, max_skip: int, rise: float, num_levels: int = 5) -> int:
    """Most frames skipped between two of a clip: from 0 up in equal steps, the last of them at `rise` of the stage.

    Paper: 0, 5, 10, 15, 20, 25, one step every 20 of 260 epochs (spec 2.1).

    Example:
        >>> [max_skip_at(epoch / 260, 25, 100 / 260) for epoch in (0, 19, 20, 99, 100, 259)]
        [0, 0, 5, 20, 25, 25]
    """
    if rise == 0:
        return max_skip
    level = min(num_levels, int(progress / rise * num_levels + 1e-9))
    return max_skip * level // num_levels


def clip_frames(num_available: int, num_frames: int, max_skip: int, rng: np.random.Generator) -> np.ndarray:
    """Frames of a clip in time order, each gap drawn in `[0, max_skip]`, narrower where the video is too short for it.

    Example:
        >>> clip_frames(100, 3, 0, np.random.default_rng(0)).tolist()
        [83, 84, 85]
        >>> clip_frames(2, 3, 5, np.random.default_rng(0)).tolist()
        [0, 1, 1]
    """
    room = max(0, (num_available - num_frames) // max(1, num_frames - 1))
    steps = 1 + rng.integers(0, min(max_skip, room) + 1, size=num_frames - 1)
    length = int(steps.sum()) + 1
    first = int(rng.integers(max(1, num_available - length + 1)))
    return np.minimum(first + np.concatenate([[0], np.cumsum(steps)]), num_available - 1)


class StillClips(Dataset):
    """Clips of a still that turns, shears, zooms and shifts, often with an object of another still pasted over it.

    A sample follows from its `Draw` alone. Paper, section 3.4 (pre-training on images); pasting as in its re-trainings.

    Args:
        records: Stills, with `masks`.
        config: Says how strong each motion is.
    """

    def __init__(self, records: list[Record], config: STMConfig) -> None:
        self.records, self.config = records, config

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        """One sample, as the module's table tells.

        Raises:
            VideoError: The image or its mask cannot be read, or they differ in size.
        """
        c, rng = self.config, np.random.default_rng(draw.seed)
        picture = read_still(self.records[draw.index])
        for _ in range(TRIES):
            frames, masks = self._moved(picture, rng)
            masks, count = keep_objects(masks, c.max_objects, c.min_pixels, rng)
            if count:
                break
        if rng.random() < c.leave:
            frames[-1] = self._another(draw.index, rng)
            masks[-1] = 0
        return as_sample(recoloured(frames, c, rng), masks)

    def _moved(self, picture: Picture, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        c = self.config
        view = background_view(picture, c.size, rng)
        ways = wander(c.num_frames, c.size, c, rng)
        shots = [warp(picture, view @ way, c.size) for way in ways]
        if rng.random() < c.paste:
            other = read_still(self.records[int(rng.integers(len(self.records)))])
            patch, view = patch_view(other, c.size, rng)
            ways = wander(c.num_frames, c.size, c, rng, strength=2.0)
            number = (
                int(picture.mask[picture.mask < 255].max(initial=0)) % 254 + 1
            )  # 254 objects: then it joins the first
            over = [warp(patch, view @ way, c.size, is_mirrored=False) for way in ways]
            shots = [joined(shot, above, number) for shot, above in zip(shots, over, strict=True)]
        return np.stack([shot.image for shot in shots]), np.stack([shot.mask for shot in shots])

    def _another(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """A picture without the objects of still `index`; of a single still, its mean colour."""
        if len(self.records) == 1:
            picture = read_still(self.records[index])
            return np.full((self.config.size, self.config.size, 3), picture.image.mean((0, 1)), np.uint8)
        step = int(rng.integers(1, len(self.records)))
        other = read_still(self.records[(index + step) % len(self.records)])
        return warp(other, background_view(other, self.config.size, rng), self.config.size).image


class VideoClips(Dataset):
    """Clips of videos with masks, cropped and zoomed alike in all frames. A still among them is moved as `StillClips` does.

    Args:
        records: Videos, folders of frames or stills, with `masks`.
        config: Says how far apart frames may be, and how strong the motions are.
    """

    def __init__(self, records: list[Record], config: STMConfig) -> None:
        self.records, self.config = records, config
        stills = [index for index, record in enumerate(records) if record.path.lower().endswith(IMAGES)]
        self._places = {index: place for place, index in enumerate(stills)}
        self._stills = StillClips([records[index] for index in stills], config)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        """One sample, as the module's table tells.

        Raises:
            VideoError: Frames or masks cannot be read, or they differ in size or number.
        """
        c, rng, record = self.config, np.random.default_rng(draw.seed), self.records[draw.index]
        if record.path.lower().endswith(IMAGES):
            return self._stills[Draw(self._places[draw.index], draw.seed, draw.progress)]
        skip = max_skip_at(draw.progress, c.max_skip, c.skip_rise)
        with open_frames(record) as reader:
            indices = clip_frames(len(reader), c.num_frames, skip, rng)
            frames = reader.frames_at(indices.tolist()).frames.permute(0, 2, 3, 1).numpy()
        masks = read_masks(record, indices, len(reader))
        if masks.shape != frames.shape[:3]:
            sizes = f"{masks.shape[1]}x{masks.shape[2]} masks on {frames.shape[1]}x{frames.shape[2]} frames"
            raise VideoError(record.masks, "damaged", f"{sizes}; they must be of one size")
        if rng.random() < 0.5:  # as good a clip backwards
            frames, masks = frames[::-1], masks[::-1]
        view = background_view(Picture(frames[0], masks[0]), c.size, rng)
        jitter = wander(c.num_frames, c.size, c, rng, strength=0.25)
        shots = [warp(Picture(f, m), view @ j, c.size) for f, m, j in zip(frames, masks, jitter, strict=True)]
        labels, _ = keep_objects(np.stack([shot.mask for shot in shots]), c.max_objects, c.min_pixels, rng)
        return as_sample(recoloured([shot.image for shot in shots], c, rng), labels)


def recoloured(frames: Sequence[np.ndarray], c: STMConfig, rng: np.random.Generator) -> np.ndarray:
    """Frames `[T, H, W, 3]` with other colours each, and at times all of them blurred alike."""
    factor = rng.uniform(0.4, 1.0) if rng.random() < c.blur else 1.0
    changed = [colours(frame, c.colour, rng) for frame in frames]
    return np.stack([blurred(frame, factor) for frame in changed] if factor < 1 else changed)


def as_sample(frames: np.ndarray, labels: np.ndarray) -> dict[str, Tensor]:
    """Frames `[T, H, W, 3]` and labels `[T, H, W]` as the module's table tells."""
    clip = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    return {"frames": clip, "labels": torch.from_numpy(np.ascontiguousarray(labels))}


def read_still(record: Record) -> Picture:
    """An image and its mask.

    Raises:
        VideoError: Either cannot be read, or they differ in size.
    """
    try:
        with Image.open(record.path) as image:
            pixels = np.asarray(image.convert("RGB"))
        mask = read_mask(record.masks)
    except FileNotFoundError as error:
        raise VideoError(error.filename or record.path, "missing", "no such file") from None
    except (OSError, ValueError, UnidentifiedImageError) as error:
        raise VideoError(record.path, "damaged", str(error)) from None
    if mask.shape != pixels.shape[:2]:
        sizes = f"{mask.shape[1]}x{mask.shape[0]} mask on a {pixels.shape[1]}x{pixels.shape[0]} image"
        raise VideoError(record.masks, "damaged", f"{sizes}; they must be of one size")
    return Picture(pixels, mask)


def open_frames(record: Record) -> VideoReader | FrameFolder:
    """The frames of a record: a video file's, or a folder's."""
    return FrameFolder(record.path) if os.path.isdir(record.path) else VideoReader(record.path)


def read_masks(record: Record, indices: np.ndarray, num_frames: int | None) -> np.ndarray:
    """Masks of some frames, uint8 `[T, H, W]`: rows of an NPZ, or the files of a folder in the order of their names.

    Raises:
        VideoError: They cannot be read, or there are not as many as `num_frames` (None: any number will do).
    """
    try:
        if os.path.isdir(record.masks):
            names = sorted(name for name in os.listdir(record.masks) if name.lower().endswith(".png"))
            count, masks = len(names), None
        else:
            masks = np.load(record.masks, allow_pickle=False)["masks"]
            count = len(masks)
        if num_frames is not None and count != num_frames:
            raise ValueError(f"{count} masks for {num_frames} frames; there must be one each")
        if masks is not None:
            return masks[indices]
        return np.stack([read_mask(os.path.join(record.masks, names[i])) for i in indices])
    except (OSError, KeyError, ValueError) as error:
        raise VideoError(record.masks, "damaged", str(error)) from None


cv2.setNumThreads(0)  # one owner of threads: the loader's processes
