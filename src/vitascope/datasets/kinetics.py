"""Kinetics: the official tables, and the lists of paths and class numbers that video models are trained from."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vitascope.datasets.folder import EXTENSIONS
from vitascope.datasets.manifest import COLUMNS, read_csv, read_text
from vitascope.datasets.paths import confined
from vitascope.structures import Record

HEADER = ("label", "youtube_id", "time_start", "time_end", "split")


def read_kinetics(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[Record]:
    """Reads the official table `label,youtube_id,time_start,time_end,split`.

    Clips lie where the usual download tools put them, `root/<label>/<youtube_id>_<start>_<end>.mp4` with six digits
    a time. The table of the test split has no labels; its clips lie in `root` itself. Columns may be in any order,
    and others (`is_cc`) are left out.

    Args:
        path: The table.
        root: The folder of the clips; by default the table's own.

    Raises:
        ValueError: The table is not as said; the text names file, line, value and what is allowed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "validate.csv")
        ...     _ = file.write_text("label,youtube_id,time_start,time_end,split\\nabseiling,0wR5jVB-WPk,417,427,val\\n")
        ...     read_kinetics(file)[0].id
        'abseiling/0wR5jVB-WPk_000417_000427.mp4'
    """
    path = Path(path)
    root = path.parent if root is None else root
    rows = read_csv(path)
    line, header = next(rows, (1, []))
    needed = [name for name in HEADER if name not in ("label", "split")]
    if not set(needed) <= set(header):
        raise ValueError(
            f"{path}, line {line}: the header ({','.join(header)}) must have the columns {', '.join(HEADER)}"
        )
    records = []
    for line, values in rows:
        where = f"{path}, line {line}"
        if len(values) != len(header):
            raise ValueError(f"{where}: {len(values)} values, but the header has {len(header)} columns")
        row = dict(zip(header, values, strict=True))
        name = _clip_name(row, where)
        labels = (row["label"],) if row.get("label") else ()
        split = row.get("split", "")
        records.append(Record(confined(name, root, where), name, labels, split=split))
    return records


def read_path_list(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[Record]:
    """Reads lines `path label`, with a space, tab or comma between, as VideoMAE's lists are; the last word is a label.

    Paths may hold spaces. The label is kept as it is written, mostly a class number. A path that has none of the
    extensions of videos must be that of a file, so that the header and the rows of a table are not taken for videos.

    Args:
        path: The list.
        root: The folder that the paths start from; by default the list's own.

    Raises:
        ValueError: A line is not as said; the text names file, line, value and what is allowed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "train.csv")
        ...     _ = file.write_text("videos/my clip.mp4 17\\n")
        ...     record = read_path_list(file)[0]
        >>> record.id, record.labels
        ('videos/my clip.mp4', ('17',))
    """
    path = Path(path)
    root = path.parent if root is None else root
    records = []
    for line, text in enumerate(re.split(r"\r?\n", read_text(path)), 1):
        if not text.strip():
            continue
        found = re.fullmatch(r"(.+?)[ \t,]+([^\s,]+)\s*", text)
        name, label = found.groups() if found else ("", "")
        video = confined(name, root, f"{path}, line {line}") if found else ""
        if Path(video).suffix.lower() not in EXTENSIONS and not os.path.isfile(video):
            raise ValueError(
                f"{path}, line {line}: {text!r} must be a path, a space and a label, where the path is of a video; "
                f"a table needs a header with the columns {', '.join(COLUMNS)}, of which only video must be there"
            )
        records.append(Record(video, name, (label,)))
    return records


def _clip_name(row: dict[str, str], where: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{11}", row["youtube_id"]):
        raise ValueError(f"{where}: youtube_id ({row['youtube_id']!r}) must be 11 letters, digits, '-' or '_'")
    times = []
    for key in ("time_start", "time_end"):
        if not re.fullmatch(r"\d{1,6}(\.0*)?", row[key]):
            raise ValueError(f"{where}: {key} ({row[key]!r}) must be whole seconds >= 0, of at most six digits")
        times.append(int(float(row[key])))
    if times[1] <= times[0]:
        raise ValueError(f"{where}: time_end ({times[1]}) must be > time_start ({times[0]})")
    clip = f"{row['youtube_id']}_{times[0]:06d}_{times[1]:06d}.mp4"
    return f"{row['label']}/{clip}" if row.get("label") else clip
