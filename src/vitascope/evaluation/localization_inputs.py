"""What of the truth and of predictions is judged: which videos, which segments, and what is left out, counted."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vitascope.datasets.annotations import video_id
from vitascope.evaluation.localization_protocols import Missing, Protocol, Unknown
from vitascope.metrics.localization import Detections, Truth
from vitascope.structures import NOTHING, Annotation, Segments

SAME_SECONDS = 1e-3
SPLITS = ({"test", "testing"}, {"validation", "val"}, {"train", "training"})  # one split by several names
NONE = Segments(np.zeros((0, 2)), (), np.zeros(0))


class Judged(NamedTuple):
    """Truth and predictions as arrays, classes and videos numbered.

    Attributes:
        classes: That the truth has.
        videos: Those judged; predictions may be of further numbers, which are videos that the truth does not have.
        truth: The true segments.
        detections: The predicted ones; scores are 0 where there are none.
        has_scores: Whether there are.
        dropped: How many of what were left out.
        notes: What else is to be known, in sentences.
    """

    classes: tuple[str, ...]
    videos: tuple[Annotation, ...]
    truth: Truth
    detections: Detections
    has_scores: bool
    dropped: dict[str, int]
    notes: tuple[str, ...]


def gather(
    truth: Sequence[Annotation],
    predictions: dict[str, Segments],
    protocol: Protocol,
    split: str,
    unknown: Unknown,
    missing: Missing,
    blocked: Collection[str],
) -> Judged:
    """Choose what a protocol judges; arguments as `localization.evaluate`.

    Raises:
        ValueError: As `localization.evaluate`.
    """
    dropped: Counter[str] = Counter()
    truth = [replace(item, id=video_id(item.id)) for item in truth]  # lists of one data set differ in the `v_`
    predictions, out = _by_id(predictions), frozenset(map(video_id, blocked))
    videos = _videos(truth, split, protocol, out, dropped)
    kept, strangers = _predictions({item.id for item in truth} | out, videos, predictions, protocol, unknown, dropped)
    absent = [name for name in videos if not len(kept.get(name, NONE).labels)]
    if missing == "skip":
        dropped["videos without predictions"] = len(absent)
        for name in absent:
            del videos[name]
            kept.pop(name, None)
        if not videos:
            raise ValueError(f"none of the {len(absent)} videos to judge has predictions; give some, or count them")
    has_list = any(item.ambiguous_seconds is not None for item in truth)
    notes = _notes(videos, strangers, protocol, has_list)
    if absent and missing == "count":
        notes.append(f"Videos without predictions, in which nothing counts as found: {len(absent)}.")
    numbers = {name: number for number, name in enumerate([*videos, *strangers])}
    true = {name: _true_segments(item, protocol, dropped) for name, item in videos.items()}
    classes = tuple(sorted({label for segments in true.values() for label in segments.labels}))
    if not classes:
        raise ValueError(f"the truth of the {len(videos)} videos to judge has no segment; give one that has")
    known = set(classes).union(*map(_labels, truth))
    found = {}
    for name, segments in kept.items():
        item = videos.get(name) or Annotation(name)
        found[name] = _found_segments(item, segments, protocol, dropped)
    _drop_labels(found, classes, known, unknown, dropped)
    has_scores = _have_scores(found)
    if not has_scores and found:
        notes.append("The predictions have no scores: all are equal, and rank as they come.")
    truth_rows, rows = _rows(true, numbers, classes), _rows(found, numbers, classes)
    scores = [segments.scores if has_scores else np.zeros(len(segments.labels)) for segments in found.values()]
    detections = Detections(*rows, np.concatenate([np.zeros(0), *scores]))
    counts = {what: count for what, count in dropped.items() if count}
    return Judged(classes, tuple(videos.values()), Truth(*truth_rows), detections, has_scores, counts, tuple(notes))


def _by_id(predictions: dict[str, Segments]) -> dict[str, Segments]:
    repeated = [name for name, count in Counter(map(video_id, predictions)).items() if count > 1]
    if repeated:
        raise ValueError(f"predictions have {_some(repeated)} with and without a leading v_; give each video once")
    return {video_id(name): segments for name, segments in predictions.items()}


def _videos(
    truth: Sequence[Annotation], split: str, protocol: Protocol, blocked: frozenset[str], dropped: Counter[str]
) -> dict[str, Annotation]:
    """The videos to judge, by id."""
    repeated = [name for name, count in Counter(item.id for item in truth).items() if count > 1]
    if repeated:
        raise ValueError(f"the truth has {_some(repeated)} more than once; give each video once")
    splits = sorted({item.split for item in truth})
    has_splits = bool(split) and any(splits)  # data without splits are judged whole
    wanted = next((names for names in SPLITS if split.lower() in names), {split.lower()})
    of_split = [item for item in truth if not has_splits or item.split.lower() in wanted]
    if truth and not of_split:
        raise ValueError(
            f"the truth has no video of the split {split}; its splits are {_some(splits)}: name one of these"
        )
    reasons = {
        "videos of other splits": len(truth) - len(of_split),
        "videos that are no part of the test set": sum(item.id in protocol.left_out for item in of_split),
        "videos that are blocked": sum(item.id in blocked for item in of_split),
        "videos whose segments are not known": sum(item.segments is None for item in of_split),
    }
    dropped.update(reasons)
    out = protocol.left_out | blocked
    videos = {item.id: item for item in of_split if item.id not in out and item.segments is not None}
    if not videos:
        told = ", ".join(f"{count} {what}" for what, count in reasons.items() if count) or "the truth is empty"
        raise ValueError(f"of {len(truth)} videos none is left to judge ({told}); give one with segments and times")
    return videos


def _predictions(
    known: set[str],
    videos: dict[str, Annotation],
    predictions: dict[str, Segments],
    protocol: Protocol,
    unknown: Unknown,
    dropped: Counter[str],
) -> tuple[dict[str, Segments], list[str]]:
    """Predictions to score, in the order of the input, and the ids among them that are not of the videos to judge.

    A video that the protocol has not is for its predictions as one that the truth has not: a truth with it and one
    without it so give the same figures.
    """
    if predictions and not any(name in videos for name in predictions):
        raise ValueError(
            f"none of the {len(predictions)} videos with predictions is among the {len(videos)} to judge: "
            f"{next(iter(predictions))!r} is not, {next(iter(videos))!r} is; correct the ids, or choose another split"
        )
    kept, strangers, unheard = {}, [], []
    for name, segments in predictions.items():
        is_strange = name in protocol.left_out or name not in known
        unheard += [name] if is_strange and name not in protocol.left_out else []
        if name in videos or (is_strange and unknown == "false_positive"):
            kept[name] = segments
            strangers += [name] if is_strange else []
        elif is_strange:
            dropped["predictions for videos that the truth does not have"] += len(segments.labels)
        else:
            dropped["predictions for videos that are not judged"] += len(segments.labels)
    if unheard and unknown == "error":
        raise ValueError(
            f"predictions are for {len(unheard)} of {len(predictions)} videos that the truth does not have, such as "
            f"{unheard[0]!r}: correct the ids, or choose unknown=drop (--unknown drop), or unknown=false_positive as the official rule has it"
        )
    return kept, strangers


def _true_segments(item: Annotation, protocol: Protocol, dropped: Counter[str]) -> Segments:
    """The true segments of a video: those that have a length, and each once if so wanted."""
    segments = _checked(item.segments, f"the truth of {item.id!r}")
    is_long = segments.times_seconds[:, 1] - segments.times_seconds[:, 0] > SAME_SECONDS
    dropped["true segments of no length"] += int((~is_long).sum())
    segments = _chosen(segments, is_long)
    if protocol.merge_repeated:
        is_first = _first_of_equal(segments)
        dropped["true segments that repeat another"] += int((~is_first).sum())
        segments = _chosen(segments, is_first)
    return _on_grid(segments, protocol)


def _found_segments(item: Annotation, segments: Segments, protocol: Protocol, dropped: Counter[str]) -> Segments:
    """The predicted segments of a video, on the protocol's grid, without those that overlap an ambiguous stretch."""
    segments = _on_grid(_checked(segments, f"the prediction for {item.id!r}"), protocol)
    stretches = item.ambiguous_seconds
    if not protocol.ambiguous or stretches is None or not len(stretches):
        return segments
    stretches = _on_grid(Segments(np.asarray(stretches, np.float64), ()), protocol).times_seconds
    starts = np.maximum(segments.times_seconds[:, None, 0], stretches[:, 0])
    ends = np.minimum(segments.times_seconds[:, None, 1], stretches[:, 1])
    is_clear = ~(starts < ends).any(1)
    dropped["predictions that overlap an ambiguous stretch"] += int((~is_clear).sum())
    return _chosen(segments, is_clear)


def _drop_labels(
    found: dict[str, Segments], classes: tuple[str, ...], known: set[str], unknown: Unknown, dropped: Counter[str]
) -> None:
    """Leave out predictions of classes that cannot be judged, and refuse labels that the truth has nowhere."""
    counts = Counter(label for segments in found.values() for label in segments.labels)
    unheard = sorted(set(counts) - known)
    if unheard and unknown != "drop":
        raise ValueError(
            f"predictions have {len(unheard)} labels that the truth has nowhere, such as {unheard[0]!r} "
            f"({counts[unheard[0]]} predictions){_near(unheard[0], known)}: correct them, or choose unknown=drop (--unknown drop)"
        )
    dropped["predictions of labels that the truth does not have"] = sum(counts[label] for label in unheard)
    absent = set(counts) & known - set(classes)
    dropped["predictions of classes that the judged videos do not have"] = sum(counts[label] for label in absent)
    if not absent and not unheard:
        return
    judged = set(classes)
    for name, segments in found.items():
        found[name] = _chosen(segments, np.array([label in judged for label in segments.labels], bool))


def _have_scores(found: dict[str, Segments]) -> bool:
    """Whether predictions have scores, which must be so of all or of none."""
    without = [name for name, segments in found.items() if segments.scores is None and segments.labels]
    scored = sum(segments.scores is not None and bool(segments.labels) for segments in found.values())
    if without and scored:
        raise ValueError(
            f"predictions of {len(without)} of {len(without) + scored} videos have no scores, such as those for "
            f"{without[0]!r}; give them for all or for none"
        )
    return bool(scored)


def _notes(videos: dict[str, Annotation], strangers: list[str], protocol: Protocol, has_list: bool) -> list[str]:
    notes = []
    if protocol.num_videos is not None and len(videos) != protocol.num_videos:
        notes.append(f"The protocol is of {protocol.num_videos} videos, but {len(videos)} were judged.")
    if protocol.ambiguous and not any(
        item.ambiguous_seconds is not None and len(item.ambiguous_seconds) for item in videos.values()
    ):
        fault = "the list of them names none of the judged videos" if has_list else "no list of them was given"
        notes.append(f"The protocol drops predictions on ambiguous stretches, but {fault}.")
    timeless = {name: set(item.labels) - {*item.segments.labels, NOTHING} for name, item in videos.items()}
    timeless = {name: labels for name, labels in timeless.items() if labels}
    if timeless:
        name, labels = next(iter(timeless.items()))
        notes.append(
            f"{len(timeless)} of the judged videos have labels without a time, such as {min(labels)!r} of {name!r}: "
            "wherever such a label is predicted there, it counts as wrong."
        )
    if strangers:
        notes.append(
            f"All predictions for {_some(strangers)}, which the truth does not have, or the protocol leaves out, are "
            "false positives."
        )
    return notes


def _rows(
    by_video: dict[str, Segments], numbers: dict[str, int], classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments as columns: number of the video, number of the class, times."""
    of_class = {label: number for number, label in enumerate(classes)}
    counts = [len(segments.labels) for segments in by_video.values()]
    videos = np.repeat(np.array([numbers[name] for name in by_video], np.int64), counts)
    labels = np.array([of_class[label] for segments in by_video.values() for label in segments.labels], np.int64)
    times = np.concatenate([np.zeros((0, 2)), *(segments.times_seconds for segments in by_video.values())])
    return videos, labels, times


def _checked(segments: Segments, what: str) -> Segments:
    """The segments with float64 arrays, once all are found to fit."""
    count = len(segments.labels)
    times = np.asarray(segments.times_seconds, np.float64)
    scores = None if segments.scores is None else np.asarray(segments.scores, np.float64)
    if times.shape != (count, 2) and not (count == 0 and times.size == 0):
        raise ValueError(f"{what} has times {list(times.shape)} for {count} labels; they must be [{count}, 2]")
    times = times.reshape(count, 2)
    if scores is not None and (scores.shape != (count,) or not np.isfinite(scores).all()):
        raise ValueError(f"{what} has scores {list(scores.shape)} that must be {count} finite numbers")
    bad = np.flatnonzero(~(np.isfinite(times).all(1) & (times[:, 1] >= times[:, 0])))
    if len(bad):
        start, end = times[bad[0]]
        raise ValueError(f"{what} has a segment from {start:g} to {end:g} s; it must be finite and end after it begins")
    return Segments(times, segments.labels, scores)


def _on_grid(segments: Segments, protocol: Protocol) -> Segments:
    if protocol.grid_per_second is None:
        return segments
    return Segments(np.rint(segments.times_seconds * protocol.grid_per_second), segments.labels, segments.scores)


def _first_of_equal(segments: Segments) -> np.ndarray:
    """Bool `[S]`: not the same, within 1 ms at both ends, as an earlier one of its class that is kept."""
    kept = np.ones(len(segments.labels), bool)
    labels = np.array(segments.labels, object)
    for number in range(1, len(kept)):
        earlier = kept[:number] & (labels[:number] == labels[number])
        distance = np.abs(segments.times_seconds[:number] - segments.times_seconds[number]).max(1)
        kept[number] = not (earlier & (distance <= SAME_SECONDS)).any()
    return kept


def _chosen(segments: Segments, which: np.ndarray) -> Segments:
    if which.all():
        return segments
    labels = tuple(label for label, is_kept in zip(segments.labels, which) if is_kept)
    return Segments(segments.times_seconds[which], labels, None if segments.scores is None else segments.scores[which])


def _labels(item: Annotation) -> set[str]:
    return {*item.labels, *(item.segments.labels if item.segments else ())}


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f", near which is {near[0]!r}" if near else ""


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
