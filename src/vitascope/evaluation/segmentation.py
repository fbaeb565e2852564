"""Cutting objects out of video: the protocols of DAVIS 2016, DAVIS 2017 (semi-supervised) and YouTube-VOS.

Results are folders of palette PNGs, `SEQ/<frame>.png`, as those data sets ask for them. Scoring reads them frame by
frame, so that its memory is that of a few frames, and its numbers do not depend on the number of processes.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vitascope.datasets.davis import (
    Sequence,
    Year,
    annotations_folder,
    find_sequences,
    find_ytvos,
    mask_file,
    open_frames,
    raise_all,
    read_annotation,
    read_result,
    write_annotation,
)
from vitascope.engine.log import Progress, Status
from vitascope.engine.pool import Failure, run_isolated
from vitascope.metrics.segmentation import object_ids, object_scores, statistics
from vitascope.store import atomic
from vitascope.structures import VideoError

PathLike = str | os.PathLike
VALUES = ("j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay")
MADE_BY = "made_by.txt"  # beside the results: what made them
# The frames of a sequence, and the masks at which objects begin -> one mask uint8 [H, W] for each frame, in order.
Segment = Callable[[Any, dict[int, np.ndarray]], Iterator[np.ndarray]]


def evaluate(
    data: PathLike,
    predictions: PathLike | None = None,
    *,
    segment: Segment | None = None,
    made_by: str = "",
    out: PathLike | None = None,
    year: Year = "2017",
    split: str | None = None,
    davis_compat: bool = False,
    num_workers: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Scores results by the protocol of DAVIS; where there are none yet, makes them first.

    Args:
        data: The data set; with `predictions` its folder of masks is enough.
        predictions: As `score_davis` takes them; None to segment the videos of `data`.
        segment: Makes the masks, as in `segment_davis`; needed without `predictions`.
        made_by: As in `segment_davis`.
        out: Where the masks that are made are kept; None keeps none.
        year: Protocol.
        split: A list of `ImageSets`.
        davis_compat: As in `score_davis`.
        num_workers: Processes that score.
        progress: Whether to show on standard error how segmenting goes on.

    Returns:
        As `score_davis`.
    """
    how = {"year": year, "split": split}
    if predictions is not None:
        return score_davis(data, predictions, **how, davis_compat=davis_compat, num_workers=num_workers)
    made_by = f"{made_by}, protocol {year}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = out or scratch
        shown = Progress() if progress else None
        segment_davis(data, segment, folder, made_by=made_by, progress=shown, **how)
        return score_davis(data, folder, **how, davis_compat=davis_compat, num_workers=num_workers)


def score_davis(
    ground_truth_dir: PathLike,
    predictions_dir: PathLike,
    *,
    year: Year = "2017",
    split: str | None = None,
    davis_compat: bool = False,
    num_workers: int = 0,
) -> dict[str, Any]:
    """Scores results by the protocol of DAVIS.

    The first and the last frame of a sequence do not count. The objects are 1 to the largest id of the first mask; an
    object that a result lacks is an empty mask; means are over objects, not over sequences.

    Args:
        ground_truth_dir: The data set, or its folder of masks: see `datasets.davis.find_sequences`.
        predictions_dir: Holds `SEQ/<frame>.png` of object ids.
        year: "2016" scores all that is labelled as one object.
        split: Name of a list of sequences of the data set; None for all that have masks.
        davis_compat: Repeat the official scorer's decay of videos beyond 256 frames.
        num_workers: Processes; 0 works in this one.

    Returns:
        `j_and_f_mean, j_mean, j_recall, j_decay, f_mean, f_recall, f_decay`, and `per_object`, a list of the same
        values with `sequence` and `object`. A decay that the official scorer gives as nan is None.

    Raises:
        ValueError: Truth or results are not as said: a frame or a sequence is missing, sizes differ, a result has an id
            that the truth does not have. All bad sequences are named.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     os.mkdir(f"{folder}/bear")
        ...     for t in range(3):
        ...         write_annotation(f"{folder}/bear/{t:05d}.png", np.eye(4, dtype=np.uint8))
        ...     score_davis(folder, folder)["j_and_f_mean"]
        1.0
    """
    sequences = find_sequences(ground_truth_dir, split, year=year)
    names = [sequence.annotation_names[1:-1] for sequence in sequences]
    raise_all(
        [
            f"{sequence.name}: {len(sequence.annotation_names)} masks in {sequence.annotations}; scoring needs at least 3, "
            "as the first and the last frame do not count"
            for sequence, scored in zip(sequences, names)
            if not scored
        ]
    )
    rows = []
    for sequence, scores in zip(sequences, _measure_all(sequences, names, predictions_dir, num_workers)):
        for item, values in zip(sequence.objects, np.moveaxis(scores, 0, -1)):  # [2, T]
            numbers = [number for metric in values for number in statistics(metric, davis_compat)]
            rows.append({"sequence": sequence.name, "object": item.id} | dict(zip(VALUES, numbers)))
    means = {name: float(np.mean([row[name] for row in rows])) for name in VALUES}
    totals = {"j_and_f_mean": (means["j_mean"] + means["f_mean"]) / 2} | means
    return _without_nan(totals) | {"per_object": [_without_nan(row) for row in rows]}


def score_ytvos(
    ground_truth_dir: PathLike, predictions_dir: PathLike, *, seen: Collection[str] | None = None, num_workers: int = 0
) -> dict[str, Any]:
    """Scores results by the protocol of YouTube-VOS; the truth of all frames that `meta.json` lists must be there.

    An object counts from the frame after its first one to the last listed one.

    Args:
        ground_truth_dir: A tree as in `datasets.davis.find_ytvos`.
        predictions_dir: Holds `VIDEO/<frame>.png` of object ids.
        seen: Categories that the training set has (`datasets.davis.categories` of its `meta.json`); None if the
            objects shall not be told apart.
        num_workers: Processes; 0 works in this one.

    Returns:
        `overall` (mean of the four that follow), `j_seen, j_unseen, f_seen, f_unseen` (None where there is no such
        object), `j_and_f_mean, j_mean, f_mean` over all objects, and `per_object`. An object that begins in the last
        frame has no value and does not count.

    Raises:
        ValueError: As `score_davis`, or masks of the truth are missing.
    """
    sequences = find_ytvos(ground_truth_dir)
    raise_all([text for text in map(_missing_truth, sequences) if text])
    names = [sequence.result_names[_first_position(sequence) + 1 :] for sequence in sequences]
    rows = []
    for sequence, shown, scores in zip(sequences, names, _measure_all(sequences, names, predictions_dir, num_workers)):
        for column, item in enumerate(sequence.objects):
            begin = sequence.result_names.index(item.first_frame) - _first_position(sequence)
            values = scores[begin:, column]  # [T, 2]
            means = values.mean(0).tolist() if begin < len(shown) else [None, None]
            is_seen = None if seen is None else item.category in seen
            named = {"sequence": sequence.name, "object": item.id, "category": item.category, "is_seen": is_seen}
            rows.append(named | {"j_mean": means[0], "f_mean": means[1]})
    groups = {"seen": True, "unseen": False}
    parts = {f"{m}_{name}": _mean(rows, f"{m}_mean", is_seen) for m in "jf" for name, is_seen in groups.items()}
    totals = {f"{m}_mean": _mean(rows, f"{m}_mean") for m in "jf"}
    overall = None if None in parts.values() else sum(parts.values()) / 4
    both = None if None in totals.values() else sum(totals.values()) / 2
    return {"overall": overall} | parts | {"j_and_f_mean": both} | totals | {"per_object": rows}


def segment_davis(
    data_dir: PathLike,
    segment: Segment,
    out_dir: PathLike,
    *,
    year: Year = "2017",
    split: str | None = None,
    made_by: str = "",
    progress: Callable[[Status], Any] | None = None,
) -> list[str]:
    """Cuts the objects out of every sequence of a DAVIS tree and writes the masks in the layout of the data set.

    `segment` is given the masks at which objects begin and no other. Sequences whose masks are all there are kept.

    Args:
        data_dir: A tree as in `datasets.davis.find_sequences`.
        segment: `segment(frames, first_masks)` gives the masks of all frames: `frames` is a `video.frames.FrameFolder`,
            `first_masks` has uint8 `[H, W]` of object ids by frame number.
        out_dir: Gets `SEQ/<frame>.png`, palette PNGs of the frames' size.
        year: "2016" takes all that is labelled as one object.
        split: Name of a list of sequences of the data set; None for all that have masks.
        made_by: What makes the masks, e.g. the weights: results that something else made are never taken for its own.
        progress: Called after each frame.

    Returns:
        The names of the sequences that were not there yet.

    Raises:
        ValueError: The tree is not as said, `out_dir` holds results of something else, or sequences cannot be
            segmented, all of which are named once the others are done.
    """
    return _segment_all(find_sequences(data_dir, split, year=year), segment, Path(out_dir), made_by, progress)


def segment_ytvos(
    data_dir: PathLike,
    segment: Segment,
    out_dir: PathLike,
    *,
    made_by: str = "",
    progress: Callable[[Status], Any] | None = None,
) -> list[str]:
    """Does the same as `segment_davis` for a YouTube-VOS tree, whose objects may begin late.

    All images are given to `segment`; masks are written for the frames that `meta.json` lists.
    """
    return _segment_all(find_ytvos(data_dir), segment, Path(out_dir), made_by, progress)


def first_masks(sequence: Sequence, size: tuple[int, int]) -> dict[int, np.ndarray]:
    """The masks at which objects begin, by frame number, each with those objects only; `size` (H, W) is the frames'."""
    masks = {}
    for name in dict.fromkeys(item.first_frame for item in sequence.objects):
        path = mask_file(sequence.annotations, name)
        mask = read_annotation(path, single_object=sequence.single_object)
        _check_size(f"{path}: the mask", mask.shape, "the frames are", size)
        begun = [item.id for item in sequence.objects if item.first_frame == name]
        mask[~np.isin(mask, begun)] = 0
        if not mask.any():
            raise ValueError(f"{path}: the mask shows none of the objects {begun} that begin with it")
        masks[sequence.frame_names.index(name)] = mask
    return dict(sorted(masks.items()))


def _segment_all(
    sequences: list[Sequence], segment: Segment, out: Path, made_by: str, progress: Callable | None
) -> list[str]:
    _claim(out, made_by)
    todo = [sequence for sequence in sequences if not _is_complete(sequence, out)]
    shown, problems = _Shown(sum(len(sequence.frame_names) for sequence in todo), progress), []
    for sequence in todo:
        try:
            for _ in _written(sequence, segment, out / sequence.name):
                shown.one_more(sequence.name)
        except (ValueError, VideoError) as error:
            problems.append(str(error))
    raise_all(problems)
    return [sequence.name for sequence in todo]


class _Shown:
    """Counts the frames that are done and tells them to `progress`."""

    def __init__(self, total: int, progress: Callable[[Status], Any] | None) -> None:
        self.total, self.progress, self.step, self.began = total, progress, 0, time.monotonic()

    def one_more(self, name: str) -> None:
        self.step += 1
        if self.progress is not None:
            left = (self.total - self.step) * (time.monotonic() - self.began) / self.step
            self.progress(Status(f"segment {name}", self.step, self.total, None, left))


def _written(sequence: Sequence, segment: Segment, folder: Path) -> Iterator[None]:
    """Writes the masks of one sequence, and yields after each frame."""
    folder.mkdir(parents=True, exist_ok=True)
    known, wanted = {item.id for item in sequence.objects}, set(sequence.result_names)
    with open_frames(sequence) as frames:
        given = first_masks(sequence, frames.size)
        masks = iter(segment(frames, {position: mask.copy() for position, mask in given.items()}))
        for position, name in enumerate(frames.names):
            mask = next(masks, None)
            if mask is None:
                raise ValueError(
                    f"{sequence.name}: segment gave {position} masks for {len(frames)} frames; one for each"
                )
            _check_size(f"{sequence.name}: the mask of frame {name}", mask.shape, "the frames are", frames.size)
            if not known.issuperset(object_ids(mask)):
                raise ValueError(f"{sequence.name}: the mask of frame {name} has ids that are not in {sorted(known)}")
            if position in given:  # the owner's mask stands as it is; what ran before may lie around it
                is_first = position == min(given)
                mask = given[position] if is_first else np.where(given[position] > 0, given[position], mask)
            if name in wanted:
                write_annotation(mask_file(folder, name), mask)
            yield


def _is_complete(sequence: Sequence, out: Path) -> bool:
    return all(mask_file(out / sequence.name, name).is_file() for name in sequence.result_names)


def _claim(out: Path, made_by: str) -> None:
    """Makes the folder of results, and refuses one that something else made."""
    out.mkdir(parents=True, exist_ok=True)
    note = out / MADE_BY
    if not note.exists():
        if any(out.iterdir()):
            raise ValueError(
                f"out_dir ({out}) holds files of something else; name a folder that is empty or not there yet"
            )
        atomic.write_bytes(note, made_by.encode())
    before = note.read_text(encoding="utf-8")
    if before != made_by:
        raise ValueError(f"out_dir ({out}) holds masks made by {before!r}, not by {made_by!r}; name another folder")


def _measure_all(
    sequences: list[Sequence], names: list, predictions_dir: PathLike, num_workers: int
) -> list[np.ndarray]:
    """J and F of every sequence, float64 `[T, O, 2]`, in the order of the sequences."""
    folder = annotations_folder(predictions_dir)
    jobs = [(sequence, tuple(scored), folder) for sequence, scored in zip(sequences, names)]
    results = {job[0].name: result for job, result in run_isolated(_measure, jobs, num_workers)}
    ordered = [results[sequence.name] for sequence in sequences]
    failed = [(sequence.name, result) for sequence, result in zip(sequences, ordered) if isinstance(result, Failure)]
    told = [result for result in ordered if isinstance(result, str)]
    raise_all(told + [f"{name}: {failure.reason}: {failure.detail}" for name, failure in failed])
    return ordered


def _measure(job: tuple[Sequence, tuple[str, ...], Path]) -> np.ndarray | str:
    """J and F of one sequence, or the sentence that tells what is wrong with it."""
    sequence, names, predictions = job
    try:
        return _scores(sequence, names, predictions / sequence.name)
    except ValueError as error:
        return str(error)


def _scores(sequence: Sequence, names: tuple[str, ...], folder: Path) -> np.ndarray:
    missing = [name for name in names if not mask_file(folder, name).is_file()]
    if missing:
        first = mask_file(folder, missing[0])
        raise ValueError(
            f"{sequence.name}: {len(missing)} of {len(names)} result masks are missing, the first is {first}"
        )
    ids = [item.id for item in sequence.objects]
    scores = np.empty((len(names), len(ids), 2))
    for row, name in zip(scores, names):
        path = mask_file(folder, name)
        truth = read_annotation(mask_file(sequence.annotations, name), single_object=sequence.single_object)
        result = read_result(path, single_object=sequence.single_object)
        _check_size(f"{path}: the result", result.shape, "the truth is", truth.shape)
        extra = sorted(set(object_ids(result)) - set(ids))
        if extra:
            raise ValueError(f"{path}: object {extra[-1]} is not among the objects {ids} of the truth; leave it out")
        row[:] = object_scores(truth, result, ids)
    return scores  # [T, O, 2]


def _check_size(what: str, came: tuple[int, ...], other: str, allowed: tuple[int, ...]) -> None:
    if tuple(came) != tuple(allowed):
        raise ValueError(f"{what} is {came[1]}x{came[0]}, but {other} {allowed[1]}x{allowed[0]}; make both of one size")


def _missing_truth(sequence: Sequence) -> str:
    missing = sorted(set(sequence.result_names) - set(sequence.annotation_names))
    first = mask_file(sequence.annotations, missing[0]) if missing else ""
    return f"{sequence.name}: the truth of {len(missing)} frames is missing, the first is {first}" if missing else ""


def _first_position(sequence: Sequence) -> int:
    return min(sequence.result_names.index(item.first_frame) for item in sequence.objects)


def _mean(rows: list[dict[str, Any]], name: str, is_seen: bool | None = None) -> float | None:
    kept = [row[name] for row in rows if row[name] is not None and (is_seen is None or row["is_seen"] is is_seen)]
    return float(np.mean(kept)) if kept else None


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
