"""UCF101: the split lists `trainlist01.txt` and `testlist01.txt`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vitascope.datasets.manifest import read_text
from vitascope.datasets.paths import confined
from vitascope.structures import Record


def read_ucf101(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[Record]:
    """Reads lines `Class/video.avi 1` (train lists, with the class's number) or `Class/video.avi` (test lists).

    The label is the class folder. The split is "train" or "test" when the list's name starts so.

    Args:
        path: The list.
        root: The folder of the class folders; by default the list's own.

    Raises:
        ValueError: A line is not as said, or one class has two numbers; the text names file, line and value.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "trainlist01.txt")
        ...     _ = file.write_text("Archery/v_Archery_g08_c01.avi 3\\n")
        ...     record = read_ucf101(file)[0]
        >>> record.id, record.labels, record.split
        ('Archery/v_Archery_g08_c01.avi', ('Archery',), 'train')
    """
    path = Path(path)
    root = path.parent if root is None else root
    split = next((name for name in ("train", "test") if path.name.lower().startswith(name)), "")
    numbers: dict[str, str] = {}
    records = []
    for line, text in enumerate(re.split(r"\r?\n", read_text(path)), 1):
        if not text.strip():
            continue
        where = f"{path}, line {line}"
        found = re.fullmatch(r"(([^/]+)/[^/]+\.\w+)(?:[ \t]+(\d+))?[ \t]*", text)
        if found is None:
            raise ValueError(f"{where}: {text!r} must be Class/video.avi, and in train lists a class number after it")
        name, label, number = found.groups()
        if number is not None and numbers.setdefault(label, number) != number:
            raise ValueError(f"{where}: class {label} has the number {number}, but {numbers[label]} before")
        records.append(Record(confined(name, root, where), name, (label,), split=split))
    return records
