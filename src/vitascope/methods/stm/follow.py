"""Objects followed through a whole video or folder of frames, from the masks of the frames in which they begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vitascope.methods.stm.fast import fastest
from vitascope.methods.stm.session import VideoObjectSession
from vitascope.methods.stm.targets import VOID

if TYPE_CHECKING:
    from vitascope.methods.stm.model import MaskNetwork
    from vitascope.video.frames import FrameFolder
    from vitascope.video.reader import VideoReader


def follow(
    session: VideoObjectSession, frames: VideoReader | FrameFolder, first_masks: Mapping[int, np.ndarray]
) -> Iterator[tuple[float, np.ndarray]]:
    """One mask for each frame, in order, as the frames are read.

    Args:
        session: A fresh one, whose `frame_stride` is 1.
        frames: What is followed through.
        first_masks: Frame index -> uint8 `[H, W]`: there the objects begin whose ids it holds and that have not begun
            before. Frames before the first of them are empty.

    Yields:
        Time in seconds, and ids uint8 `[H, W]`; where objects begin, the given mask lies over the followed ones.

    Raises:
        VideoError: A frame cannot be read.
        ValueError: A mask is of another size than the frames.
    """
    if not first_masks:
        raise ValueError("first_masks is empty; give the mask of at least one frame")
    begun: set[int] = set()
    for index, (seconds, frame) in enumerate(frames.iterate()):
        mask = session.step(frame, seconds).masks[0] if begun else np.zeros(tuple(frame.shape[1:]), np.uint8)
        given = first_masks.get(index)
        for number in [] if given is None else sorted({int(i) for i in np.unique(given)} - begun - {0, VOID}):
            session.add_object(frame, given == number, number)
            mask = np.where(given == number, np.uint8(number), mask)
            begun.add(number)
        yield seconds, mask


def segmenter(
    network: MaskNetwork, **how: Any
) -> Callable[[FrameFolder, Mapping[int, np.ndarray]], Iterator[np.ndarray]]:
    """What `evaluation.segmentation` calls for each sequence: frames and first masks -> a mask for each frame.

    Args:
        network: In eval mode; it is put into the form that infers fastest.
        how: Of each `VideoObjectSession`.
    """

    network, _ = fastest(network)

    def segment(frames: FrameFolder, first_masks: Mapping[int, np.ndarray]) -> Iterator[np.ndarray]:
        session = VideoObjectSession(network, **{"short_side": network.short_side(frames.size), **how})
        for _, mask in follow(session, frames, first_masks):
            yield mask

    return segment
