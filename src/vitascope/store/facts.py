"""What a number follows from besides the code: the machine's shape and the versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform


def machine() -> dict[str, str]:
    """Return the shape of this machine and the versions of what computes on it.

    Example:
        >>> sorted(machine())
        ['machine', 'versions']
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("vitascope", "torch", "av", "numpy"))
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "versions": f"Python {platform.python_version()}, {versions}",
    }
