"""Tags: what an owner says of whole videos, and perhaps of stretches of them, as CSV or JSONL with a row for each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from vitascope.datasets.manifest import COLUMNS, check_texts, number_of, read_rows
from vitascope.structures import NOTHING, Annotation, Segments

TAG_COLUMNS = (*COLUMNS, "duration", "fps")


def read_tags(path: str | os.PathLike[str]) -> list[Annotation]:
    """Reads `video,labels[,start,end,split,duration,fps]` from CSV with a header, or the same keys from JSONL.

    Labels are separated as in a manifest: by `|` or `;` in CSV, a list in JSONL. A video without labels is one that
    nobody has tagged yet: it is not learned from, and localized all the same; one with the label `nothing` shows none
    of the actions. A row with `start` and `end`, in seconds,
    tells when its labels happen. Rows of one video belong together; it has segments as soon as one of them has times,
    and none, but known to be none, if it is `nothing` in a list that has times anywhere.

    Args:
        path: A file that ends in `.csv` or `.jsonl`; `video` is the id of the annotation, as it stands.

    Raises:
        ValueError: The file or a row is not as said, or there is no row; the text names file, line, value and what is
            allowed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "tags.csv")
        ...     _ = file.write_text("video,labels,duration\\na.mp4,jump|run,12.5\\nb.mp4,,8\\n")
        ...     [(known.id, known.labels, known.duration_seconds) for known in read_tags(file)]
        [('a.mp4', ('jump', 'run'), 12.5), ('b.mp4', (), 8.0)]
    """
    path = Path(path)
    rows: dict[str, dict[str, Any]] = {}
    for line, row in read_rows(path, TAG_COLUMNS):
        where = f"{path}, line {line}"
        check_texts(row, where)
        known = rows.setdefault(row["video"], {"labels": [], "times": [], "names": []})
        known["labels"] += row.get("labels", [])
        _add_segments(known, row, where)
        if NOTHING in known["labels"] and (known["times"] or set(known["labels"]) != {NOTHING}):
            raise ValueError(
                f"{where}: labels ({'|'.join(known['labels'])}) of {row['video']!r}: {NOTHING} stands alone and without "
                "times; take it away, or what else is said of this video"
            )
        for key, value in (
            ("split", row.get("split", "").strip() or None),
            ("duration", number_of(row.get("duration"), "duration", where)),
            ("fps", number_of(row.get("fps"), "fps", where, "frames a second")),
        ):
            if value is not None and known.setdefault(key, value) != value:
                raise ValueError(f"{where}: {key} ({value}) is {known[key]} in an earlier row of {row['video']!r}")
    if not rows:
        raise ValueError(f"{path} lists no video; write a line for each below the header")
    has_times = any(known["times"] for known in rows.values())
    return [_annotation(name, known, has_times) for name, known in rows.items()]


def _add_segments(known: dict[str, Any], row: dict[str, Any], where: str) -> None:
    start, end = (number_of(row.get(key), key, where) for key in ("start", "end"))
    if start is None and end is None:
        return
    if start is None or end is None or end <= start or not row.get("labels"):
        raise ValueError(f"{where}: start ({start}), end ({end}): give both, end > start, and a label, or neither")
    known["times"] += [(start, end)] * len(row["labels"])
    known["names"] += row["labels"]


def _annotation(name: str, known: dict[str, Any], has_times: bool) -> Annotation:
    labels = tuple(dict.fromkeys(known["labels"]))
    is_told = bool(known["times"]) or (has_times and labels == (NOTHING,))
    times = np.array(known["times"], np.float64).reshape(-1, 2)
    segments = Segments(times, tuple(known["names"])) if is_told else None
    return Annotation(name, labels, segments, known.get("split", ""), known.get("duration"), known.get("fps"))
