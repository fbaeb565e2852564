"""The catalogue: one row a file, with what the scan found, and what changed on the disk since."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from vitascope.store.schema import Database, LibraryError
from vitascope.structures import Gap

State = Literal["done", "damaged", "refused"]
STRETCHES, STRETCH_BYTES = 9, 256 * 1024
BATCH_ROWS, BATCH_SECONDS = 100, 1.0
# Reasons that do not follow from a file's content: such a file is looked at again by every scan.
PASSING_REASONS = frozenset({"missing", "timed out", "worker died"})
_COLUMNS = "id, path, size, mtime_ns, content_hash, state, reason, detail, gaps, metadata, scanned_at, is_missing"


def content_hash(path: str | os.PathLike) -> str:
    """Return the hash by which a file is known wherever it lies: 32 hex digits.

    BLAKE2b over the size and over 9 stretches of 256 KiB spread evenly from the first byte to the last; a file of up
    to 2.25 MiB is hashed whole. So a move of any size is noticed at the cost of 2.25 MiB of reading. A change that
    keeps the size and lies between the stretches is not in the hash; the modification time tells of it.

    Raises:
        OSError: The file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     content_hash(file.name)
        'fcdf3ecfe876539956eb77f17f503ac1'
    """
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.blake2b(f"{size}:".encode(), digest_size=16)
        if size <= STRETCHES * STRETCH_BYTES:
            digest.update(_read(file, size))
            return digest.hexdigest()
        for i in range(STRETCHES):
            file.seek((size - STRETCH_BYTES) * i // (STRETCHES - 1))
            digest.update(_read(file, STRETCH_BYTES))
        return digest.hexdigest()


def is_as_scanned(path: str | os.PathLike, size: int, mtime_ns: int) -> bool:
    """Return whether a file is there with the size and the modification time that a scan found.

    Example:
        >>> is_as_scanned("nothing.mp4", 0, 0)
        False
    """
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (size, mtime_ns)


class Found(NamedTuple):
    """A file as the disk lists it."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan says of one file: `done`, `damaged` (with gaps) or `refused` (with the reason)."""

    path: str
    size: int
    mtime_ns: int
    content_hash: str
    state: State
    reason: str = ""
    detail: str = ""
    gaps: tuple[Gap, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    frame_index: bytes | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the catalogue; `path` is absolute. `is_missing`: the last scan of its folder did not find it."""

    id: int
    path: str
    size: int
    mtime_ns: int
    content_hash: str
    state: State
    reason: str
    detail: str
    gaps: tuple[Gap, ...]
    metadata: dict[str, Any]
    scanned_at: float
    is_missing: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """How the disk differs from the catalogue: `new` and `changed` are to be scanned, the rest needs no opening."""

    new: tuple[Found, ...] = ()
    changed: tuple[Found, ...] = ()
    moved: tuple[tuple[str, Found], ...] = ()  # (old path, the file where it is)
    unchanged: tuple[Found, ...] = ()
    gone: tuple[str, ...] = ()

    @property
    def to_scan(self) -> tuple[Found, ...]:
        return self.new + self.changed


class Catalogue:
    """The files of a library.

    Paths go in and out absolute, and are kept relative to the library's data root when they lie below it, so that the
    data can be moved or mounted elsewhere. A file that is gone keeps its row and its features, marked missing: search
    and lists leave it out, and it is back without work when the file is.
    """

    def __init__(self, database: Database, data_root: str) -> None:
        self._database, self._data_root = database, data_root

    def changes(self, found: Iterable[Found | tuple[str, int, int]], under: str | os.PathLike | None = None) -> Changes:
        """Compare what a walk found with the catalogue; nothing is written (see `apply`).

        Equal path, size and modification time: unchanged, and not opened. A path that is not known is moved when
        its content hash is that of a row whose file is gone; only a file of the same size is hashed for that.

        Args:
            found: Path, size in bytes and modification time in nanoseconds of every video file that the walk met.
            under: The folder that was walked; only files below it can be gone. By default every file.
        """
        found = [Found(os.path.abspath(path), size, mtime_ns) for path, size, mtime_ns in found]
        present = {file.path for file in found}
        sql = "SELECT path, size, mtime_ns, content_hash, reason, is_missing FROM files"
        known = {self._absolute(row[0]): row[1:] for row in self._database.rows(sql)}
        new, changed, unchanged = [], [], []
        for file in found:
            row = known.get(file.path)
            if row is None:
                new.append(file)
            elif row[:2] == (file.size, file.mtime_ns) and row[3] not in PASSING_REASONS:
                unchanged.append(file)
            else:
                changed.append(file)
        absent = {path: row for path, row in known.items() if path not in present}
        moved = self._moved(new, absent)
        arrived, left = {file.path for _, file in moved}, {old for old, _ in moved}
        gone = [path for path, row in absent.items() if not row[4] and path not in left and _is_below(path, under)]
        new = [file for file in new if file.path not in arrived]
        return Changes(tuple(new), tuple(changed), tuple(moved), tuple(unchanged), tuple(sorted(gone)))

    def apply(self, changes: Changes) -> None:
        """Give moved files their new path, mark gone ones missing and found ones present, in one transaction."""
        with self._database.transaction() as connection:
            for old, file in changes.moved:
                connection.execute(
                    "UPDATE files SET path=?, mtime_ns=?, is_missing=0 WHERE path=?",
                    (self._stored(file.path), file.mtime_ns, self._stored(old)),
                )
            connection.executemany(
                "UPDATE files SET is_missing=1 WHERE path=?", [(self._stored(path),) for path in changes.gone]
            )
            missing = {self._absolute(row[0]) for row in connection.execute("SELECT path FROM files WHERE is_missing")}
            back = [(self._stored(file.path),) for file in changes.unchanged if file.path in missing]
            connection.executemany("UPDATE files SET is_missing=0 WHERE path=?", back)

    def add(self, results: Iterable[Scanned]) -> int:
        """Write scan results as they come, a transaction for every 100 of them or every second.

        A process that is killed loses at most the last batch; what `results` gave before it raised is committed.

        Returns:
            How many rows were written.
        """
        count, batch, started = 0, [], time.monotonic()
        try:
            for result in results:
                batch.append(result)
                if len(batch) >= BATCH_ROWS or time.monotonic() - started >= BATCH_SECONDS:
                    count += self._write(batch)
                    batch, started = [], time.monotonic()
        finally:
            count += self._write(batch)
        return count

    def mark(self, path: str | os.PathLike, state: State, reason: str, detail: str, gaps: Iterable[Gap] = ()) -> None:
        """Change what a file is, when later work met what the scan did not see; a changed file is looked at anew."""
        text = json.dumps([asdict(gap) for gap in gaps])
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE files SET state=?, reason=?, detail=?, gaps=? WHERE path=?",
                (state, _plain(reason), _plain(detail), text, self._stored(path)),
            )

    def entries(self, state: State | None = None, include_missing: bool = False) -> list[Entry]:
        """Return the rows in the order of their paths, by default without the missing ones."""
        sql = f"SELECT {_COLUMNS} FROM files WHERE (?1 IS NULL OR state=?1) AND (?2 OR NOT is_missing)"
        rows = self._database.rows(sql, (state, include_missing))
        return sorted((self._entry(row) for row in rows), key=lambda entry: entry.path)

    def entry(self, path: str | os.PathLike) -> Entry:
        """Return the row of one file.

        Raises:
            LibraryError: The file is not in the catalogue.
        """
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM files WHERE path=?", (self._stored(path),))
        if not rows:
            raise LibraryError(f"{os.fspath(path)} is not in the library; scan its folder first")
        return self._entry(rows[0])

    def paths(self) -> dict[int, str]:
        """Return the absolute path of every file that is not missing, by its id."""
        rows = self._database.rows("SELECT id, path FROM files WHERE NOT is_missing")
        return {number: self._absolute(path) for number, path in rows}

    def frame_index(self, path: str | os.PathLike) -> bytes | None:
        """Return the frame index that the scan kept, or None if there is none or the file changed since."""
        rows = self._database.rows("SELECT frame_index, size, mtime_ns FROM files WHERE path=?", (self._stored(path),))
        return rows[0][0] if rows and is_as_scanned(path, *rows[0][1:]) else None

    def counts(self) -> dict[str, int]:
        """Return how many files are `done`, `damaged`, `refused` and `missing`; each file counts once."""
        sql = "SELECT CASE WHEN is_missing THEN 'missing' ELSE state END, COUNT(*) FROM files GROUP BY 1"
        return {"done": 0, "damaged": 0, "refused": 0, "missing": 0} | dict(self._database.rows(sql))

    def _moved(self, new: list[Found], absent: dict[str, tuple]) -> list[tuple[str, Found]]:
        left_by_size: dict[int, list[str]] = {}
        for path, row in absent.items():
            left_by_size.setdefault(row[0], []).append(path)
        moved = []
        for file in new:
            candidates = [path for path in left_by_size.get(file.size, ()) if not os.path.lexists(path)]
            digest = _hash_or_none(file.path) if candidates else None
            old = next((path for path in candidates if absent[path][2] == digest), None)
            if old is not None:
                left_by_size[file.size].remove(old)
                moved.append((old, file))
        return moved

    def _write(self, batch: list[Scanned]) -> int:
        if not batch:
            return 0
        sql = """
            INSERT INTO files (path, size, mtime_ns, content_hash, state, reason, detail, gaps, metadata, scanned_at,
                               frame_index) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (path) DO UPDATE SET size=excluded.size, mtime_ns=excluded.mtime_ns,
                content_hash=excluded.content_hash, state=excluded.state, reason=excluded.reason,
                detail=excluded.detail, gaps=excluded.gaps, metadata=excluded.metadata,
                scanned_at=excluded.scanned_at, frame_index=excluded.frame_index, is_missing=0"""
        with self._database.transaction() as connection:
            connection.executemany(sql, [self._row(result) for result in batch])
        return len(batch)

    def _row(self, result: Scanned) -> tuple:
        gaps = json.dumps([asdict(gap) for gap in result.gaps])
        return (
            self._stored(result.path), result.size, result.mtime_ns, result.content_hash, result.state,
            _plain(result.reason), _plain(result.detail), gaps, json.dumps(result.metadata), time.time(),
            result.frame_index,
        )  # fmt: skip

    def _entry(self, row: tuple) -> Entry:
        gaps = tuple(Gap(**gap) for gap in json.loads(row[8]))
        return Entry(row[0], self._absolute(row[1]), *row[2:8], gaps, json.loads(row[9]), row[10], bool(row[11]))

    def _stored(self, path: str | os.PathLike) -> str | bytes:
        path = os.path.abspath(os.fsdecode(path))
        if _is_below(path, self._data_root):
            path = os.path.relpath(path, self._data_root).replace(os.sep, "/")
        try:
            path.encode()
            return path
        except UnicodeEncodeError:  # a name in another encoding: kept byte for byte
            return os.fsencode(path)

    def _absolute(self, stored: str | bytes) -> str:
        return os.path.normpath(os.path.join(self._data_root, os.fsdecode(stored)))


def _is_below(path: str, folder: str | os.PathLike | None) -> bool:
    if folder is None:
        return True
    return path.startswith(os.path.join(os.path.abspath(os.fsdecode(folder)), ""))


def _read(file: Any, count: int) -> bytes:
    """Read `count` bytes, or up to the end of the file: a raw read may give fewer."""
    return b"".join(_pieces(file, count))


def _pieces(file: Any, count: int) -> Iterator[bytes]:
    while count > 0 and (piece := file.read(count)):
        count -= len(piece)
        yield piece


def _hash_or_none(path: str) -> str | None:
    try:
        return content_hash(path)
    except OSError:  # the scan will say what is wrong with it
        return None


def _plain(text: str) -> str:
    """Make text that SQLite takes: a file name of another encoding may stand in a message."""
    return text.encode(errors="backslashreplace").decode()
