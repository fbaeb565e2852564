"""A folder of any nesting -> its videos."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from vitascope.structures import Record

EXTENSIONS = (
    ".3g2",
    ".3gp",
    ".asf",
    ".avi",
    ".divx",
    ".f4v",
    ".flv",
    ".m2ts",
    ".m2v",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".mxf",
    ".ogm",
    ".ogv",
    ".ts",
    ".vob",
    ".webm",
    ".wmv",
    ".y4m",
)


def find_videos(root: str | os.PathLike[str]) -> list[Record]:
    """Every video file below a folder, without labels, in the order of the bytes of their relative paths.

    A video is told by its extension (`EXTENSIONS`, in either case); whether it can be read is for the reader to say.
    Hidden files and folders are left out, and with them the library's own folder `.vitascope`. A link to a
    file inside `root` counts; one that leaves `root` is refused with a warning; links to folders inside are not
    followed, as their videos are found in their own place.

    Raises:
        ValueError: `root` is not a folder, a folder below it cannot be read, or no video is found.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "a").mkdir()
        ...     for name in ("a/two.MP4", "one.mkv", "notes.txt", ".hidden.mp4"):
        ...         Path(root, name).touch()
        ...     [record.id for record in find_videos(root)]
        ['a/two.MP4', 'one.mkv']
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        fault = "must be a folder" if os.path.exists(root) else "does not exist"
        raise ValueError(f"{root} {fault}; give the folder that holds the videos")
    names = sorted(_walk(root, os.path.realpath(root)), key=os.fsencode)
    if not names:
        raise ValueError(f"no video found in {root}; files that end in {', '.join(EXTENSIONS)} are looked for")
    return [Record(path=str(Path(root) / name), id=name) for name in names]


def folder_of_classes(root: str | os.PathLike[str]) -> list[Record]:
    """The videos of `find_videos`, each labelled with the first folder on its way: `root/jump/a.mp4` is a "jump".

    Raises:
        ValueError: As `find_videos`, or a video lies in no class folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "jump/2024").mkdir(parents=True)
        ...     Path(root, "jump/2024/a.mp4").touch()
        ...     folder_of_classes(root)[0].labels
        ('jump',)
    """
    records = []
    for record in find_videos(root):
        label, _, rest = record.id.partition("/")
        if not rest:
            raise ValueError(f"{record.path} lies in no class folder; move it into the folder of its class")
        records.append(Record(path=record.path, id=record.id, labels=(label,)))
    return records


def _walk(root: str, home: str) -> Iterator[str]:
    """Relative paths, with `/`, of the videos below `root`; a loop, so that no nesting is too deep."""
    folders = [""]
    while folders:
        below = folders.pop()
        try:
            with os.scandir(os.path.join(root, below)) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
        except OSError as error:
            raise ValueError(f"folder ({os.path.join(root, below)}) cannot be read: {error.strerror}") from error
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.is_symlink() and not _stays(entry.path, home):
                warnings.warn(f"{entry.path} is a link that leaves {root}; it is not followed", stacklevel=4)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS and not entry.is_dir():
                yield name


def _stays(path: str, home: str) -> bool:
    return os.path.commonpath([home, os.path.realpath(path)]) == home
