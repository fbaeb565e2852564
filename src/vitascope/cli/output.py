"""What the verbs print: JSON for scripts on standard output, lines for people, progress on standard error."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Dataclasses, paths and numpy numbers as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.item() if hasattr(value, "item") else value


def emit(as_json: bool, result: Any, lines: Callable[[], list[str]]) -> None:
    """Prints `result` as one JSON document, or the lines that tell it to a person."""
    print(json.dumps(plain(result), indent=2, ensure_ascii=False) if as_json else "\n".join(lines()))


def printable(name: str) -> str:
    """A file name that is safe on a terminal: control and undecodable characters escaped.

    Example:
        >>> printable("two\\nlines.mp4")
        'two\\\\nlines.mp4'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)


def clock(seconds: float, decimals: int = 1) -> str:
    """Seconds as a person reads them, rounded down.

    Example:
        >>> clock(5.25), clock(5.25, decimals=2), clock(3725.5)
        ('0:05.2', '0:05.25', '1:02:05.5')
    """
    minutes, rest = divmod(max(seconds, 0.0), 60)
    rest = int(rest * 10**decimals + 1e-6) / 10**decimals
    hours, minutes = divmod(int(minutes), 60)
    told = f"{rest:0{3 + decimals}.{decimals}f}"
    return f"{hours}:{minutes:02d}:{told}" if hours else f"{minutes}:{told}"


def say(text: str) -> None:
    """A line about the work itself, on standard error."""
    print(text, file=sys.stderr, flush=True)
