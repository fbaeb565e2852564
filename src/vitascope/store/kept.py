"""What was computed of videos once, on disk: a file for each content and method, there whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vitascope.store.atomic import WriteError, sync
from vitascope.store.catalogue import Catalogue, Entry

_METHOD = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class KeptFiles:
    """Files that are kept as `<method>/<content hash><suffix>` below a folder; what is in them is the video room's affair.

    A file is named by the content that it was made of. So it stays when its video moves, two copies of a video share it,
    and a video that changed has none; what no row of the catalogue refers to any more is stale.

    Args:
        folder: Holds them.
        catalogue: Knows the videos.
        suffix: Of the files' names, with its dot.
    """

    def __init__(self, folder: Path, catalogue: Catalogue, suffix: str) -> None:
        self.folder, self._catalogue, self._suffix = folder, catalogue, suffix

    def path(self, entry: Entry, method: str) -> Path:
        """Return where what is made of a file belongs.

        Raises:
            ValueError: The method cannot name a folder.
        """
        return self._of(method) / f"{entry.content_hash}{self._suffix}"

    def files(self, method: str) -> dict[str, str]:
        """Return the kept file of every video that has one, by the video's absolute path; without missing videos."""
        there = self._hashes(method)
        return {e.path: str(self.path(e, method)) for e in self._catalogue.entries() if e.content_hash in there}

    def make_folder(self, method: str) -> None:
        """Make the folder of a method.

        Raises:
            WriteError: The system refuses.
        """
        folder = self._of(method)
        try:
            folder.mkdir(exist_ok=True)
            sync(self.folder)
        except OSError as error:
            raise WriteError(error.errno, f"cannot make {folder}: {error.strerror}", error.filename) from error

    def remove_stale(self) -> list[Path]:
        """Remove the files of contents that no video of the catalogue has, not even a missing one."""
        known = {entry.content_hash for entry in self._catalogue.entries(include_missing=True)}
        stale = [
            folder / f"{name}{self._suffix}" for folder in self.folders() for name in self._hashes(folder.name) - known
        ]
        for path in stale:
            path.unlink(missing_ok=True)
        return sorted(stale)

    def folders(self) -> list[Path]:
        """Return the folders of all methods."""
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and _METHOD.fullmatch(path.name))

    def _of(self, method: str) -> Path:
        if not _METHOD.fullmatch(method):
            raise ValueError(f"method ({method!r}) must be small letters, digits and '-', such as dis-medium")
        return self.folder / method

    def _hashes(self, method: str) -> set[str]:
        folder = self._of(method)
        names = os.listdir(folder) if folder.is_dir() else []
        return {
            name[: -len(self._suffix)] for name in names if name.endswith(self._suffix) and not name.startswith(".")
        }
