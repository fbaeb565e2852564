"""The library: one folder that holds everything learned about a collection of video, and opens after any crash."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vitascope.store.atomic import WriteError, remove_stray
from vitascope.store.catalogue import Catalogue
from vitascope.store.features import FeatureStore
from vitascope.store.kept import KeptFiles
from vitascope.store.locate import find_library
from vitascope.store.runs import Runs
from vitascope.store.schema import Database, LibraryError
from vitascope.store.vectors import Vectors
from vitascope.structures import Record, SearchSummary

if TYPE_CHECKING:
    import numpy as np

FOLDERS = ("features", "motion", "shots", "runs", "index", "reports")


class Library:
    """A folder with `library.sqlite`, `features/`, `runs/`, `reports/`, and `motion/`, `shots/` and `index/`, which may be removed.

    Any number of processes may have it open. What was committed is there after `kill -9`.

    Args:
        path: The library's folder.
        data_root: Where the videos lie; only looked at when the library is made. Paths below it are kept relative to
            it. It is itself kept relative to the library if the two share a parent, so that both can be moved
            together. By default the folder that holds the library.
        create: Make the library if there is none.

    Raises:
        LibraryError: There is no library at `path`, it is damaged, or a newer vitascope made it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Library(folder + "/library", create=True) as library:
        ...     library.catalogue.counts()
        {'done': 0, 'damaged': 0, 'refused': 0, 'missing': 0}
    """

    def __init__(
        self, path: str | os.PathLike, *, data_root: str | os.PathLike | None = None, create: bool = False
    ) -> None:
        self.path = Path(os.path.abspath(path))
        if not create and not (self.path / "library.sqlite").is_file():
            raise LibraryError(f"no library at {self.path}; make one with `vitascope scan DIR --library {self.path}`")
        for folder in FOLDERS:
            self._make(folder)
        self._database = Database(self.path / "library.sqlite")
        self.data_root = self._root(data_root)
        self.catalogue = Catalogue(self._database, str(self.data_root))
        self.features = FeatureStore(self._database, self.path / "features", self.catalogue)
        self.motion = KeptFiles(self.path / "motion", self.catalogue, ".flow")
        self.shots = KeptFiles(self.path / "shots", self.catalogue, ".npz")
        self.runs = Runs(self._database, self.path / "runs")
        self.reports = self.path / "reports"

    def vectors(self, model_id: str) -> Vectors:
        """Open the vectors of one model for search, as they are now; many are indexed first if no index fits."""
        return Vectors(self.features, self.catalogue, self.path / "index", model_id)

    def embedded_run(self, prefix: str | None = None) -> str:
        """Return the id of the run that `prefix` begins, or of the newest run that has features.

        Raises:
            LibraryError: There is no such run, or no run has features.
        """
        if prefix:
            return self.runs.find(prefix).id
        embedded = self.features.models()
        newest = next((run.id for run in self.runs.list() if run.id in embedded), None)
        if newest is None:
            raise LibraryError(
                f"{self.path} has no features yet; make some with `vitascope embed --library {self.path}`"
            )
        return newest

    def finished_run(self) -> str:
        """Return the id of the newest run that is done.

        Raises:
            LibraryError: There is none.
        """
        run = self.runs.latest(state="done")
        if run is None:
            raise LibraryError(
                f"{self.path} has no finished run yet; train one with `vitascope train RECIPE --data DIR`"
            )
        return run.id

    def require_videos(self) -> None:
        """Refuse to work on no videos.

        Raises:
            LibraryError: No scan has found any.
        """
        if not any(self.catalogue.counts().values()):
            raise LibraryError(f"{self.path} knows no videos yet; run `vitascope scan DIR --library {self.path}`")

    def vector_at(self, model_id: str, path: str | os.PathLike, seconds: float) -> np.ndarray | None:
        """Return the stored vector `[D]` of the snippet that holds a moment, or None if there is none for it."""
        entry = next((entry for entry in self.catalogue.entries() if entry.path == os.path.abspath(path)), None)
        if entry is None or self.features.status(entry, model_id) != "current":
            return None
        values = self.features.get(entry.path, model_id, seconds, math.nextafter(seconds, math.inf)).values
        return values[len(values) // 2] if len(values) else None

    def search(
        self, query: np.ndarray, k: int, run: str, path: str, seconds: float, elsewhere: bool = False
    ) -> SearchSummary:
        """Return the `k` moments most like a vector `[D]`, which is that of `[seconds]` of `path`, best first.

        With `elsewhere`, those of other videos only.
        """
        vectors = self.vectors(run)
        own = [Record(path)] if elsewhere else []
        hits = vectors.search(query, k, exclude=own, apart_seconds=0.0)  # overlapping snippets are one moment
        return SearchSummary(path, seconds, run, len(vectors), tuple(hits))

    def clean(self) -> list[Path]:
        """Remove what killed processes left half-written; nothing that was committed is touched."""
        folders = [self.path / name for name in FOLDERS]
        folders += [folder for folder in (self.path / "features").iterdir() if folder.is_dir()]
        folders += self.motion.folders() + self.shots.folders()
        return [stray for folder in folders for stray in remove_stray(folder)]

    def close(self) -> None:
        """Close the catalogue; a second call does nothing."""
        self._database.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self, folder: str) -> None:
        try:
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(
                error.errno, f"cannot make the library's folder {self.path / folder}: {error.strerror}", error.filename
            ) from error

    def _root(self, data_root: str | os.PathLike | None) -> Path:
        """Return the data root that the library was made with, which is set on the first opening."""
        wanted = os.path.abspath(data_root if data_root is not None else self.path.parent)
        if wanted == str(self.path.parent) or wanted.startswith(os.path.join(self.path.parent, "")):
            wanted = os.path.relpath(wanted, self.path)
        with self._database.transaction() as connection:
            stored = connection.execute("SELECT value FROM meta WHERE name='data_root'").fetchone()
            if stored is None:
                connection.execute("INSERT INTO meta VALUES ('data_root', ?)", (os.fsencode(wanted),))
        return Path(os.path.normpath(self.path / (os.fsdecode(stored[0]) if stored else wanted)))


def run_folder(run: str | os.PathLike, library: str | os.PathLike | None = None) -> Path:
    """Return the folder of a run: itself, or by the beginning of its id in a library, by default the only one here.

    Raises:
        LibraryError: There is no such library or run.
    """
    if os.path.isdir(run):
        return Path(run)
    with Library(find_library(library)) as lib:
        return lib.runs.find(str(run)).folder
