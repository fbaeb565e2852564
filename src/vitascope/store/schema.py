"""The library's one SQLite file: its tables, its version, and a connection that threads and processes may share."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
BUSY_SECONDS = 30.0

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path NOT NULL UNIQUE,  -- TEXT, or BLOB where the name is no UTF-8, relative to the data root when below it
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    content_hash TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('done', 'damaged', 'refused')),
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    gaps TEXT NOT NULL,
    metadata TEXT NOT NULL,
    scanned_at REAL NOT NULL,
    is_missing INTEGER NOT NULL DEFAULT 0,
    frame_index BLOB  -- last, so that reading the other columns does not walk over it
);
CREATE INDEX files_by_hash ON files (content_hash);
CREATE TABLE features (
    file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    model_id TEXT NOT NULL,
    file_hash TEXT NOT NULL,
    num_snippets INTEGER NOT NULL,
    width INTEGER NOT NULL,
    manifest TEXT NOT NULL,
    version TEXT NOT NULL,  -- changes with every write
    PRIMARY KEY (model_id, file_id)
);
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    recipe TEXT NOT NULL,
    method TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'done', 'interrupted', 'failed')),
    detail TEXT NOT NULL,
    config TEXT NOT NULL,
    metrics TEXT NOT NULL,
    command TEXT NOT NULL,
    versions TEXT NOT NULL,
    data TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL
);
"""


class LibraryError(Exception):
    """The library cannot be used as asked: the message says what is wrong with what, and what to do."""


class Database:
    """One SQLite file in WAL mode: many readers and one writer at a time, over any number of processes.

    A transaction that ended is on the disk (`synchronous=FULL`). WAL needs shared memory: the file must lie on a
    local disk, not on a network share.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._pid, self._connection = os.getpid(), self._open()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple]:
        """Run one statement and return its rows."""
        with self._lock, self._explained():
            return self._live().execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything in the block is committed together, or nothing if it raises."""
        with self._lock, self._explained():
            connection = self._live()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def _live(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LibraryError(f"{self.path}: the library is closed; open it again")
        if self._pid != os.getpid():  # a connection must not be used after a fork; the child opens its own
            self._pid, self._connection = os.getpid(), self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        with self._explained():
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                _set_wal(connection)
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA foreign_keys=ON")
                self._check_version(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _check_version(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        if version > SCHEMA_VERSION:
            raise LibraryError(
                f"{self.path}: schema version {version} is newer than {SCHEMA_VERSION}, the newest that this "
                "vitascope reads; update vitascope"
            )
        connection.execute("BEGIN IMMEDIATE")  # two processes may be making the library at once
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.OperationalError as error:
            raise LibraryError(f"{self.path}: {_advice(str(error))}") from error
        except sqlite3.DatabaseError as error:
            raise LibraryError(
                f"{self.path}: the catalogue is damaged ({error}); put a copy of it in its place, or remove the "
                "library's folder and scan again: the videos are not touched"
            ) from error


def _set_wal(connection: sqlite3.Connection) -> None:
    """Turn on WAL; the switch itself does not wait for other processes that open the file, so it is tried again."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _advice(message: str) -> str:
    if "locked" in message or "busy" in message:
        return f"another process has been writing for {BUSY_SECONDS:.0f} s; wait for it to end and run this again"
    if "full" in message:
        return "the disk is full; free some space and run it again"
    if "readonly" in message or "unable to open" in message:
        return f"the catalogue cannot be opened for writing ({message}); choose a folder that you may write to"
    return f"the catalogue cannot be used ({message}); check the disk, and that the folder is on this machine"
