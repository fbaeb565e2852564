"""Pictures of what the model sees and says, for reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from vitascope.methods.base import Batch, Draw, Method
from vitascope.methods.mme.config import MMEConfig
from vitascope.methods.mme.hog import NUM_BINS
from vitascope.methods.mme.motion import by_token
from vitascope.methods.mme.targets import as_pixels, from_vector, move_scale
from vitascope.nn.vit import Grid, patchify, select_tokens, unpatchify
from vitascope.structures import Figure, Record
from vitascope.video.draw import contact_sheet, draw_hog, draw_predicted_tracks, draw_tracks
from vitascope.video.reader import VideoReader
from vitascope.video.tracks import grid_points
from vitascope.video.transforms import normalise

GREY = 127  # of a masked patch
MOTION_TITLE = "Masked input and its motion"


def masked_clips(clips: Tensor, mask: Tensor, grid: Grid, patch_size: int) -> Tensor:
    """Clips uint8 `[B, T, C, H, W]` with the masked tokens grey."""
    patches = patchify(clips, clips.shape[1] // grid[0], patch_size).clone()
    patches[mask] = GREY
    return unpatchify(patches, grid)


def pixel_figures(batch: Batch, predictions: Tensor, grid: Grid, patch_size: int) -> list[Figure]:
    """Input, what was seen of it, and what the model makes of it; one figure a clip."""
    clips, mask = batch["clips"], batch["mask"]
    patches = patchify(clips, clips.shape[1] // grid[0], patch_size)  # [B, N, frames, rows, columns, C]
    filled = patches.clone()
    filled[mask] = as_pixels(predictions, select_tokens(patches, mask)).flatten(0, 1)
    rows = (clips, masked_clips(clips, mask, grid, patch_size), unpatchify(filled, grid))
    input_, masked, reconstruction = (row.cpu().numpy() for row in rows)
    caption = (
        f"{float(mask.float().mean()):.0%} of the tokens are masked. Visible patches are the input's; masked ones show "
        "the predicted pattern with the true mean and contrast of the patch, which the model is not asked for."
    )
    return [
        Figure(
            title="Masked input and reconstruction",
            rows=(("input", input_[i]), ("masked input", masked[i]), ("reconstruction", reconstruction[i])),
            caption=caption,
        )
        for i in range(len(clips))
    ]


def motion_figures(batch: Batch, predictions: dict[str, Tensor], config: MMEConfig) -> list[Figure]:
    """Input, what was seen of it, true tracks, those predicted of masked tokens, and HOG; one figure a clip."""
    clips, mask = batch["clips"], batch["mask"]
    figures = []
    for i in range(len(clips)):
        rows = [("input", clips[i])]
        rows.append(
            ("masked input", masked_clips(clips[i : i + 1], mask[i : i + 1], config.grid, config.patch_size)[0])
        )
        firsts = clips[i, :: config.tubelet_frames].cpu().numpy()  # [S, C, H, W]
        if "moves" in batch:
            true, seen = _positions(batch["moves"][i], config), batch["seen"][i]
            per_frame = seen.reshape(config.grid[0], -1, seen.shape[-1]).transpose(1, 2).cpu().numpy()  # [S, L, K]
            rows.append(("tracks", np.stack([draw_tracks(*one) for one in zip(firsts, true, per_frame)])))
        if "position" in predictions:
            said = _predicted(batch, predictions["position"], i, config)
            asked = mask[i].reshape(config.grid[0], -1).repeat_interleave(4, 1).cpu().numpy()  # [S, hwK]
            drawn = [
                draw_predicted_tracks(frame, there[:, at], visible[:, at], where[:, at])
                for frame, there, visible, where, at in zip(firsts, true, per_frame, said, asked)
            ]
            rows.append(("tracks of masked tokens: true green, predicted magenta", np.stack(drawn)))
        if "shape" in batch:
            glyphs = [draw_hog(cells, config.patch_size // 2) for cells in _histograms(batch["shape"][i], config.grid)]
            rows.append(("gradients where tracks start", np.stack(glyphs)))
        figures.append(
            Figure(
                MOTION_TITLE,
                tuple((name, np.asarray(row)) for name, row in rows),
                _caption(config, mask, "position" in predictions),
            )
        )
    return figures


def _caption(config: MMEConfig, mask: Tensor, is_predicted: bool) -> str:
    caption = f"{float(mask.float().mean()):.0%} of the tokens are masked. "
    if config.predicts != ("shape",):
        caption += (
            f"Tracks start at the first frame of each tubelet of {config.tubelet_frames} and go through "
            f"{config.track_steps} frames of the video"
        )
        caption += ", without the camera's motion. " if config.camera == "homography" else ". "
    if is_predicted and config.position_norm != "none":
        caption += "Predicted tracks are drawn with the true scale, which the model is not asked for."
    return caption.strip()


def _positions(moves: Tensor, config: MMEConfig) -> np.ndarray:
    """Displacements of all tokens `[N, K, L, 2]` as positions in the crop `[S, L + 1, hwK, 2]`."""
    s, h, w = config.grid
    step = config.patch_size // 2
    points = torch.from_numpy(grid_points(2 * h * step, 2 * w * step, step))
    starts = by_token(points[None, None], (1, h, w)).flatten(0, 1).to(moves)  # [hwK, 1, 2]
    ahead = moves.reshape(s, -1, *moves.shape[2:]).cumsum(2)  # [S, hwK, L, 2]
    return torch.cat([torch.zeros_like(ahead[:, :, :1]), ahead], 2).add(starts).transpose(1, 2).cpu().numpy()


def _predicted(batch: Batch, said: Tensor, i: int, config: MMEConfig) -> np.ndarray:
    """Predicted positions in the crop `[S, L + 1, hwK, 2]`; of visible tokens, of which nothing is predicted, no motion."""
    moves, seen = batch["moves"][i : i + 1], batch["seen"][i : i + 1]
    centre, scale = move_scale(moves, seen, config.position_norm, config.position_floor)
    values = from_vector(said[i : i + 1].float(), moves.shape[2], moves.shape[3])  # [1, M, K, L, 2]
    filled = torch.zeros_like(moves)
    filled[batch["mask"][i : i + 1]] = values[0]
    return _positions((filled * scale + centre)[0], config)


def _histograms(cells: Tensor, grid: Grid) -> np.ndarray:
    """The first HOG of each token `[N, K, L, F]` as pictures' `[S, bins, 2h, 2w]`, summed over channels."""
    s, h, w = grid
    first = cells[:, :, 0].reshape(s, h, w, 2, 2, -1, NUM_BINS).sum(5)
    return first.permute(0, 5, 1, 3, 2, 4).reshape(s, NUM_BINS, 2 * h, 2 * w).cpu().numpy()


def motion_at(method: Method, path: str, seconds: float, is_trained: bool) -> tuple[Figure, np.ndarray]:
    """The clip of a video that starts at a time, as a method that learns motion sees it, and all of it as one picture.

    Args:
        method: Of a motion recipe.
        path: The video.
        seconds: Where the clip starts.
        is_trained: Whether its predictions mean something, and are shown.

    Returns:
        The figure, whose caption tells where the video ends before the clip does, and its rows as one picture uint8
        `[3, H, W]`.

    Raises:
        ValueError: The method predicts no motion.
        VideoError: The video cannot be read; `out_of_range` for a time outside it.
    """
    config = method.config
    if not isinstance(config, MMEConfig) or not config.predicts_motion:
        raise ValueError("the recipe predicts no motion; take `mme`, or a run of it")
    with VideoReader(path) as reader:
        start = float(reader.frames_at_seconds([seconds], size=16).times_seconds[0])
        ahead = reader.index.times_seconds[reader.index.times_seconds >= start]
    covered = config.num_frames * config.stride_frames  # frames of the video
    end = float(ahead[covered]) if len(ahead) > covered else None
    whole = config.model_copy(update={"crop_scales": (1.0,), "shuffle": "off"})
    samples = type(method)(whole).samples(method.stages()[0], [Record(path, start_seconds=start, end_seconds=end)])
    samples.is_centred = True
    batch = default_collate([samples[Draw(0, 0, 0.0)]])
    with torch.inference_mode():
        said = method.model(normalise(batch["clips"].float() / 255), batch["mask"]) if is_trained else {}
        figure = motion_figures(batch, said, config)[0]
    if len(ahead) < covered:
        told = (
            f"The video ends after {len(ahead)} of the {covered} frames that the clip spans; its last one is repeated."
        )
        figure = replace(figure, caption=f"{figure.caption} {told}")
    return figure, contact_sheet(figure.rows)
