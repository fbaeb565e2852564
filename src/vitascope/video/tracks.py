"""Points carried along by optical flow: trajectories of a dense grid, and where they can no longer be seen."""

from __future__ import annotations

import numpy as np

from vitascope.video.flow import read_at


def grid_points(height: int, width: int, step: int) -> np.ndarray:
    """The middles of the complete `step` x `step` cells of a frame, x and y in pixels, row by row: float32 `[K, 2]`.

    Example:
        >>> grid_points(16, 25, 8).tolist()
        [[3.5, 3.5], [11.5, 3.5], [19.5, 3.5], [3.5, 11.5], [11.5, 11.5], [19.5, 11.5]]
    """
    y, x = (np.arange(side // step) * step + (step - 1) / 2 for side in (height, width))
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32)


def track(flows: np.ndarray, points: np.ndarray, consistent: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Carry points through consecutive frames, reading the flow between pixels.

    A track is visible as long as it was within the frame at every step, the last one too, and, if it is told, as long as
    the flow that carried it was consistent. Where it ends it stays.

    Args:
        flows: From each frame to the next, float32 `[L, H, W, 2]`.
        points: In the first frame, x and y in pixels, `[K, 2]`.
        consistent: Of each flow, bool `[L, H, W]`; see `flow.is_consistent`.

    Returns:
        Positions float32 `[L + 1, K, 2]` and visibility bool `[L + 1, K]`.

    Raises:
        ValueError: Shapes are not as said.

    Example:
        >>> flows = np.ones((2, 4, 8, 2), np.float32)
        >>> positions, visible = track(flows, np.array([[1.0, 1.0], [6.5, 0.0]]))
        >>> positions[:, 0].tolist(), visible[:, 1].tolist()
        ([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], [True, False, False])
    """
    if flows.ndim != 4 or flows.shape[-1] != 2:
        raise ValueError(f"flows {list(flows.shape)} must be [L, H, W, 2]")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points {list(points.shape)} must be [K, 2]")
    if consistent is not None and consistent.shape != flows.shape[:3]:
        raise ValueError(f"consistent {list(consistent.shape)} must be {list(flows.shape[:3])}, as the flows are")
    height, width = flows.shape[1:3]
    last = np.array([width - 1, height - 1], np.float32)
    positions = np.empty((len(flows) + 1, len(points), 2), np.float32)
    visible = np.empty(positions.shape[:2], bool)
    positions[0], visible[0] = points, ((points >= 0) & (points <= last)).all(1)
    for t, flow in enumerate(flows):
        here = positions[t]
        ahead = here + read_at(flow, here)
        goes_on = visible[t] & ((ahead >= 0) & (ahead <= last)).all(1)
        if consistent is not None:
            column, row = np.clip(np.rint(here), 0, last).astype(np.int64).T
            goes_on &= consistent[t, row, column]
        positions[t + 1] = np.where(visible[t][:, None], ahead, here)
        visible[t + 1] = goes_on
    return positions, visible


def track_integer(flows: np.ndarray, points: np.ndarray, clamp: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Carry points from pixel to pixel as the released tracker of MME does, which loses all motion below a pixel a frame.

    At each step a point that lies outside is flagged for good and put back to the edge, then moves by the flow of its
    pixel, cut towards zero. Where it ends is not looked at (specification of MME, section 1.4). For comparison with the
    release; `track` is exact.

    Args:
        flows: From each frame to the next, float32 `[L, H, W, 2]`.
        points: In the first frame, x and y in whole pixels, `[K, 2]`.
        clamp: No step is longer than this along x or y: the stored flow of the release ends there.

    Returns:
        Displacements int32 `[L, K, 2]`, and bool `[K]`: true where every step but the last ended in the frame.

    Raises:
        ValueError: Shapes are not as said, or points are not whole.

    Example:
        >>> flows = np.full((2, 4, 8, 2), 1.9, np.float32)
        >>> displacements, inside = track_integer(flows, np.array([[1, 1], [7, 3]]))
        >>> displacements[:, 0].tolist(), inside.tolist()
        ([[1, 1], [1, 1]], [True, False])
    """
    if flows.ndim != 4 or flows.shape[-1] != 2:
        raise ValueError(f"flows {list(flows.shape)} must be [L, H, W, 2]")
    if points.ndim != 2 or points.shape[1] != 2 or not np.issubdtype(points.dtype, np.integer):
        raise ValueError(f"points ({points.dtype} {list(points.shape)}) must be whole numbers [K, 2]")
    last = np.array([flows.shape[2] - 1, flows.shape[1] - 1])
    displacements = np.empty((len(flows), len(points), 2), np.int32)
    inside = np.ones(len(points), bool)
    here = points.astype(np.int64)
    for t, flow in enumerate(flows):
        inside &= ((here >= 0) & (here <= last)).all(1)
        column, row = np.clip(here, 0, last).T
        displacements[t] = np.clip(np.trunc(flow[row, column]), -clamp, clamp)
        here = np.stack([column, row], 1) + displacements[t]
    return displacements, inside
