"""Features on disk: a safetensors file for each video and model, and a row in the database once it is whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitascope.store.atomic import WriteError, sync, write_bytes
from vitascope.store.catalogue import Catalogue, Entry
from vitascope.store.schema import Database, LibraryError
from vitascope.structures import Features, Record

DTYPES = {"float16": np.float16, "float32": np.float32}
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Part:
    """The features of one file and one model, as the database lists them; `version` changes with every write."""

    file_id: int
    version: str
    num_snippets: int
    width: int


class FeatureStore:
    """Vectors per snippet, kept as `features/<model id>/<file id>.safetensors`.

    A file holds `values` float16 or float32 `[S, D]`, `times_seconds` float64 `[S, 2]`, and the manifest as JSON in its
    metadata. They belong to the content that the file had: when its content hash changes they are stale, when it only
    moves they stay.
    """

    def __init__(self, database: Database, folder: Path, catalogue: Catalogue) -> None:
        self._database, self._folder, self._catalogue = database, folder, catalogue

    def put(self, entry: Entry, model_id: str, features: Features) -> None:
        """Write the features of one file, whole or not at all, and commit their row afterwards.

        Args:
            entry: The file's row, as it was before the video was read.
            model_id: Names the encoder; letters, digits, `.`, `_` and `-`.
            features: `values` float16 or float32 `[S, D]` finite; `times_seconds` `[S, 2]` in ascending order.

        Raises:
            ValueError: The arrays do not have these shapes, dtypes or values.
            WriteError: The system refuses; older features are untouched.
        """
        from safetensors.numpy import save

        values, times = checked(features)
        path = self._path(model_id, entry.id)
        manifest = features.manifest | {"dtype": str(values.dtype), "model": model_id, "file_hash": entry.content_hash}
        metadata = {"manifest": json.dumps(manifest), "source": json.dumps(entry.path)}
        if not path.parent.is_dir():
            try:
                path.parent.mkdir(exist_ok=True)
                sync(path.parent.parent)
            except OSError as error:
                raise WriteError(error.errno, f"cannot make {path.parent}: {error.strerror}", error.filename) from error
        # `save_file` would make a temporary name of its own, which a killed process leaves behind
        write_bytes(path, save({"values": values, "times_seconds": times}, metadata))
        row = (entry.id, model_id, entry.content_hash, *values.shape, json.dumps(manifest), secrets.token_hex(8))
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def get(
        self,
        record: Record | str,
        model_id: str,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> Features:
        """Return the snippets that overlap `[start_seconds, end_seconds)`; bounds outside the video are clipped to it.

        Args:
            record: A path, or a record whose own start and end are the default bounds.
            model_id: Which encoder's features.
            start_seconds: By default the record's start, or the video's.
            end_seconds: By default the record's end, or the video's.

        Raises:
            LibraryError: There are no features, they are stale, or their file is damaged.
        """
        path = record.path if isinstance(record, Record) else record
        if isinstance(record, Record):
            start_seconds = record.start_seconds if start_seconds is None else start_seconds
            end_seconds = record.end_seconds if end_seconds is None else end_seconds
        entry = self._catalogue.entry(path)
        status = self.status(entry, model_id)
        if status != "current":
            raise LibraryError(f"{path}: the features of {model_id} are {status}; run `vitascope embed` again")
        with self._opened(model_id, entry.id) as (file, manifest):
            times = file.get_tensor("times_seconds")
            first, last = _overlapping(times, start_seconds, end_seconds)
            # safetensors refuses a slice from the end on, even an empty one
            values = file.get_slice("values")[first:last] if first < len(times) else file.get_tensor("values")[:0]
            return Features(values, times[first:last], manifest)

    def read(self, model_id: str, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Return all values `[S, D]` and times `[S, 2]` of one listed part.

        Raises:
            LibraryError: The file is damaged or is not as it was listed.
        """
        with self._opened(model_id, part.file_id) as (file, _):
            values, times = file.get_tensor("values"), file.get_tensor("times_seconds")
        if values.shape != (part.num_snippets, part.width):
            path = self._path(model_id, part.file_id)
            raise LibraryError(
                f"{path}: values {list(values.shape)} must be {[part.num_snippets, part.width]} as in the catalogue; "
                "remove the file and run `vitascope embed` again"
            )
        return values, times

    def status(
        self, entry: Entry, model_id: str, manifest: dict[str, Any] | None = None
    ) -> Literal["current", "stale", "absent"]:
        """Tell whether a file's features are there, of its present content, and made as `manifest` says."""
        rows = self._database.rows(
            "SELECT file_hash, manifest FROM features WHERE model_id=? AND file_id=?", (model_id, entry.id)
        )
        if not rows or not self._path(model_id, entry.id).is_file():
            return "absent"
        have, wanted = json.loads(rows[0][1]), json.loads(json.dumps(manifest or {}))
        same = rows[0][0] == entry.content_hash and all(have.get(key) == value for key, value in wanted.items())
        return "current" if same else "stale"

    def file(self, path: str | os.PathLike, model_id: str) -> Path | None:
        """Return the file of a video's features, or None where there are none of its present content."""
        entry = self._catalogue.entry(path)
        return self._path(model_id, entry.id) if self.status(entry, model_id) == "current" else None

    def models(self) -> dict[str, int]:
        """Return the models that have features of files that are there, with their number of snippets."""
        sql = """SELECT model_id, SUM(num_snippets) FROM features JOIN files ON files.id = file_id
                 WHERE NOT is_missing AND file_hash = content_hash GROUP BY model_id ORDER BY model_id"""
        return dict(self._database.rows(sql))

    def parts(self, model_id: str) -> list[Part]:
        """List one model's features that are current, of files that are not missing, in the order of file ids."""
        sql = """SELECT file_id, version, num_snippets, width FROM features JOIN files ON files.id = file_id
                 WHERE model_id=? AND NOT is_missing AND file_hash = content_hash AND num_snippets > 0
                 ORDER BY file_id"""
        return [Part(*row) for row in self._database.rows(sql, (model_id,))]

    @contextlib.contextmanager
    def _opened(self, model_id: str, file_id: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        from safetensors import SafetensorError, safe_open

        path = self._path(model_id, file_id)
        try:
            with safe_open(path, framework="np") as file:
                yield file, json.loads(file.metadata()["manifest"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise LibraryError(
                f"{path}: the features are damaged ({error}); remove the file and run `vitascope embed` again"
            ) from error

    def _path(self, model_id: str, file_id: int) -> Path:
        return self._folder / checked_model_id(model_id) / f"{file_id}.safetensors"


def checked_model_id(model_id: str) -> str:
    """Return `model_id` if it can name a folder.

    Raises:
        ValueError: It holds other characters than letters, digits, `.`, `_` and `-`, or begins with another than the
            first two.

    Example:
        >>> checked_model_id("videomae-tiny_3f2a")
        'videomae-tiny_3f2a'
    """
    if not _MODEL_ID.fullmatch(model_id):
        raise ValueError(
            f"model_id ({model_id!r}) must be 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return model_id


def checked(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Return values and times as they are stored.

    Raises:
        ValueError: They do not have the shapes, dtypes or values that a file holds.
    """
    values = np.ascontiguousarray(features.values)
    times = np.ascontiguousarray(features.times_seconds, np.float64)
    if values.ndim != 2 or str(values.dtype) not in DTYPES:
        raise ValueError(f"values ({values.dtype} {list(values.shape)}) must be float16 or float32 [S, D]")
    if times.shape != (len(values), 2):
        raise ValueError(f"times_seconds {list(times.shape)} must be {[len(values), 2]}, a start and an end a snippet")
    if not np.isfinite(values).all() or not np.isfinite(times).all():
        raise ValueError("values and times_seconds must be finite; in float16 the largest value is 65504")
    if (np.diff(times, axis=0) < 0).any() or (times[:, 0] > times[:, 1]).any():
        raise ValueError("times_seconds must ascend from snippet to snippet, and each start must not exceed its end")
    return values, times


def _overlapping(times: np.ndarray, start: float | None, end: float | None) -> tuple[int, int]:
    """Return the rows `[first, last)` of ascending stretches `[S, 2]` that overlap `[start, end)`."""
    first = 0 if start is None else int(np.searchsorted(times[:, 1], start, side="right"))
    last = len(times) if end is None else int(np.searchsorted(times[:, 0], end, side="left"))
    return (first, last) if first < last else (0, 0)  # safetensors refuses an empty slice that begins at the end
