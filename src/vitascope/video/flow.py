"""Dense optical flow between neighbouring frames, what of it can be believed, and what of it is the camera.

CPU time of a pair at 224x224 and error against exact truth (mean end-point error of an object and of the ground behind it, in
pixels), from the specification of MME, section 6.1: `dis-medium` is as exact as Farneback at a quarter of its time.

| method | ms | object, ground |
| --- | --- | --- |
| `dis-ultrafast` | 0.6 | .67, .37 |
| `dis-fast` | 1.6 | .63, .26 |
| `dis-medium` | 6.5 | .17, .16 |
| `farneback` | 24 | .23, .25 |
| `farneback-light` | 9 | .25, .27 |
| `tvl1` | 600 | .10, .11 |

DIS ends at half the frame's resolution; `dis-fine` goes on to the frame's own, for small frames. On the motion world (objects
that move 0.9, 1.2 and 1.5 pixels) its error at 60, 80 and 96 pixels is .23, .25 and .26, at 0.8, 1.3 and 2.0 ms; that of
`dis-medium` .39, .43 and .47 at 0.3, 0.5 and 0.8 ms, that of `farneback` .33, .39 and .44 at 1.0, 2.2 and 3.1 ms.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import cv2
import numpy as np

FlowMethod = Literal["dis-ultrafast", "dis-fast", "dis-medium", "dis-fine", "farneback", "farneback-light", "tvl1"]

_DIS = {
    "dis-ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "dis-fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "dis-medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    "dis-fine": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
FINE_STRIDE, FINE_ITERATIONS = 4, 12  # pixels between patches, and steps of each
_FARNEBACK = {  # levels, window, iterations; scale 0.5, 5 neighbours, sigma 1.1: those of the released tool
    "farneback": (5, 13, 10),
    "farneback-light": (3, 15, 3),
}
MOST_CORNERS, CORNER_QUALITY, CORNER_DISTANCE = 1000, 0.001, 3
RANSAC_PIXELS, LEAST_INLIERS = 1.0, 25


class DenseFlow:
    """Optical flow by one method, called for each pair of frames.

    Args:
        method: See the table of this module.

    Raises:
        ValueError: No such method, or OpenCV was built without it.

    Example:
        >>> first = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)
        >>> flow = DenseFlow("farneback")(first, np.roll(first, 2, axis=1))
        >>> flow.shape, bool(abs(flow[16:-16, 16:-16, 0].mean() - 2) < 0.3)
        ((64, 64, 2), True)
    """

    def __init__(self, method: FlowMethod = "dis-medium") -> None:
        if method not in get_args(FlowMethod):
            raise ValueError(f"method ({method!r}) must be one of {', '.join(get_args(FlowMethod))}")
        self.method = method
        self._made: Any = None  # made when first needed, so that this crosses into worker processes

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Where each pixel of the first frame is in the second.

        Args:
            first: Grey, uint8 `[H, W]`.
            second: Grey, uint8 `[H, W]`.

        Returns:
            float32 `[H, W, 2]`: x and y, in pixels.

        Raises:
            ValueError: The frames are not grey uint8 of one size.
        """
        for frame in (first, second):
            if frame.dtype != np.uint8 or frame.ndim != 2 or frame.shape != first.shape:
                raise ValueError(
                    f"frames ({first.dtype} {list(first.shape)}, {second.dtype} {list(second.shape)}) must both be grey "
                    "uint8 [H, W] of one size"
                )
        first, second = np.ascontiguousarray(first), np.ascontiguousarray(second)
        if self.method in _FARNEBACK:
            levels, window, iterations = _FARNEBACK[self.method]
            return cv2.calcOpticalFlowFarneback(first, second, None, 0.5, levels, window, iterations, 5, 1.1, 0)
        if self._made is None:
            self._made = self._make()
        return self._made.calc(first, second, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"method": self.method, "_made": None}

    def _make(self) -> Any:
        if self.method in _DIS:
            flow = cv2.DISOpticalFlow_create(_DIS[self.method])
            if self.method == "dis-fine":
                flow.setFinestScale(0)
                flow.setPatchStride(FINE_STRIDE)
                flow.setGradientDescentIterations(FINE_ITERATIONS)
            return flow
        if not hasattr(cv2, "optflow"):
            raise ValueError("method (tvl1) needs opencv-contrib-python-headless, this OpenCV lacks it; use dis-medium")
        return cv2.optflow.createOptFlow_DualTVL1()


def grey(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 RGB `[T, 3, H, W]` as `DenseFlow` takes them: uint8 `[T, H, W]`."""
    return np.stack([cv2.cvtColor(np.ascontiguousarray(f.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY) for f in frames])


def read_at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values of a field at points; beyond its edge those of the edge.

    Args:
        field: float32 `[H, W, C]`.
        points: x, y in pixels, float `[K, 2]`.

    Returns:
        float32 `[K, C]`.

    Example:
        >>> field = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
        >>> read_at(field, np.array([[0.5, 0.5], [9.0, 0.0]])).tolist()
        [[2.0], [2.0]]
    """
    height, width = field.shape[:2]
    x, y = np.clip(points[:, 0], 0, width - 1), np.clip(points[:, 1], 0, height - 1)
    left, top = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    dx, dy = (x - left)[:, None], (y - top)[:, None]
    upper = field[top, left] * (1 - dx) + field[top, right] * dx
    lower = field[bottom, left] * (1 - dx) + field[bottom, right] * dx
    return (upper * (1 - dy) + lower * dy).astype(np.float32)


def is_consistent(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Pixels whose flow leads back to where it came from: those that are not, are covered in the second frame, or wrong.

    The rule is `|f(p) + b(p + f)|^2 <= 0.01 (|f|^2 + |b|^2) + 0.5` (specification of MME, section 1.6), and `p + f` must
    lie in the frame.

    Args:
        forward: From the first frame to the second, float32 `[H, W, 2]`.
        backward: From the second to the first, float32 `[H, W, 2]`.

    Returns:
        bool `[H, W]`.
    """
    height, width = forward.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns + forward[..., 0], rows + forward[..., 1]
    back = cv2.remap(backward, x, y, cv2.INTER_LINEAR)
    off = np.square(forward + back).sum(-1)
    size = np.square(forward).sum(-1) + np.square(back).sum(-1)
    is_inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return is_inside & (off <= 0.01 * size + 0.5)


def camera_homography(first: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The motion of the camera: the homography that most corners of the first frame follow.

    Args:
        first: Grey, uint8 `[H, W]`; corners are sought in it, where the flow lives.
        flow: To the second frame, float32 `[H, W, 2]`.

    Returns:
        float64 `[3, 3]`, from pixels of the first frame to pixels of the second; the identity where no more than 25
        corners agree.
    """
    corners = cv2.goodFeaturesToTrack(np.ascontiguousarray(first), MOST_CORNERS, CORNER_QUALITY, CORNER_DISTANCE)
    if corners is None or len(corners) <= LEAST_INLIERS:
        return np.eye(3)
    points = corners.reshape(-1, 2).astype(np.float32)
    cv2.setRNGSeed(0)  # RANSAC draws; the same frames give the same camera
    found, inliers = cv2.findHomography(points, points + read_at(flow, points), cv2.RANSAC, RANSAC_PIXELS)
    return np.eye(3) if found is None or int(inliers.sum()) <= LEAST_INLIERS else found


def camera_shift(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far the camera alone moves points `[K, 2]`, float32 `[K, 2]`.

    Example:
        >>> moved = np.array([[1, 0, 2.0], [0, 1, -1.0], [0, 0, 1]])
        >>> camera_shift(moved, np.zeros((1, 2))).tolist()
        [[2.0, -1.0]]
    """
    ahead = np.c_[points, np.ones(len(points))] @ homography.T
    return (ahead[:, :2] / ahead[:, 2:] - points).astype(np.float32)
