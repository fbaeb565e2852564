"""What a number follows from besides the code: the machine's shape and the versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path


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


def commit() -> str:
    """Return the commit of the source that is running, with what was changed since; the version if it is no checkout.

    Example:
        >>> len(commit()) > 0
        True
    """
    told = []
    for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no", ".")):
        try:
            done = subprocess.run(["git", *words], cwd=Path(__file__).parents[1], capture_output=True, text=True)
        except FileNotFoundError:
            done = None
        if done is None or done.returncode:
            return f"none, version {importlib.metadata.version('vitascope')}"
        told.append(done.stdout.strip())
    return told[0] + (" with changes" if told[1] else "")
