"""Recognition: what frozen features of clips are worth, and how often a fine-tuned classifier is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vitascope.engine.log import Status
from vitascope.evaluation.probe import Recognition, cross_validate, linear_probe, summary
from vitascope.methods.base import Method
from vitascope.metrics.recognition import wilson_interval
from vitascope.structures import Labels, Record, Report, Table, VideoError

Progress = Callable[[Status], Any]
MOST_COLUMNS = 25  # classes whose confusion fits on a page
MOST_ROWS = 200


def label_of(record: Record) -> str:
    """The one class of a record.

    Raises:
        ValueError: It has none, or several.

    Example:
        >>> label_of(Record("a.mp4", labels=("jump",)))
        'jump'
    """
    if len(record.labels) != 1:
        raise ValueError(
            f"{record.id or record.path} has {len(record.labels)} labels {list(record.labels)}; "
            "recognition takes records of exactly one class"
        )
    return record.labels[0]


def require_classes(records: Sequence[Record]) -> None:
    """Refuse records of a single class, before hours of reading.

    Raises:
        ValueError: There are not at least two classes, or as `label_of`.

    Example:
        >>> require_classes([Record("a.mp4", labels=("jump",)), Record("b.mp4", labels=("run",))])
    """
    classes = {label_of(record) for record in records}
    if len(classes) < 2:
        raise ValueError(
            f"the records hold one class ({', '.join(classes)}); at least 2 are needed, otherwise every answer is right"
        )


def evaluate(
    method: Method,
    records: Sequence[Record],
    train: Sequence[Record] | None = None,
    *,
    read: Callable[[Record], torch.Tensor] | None = None,
    num_folds: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Recognition:
    """Measure a method by what it is: a classifier by its predictions, an encoder by a linear probe on its features.

    The probe learns from `train` and is asked about `records`, or is cross-validated over `records`; where a file has
    several records, these stay together. Of records with a split "test" only these are asked about, and those of the
    split "train" are what the probe learns from, if nothing else is given.

    Args:
        method: A classifier, which has `config.classes`, or any method that gives features.
        records: Of one class each.
        train: For an encoder: what the probe learns from.
        read: For an encoder: as in `encode`.
        num_folds: As in `cross_validate`.
        seed: Of the folds.
        device: Where the network is to work.
        progress: Called after each record.

    Raises:
        ValueError: As the functions that it calls, an encoder's records are all of one class, `train` is given for a
            classifier, or shares a file with `records`.
    """
    is_encoder, given = getattr(method.config, "classes", None) is None, records
    records = [record for record in given if record.split == "test"] or records
    if is_encoder and train is None and num_folds is None and len(records) < len(given):
        train = [record for record in given if record.split == "train"] or None
    if not is_encoder:
        if train is not None or num_folds is not None:
            raise ValueError("a classifier is measured by its predictions; leave the training list and the folds out")
        return classify(method.to(device), records, progress=progress)
    require_classes([*records, *(train or [])])
    shared = sorted({record.path for record in records} & {record.path for record in train or ()})
    if shared:
        raise ValueError(
            f"{shared[0]} is in the training list and in the test list; a probe must not see what it is asked"
        )
    how = {"device": device, "progress": progress}
    features, kept, unreadable = encode(method, records, read, **how)
    labels, ids = [label_of(record) for record in kept], [record.id or record.path for record in kept]
    if train is None:
        result = cross_validate(features, labels, groups_of(kept), num_folds=num_folds, ids=ids, seed=seed)
    else:
        learned, seen, missing = encode(method, train, read, **how)
        unreadable, names = missing | unreadable, [label_of(record) for record in seen]
        result = linear_probe(learned, names, features, labels, groups_train=groups_of(seen), ids=ids, seed=seed)
    return replace(result, unreadable=unreadable)


def groups_of(records: Sequence[Record]) -> list[str] | None:
    """The file of each record where a file has several of them, else None.

    Example:
        >>> groups_of([Record("a.mp4", end_seconds=1.0), Record("a.mp4", start_seconds=1.0), Record("b.mp4")])
        ['a.mp4', 'a.mp4', 'b.mp4']
    """
    paths = [record.path for record in records]
    return paths if len(set(paths)) < len(paths) else None


def encode(
    method: Method,
    records: Sequence[Record],
    read: Callable[[Record], torch.Tensor],
    *,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> tuple[np.ndarray, list[Record], dict[str, str]]:
    """One frozen feature vector a record: the mean over its clips.

    Args:
        method: Gives `features`; put in evaluation mode for the time being.
        records: Videos, or stretches of them.
        read: Gives the clips of a record uint8 `[V, T, C, H, W]`, e.g. `video.snippets.spread_clips`.
        batch_size: Clips that go through the network at once.
        device: Where the network is to work.
        progress: Called after each record.

    Returns:
        Features float32 `[S, D]`, the `S` records that could be read, and why the others could not, by id.
    """
    unreadable: dict[str, str] = {}
    vectors: list[tuple[int, np.ndarray]] = []  # one a clip
    was_training = method.training
    method.to(device).eval()
    try:
        with torch.inference_mode():
            for batch in _batches(_clips(records, read, unreadable, progress), batch_size):
                stacked = torch.stack([clip for _, clip in batch]).to(device)  # [B, T, C, H, W]
                vectors += zip(
                    (number for number, _ in batch), method.features(stacked).double().cpu().numpy(), strict=True
                )
    finally:
        method.train(was_training)
    if not vectors:
        raise ValueError(_none_read(records, unreadable))
    numbers, places = np.unique([number for number, _ in vectors], return_inverse=True)
    values = np.zeros((len(numbers), len(vectors[0][1])))
    np.add.at(values, places, np.stack([vector for _, vector in vectors]))  # [S, D]
    values /= np.bincount(places)[:, None]
    return values.astype(np.float32), [records[number] for number in numbers], unreadable


def _clips(
    records: Sequence[Record],
    read: Callable[[Record], torch.Tensor],
    unreadable: dict[str, str],
    progress: Progress | None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Each clip with the number of its record."""
    for number, record in enumerate(records):
        try:
            yield from [(number, clip) for clip in read(record)]
        except VideoError as error:
            unreadable[record.id or record.path] = f"{error.reason}: {error.detail}"
        if progress is not None:
            progress(Status("encode", number + 1, len(records), None, None))


def _batches(clips: Iterator[tuple[int, torch.Tensor]], size: int) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """Clips of equal shape together, in their order."""
    batch: list[tuple[int, torch.Tensor]] = []
    for number, clip in clips:
        if batch and (len(batch) == size or batch[0][1].shape != clip.shape):
            yield batch
            batch = []
        batch.append((number, clip))
    if batch:
        yield batch


def _none_read(records: Sequence[Record], unreadable: dict[str, str]) -> str:
    first = "".join(f", for example {name}: {reason}" for name, reason in list(unreadable.items())[:1])
    return f"none of the {len(records)} records can be read{first}"


def classify(method: Method, records: Sequence[Record], *, progress: Progress | None = None) -> Recognition:
    """How often a classifier is right about labelled records.

    Args:
        method: Its `predict(record)` gives `Labels` of all its classes, and `config.classes` names them.
        records: Of one class each.
        progress: Called after each record.

    Raises:
        ValueError: No record can be read, one has not exactly one class, or a class that the classifier does not know.
    """
    classes = tuple(method.config.classes)
    places = {name: number for number, name in enumerate(classes)}
    strange = sorted({label_of(record) for record in records} - set(classes))
    if strange:
        raise ValueError(f"class {strange[0]!r} is not among those of the classifier: {', '.join(classes)}")
    read, scores, unreadable = [], [], {}
    for number, record in enumerate(records):
        try:
            told: Labels = method.predict(record)
            read.append(record)
            scores.append(dict(zip(told.names, told.scores, strict=True)))
        except VideoError as error:
            unreadable[record.id or record.path] = f"{error.reason}: {error.detail}"
        if progress is not None:
            progress(Status("classify", number + 1, len(records), None, None))
    if not read:
        raise ValueError(_none_read(records, unreadable))
    table = np.array([[row[name] for name in classes] for row in scores])
    truth = np.array([places[label_of(record)] for record in read])
    protocol = f"Predictions of the classifier on {len(read)} samples. {method.protocol} Interval: Wilson, 95%."
    interval = wilson_interval(int((table.argmax(1) == truth).sum()), len(truth))
    ids = [record.id or record.path for record in read]
    return summary(protocol, classes, truth, table, interval, ids=ids, unreadable=unreadable)


def report(result: Recognition, title: str, facts: dict[str, Any]) -> Report:
    """A result as a report: the figures, each class, what was taken for what, and what could not be read."""
    shares = [
        ("top-1", result.top1),
        ("mean over classes", result.mean_class),
        ("always the largest class", result.majority),
    ]
    shares += [("top-5", result.top5)] if result.top5 is not None else []
    told = f"{100 * result.top1:.1f} % of {result.num_samples} right (95% interval {_percent(result.interval)})."
    parts: list[str | Table] = [f"{told}\n\n{result.protocol}"]
    parts.append(Table("Accuracy", ("what", "percent"), tuple((name, round(100 * share, 1)) for name, share in shares)))
    parts.append(
        Table("Classes", ("class", "samples", "right", "percent", "most taken for"), tuple(_class_rows(result)))
    )
    if len(result.classes) <= MOST_COLUMNS:
        rows = tuple((name, *row) for name, row in zip(result.classes, result.confusion, strict=True))
        caption = "Row the true class, column the told one."
        parts.append(Table("Confusion", ("", *result.classes), rows, caption))
    if result.folds:
        rows = tuple((fold.name, fold.num_samples, round(100 * fold.accuracy, 1)) for fold in result.folds)
        parts.append(Table("Folds", ("fold", "samples", "percent"), rows))
    if result.unreadable:
        parts.append(Table("Not read", ("record", "reason"), tuple(sorted(result.unreadable.items()))))
    wrong = tuple((name, true, told, round(score, 3)) for name, true, told, score in result.predictions if true != told)
    parts.append(Table("Told wrong", ("record", "class", "told", "its score"), wrong[:MOST_ROWS]))
    return Report(title, tuple(parts), facts)


def _class_rows(result: Recognition) -> list[tuple[Any, ...]]:
    rows = []
    for number, (name, counts) in enumerate(zip(result.classes, result.confusion, strict=True)):
        total, right = sum(counts), counts[number]
        others = [0 if place == number else count for place, count in enumerate(counts)]
        worst = result.classes[others.index(max(others))] if any(others) else ""
        rows.append((name, total, right, round(100 * right / total, 1) if total else None, worst))
    return rows


def _percent(interval: tuple[float, float]) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in interval)
