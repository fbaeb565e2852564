"""Files and folders that are there whole or not at all: written under a temporary name, synced, renamed.

A reader never meets half a file, and a process killed at any point leaves the old content or the new, plus at most a
stray temporary name, which `remove_stray` takes away.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_HOST = hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
_LAUNCH = secrets.token_hex(4)  # tells this process from a dead one that had the same process id
_TEMP = re.compile(r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<launch>[0-9a-f]{8})-\w+\.(?P<kind>tmp|old)")
_MOST_BYTES = 255  # of a name
_FOREIGN_SECONDS = 24 * 3600  # a temporary name of another machine is stray after a day
_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "the disk quota is used up; free some space and run it again",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOENT: "the folder does not exist; make it first",
}


class WriteError(OSError):
    """A file or folder could not be written; `errno` and `filename` are those of the system's error."""

    def __str__(self) -> str:
        return str(self.strerror)


def temp_name(path: str | os.PathLike, kind: str = "tmp") -> Path:
    """Return a fresh hidden name beside `path`, on the same file system, that tells which process made it."""
    path, (pid, _) = Path(path), _owner()
    end = f".{_HOST}-{pid}-{_LAUNCH}-{secrets.token_hex(4)}.{kind}"
    name = os.fsencode(path.name)
    # what is set aside keeps its name, by which it is put back
    is_long = kind == "tmp" and len(name) + len(end) + 1 > _MOST_BYTES
    return path.with_name(f".{hashlib.blake2b(name, digest_size=8).hexdigest() if is_long else path.name}{end}")


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name to write a file to; it becomes `path` when the block ends, and vanishes if it raises.

    Raises:
        WriteError: The system refuses (disk full, read-only, no such folder); nothing is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with writing(Path(folder) / "a.txt") as temp:
        ...         _ = temp.write_text("whole")
        ...     (Path(folder) / "a.txt").read_text()
        'whole'
    """
    path = Path(path)
    temp = temp_name(path)
    try:
        yield temp
        sync(temp)
        os.replace(temp, path)
        sync(path.parent)
    except BaseException as error:
        _remove(temp)
        if isinstance(error, OSError) and not isinstance(error, WriteError):
            raise _explained(error, path) from error
        raise


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        WriteError: The system refuses; an older file at `path` is untouched.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bytes(Path(folder) / "a.bin", b"12")
        ...     (Path(folder) / "a.bin").read_bytes()
        b'12'
    """
    with writing(path) as temp:
        temp.write_bytes(data)


def write_json(path: str | os.PathLike, obj: Any) -> None:
    """Write `obj` as indented JSON, whole or not at all.

    Raises:
        WriteError: The system refuses.
        TypeError: `obj` holds something that JSON does not know.
    """
    write_bytes(path, (json.dumps(obj, indent=2) + "\n").encode())


def replace_dir(temp_dir: str | os.PathLike, final_dir: str | os.PathLike) -> None:
    """Sync all files below `temp_dir` and rename it to `final_dir`, whose older content is removed.

    POSIX has no portable exchange of two folders: the older one is set aside first. A process killed between the two
    renames leaves it under its side name, from which `remove_stray` puts it back.

    Raises:
        WriteError: The system refuses; `temp_dir` is removed, an older `final_dir` is in its place.
    """
    temp_dir, final_dir = Path(temp_dir), Path(final_dir)
    aside = temp_name(final_dir, "old")
    try:
        for folder, _, files in os.walk(temp_dir):
            for file in files:
                sync(os.path.join(folder, file))
            sync(folder)
        if final_dir.exists():
            os.rename(final_dir, aside)
        os.rename(temp_dir, final_dir)
        sync(final_dir.parent)
    except OSError as error:
        if os.path.exists(aside) and not os.path.exists(final_dir):
            os.rename(aside, final_dir)
        _remove(temp_dir)
        raise _explained(error, final_dir) from error
    _remove(aside)


def remove_stray(folder: str | os.PathLike) -> list[Path]:
    """Remove what killed processes left directly in `folder`; put back a folder that was set aside and not replaced.

    Names of processes that live are left alone; names made on another machine are stray after a day.

    Returns:
        The stray names that were there.
    """
    stray = []
    for path in sorted(Path(folder).glob(".*")):
        match = _TEMP.fullmatch(path.name)
        if match is None or not _is_stray(path, match):
            continue
        final = path.with_name(match["name"])
        if match["kind"] == "old" and not final.exists():
            os.rename(path, final)
        else:
            _remove(path)
        stray.append(path)
    return stray


def sync(path: str | os.PathLike) -> None:
    """Have the system put a file's content, or a folder's list of names, on the disk."""
    if os.name != "posix" and os.path.isdir(path):  # elsewhere a folder cannot be opened
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _owner() -> tuple[int, str]:
    return os.getpid(), _LAUNCH


def _is_stray(path: Path, match: re.Match) -> bool:
    pid, launch = _owner()
    if match["host"] != _HOST:
        try:
            return time.time() - path.lstat().st_mtime > _FOREIGN_SECONDS
        except FileNotFoundError:
            return False
    if int(match["pid"]) == pid:
        return match["launch"] != launch
    try:
        os.kill(int(match["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # it lives, and belongs to someone else
        return False
    return False


def _remove(path: Path) -> None:
    if os.path.isdir(path) and not os.path.islink(path):  # unlike a Path's, these raise nothing for too long a name
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):  # on a read-only file system there is nothing that could be removed
        path.unlink(missing_ok=True)


def _explained(error: OSError, path: Path) -> WriteError:
    advice = _ADVICE.get(error.errno, error.strerror or str(error))
    return WriteError(error.errno or errno.EIO, f"cannot write {path}: {advice}", str(path))
