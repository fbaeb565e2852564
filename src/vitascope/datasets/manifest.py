"""Manifests: a CSV or JSONL file with one video, or one stretch of a video, a row."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitascope.datasets.paths import confined
from vitascope.structures import Record

COLUMNS = ("video", "labels", "start", "end", "split")


def read_manifest(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[Record]:
    """Reads `video,labels[,start,end,split]` from CSV with a header, or the same keys from JSONL.

    `video` is a relative path below `root`; `labels` are separated by `|` or `;` in CSV and a list in JSONL, and may be
    empty; `start` and `end` are in seconds and may be empty. A video that is not there is kept: reading it
    fails, with its reason. Bytes that are not UTF-8 stay as they are, so that any file name can be listed.

    Args:
        path: A file that ends in `.csv` or `.jsonl`.
        root: The folder that holds the videos; by default the manifest's own.

    Raises:
        ValueError: The file or a row is not as said; the text names file, line, value and what is allowed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "manifest.csv")
        ...     _ = file.write_text("video,labels,start,end\\na.mp4,jump|run,1.5,4\\n")
        ...     record = read_manifest(file)[0]
        >>> record.id, record.labels, record.start_seconds, record.end_seconds
        ('a.mp4@1.5-4', ('jump', 'run'), 1.5, 4.0)
    """
    path = Path(path)
    root = path.parent if root is None else root
    records: list[Record] = []
    lines: dict[str, int] = {}
    for line, row in read_rows(path):
        record = _record(row, root, f"{path}, line {line}", lines)
        lines[record.id] = line
        records.append(record)
    return records


def read_rows(path: Path, columns: tuple[str, ...] = COLUMNS) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a CSV file with a header or of a JSONL file, with their line numbers, by the names of their columns.

    Of CSV, `labels` come as a list and all else as text, or None where a value other than `video`, `split` is empty.

    Raises:
        ValueError: The name ends in neither .csv nor .jsonl, the file cannot be read, or has columns beyond `columns`.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} must end in .csv or .jsonl")
    return readers[path.suffix.lower()](path, columns)


def read_text(path: Path) -> str:
    """A list's text, with bytes that are not UTF-8 as they are, and without a byte order mark.

    Raises:
        ValueError: The file cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; give a list of videos") from error


def read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file that are not empty, with the number of the line on which each ends.

    Raises:
        ValueError: The file cannot be read, or a row is not CSV.
    """
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for row in rows:
            if row:
                yield rows.line_num, row
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {rows.line_num}: not CSV ({error}); quote values with commas or quotes"
        ) from None


def _csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = read_csv(path)
    line, header = next(rows, (1, []))
    header = [name.strip() for name in header]
    _check_keys(header, columns, f"{path}, line {line}")
    if len(set(header)) < len(header):
        raise ValueError(f"{path}, line {line}: the header ({','.join(header)}) names a column twice")
    for line, values in rows:
        if len(values) != len(header):
            raise ValueError(f"{path}, line {line}: {len(values)} values, but the header has {len(header)} columns")
        row: dict[str, Any] = dict(zip(header, values, strict=True))
        row["labels"] = [label.strip() for label in re.split(r"[|;]", row.get("labels", "")) if label.strip()]
        plain = [key for key in columns if key not in ("video", "labels", "split")]
        yield line, row | {key: row.get(key, "").strip() or None for key in plain}


def _json_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(re.split(r"\r?\n", read_text(path)), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {line}: not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {line}: {text[:40]} is not an object with the keys {', '.join(columns)}")
        _check_keys(list(row), columns, f"{path}, line {line}")
        yield line, row


def _check_keys(keys: list[str], columns: tuple[str, ...], where: str) -> None:
    unknown = [key for key in keys if key not in columns]
    if unknown or "video" not in keys:
        fault = f"unknown column {unknown[0]!r}" if unknown else "no column 'video'"
        raise ValueError(f"{where}: {fault}; the columns are {', '.join(columns)}, and all but video may be left out")


def _record(row: dict[str, Any], root: str | os.PathLike[str], where: str, lines: dict[str, int]) -> Record:
    video, labels, split = row["video"], row.get("labels", []), row.get("split", "")
    check_texts(row, where)
    path = confined(video, root, where)
    start, end = (number_of(row.get(key), key, where) for key in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"{where}: end ({end}) must be > start ({start or 0.0})")
    name = video
    if start is not None or end is not None:
        name = f"{video}@{start or 0.0:.12g}-{'' if end is None else f'{end:.12g}'}"  # one id for each stretch
    if name in lines:
        raise ValueError(f"{where}: video ({name!r}) is in line {lines[name]} already; list each stretch once")
    return Record(path, name, tuple(labels), start, end, split.strip())


def check_texts(row: dict[str, Any], where: str) -> None:
    """Check that `video` and `split` of a row are texts and `labels` is a list of them.

    Raises:
        ValueError: One is not; the message begins with `where`.
    """
    video, labels, split = row["video"], row.get("labels", []), row.get("split", "")
    if not isinstance(video, str) or not isinstance(split, str):
        raise ValueError(f"{where}: video ({video!r}) and split ({split!r}) must be text")
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise ValueError(f"{where}: labels ({labels!r}) must be a list of texts, none of them empty")


def number_of(value: Any, key: str, where: str, unit: str = "seconds") -> float | None:
    """A number >= 0, or None where none is given.

    Raises:
        ValueError: It is anything else; the message begins with `where`.
    """
    if value is None:
        return None
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{where}: {key} ({value!r}) must be {unit} >= 0, or left out")
    return number
