"""Retrieval of a run, from the lists of labelled clips to the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitascope.datasets.load import load_labelled
from vitascope.engine.log import Progress
from vitascope.evaluation import retrieval
from vitascope.evaluation.recognition import encode
from vitascope.methods.base import Method
from vitascope.store.library import Library, run_folder
from vitascope.store.locate import find_library
from vitascope.store.reports import write_report
from vitascope.store.schema import LibraryError
from vitascope.structures import Figure, Record, VideoError

NUM_PICTURED = 8  # queries
PICTURE_PIXELS = 96


def evaluate_run(
    load: Callable[[Path], Method],
    run: str | os.PathLike,
    data: str | os.PathLike,
    gallery: str | os.PathLike | None,
    library: str | os.PathLike | None,
    spread_clips: Callable[..., torch.Tensor],
    *,
    num_clips: int = 10,
    embedded: bool = False,
    centre: retrieval.Centre = "none",
    leave_out: retrieval.LeaveOut = "file",
    device: str = "auto",
    out: str | os.PathLike | None = None,
    progress: bool = False,
) -> retrieval.Retrieval:
    """Measure a run by `retrieval.evaluate` on folders of classes or lists, and write a report.

    Args:
        load: Gives the method of a run's folder.
        run: The beginning of a run's id, or its folder.
        data: Labelled clips that are looked for, and among which is looked if there is no gallery.
        gallery: Labelled clips among which is looked.
        library: Where the run is; None for the only one here.
        spread_clips: `(record, num_frames=, stride_frames=, fps=, size=, num_clips=)` -> its clips.
        num_clips: Of each record.
        embedded: Take the vectors that the library keeps (`embedded_features`) instead of reading video.
        centre, leave_out: As `retrieval.evaluate`.
        device: `cpu`, `cuda` or `auto`.
        out: Folder of the report; None for none.
        progress: Whether standard error shows how it goes on.

    Raises:
        ValueError: Labels are missing, or the lists do not fit.
        LibraryError: There is no such run, or no vectors of it.
    """
    records, among = load_labelled(data), load_labelled(gallery) if gallery else None
    measure = partial(retrieval.evaluate, records=records, gallery=among, centre=centre, leave_out=leave_out)
    if embedded:
        with Library(find_library(library)) as lib:
            known = lib.embedded_run(Path(run).name if os.path.isdir(run) else str(run))
            result = measure(partial(embedded_features, lib, known))
        told = "Features that the library keeps: the snippets that a record overlaps."
    else:
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        method = load(run_folder(run, library)).to(device)
        clip = method.snippet.model_dump()
        how = {"device": device, "progress": Progress() if progress else None}
        result = measure(partial(encode, method, read=partial(spread_clips, **clip, num_clips=num_clips), **how))
        told = f"Features of {type(method).__name__}: at most {num_clips} clips spread over a record, each of {_told(clip)}."
    result = replace(result, protocol=f"{told} {result.protocol}")
    if out:
        facts = {"run": str(run), "data": str(data), "gallery": str(gallery or ""), "clips": num_clips}
        facts |= {"embedded": embedded, "centre": centre, "leave out": leave_out}
        pictures = _pictures(result, records, among or records, spread_clips)
        write_report(retrieval.report(result, "Retrieval", facts, pictures), out)
    return result


def embedded_features(
    library: Library, run: str, records: Sequence[Record]
) -> tuple[np.ndarray, list[Record], dict[str, str]]:
    """One vector a record from what `vitascope embed` kept: the mean over the snippets that it overlaps.

    Returns:
        Features float32 `[S, D]`, the `S` records that have some, and why the others have none, by id.

    Raises:
        LibraryError: No record has any.
    """
    values, kept, missing = [], [], {}
    for record in records:
        try:
            found = library.features.get(replace(record, path=os.path.abspath(record.path)), run).values
        except LibraryError as error:
            missing[record.id or record.path] = str(error)
            continue
        if not len(found):
            missing[record.id or record.path] = "no snippet of it is kept"
            continue
        values.append(found.mean(0, dtype=np.float64).astype(np.float32))
        kept.append(record)
    if not values:
        raise LibraryError(f"none of the {len(records)} records has features of {run}: {next(iter(missing.values()))}")
    return np.stack(values), kept, missing


def _told(clip: dict[str, Any]) -> str:
    rate = f" at {clip['fps']:g} frames a second" if clip["fps"] else ""
    return f"{clip['num_frames']} frames, {clip['stride_frames']} apart{rate}, of short side {clip['size']}"


def _pictures(
    result: retrieval.Retrieval,
    records: Sequence[Record],
    gallery: Sequence[Record],
    spread_clips: Callable[..., torch.Tensor],
) -> Figure | None:
    """A few queries, spread evenly, each beside what is nearest to it; None if none of them can be read."""
    asked, entries = ({record.id or record.path: record for record in part} for part in (records, gallery))
    rows = []
    for number in np.unique(np.linspace(0, len(result.queries) - 1, NUM_PICTURED).astype(int)):
        query = result.queries[number]
        shown = [asked[query.id], *(entries[name] for name, _, _ in query.nearest)]
        try:
            frames = [_square(spread_clips(record, 1, 1, PICTURE_PIXELS)[0, 0].numpy()) for record in shown]
        except VideoError:  # its vectors may be older than the fault; the figures are there without the picture
            continue
        found = ", ".join(f"{name} ({label})" for name, label, _ in query.nearest)
        rows.append((f"{query.id} ({query.label}) finds {found}", np.stack(frames)))
    caption = (
        "The first picture is the query's, the others are of its nearest, each the middle of its video, or of the stretch "
        "from-to in seconds that stands behind @."
    )
    return Figure("What some queries find", tuple(rows), caption) if rows else None


def _square(frame: np.ndarray) -> np.ndarray:
    """The middle of a frame `[C, H, W]`, as wide as high."""
    height, width = frame.shape[1:]
    top, left = (height - PICTURE_PIXELS) // 2, (width - PICTURE_PIXELS) // 2
    return frame[:, top : top + PICTURE_PIXELS, left : left + PICTURE_PIXELS]
