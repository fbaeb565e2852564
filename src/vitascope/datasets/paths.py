"""Which file a list means: a path below one folder, and nothing outside it."""

from __future__ import annotations

import os
import re
from pathlib import Path


def confined(name: str, root: str | os.PathLike[str], where: str) -> str:
    """The path of a listed video, `root/name`; it need not exist.

    Args:
        name: As the list has it: relative, below `root`.
        root: The folder that holds the data.
        where: The list and the line, for the error.

    Raises:
        ValueError: The name is empty, absolute, a URL, has `..` or a null byte, or passes a link that leaves `root`.

    Example:
        >>> confined("jump/a.mp4", "data", "list.csv, line 2")
        'data/jump/a.mp4'
        >>> confined("../a.mp4", "data", "list.csv, line 2")
        Traceback (most recent call last):
        ValueError: list.csv, line 2: video ('../a.mp4') has '..'; give a relative path below data
    """
    fault = _fault(name)
    if fault is None and _leaves(os.path.join(root, name), os.fspath(root)):
        fault = "passes a link that leaves the folder"
    if fault is not None:
        raise ValueError(f"{where}: video ({name!r}) {fault}; give a relative path below {root}")
    return str(Path(root) / name)


def _fault(name: str) -> str | None:
    if not name.strip():
        return "is empty"
    if "\0" in name:
        return "has a null byte"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
        return "is a URL"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return "is absolute"
    if ".." in re.split(r"[\\/]", name):
        return "has '..'"
    return None


def _leaves(path: str, root: str) -> bool:
    """Whether a path below `root` ends outside it, which only links can do."""
    home = os.path.realpath(root)
    return os.path.commonpath([home, os.path.realpath(path)]) != home
