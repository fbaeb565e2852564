"""Motion of a clip, as the network sees it: tracks on a dense grid and histograms of gradients, after the crop.

Tracks start at the first frame of each tubelet and go through consecutive frames of the video, those between the frames of
the clip too (the paper's motion interpolation, section 3.3). All positions are in pixels of the crop, so nothing has to be
scaled or mirrored afterwards. Flow is computed on the crop with a margin, so that tracks near the border keep support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from vitascope.methods.mme.config import MMEConfig
from vitascope.methods.mme.hog import along_tracks, hog_cells
from vitascope.video.flow import DenseFlow, FlowMethod, camera_homography, camera_shift, is_consistent
from vitascope.video.tracks import grid_points, track, track_integer
from vitascope.video.transforms import normalise

MARGIN_TRACKS = 3  # width of the margin in distances of tracks: 24 pixels of 224


class View(NamedTuple):
    """A crop of frames, resized, with a margin: pixel `(x, y)` of the crop is `(x + left, y + top)` of the view."""

    x0: float  # of the box in the frame
    y0: float
    scale_x: float  # pixels of the frame in one of the view
    scale_y: float
    left: int
    top: int
    width: int
    height: int

    def warp(self, image: np.ndarray, image_per_frame_x: float = 1.0, image_per_frame_y: float = 1.0) -> np.ndarray:
        """An image `[h, w]` or `[h, w, C]` in this view; it may have another number of pixels than the frame."""
        ax, ay = self.scale_x * image_per_frame_x, self.scale_y * image_per_frame_y
        bx = (self.x0 + (0.5 - self.left) * self.scale_x) * image_per_frame_x - 0.5
        by = (self.y0 + (0.5 - self.top) * self.scale_y) * image_per_frame_y - 0.5
        back = np.array([[ax, 0, bx], [0, ay, by]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, back, (self.width, self.height), flags=how, borderMode=cv2.BORDER_REPLICATE)

    def inner(self, images: np.ndarray, size: int) -> np.ndarray:
        """The crop `[R, size, size]` of images `[R, height, width]` in this view."""
        return images[:, self.top : self.top + size, self.left : self.left + size]

    def of_colours(self, frames: Tensor, size: int) -> Tensor:
        """The crop of whole frames, uint8 `[R, C, H, W]` -> `[R, C, size, size]`."""
        seen = [self.inner(self.warp(frame)[None], size)[0] for frame in frames.permute(0, 2, 3, 1).numpy()]
        return torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)


def view_of(box: tuple[int, int, int, int], frame_size: tuple[int, int], size: int, margin: int) -> View:
    """The view of a box (`xyxy` in a frame of height and width) as `size` x `size` pixels, with as much margin as fits.

    Example:
        >>> view = view_of((0, 10, 60, 70), frame_size=(90, 80), size=30, margin=8)
        >>> view.left, view.top, view.width, view.height
        (0, 5, 38, 43)
    """
    x0, y0, x1, y1 = box
    scale_x, scale_y = (x1 - x0) / size, (y1 - y0) / size
    left, right = min(margin, int(x0 / scale_x)), min(margin, int((frame_size[1] - x1) / scale_x))
    top, bottom = min(margin, int(y0 / scale_y)), min(margin, int((frame_size[0] - y1) / scale_y))
    return View(x0, y0, scale_x, scale_y, left, top, size + left + right, size + top + bottom)


class Chains(NamedTuple):
    """Frames of the video that tracks go through: `numbers` int64 `[S, L + 1]`, and `exists` bool `[S, L]` of each step.

    At the end of a video a chain stays at the last frame: nothing moves there, and the step does not count.
    """

    numbers: np.ndarray
    exists: np.ndarray


def chains_from(starts: np.ndarray, num_steps: int, end: int) -> Chains:
    """The chains of consecutive frames from each of `starts` `[S]`, in a video that ends before frame `end`.

    Example:
        >>> chains_from(np.array([0, 3]), num_steps=2, end=5).numbers.tolist()
        [[0, 1, 2], [3, 4, 4]]
    """
    numbers = starts[:, None] + np.arange(num_steps + 1)
    return Chains(np.minimum(numbers, end - 1), numbers[:, 1:] < end)


@dataclass(frozen=True)
class Motion:
    """Makes the motion of clips.

    Args:
        num_steps: Steps of a track through consecutive frames, L.
        every: Steps that are told as one: 1, or the stride of the clip for no interpolation.
        track_pixels: Distance of two tracks, and side of a HOG cell, in pixels of the crop.
        flow: Optical flow where none is kept.
        camera: Take the camera's motion off the displacements. Tracks follow the raw flow all the same.
        is_integer: Move by whole pixels as the release does.
        end_where_inconsistent: End a track where the flow back does not lead back.
        has_position: Make tracks; without it (and `shape="grid"`) no flow is computed.
        shape: HOG along `tracks`, of the `grid` of each tubelet's second frame, or None.
        is_gray: HOG of grey frames in [0, 1], or of each normalised colour.
    """

    num_steps: int
    every: int = 1
    track_pixels: int = 8
    flow: FlowMethod = "dis-medium"
    camera: bool = False
    is_integer: bool = False
    end_where_inconsistent: bool = False
    has_position: bool = True
    shape: str | None = "tracks"
    is_gray: bool = True

    def __call__(
        self, view: View, size: int, greys: np.ndarray, chains: np.ndarray, exists: np.ndarray, flows: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions and visibility of all tracks.

        Args:
            view: Where the crop is in the grey frames.
            size: Height and width of the crop.
            greys: uint8 `[R, H, W]` of the view.
            chains: Row in `greys` of each step's frame, int64 `[S, L + 1]`.
            exists: Which steps there are, bool `[S, L]`.
            flows: Flow from row to next row, float32 `[R, H, W, 2]` in pixels of the view, NaN where unknown; None to
                compute it.

        Returns:
            Positions in the crop float32 `[S, L + 1, K, 2]`; displacements without the camera's `[S, L, K, 2]`; which
            steps end in the crop, bool `[S, L, K]`. K tracks run over rows, then columns.
        """
        if flows is None:
            flows, consistent = self._flows(greys, chains, exists)
        else:
            known = ~np.isnan(flows[:, 0, 0, 0])  # a pair's flow is known everywhere, or nowhere
            consistent = np.broadcast_to(known[:, None, None], flows.shape[:3])
            flows = np.where(known[:, None, None, None], flows, 0)
        offset = np.array([view.left, view.top], np.float32)
        points = grid_points(size, size, self.track_pixels) + offset
        shifts = self._camera(greys, flows, chains, exists)
        positions, moves, seen = [], [], []
        for rows, there in zip(chains, exists, strict=True):
            steps = np.where(there[:, None, None, None], flows[rows[:-1]], 0).astype(np.float32)
            at = self._follow(steps, points, consistent[rows[:-1]] | ~there[:, None, None])
            moved = np.diff(at.positions, axis=0)
            if shifts is not None:
                camera = [camera_shift(shifts[row], p) if t else 0 * p for row, p, t in zip(rows, at.positions, there)]
                moved = moved - np.stack(camera)
            positions.append(at.positions - offset)
            moves.append(moved)
            seen.append(at.seen & there[:, None])
        positions, moves, seen = np.stack(positions), np.stack(moves), np.stack(seen)
        inside = ((positions >= -0.5) & (positions <= size - 0.5)).all(-1)[:, 1:]  # [S, L, K]
        if not self.is_integer:  # the release never tests where a track ends
            seen = np.logical_and.accumulate(seen & inside, axis=1)
        return positions, moves, seen

    @property
    def needs_tracks(self) -> bool:
        """Whether frames between those of the clip, and their flow, are needed."""
        return self.has_position or self.shape == "tracks"

    @property
    def margin(self) -> int:
        """Pixels around the crop that flow sees."""
        return MARGIN_TRACKS * self.track_pixels

    def joined(self, moves: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Displacements and visibility of `every` steps as one: `[S, L, K, 2]` -> `[S, L // every, K, 2]`, and so on."""
        count = self.num_steps // self.every
        moves = moves[:, : count * self.every].reshape(len(moves), count, self.every, *moves.shape[2:]).sum(2)
        return moves, seen[:, self.every - 1 :: self.every][:, :count]

    def _flows(self, greys: np.ndarray, chains: np.ndarray, exists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flow = DenseFlow(self.flow)
        flows = np.zeros((*greys.shape, 2), np.float32)
        consistent = np.ones(greys.shape, bool)
        for row in np.unique(chains[:, :-1][exists]):
            flows[row] = flow(greys[row], greys[row + 1])
            if self.end_where_inconsistent:
                consistent[row] = is_consistent(flows[row], flow(greys[row + 1], greys[row]))
        return flows, consistent

    def _camera(self, greys: np.ndarray, flows: np.ndarray, chains: np.ndarray, exists: np.ndarray) -> dict | None:
        if not self.camera:
            return None
        return {row: camera_homography(greys[row], flows[row]) for row in np.unique(chains[:, :-1][exists]).tolist()}

    def _follow(self, flows: np.ndarray, points: np.ndarray, consistent: np.ndarray) -> _Followed:
        if self.is_integer:
            moved, flags = track_integer(flows, np.floor(points + 0.5).astype(np.int64))
            ahead = np.cumsum(np.concatenate([np.zeros_like(moved[:1]), moved]), 0).astype(np.float32)
            return _Followed(points + ahead, np.broadcast_to(flags.astype(bool), moved.shape[:2]))
        positions, visible = track(flows, points, consistent)
        return _Followed(positions, visible[1:])

    def shape_of(self, images: np.ndarray | Tensor, chains: np.ndarray, positions: np.ndarray) -> Tensor:
        """HOG at the tracks' points but the last.

        Args:
            images: uint8 frames of the crop: grey `[R, H, W]`, or RGB `[R, 3, H, W]` where HOG is of colours.
            chains: Row in `images` of each point, int64 `[S, L]`.
            positions: In pixels of the crop, float32 `[S, L, K, 2]`.

        Returns:
            float32 `[S, L, K, F]`.
        """
        rows, inverse = np.unique(chains, return_inverse=True)
        cells = self._cells(images[rows])  # [R', F, h, w]
        return along_tracks(cells[inverse.reshape(chains.shape)], torch.from_numpy(positions), self.track_pixels)

    def shape_of_grid(self, images: np.ndarray | Tensor) -> Tensor:
        """HOG of every cell of crops, uint8 grey `[S, H, W]` or RGB `[S, 3, H, W]`, float32 `[S, 1, K, F]`."""
        return self._cells(images).flatten(2).transpose(1, 2)[:, None]

    def _cells(self, images: np.ndarray | Tensor) -> Tensor:
        pixels = torch.as_tensor(images).float() / 255
        return hog_cells(pixels[:, None] if self.is_gray else normalise(pixels), self.track_pixels).flatten(1, 2)


def motion_of(config: MMEConfig) -> Motion | None:
    """What is made of a clip after a configuration; None where pixels are predicted."""
    if not config.predicts_motion:
        return None
    return Motion(
        num_steps=config.track_steps,
        every=1 if config.interpolate else config.stride_frames,
        track_pixels=config.patch_size // 2,
        flow=config.flow,
        camera=config.camera == "homography",
        is_integer=config.tracker == "integer",
        end_where_inconsistent=config.end_where_inconsistent,
        has_position=config.predicts != ("shape",),
        shape=config.shape if "shape" in config.predicts else None,
        is_gray=config.shape_gray,
    )


class _Followed(NamedTuple):
    positions: np.ndarray  # [L + 1, K, 2]
    seen: np.ndarray  # [L, K] whether each step ends where it can be seen


def by_token(values: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Values of tracks in the order of tokens: `[S, L, K, F]` -> `[N, 4, L, F]`, K being rows, then columns, of 2h x 2w.

    Example:
        >>> by_token(torch.arange(16).reshape(1, 1, 16, 1), (1, 2, 2))[1, :, 0, 0].tolist()
        [2, 3, 6, 7]
    """
    s, steps, _, width = values.shape
    _, h, w = grid
    cut = values.reshape(s, steps, h, 2, w, 2, width)
    return cut.permute(0, 2, 4, 3, 5, 1, 6).reshape(s * h * w, 4, steps, width)
