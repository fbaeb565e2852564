"""What only the bytes of a Matroska file tell: whether it broke off."""

from __future__ import annotations

import os
from typing import BinaryIO

_EBML_HEADER, _SEGMENT = 0x1A45DFA3, 0x18538067


def is_cut_off(path: str | os.PathLike[str]) -> bool:
    """Whether the segment, which holds everything, declares more bytes than the file has.

    A recording that was never finished declares no size (RFC 8794, section 6.2); of it nobody can tell.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        for expected in (_EBML_HEADER, _SEGMENT):
            if _number(file, keep_marker=True) != expected:
                return False
            start = _number(file, keep_marker=False)
            if start is None:
                return False
            file.seek(start, os.SEEK_CUR)
        return file.tell() > os.path.getsize(path)


def declared_seconds(duration_tag: str | None, container_microseconds: int | None) -> float | None:
    """How long a stream is by its `DURATION` tag, else how long the whole file says it is; None if neither tells.

    Example:
        >>> declared_seconds("00:01:03.500000000", None), declared_seconds(None, 2_000_000)
        (63.5, 2.0)
    """
    try:
        hours, minutes, seconds = (duration_tag or "").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None if container_microseconds is None else container_microseconds / 1e6


def _number(file: BinaryIO, keep_marker: bool) -> int | None:
    """An EBML number of 1 to 8 bytes: an element's name, with the bit that marks its length, or a size, without.

    None where the file ends, or for a size that is not known (all its bits are set).
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    data = first + file.read(length - 1)
    if len(data) < length:
        return None
    value = int.from_bytes(data, "big")
    if keep_marker:
        return value
    most = (1 << 7 * length) - 1
    return None if value & most == most else value & most
