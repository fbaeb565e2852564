"""Training runs: a row and a folder each, and a lock by which a run whose process died shows as interrupted."""

from __future__ import annotations

import difflib
import json
import os
import re
import secrets
import shlex
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from vitascope.store.atomic import WriteError
from vitascope.store.schema import Database, LibraryError

RunState = Literal["running", "done", "interrupted", "failed"]
LOCK_SECONDS = 2.0
_COLUMNS = "id, recipe, method, state, detail, config, metrics, command, versions, data, started_at, ended_at"
_HELD: dict[str, int] = {}  # run id -> descriptor of its lock, of this process


@dataclass(frozen=True, slots=True)
class Run:
    """A row of the runs: times are seconds since 1970."""

    id: str
    folder: Path
    recipe: str
    method: str
    state: RunState
    detail: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    command: str
    versions: dict[str, str]
    data: dict[str, Any]
    started_at: float
    ended_at: float | None

    @property
    def changes(self) -> tuple[str, ...]:
        """What its command line changed of the recipe: `name=value` each, with a seed and what it was started from."""
        try:
            pairs = list(pairwise(shlex.split(self.command)))
        except ValueError:  # a command that was kept without quotes
            return ()
        own = [value for option, value in pairs if option == "--set"]
        return *own, *(f"{option[2:]}={Path(value).name}" for option, value in pairs if option in ("--seed", "--init"))

    @property
    def go_on(self) -> str:
        """The command line that goes on with it; empty for weights from elsewhere, which were not trained here."""
        words = ["--library", str(self.folder.parents[1]), "--run", self.id]
        return f"{self.command} {shlex.join(words)}" if "num_videos" in self.data else ""


class Runs:
    """The training runs of a library, in folders `runs/<id>`.

    A running run's process holds a lock on `runs/<id>/lock`. The system frees it when the process ends in whatever
    way, so a row that says `running` without a holder is shown as `interrupted`, and can be resumed.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database, self._folder = database, folder

    def new_run(
        self,
        recipe: str,
        method: str,
        config: dict[str, Any] | None = None,
        *,
        command: str | None = None,
        versions: dict[str, str] | None = None,
        data: dict[str, Any] | None = None,
    ) -> Run:
        """Start a run: make its folder, hold its lock, write its row.

        Args:
            recipe: Name of the recipe; the id begins with the date and it.
            method: Name of the method.
            config: The whole configuration, as plain values.
            command: The command line; by default this process's.
            versions: Versions of what matters for the numbers.
            data: A summary of the data: where it lies, how many videos, how long.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S")
        number = f"{stamp}-{re.sub(r'[^A-Za-z0-9]+', '-', recipe).strip('-')}-{secrets.token_hex(2)}"
        try:
            (self._folder / number).mkdir()
        except OSError as error:
            raise WriteError(error.errno, f"cannot make {self._folder / number}: {error.strerror}") from error
        self._hold(number)
        texts = [json.dumps(value or {}) for value in (config, {}, versions, data)]
        row = (number, recipe, method, "running", "", texts[0], texts[1], command or shlex.join(sys.argv), *texts[2:])
        with self._database.transaction() as connection:
            sql = f"INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
            connection.execute(sql, (*row, time.time()))
        return self.find(number)

    def resume(self, prefix: str) -> Run:
        """Take up a run that ended before its end; its row says `running` again.

        Raises:
            LibraryError: No such run, or another process is running it.
        """
        run = self.find(prefix)
        self._hold(run.id)
        with self._database.transaction() as connection:
            connection.execute("UPDATE runs SET state='running', detail='', ended_at=NULL WHERE id=?", (run.id,))
        return self.find(run.id)

    def finish(
        self,
        run_id: str,
        state: Literal["done", "interrupted", "failed"] = "done",
        metrics: dict[str, Any] | None = None,
        detail: str = "",
    ) -> Run:
        """End a run with its final metrics, or with the reason in `detail`, and free its lock."""
        run = self.find(run_id)
        metrics = run.metrics if metrics is None else metrics
        with self._database.transaction() as connection:
            sql = "UPDATE runs SET state=?, metrics=?, detail=?, ended_at=? WHERE id=?"
            connection.execute(sql, (state, json.dumps(metrics), detail, time.time(), run.id))
        if (number := _HELD.pop(str(run.folder), None)) is not None:
            os.close(number)
        return self.find(run.id)

    def list(self, recipe: str | None = None, state: RunState | None = None) -> list[Run]:
        """Return the runs, the newest first."""
        sql = f"SELECT {_COLUMNS} FROM runs WHERE ?1 IS NULL OR recipe=?1 ORDER BY started_at DESC, id DESC"
        runs = [self._run(row) for row in self._database.rows(sql, (recipe,))]
        return [run for run in runs if state is None or run.state == state]

    def latest(self, recipe: str | None = None, state: RunState | None = None) -> Run | None:
        """Return the newest run of that recipe and state, or None if there is none."""
        return next(iter(self.list(recipe, state)), None)

    def find(self, prefix: str) -> Run:
        """Return the one run whose id begins with `prefix`, or whose folder it is.

        Raises:
            LibraryError: No run or several do; the message names the nearest, or them.
        """
        ids = [row[0] for row in self._database.rows("SELECT id FROM runs ORDER BY id")]
        folder = Path(os.path.realpath(prefix))
        prefix = folder.name if folder.parent == Path(os.path.realpath(self._folder)) else prefix
        matches = [number for number in ids if number == prefix] or [n for n in ids if n.startswith(prefix)]
        if len(matches) == 1:
            return self._run(self._database.rows(f"SELECT {_COLUMNS} FROM runs WHERE id=?", (matches[0],))[0])
        if matches:
            raise LibraryError(f"run {prefix!r} may be any of {', '.join(matches)}; give more of its id")
        near = difflib.get_close_matches(prefix, ids, 1, 0.3)
        library = self._folder.parent
        if folder.is_dir():
            raise LibraryError(
                f"{prefix} is no run of {library}; a run belongs to its library: name that with --library, or bring the "
                "weights over with vitascope.engine.start.add_run"
            )
        advice = f"the nearest is {near[0]}" if near else f"list them with `vitascope runs --library {library}`"
        raise LibraryError(f"no run whose id begins with {prefix!r} in {library}; {advice}")

    def _run(self, row: tuple) -> Run:
        folder, state, detail = self._folder / row[0], row[3], row[4]
        if state == "running" and not _is_held(folder):
            state, detail = "interrupted", "its process ended without a word"
        texts = {"config": row[5], "metrics": row[6], "versions": row[8], "data": row[9]}
        plain = {name: json.loads(text) for name, text in texts.items()}
        return Run(
            row[0], folder, row[1], row[2], state, detail, command=row[7], started_at=row[10], ended_at=row[11], **plain
        )

    def _hold(self, run_id: str) -> None:
        import fcntl

        folder = self._folder / run_id
        if str(folder) in _HELD:
            return
        folder.mkdir(exist_ok=True)
        number = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # someone may be looking whether it is held, which takes microseconds
                if time.monotonic() > deadline:
                    os.close(number)
                    raise LibraryError(f"run {run_id} is running in another process; wait for it, or stop it") from None
                time.sleep(0.02)
        _HELD[str(folder)] = number


def _is_held(folder: Path) -> bool:
    import fcntl

    if str(folder) in _HELD:
        return True
    try:
        number = os.open(folder / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(number)


def _leave_to_parent() -> None:
    """In a forked child: let go of the locks, so that they end with the process that runs the run."""
    for number in _HELD.values():
        os.close(number)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
