"""A path of any kind -> records."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from vitascope.datasets.folder import find_videos, folder_of_classes
from vitascope.datasets.hmdb51 import FILE_NAME, read_hmdb51
from vitascope.datasets.kinetics import read_kinetics, read_path_list
from vitascope.datasets.manifest import read_manifest, read_text
from vitascope.datasets.masked import find_masked_videos, find_stills
from vitascope.datasets.ucf101 import read_ucf101
from vitascope.structures import Record


def load_data(paths: Mapping[str, str | os.PathLike[str]], labelled: bool = False) -> dict[str, list[Record]]:
    """The records of each data set that a method's stages name.

    | data set | read by |
    | --- | --- |
    | `stills` | `find_stills`: images with masks |
    | `videos` | `find_masked_videos`: videos with masks |
    | any other | `load_records`: videos; or `load_labelled`, of which those of a split "train" if there are some |

    Args:
        paths: By the name of the data set.
        labelled: Whether the method learns from labels.

    Raises:
        ValueError: A path holds none.
    """
    readers = {"stills": find_stills, "videos": find_masked_videos}
    default = _load_training if labelled else load_records
    records = {name: readers.get(name, default)(path) for name, path in paths.items()}
    for name, path in paths.items():
        if not records[name]:
            raise ValueError(f"no video in {path}; name a folder or a list that has some")
    return records


def load_records(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[Record]:
    """Reads a folder or a list by what it is.

    | path | read as |
    | --- | --- |
    | a folder | its videos, without labels (`find_videos`) |
    | `.jsonl` | a manifest |
    | `.csv` whose header has `youtube_id` | Kinetics' table |
    | `.csv` whose header has `video` or `labels` | a manifest |
    | any other `.csv` | lines `path label`; where the first holds no path of a video, it is refused |
    | `<class>_test_split<n>.txt` | HMDB51 |
    | `trainlist*.txt`, `testlist*.txt` | UCF101 |
    | any other `.txt` | lines `path label` |

    Args:
        path: A folder or a list.
        root: The folder that the paths of a list start from; by default the list's own.

    Raises:
        ValueError: There is no such path, it is of another kind, or the list has a fault, named with its line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "a.mp4").touch()
        ...     [record.id for record in load_records(folder)]
        ['a.mp4']
    """
    path = Path(path)
    if path.is_dir():
        if root is not None:
            raise ValueError(f"root ({root}) goes with a list, but {path} is a folder; leave root out")
        return find_videos(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist; give a folder, or a list that ends in .csv, .jsonl or .txt")
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".txt"):
        raise ValueError(f"{path} must be a folder, or a list that ends in .csv, .jsonl or .txt")
    return _reader(path, suffix)(path, root)


def load_labelled(path: str | os.PathLike[str]) -> list[Record]:
    """Reads records that have labels: as `load_records`, but a folder is one of classes, or of HMDB51's split files.

    | path | read as |
    | --- | --- |
    | a folder with files `<class>_test_split1.txt` | HMDB51, split 1 |
    | any other folder | `folder_of_classes`: `DIR/class/video.mp4` |

    Raises:
        ValueError: As `load_records`, or a record has no label.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "jump").mkdir()
        ...     Path(folder, "jump/a.mp4").touch()
        ...     load_labelled(folder)[0].labels
        ('jump',)
    """
    path = Path(path)
    if path.is_dir():
        is_hmdb51 = any(FILE_NAME.fullmatch(file.name) for file in path.glob("*_test_split1.txt"))
        records = read_hmdb51(path) if is_hmdb51 else folder_of_classes(path)
    else:
        records = load_records(path)
    bare = [record for record in records if not record.labels]
    if bare or not records:
        fault = (
            f"{len(bare)} of {len(records)} records have no label, the first is {bare[0].id}" if bare else "no video"
        )
        raise ValueError(f"{path}: {fault}; give a folder of class folders, or a list in which each video has a label")
    return records


def _load_training(path: str | os.PathLike[str]) -> list[Record]:
    records = load_labelled(path)
    return [record for record in records if record.split == "train"] or records


def _reader(path: Path, suffix: str) -> Callable[..., list[Record]]:
    if suffix == ".jsonl":
        return read_manifest
    first = read_text(path).partition("\n")[0].strip()
    header = [name.strip().strip('"') for name in first.split(",")]
    if suffix == ".csv" and "youtube_id" in header:
        return read_kinetics
    if suffix == ".csv" and {"video", "labels"} & set(header):
        return read_manifest
    if suffix == ".csv":
        return read_path_list
    if FILE_NAME.fullmatch(path.name):
        return read_hmdb51
    return read_ucf101 if path.name.lower().startswith(("trainlist", "testlist")) else read_path_list
