"""Retrieval: whether the videos nearest to a video, by their frozen features, are of its class."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from vitascope.evaluation.folds import numbered
from vitascope.evaluation.recognition import label_of, require_classes
from vitascope.metrics.recognition import bootstrap_interval, wilson_interval
from vitascope.metrics.retrieval import (
    Ranks,
    chance_at,
    chance_of_mean_average_precision,
    join,
    mean_average_precision,
    rank,
    recall_at,
)
from vitascope.store.neighbours import Exact, top
from vitascope.structures import Figure, Record, Report, Table

Encode = Callable[[Sequence[Record]], tuple[np.ndarray, list[Record], dict[str, str]]]
Centre = Literal["none", "gallery", "each"]
LeaveOut = Literal["file", "self"]

RECALL_AT = (1, 5, 10, 20, 50)
NUM_NEAREST = 5  # that are listed of each query
MOST_ROWS = 200
CENTRING = {
    "none": "not centred",
    "gallery": "the gallery's mean subtracted",
    "each": "the gallery's mean subtracted from it, and the queries' own from them",
}
LEFT_OUT = {"file": "what is of its own file", "self": "itself"}


@dataclass(frozen=True, slots=True)
class Query:
    """What one query found: the `place` of the first of its class, None if there is none, and the `nearest` entries.

    `nearest` are `(id, class, cosine)`, the nearest first, of equal cosines in the gallery's order.
    """

    id: str
    label: str
    place: int | None
    nearest: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How well classes were found; shares in [0, 1].

    `recall` and `chance` map `k` to R@k and to what random order would reach, for no more than a query is compared with;
    `mean_ap` and `chance_ap` are mAP and what random order would reach; `classes` are `(class, queries, R@1, AP)`;
    `num_absent` queries are of a class that the gallery lacks, and count as not found; `unreadable` maps an id to the
    reason.
    """

    protocol: str
    num_queries: int
    num_gallery: int
    recall: dict[int, float]
    chance: dict[int, float]
    interval: tuple[float, float]  # 95%, of R@1
    mean_ap: float
    chance_ap: float
    num_absent: int
    classes: tuple[tuple[str, int, float, float], ...]
    queries: tuple[Query, ...]
    unreadable: dict[str, str] = field(default_factory=dict)


def evaluate(
    encode: Encode,
    records: Sequence[Record],
    gallery: Sequence[Record] | None = None,
    *,
    centre: Centre = "none",
    leave_out: LeaveOut = "file",
) -> Retrieval:
    """Look for the class of each record among those nearest to it, by cosine.

    Without a gallery, records of the split "test" look among those of the split "train", as the official lists of UCF101
    and HMDB51 have it; or, where there are no such splits, each looks among all the others.

    Args:
        encode: Gives features `[S, D]`, the `S` records that have some, and why the others have none: for example
            `recognition.encode` with its method and reader set.
        records: Of one class each; of those with a split "test" only these are asked about.
        gallery: Of one class each; of those with a split "train" only these are looked among.
        centre: What is subtracted from the features before they are made unit length: nothing, the mean of the gallery,
            or from each of gallery and queries its own mean.
        leave_out: What a query does not see: all that is of its `file`, or `self` alone.

    Raises:
        ValueError: A record has not exactly one class, all are of one class, or as `score`.
    """
    asked = [record for record in records if record.split == "test"] or list(records)
    if gallery is None and len(asked) < len(records):
        gallery = [record for record in records if record.split == "train"] or None
    elif gallery is not None:
        gallery = [record for record in gallery if record.split == "train"] or gallery
    require_classes([*asked, *(gallery or [])])
    features, asked, unreadable = encode(asked)
    if gallery is None:
        result = score(features, asked, centre=centre, leave_out=leave_out)
    else:
        others, among, missing = encode(gallery)
        unreadable = missing | unreadable
        result = score(features, asked, others, among, centre=centre, leave_out=leave_out)
    return replace(result, unreadable=unreadable)


def score(
    features: np.ndarray,
    records: Sequence[Record],
    gallery_features: np.ndarray | None = None,
    gallery: Sequence[Record] | None = None,
    *,
    centre: Centre = "none",
    leave_out: LeaveOut = "file",
) -> Retrieval:
    """As `evaluate`, of features that are there already.

    Args:
        features: `[Q, D]`.
        records: `Q` queries.
        gallery_features: `[N, D]`; None if the queries are the gallery.
        gallery: `N` entries.
        centre, leave_out: As `evaluate`.

    Raises:
        ValueError: The features do not fit or are not finite, or no query has anything that it may see.

    Example:
        >>> records = [Record(f"{n}.mp4", labels=(label,)) for n, label in enumerate("aabb")]
        >>> score(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.2]]), records).recall[1]
        0.75
    """
    if centre not in CENTRING or leave_out not in LEFT_OUT:
        raise ValueError(
            f"centre ({centre}) must be one of {', '.join(CENTRING)}, and leave_out ({leave_out}) one of {', '.join(LEFT_OUT)}"
        )
    is_own = gallery is None
    entries = records if gallery is None else gallery
    features = _checked(features, records, "queries")
    others = features if gallery is None else _checked(gallery_features, gallery, "gallery")
    if features.shape[1] != others.shape[1]:
        raise ValueError(f"queries have {features.shape[1]} values and the gallery {others.shape[1]}; must be as many")
    if centre != "none":
        mean = others.mean(0, dtype=np.float64).astype(np.float32)
        own_mean = features.mean(0, dtype=np.float64).astype(np.float32) if centre == "each" else mean
        features, others = features - own_mean, others - mean
    classes, labels = numbered([label_of(record) for record in [*records, *entries]])
    labels, gallery_labels = labels[: len(records)], labels[len(records) :]
    keys = numbered([_key(record, leave_out) for record in [*records, *entries]])[1]
    found, nearest, near_cosines = [], [], []
    for first, cosines in _compared(Exact(others), features, keys[: len(records)], keys[len(records) :]):
        found.append(rank(cosines, labels[first : first + len(cosines)], gallery_labels))
        nearest.append(top(cosines, NUM_NEAREST))
        near_cosines.append(np.take_along_axis(cosines, nearest[-1], 1))
    ranks, near = join(found), (np.concatenate(nearest), np.concatenate(near_cosines))
    if not ranks.compared.any():
        raise ValueError(
            f"of the {len(entries)} entries of the gallery no query may see any, for {LEFT_OUT[leave_out]} is left out; "
            "give a gallery of other files"
        )
    width = features.shape[1]
    protocol = _protocol(ranks, len(entries), width, is_own, centre, leave_out)
    return _summary(protocol, ranks, near, records, entries, classes, labels)


def _compared(
    exact: Exact, features: np.ndarray, keys: np.ndarray, gallery_keys: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Cosines of stretches of the queries, -inf where the keys are the same: what a query does not see."""
    for first, cosines in exact.cosines(features):
        cosines[keys[first : first + len(cosines), None] == gallery_keys] = -np.inf
        yield first, cosines


def _summary(
    protocol: str,
    ranks: Ranks,
    near: tuple[np.ndarray, np.ndarray],
    records: Sequence[Record],
    entries: Sequence[Record],
    classes: tuple[str, ...],
    labels: np.ndarray,
) -> Retrieval:
    names = [(record.id or record.path, label_of(record)) for record in entries]
    queries = []
    for record, place, rows, cosines in zip(records, ranks.first.tolist(), near[0].tolist(), near[1].tolist()):
        seen = tuple((*names[row], cosine) for row, cosine in zip(rows, cosines) if cosine > -np.inf)
        queries.append(Query(record.id or record.path, label_of(record), place or None, seen))
    is_hit = ranks.first == 1
    rows = []
    for number in np.unique(labels):
        of = labels == number
        rows.append((classes[number], int(of.sum()), float(is_hit[of].mean()), float(ranks.precision[of].mean())))
    files = numbered([record.path for record in records])[1]
    has_groups = len(np.unique(files)) < len(files)
    counts = [k for k in RECALL_AT if k <= ranks.compared.max()]
    return Retrieval(
        protocol=protocol,
        num_queries=len(records),
        num_gallery=len(entries),
        recall={k: recall_at(ranks, k) for k in counts},
        chance={k: chance_at(ranks, k) for k in counts},
        interval=bootstrap_interval(is_hit, files) if has_groups else wilson_interval(int(is_hit.sum()), len(is_hit)),
        mean_ap=mean_average_precision(ranks),
        chance_ap=chance_of_mean_average_precision(ranks),
        num_absent=int((ranks.relevant == 0).sum()),
        classes=tuple(sorted(rows)),
        queries=tuple(queries),
    )


def _protocol(ranks: Ranks, num_gallery: int, width: int, is_own: bool, centre: Centre, leave_out: LeaveOut) -> str:
    counts = sorted({int(ranks.compared.min()), int(ranks.compared.max())})
    among = "each among the others" if is_own else f"in a gallery of {num_gallery}"
    return (
        f"Retrieval by cosine: {len(ranks.first)} queries, {among}; {width} values a record, the mean over its clips, "
        f"{CENTRING[centre]}, then unit length. A query does not see {LEFT_OUT[leave_out]}, and is compared with "
        f"{' to '.join(map(str, counts))} entries, exactly. R@k is the share of queries with at least one of their class "
        "among the k nearest; mAP the mean over the queries of the average precision, which is the mean, over all entries "
        "of the query's class, of the share of that class among the entries up to it. Of equal cosines those of another "
        f"class come first. Queries that see none of their class count as not found: {int((ranks.relevant == 0).sum())}. "
        "Interval of R@1: Wilson, or a bootstrap over files where files have several queries, 95%."
    )


def _key(record: Record, leave_out: LeaveOut) -> str:
    """What a query and the entries that it does not see have in common."""
    path = os.path.abspath(record.path)
    return path if leave_out == "file" else f"{path}\n{record.start_seconds}\n{record.end_seconds}"


def _checked(features: np.ndarray | None, records: Sequence[Record], name: str) -> np.ndarray:
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or not len(features) or len(features) != len(records):
        raise ValueError(f"features of the {name} {list(features.shape)} must be [{len(records)}, D], a row a record")
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features)).any(1).sum())
        raise ValueError(f"features of {bad} of the {name} are not finite; they must be numbers")
    return features


def report(result: Retrieval, title: str, facts: dict[str, Any], pictures: Figure | None = None) -> Report:
    """A result as a report: the figures, each class, pictures, what was found, what could not be read, and how."""
    low, high = (f"{100 * end:.1f}" for end in result.interval)
    told = f"The nearest is of its class for {100 * result.recall[1]:.1f} % of {result.num_queries} queries"
    parts: list[str | Table | Figure] = [f"{told} (95% interval {low} to {high})."]
    rows = [(f"R@{k}", round(100 * share, 1), round(100 * result.chance[k], 1)) for k, share in result.recall.items()]
    rows.append(("mAP", round(100 * result.mean_ap, 1), round(100 * result.chance_ap, 1)))
    parts.append(Table("Found", ("what", "percent", "percent by chance"), tuple(rows)))
    rows = [(name, count, round(100 * hit, 1), round(100 * ap, 1)) for name, count, hit, ap in result.classes]
    parts.append(Table("Classes", ("class", "queries", "R@1, percent", "mAP, percent"), tuple(rows)))
    parts += [pictures] if pictures else []
    rows = []
    for query in result.queries[:MOST_ROWS]:
        told = ", ".join(f"{label} {cosine:.3f} ({name})" for name, label, cosine in query.nearest)
        rows.append((query.id, query.label, query.place, told))
    caption = (
        f"Class, cosine and name of the {NUM_NEAREST} nearest, and at which place the first of the query's class is."
    )
    if len(result.queries) > MOST_ROWS:
        caption += f" The first {MOST_ROWS} of {len(result.queries)} queries."
    parts.append(Table("Nearest", ("query", "class", "place", "nearest"), tuple(rows), caption))
    if result.unreadable:
        parts.append(Table("Not read", ("record", "reason"), tuple(sorted(result.unreadable.items()))))
    return Report(title, (*parts, result.protocol), facts)
