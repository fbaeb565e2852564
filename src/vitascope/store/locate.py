"""Where the library of some data is: a folder beside it, `recordings.vitascope` for `recordings/`."""

from __future__ import annotations

import os
from pathlib import Path

from vitascope.store.schema import LibraryError

SUFFIX = ".vitascope"


def library_for(data: str | os.PathLike) -> Path:
    """Return the folder of the library of `data`, whether it is there or not.

    Example:
        >>> library_for("/films/recordings/").name
        'recordings.vitascope'
    """
    path = Path(os.path.abspath(data))
    return path.with_name(path.name + SUFFIX)


def find_library(library: str | os.PathLike | None = None, near: str | os.PathLike | None = None) -> Path:
    """Return the library's folder: as given; else that of `near` or of a folder above it; else the only one here.

    Raises:
        LibraryError: None is given and none, or more than one, is found.
    """
    if library is not None:
        return Path(library)
    above = [] if near is None else [Path(os.path.abspath(near)), *Path(os.path.abspath(near)).parents]
    found = [library_for(path) for path in above if path.name and library_for(path).is_dir()][:1]
    found = found or sorted(path for path in Path.cwd().glob("*" + SUFFIX) if path.is_dir())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise LibraryError(f"{len(found)} libraries ({names}) found here; name the one that is meant with --library")
    raise LibraryError("no library found here; name one with --library, or make one with `vitascope scan DIR`")
