"""HMDB51: the split files `<class>_test_split<1|2|3>.txt`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vitascope.datasets.manifest import read_text
from vitascope.datasets.paths import confined
from vitascope.structures import Record

SPLITS = {"1": "train", "2": "test", "0": "unused"}
FILE_NAME = re.compile(r"(.+)_test_split([123])\.txt")


def read_hmdb51(
    path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None, split: int = 1
) -> list[Record]:
    """Reads one split file, or all those of split `split` in a folder, classes in alphabetical order.

    Lines are `video.avi 1`, where 1 is train, 2 is test and 0 is in neither ("unused"). Videos lie in
    `root/<class>/`; the label is the class, from the file's name.

    Args:
        path: A split file, or the folder of them.
        root: The folder of the class folders; by default the folder of the split files.
        split: Which of the three, when `path` is a folder.

    Raises:
        ValueError: There is no such file, or a line is not as said; the text names file, line and value.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "wave_test_split1.txt")
        ...     _ = file.write_text("a_wave_f_cm_np1_ba_med_0.avi 2 \\n")
        ...     record = read_hmdb51(file)[0]
        >>> record.id, record.labels, record.split
        ('wave/a_wave_f_cm_np1_ba_med_0.avi', ('wave',), 'test')
    """
    path = Path(path)
    if split not in (1, 2, 3):
        raise ValueError(f"split ({split}) must be 1, 2 or 3")
    files = [path]
    if path.is_dir():
        files = sorted(path.glob(f"*_test_split{split}.txt"))
        if not files:
            raise ValueError(
                f"{path} holds no file named <class>_test_split{split}.txt; give the folder of split files"
            )
    records = []
    for file in files:
        records += _read_file(file, file.parent if root is None else root)
    return records


def _read_file(path: Path, root: str | os.PathLike[str]) -> list[Record]:
    named = FILE_NAME.fullmatch(path.name)
    if named is None:
        raise ValueError(f"{path} must be named <class>_test_split<1, 2 or 3>.txt; the class is taken from the name")
    label, records = named[1], []
    for line, text in enumerate(re.split(r"\r?\n", read_text(path)), 1):
        if not text.strip():
            continue
        where = f"{path}, line {line}"
        found = re.fullmatch(r"(\S.*?)[ \t]+([012])[ \t]*", text)
        if found is None:
            raise ValueError(f"{where}: {text!r} must be a file name and 0 (unused), 1 (train) or 2 (test)")
        name = f"{label}/{found[1]}"
        records.append(Record(confined(name, root, where), name, (label,), split=SPLITS[found[2]]))
    return records
