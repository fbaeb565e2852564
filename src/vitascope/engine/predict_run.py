"""A cut-out as a user asks for it: a network is prepared, and the folder knows what it was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from vitascope.engine.extract import hash_of
from vitascope.engine.log import Progress
from vitascope.engine.predict import Drawing, Job, Session, segment
from vitascope.store.cutouts import Cutout, asked_before, asked_for
from vitascope.structures import SegmentSummary


class Wish(NamedTuple):
    """What is to be cut out, and how.

    Attributes:
        video: A file, or a folder of frames.
        mask: PNG of object ids.
        out: Folder of the result.
        weights: Where the network's weights come from; None for those of the package.
        settings: `policy`, `frame_stride`, `short_side` of the session.
        as_rle: Write `masks.json` and not PNG files.
        bf16: Work in 16 bits where that is faster: masks then differ a little, and between machines.
        fps: At which a folder of frames is shown.
    """

    video: str | os.PathLike
    mask: str | os.PathLike
    out: str | os.PathLike
    weights: str | os.PathLike | None = None
    settings: dict[str, Any] | None = None
    as_rle: bool = False
    bf16: bool = False
    fps: float = 25.0


def segment_run(
    wish: Wish,
    source: ModuleType,
    at: tuple[float, int | None],
    network: Any,
    fastest: Callable[..., tuple[Any, bool]],
    make_session: Callable[..., Session],
    draw: Drawing,
    *,
    progress: bool,
) -> SegmentSummary:
    """Cut objects out, or go on with a cut-out of the same in the same folder.

    Args:
        wish: What.
        source: `video.source`, which opens the video and reads the mask.
        at: Time of the frame that the mask is of, in seconds, and the one object that is meant, or None for all.
        network: Tells the `short_side` it works at for a size of frames.
        fastest: `(network, bf16)` -> a copy for this machine, and whether it works in 16 bits; "auto" lets it choose.
        make_session: `(network, **settings)` -> a session without objects.
        draw: How masks become files and pictures.
        progress: Whether standard error shows how it goes on.

    Raises:
        Exception: As `predict.segment`, and where the folder holds another cut-out.
    """
    source.keep_apart(wish.video, wish.mask, wish.out)
    with source.FrameSource(wish.video, wish.fps) as frames:
        start, objects = frames.number_at(at[0]), source.first_masks(wish.mask, frames.size, at[1])
        how = {"policy": "default", "frame_stride": 1, "short_side": network.short_side(frames.size)} | (
            wish.settings or {}
        )
        made_by = f"{Path(wish.weights or 'starter').name} ({hash_of(network)[:12]})"
        facts = {"fps": wish.fps, "first_frame": start, "weights": made_by, **how}
        asked = asked_for(wish.video, wish.mask, objects, wish.as_rle, facts)
        chosen = wish.bf16 and (asked_before(wish.out) or {}).get("bf16", "auto")
        prepared, asked["bf16"] = fastest(network, chosen)
        cutout, shown = Cutout(wish.out, asked), Progress() if progress else None
        make = partial(make_session, prepared, **how)
        return segment(Job(make, frames, start, objects, cutout, draw, wish.as_rle, shown))
