"""Record -> sample -> batch.

| key | dtype and shape of a sample | in a batch | what |
| --- | --- | --- | --- |
| `clips` | uint8 `[T, C, H, W]` | `[B, T, C, H, W]` | RGB, cropped and resized to the recipe's size, not normalised |
| `mask` | bool `[N]` | `[B, N]` | true where a token is masked; tokens run over T, then H, then W |
| `moves` | float32 `[N, K, L, 2]` | `[B, N, K, L, 2]` | each step of a token's K tracks, in pixels of the crop, x and y |
| `seen` | bool `[N, K, L]` | `[B, N, K, L]` | whether a track is in the crop, and was all along, after each step |
| `shape` | float32 `[N, K, L', F]` | `[B, N, K, L', F]` | HOG where each step starts, or once (`L' = 1`) of the token |

The last three are there as far as something is made of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitascope.methods.base import Draw
from vitascope.methods.mme.footage import FlowFilm, FlowFootage
from vitascope.methods.mme.motion import Chains, Motion, View, by_token, chains_from, view_of
from vitascope.nn.vit import Grid
from vitascope.structures import Record
from vitascope.video.flow import grey
from vitascope.video.sampling import clip_indices, stretch
from vitascope.video.transforms import crop_and_resize, draw_multi_scale_boxes


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
    """Clips of videos, masks of their tokens and their motion; a sample follows from its `Draw` alone.

    Args:
        records: Videos, or stretches of them.
        num_frames: Frames of a clip.
        stride_frames: Distance of two of them, in frames of the video.
        size: Height and width of a clip, in pixels.
        short_side: Short side at which videos are read, in pixels.
        crop_scales: Crop sides over the short side.
        grid: Tokens along T, H, W.
        mask_ratio: Share of the tokens that is masked.
        motion: What is made of the frames besides; None for nothing.
        shuffle: Permute the frames: `off`, `frames`, or `frames-and-tracks`, where tracks start at the permuted frames.
        memory_mb: Memory for decoded frames and flow of small videos, of each process that reads.
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
        motion: Motion | None = None,
        shuffle: str = "off",
        memory_mb: int = 0,
    ) -> None:
        self.records = records
        self.num_frames, self.stride_frames = num_frames, stride_frames
        self.size, self.short_side, self.crop_scales = size, short_side, crop_scales
        self.grid, self.mask_ratio, self.motion, self.shuffle = grid, mask_ratio, motion, shuffle
        kept_flow = motion.flow if motion and motion.needs_tracks else None
        self.is_centred = False  # take the middle of the frame, for pictures, and not a drawn place
        self._footage = FlowFootage(short_side, kept_flow, memory_mb)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        """One sample, as the module's table tells.

        Raises:
            VideoError: The video cannot be read, or the record's stretch holds no frame.
        """
        rng, record = np.random.default_rng(draw.seed), self.records[draw.index]
        mask = torch.from_numpy(tube_mask(self.grid, self.mask_ratio, rng))
        with self._footage.opened(record) as film:
            first, end = stretch(record, film.times_seconds)
            indices = first + clip_indices(end - first, self.num_frames, self.stride_frames, rng)
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            order = np.arange(self.num_frames) if self.shuffle == "off" else rng.permutation(self.num_frames)
            chains = self._chains(indices[order] if self.shuffle == "frames-and-tracks" else indices, end)
            wanted = np.unique(np.r_[indices, chains.numbers.ravel()] if chains else indices)
            frames = film.frames(wanted)  # [R, C, H, W]
            boxes = draw_multi_scale_boxes(1, tuple(frames.shape[-2:]), self.size, generator, self.crop_scales)
            if self.is_centred:
                boxes = centred(boxes, tuple(frames.shape[-2:]))
            cropped = frames[np.searchsorted(wanted, indices[order])]
            clips = crop_and_resize(cropped[None] / 255, boxes, self.size)[0]
            sample = {"clips": (clips * 255).round().to(torch.uint8), "mask": mask}
            if self.motion:
                view = view_of(boxes[0].tolist(), tuple(frames.shape[-2:]), self.size, self.motion.margin)
                sample |= self._motion(film, view, frames, wanted, chains, sample["clips"])
        return sample

    def _chains(self, indices: np.ndarray, end: int) -> Chains | None:
        if not self.motion or not self.motion.needs_tracks:
            return None
        return chains_from(indices[:: self.num_frames // self.grid[0]], self.motion.num_steps, end)

    def _motion(
        self, film: FlowFilm, view: View, frames: Tensor, wanted: np.ndarray, chains: Chains | None, clips: Tensor
    ) -> dict[str, Tensor]:
        made, m, size = {}, self.motion, self.size
        if m.shape == "grid":
            second = clips[1 :: self.num_frames // self.grid[0]]  # [S, C, H, W]: of the frames in their shuffled order
            cells = m.shape_of_grid(grey(second.numpy()) if m.is_gray else second)
            made["shape"] = by_token(cells, self.grid)
        if chains is None:
            return made
        greys = np.stack([view.warp(frame) for frame in grey(frames.numpy())])
        rows = np.searchsorted(wanted, chains.numbers)  # [S, L + 1]
        positions, moves, seen = m(view, size, greys, rows, chains.exists, film.flows(wanted, view))
        moves, seen = m.joined(moves, seen)
        if m.has_position:
            made["moves"] = by_token(torch.from_numpy(moves), self.grid)
            made["seen"] = by_token(torch.from_numpy(seen)[..., None], self.grid)[..., 0]
        if m.shape == "tracks":
            images = view.inner(greys, size) if m.is_gray else view.of_colours(frames, size)
            at = slice(0, m.num_steps, m.every)
            made["shape"] = by_token(m.shape_of(images, rows[:, :-1][:, at], positions[:, :-1][:, at]), self.grid)
        return made


def centred(boxes: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """Boxes `[B, 4]` of the same sizes in the middle of the frame.

    Example:
        >>> centred(torch.tensor([[0, 0, 4, 4]]), (4, 10)).tolist()
        [[3, 0, 7, 4]]
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    corner = (torch.tensor([frame_size[1], frame_size[0]]) - sides) // 2
    return torch.cat([corner, corner + sides], 1)
