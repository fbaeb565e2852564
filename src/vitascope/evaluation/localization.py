"""Localization: whether each action is found at its time, by the protocols under which the field reports it.

The same predictions score differently under different protocols, by several points; so a result names its own, what it
left out, and how many videos it judged.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vitascope.evaluation.localization_inputs import Judged, gather
from vitascope.evaluation.localization_protocols import TWENTIETHS, Missing, Protocol, Unknown, describe, protocol_of
from vitascope.metrics.localization import average_precisions, average_recall, video_average_precision
from vitascope.structures import Annotation, Curve, Report, Segments, Table

RECALL_AT = TWENTIETHS
PROPOSALS = (1, 10, 50, 100)


class ClassResult(NamedTuple):
    """One class: its true segments, AP by threshold, AP averaged as the protocol says, AP of telling its videos."""

    label: str
    num_segments: int
    precisions: tuple[float, ...]
    average: float
    video_precision: float | None


@dataclass(frozen=True, slots=True)
class Localization:
    """How well actions were found; shares in [0, 1].

    `map` is mAP by threshold; `average` its means by range, `main` being the protocol's own; `recall` is AR@AN, class-blind,
    by the average number of proposals; `video_map` is mAP of telling which classes a video shows by its best segment of
    each, None without scores; `dropped` counts what was left out, by what it was; `notes` are sentences.
    """

    protocol: str
    told: str
    map: dict[float, float]
    average: dict[str, float]
    main: str
    by_class: tuple[ClassResult, ...]
    recall: dict[int, float]
    video_map: float | None
    num_videos: int
    num_segments: int
    num_predictions: int
    dropped: dict[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; `map` by threshold, `average` the protocol's own."""
        rows = [
            row._asdict() | {"precisions": dict(zip(map(str, self.map), row.precisions))} | {"label": row.label}
            for row in self.by_class
        ]
        return {
            "protocol": self.protocol, "description": self.told, "average": self.average[self.main],
            "average_range": self.main, "map": {str(limit): value for limit, value in self.map.items()},
            "averages": self.average, "average_recall": {str(count): share for count, share in self.recall.items()},
            "video_map": self.video_map, "num_videos": self.num_videos, "num_segments": self.num_segments,
            "num_predictions": self.num_predictions, "dropped": self.dropped, "notes": list(self.notes), "by_class": rows,
        }  # fmt: skip

    def report(self, title: str = "Localization", facts: dict[str, Any] | None = None) -> Report:
        """The result as a report: the figures, each class, what was dropped, and how it was judged."""
        main = f"mAP {percent(self.average[self.main])} on average over tIoU {self.main}"
        rows = [(f"tIoU {limit:g}", percent(value)) for limit, value in self.map.items()]
        rows += [(f"average {name}", percent(value)) for name, value in self.average.items()]
        found = Table("mAP", ("at", "percent"), tuple(rows))
        line = tuple((limit, 100 * value) for limit, value in self.map.items())
        rows = [(f"AR@{count}", percent(share)) for count, share in self.recall.items()]
        rows += [] if self.video_map is None else [("mAP of videos", percent(self.video_map))]
        caption = (
            f"AR@AN: share of true segments that proposals cover whatever their class, mean over tIoU {RECALL_AT[0]:g} to "
            f"{RECALL_AT[-1]:g}, AN of them a video on average. mAP of videos: whether the best segment of a class tells "
            "which videos show it."
        )
        others = Table("Proposals and videos", ("what", "percent"), tuple(rows), caption)
        columns = ("class", "segments", *(f"AP@{limit:g}" for limit in self.map), f"AP {self.main}", "AP of videos")
        cells = tuple(
            (
                row.label,
                row.num_segments,
                *map(percent, row.precisions),
                percent(row.average),
                percent(row.video_precision),
            )
            for row in self.by_class
        )
        dropped = [Table("Dropped", ("what", "count"), tuple(self.dropped.items()))] if self.dropped else []
        parts = (
            f"{main}, protocol {self.protocol}, {self.num_videos} videos.", found,
            Curve("mAP over tIoU", "tIoU", (("mAP, percent", line),)), others,
            Table("Classes", columns, cells, "In percent."), *dropped, *self.notes, self.told,
        )  # fmt: skip
        return Report(title, parts, facts or {})


def percent(share: float | None) -> float | None:
    """A share in percent with two decimals, as tables print it."""
    return None if share is None else round(100 * share, 2)


def evaluate(
    truth: Sequence[Annotation],
    predictions: dict[str, Segments],
    protocol: Protocol | str,
    *,
    split: str | None = None,
    unknown: Unknown | None = None,
    missing: Missing = "count",
    blocked: Collection[str] = (),
) -> Localization:
    """Judge predicted segments by a protocol.

    Args:
        truth: What is known of each video; those of the split whose segments are known are judged.
        predictions: By video, with scores in all, or in none (all are then equal, and rank as they come).
        protocol: One of `localization_protocols.PROTOCOLS`, by name, or one's own.
        split: Judged instead of the protocol's; empty for all.
        unknown: What becomes of predictions for videos that the truth does not have, instead of what the protocol says:
            an `error`, `drop`, or `false_positive`. A label that the truth has nowhere is an error unless it is `drop`.
        missing: Videos without predictions `count` as videos in which nothing is found, or `skip` them.
        blocked: Ids of videos that are dropped on both sides.

    Raises:
        ValueError: The protocol is not known, nothing is left to judge, ids or labels do not fit, or a time or a score is
            not a number.

    Example:
        >>> run = Segments(np.array([[1.0, 4.0]]), ("run",))
        >>> found = Segments(np.array([[1.0, 3.0], [6.0, 9.0]]), ("run", "run"), np.array([0.9, 0.4]))
        >>> result = evaluate([Annotation("a", segments=run)], {"a": found}, "plain")
        >>> result.map[0.5], result.map[0.7], result.num_videos
        (1.0, 0.0, 1)
    """
    protocol = protocol_of(protocol)
    unknown = protocol.unknown if unknown is None else unknown
    if unknown not in ("error", "drop", "false_positive") or missing not in ("count", "skip"):
        raise ValueError(
            f"unknown ({unknown}) must be error, drop or false_positive, and missing ({missing}) count or skip"
        )
    split = protocol.split if split is None else split
    judged = gather(truth, predictions, protocol, split, unknown, missing, blocked)
    return _measured(judged, protocol, describe(protocol, split, unknown, missing, len(judged.videos)))


def _measured(judged: Judged, protocol: Protocol, told: str) -> Localization:
    classes, ranges = judged.classes, protocol.ranges()
    precisions = average_precisions(judged.truth, judged.detections, protocol.thresholds, len(classes), protocol.ties)
    means = precisions.mean(0)  # every class has truth
    main = next(iter(ranges))
    of_class = precisions[:, ranges[main]].mean(1)
    counts = np.bincount(judged.truth.label, minlength=len(classes))
    of_videos = _video_precisions(judged) if judged.has_scores else [None] * len(classes)
    known = [value for value in of_videos if value is not None]
    rows = zip(classes, counts.tolist(), map(tuple, precisions.tolist()), of_class.tolist(), of_videos)
    recalls = average_recall(judged.truth, judged.detections, RECALL_AT, PROPOSALS)
    return Localization(
        protocol=protocol.name,
        told=told,
        map=dict(zip(protocol.thresholds, means.tolist())),
        average={name: float(means[inside].mean()) for name, inside in ranges.items()},
        main=main,
        by_class=tuple(ClassResult(*row) for row in rows),
        recall=dict(zip(PROPOSALS, recalls.tolist())),
        video_map=float(np.mean(known)) if known else None,
        num_videos=len(judged.videos),
        num_segments=len(judged.truth.label),
        num_predictions=len(judged.detections.label),
        dropped=judged.dropped,
        notes=judged.notes,
    )


def _video_precisions(judged: Judged) -> list[float | None]:
    """AP of telling which of the judged videos show each class, by the best score of its segments."""
    numbers = {label: number for number, label in enumerate(judged.classes)}
    shape = len(judged.videos), len(judged.classes)
    shows, scores = np.zeros(shape, bool), np.full(shape, -np.inf)
    for row, item in enumerate(judged.videos):
        of_video = [numbers[label] for label in item.labels or item.segments.labels if label in numbers]
        shows[row, of_video] = True
    found, inside = judged.detections, judged.detections.video < len(judged.videos)
    np.maximum.at(scores, (found.video[inside], found.label[inside]), found.scores[inside])
    values = video_average_precision(shows, scores).tolist()
    return [None if np.isnan(value) else value for value in values]
