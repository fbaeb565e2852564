"""Two threads beside the main one: `Ahead` reads what comes next, `Behind` writes what is done, both in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

POLL_SECONDS = 0.1


class Ahead:
    """Iterates in a thread, at most `capacity` items ahead; a context manager.

    Args:
        items: Iterated once, in the thread. An error in it is raised where the items are taken.
        capacity: Of items that wait.
        is_ended: Asked while waiting; when it is true, iteration ends early.
        patience_seconds: How long leaving the block waits for the thread to end; None for as long as it takes, so that
            what it reads from can be closed next.

    Example:
        >>> with Ahead(range(3), capacity=1) as items:
        ...     list(items)
        [0, 1, 2]
    """

    def __init__(
        self,
        items: Iterable[Any],
        capacity: int,
        is_ended: Callable[[], bool] = lambda: False,
        patience_seconds: float | None = None,
    ) -> None:
        self._items, self._is_ended, self._patience_seconds = items, is_ended, patience_seconds
        self._queue: queue.Queue = queue.Queue(capacity)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Iterator[Any]:
        self._thread.start()
        return self._taken()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(self._patience_seconds)

    def _taken(self) -> Iterator[Any]:
        while not self._is_ended():
            try:
                kind, item = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(("item", item)):
                    return
            self._put(("end", None))
        except BaseException as error:  # raised in the thread that takes
            self._put(("error", error))

    def _put(self, entry: tuple[str, Any]) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False


class Behind:
    """Calls `write` on each item in a thread, at most `capacity` items behind; a context manager.

    Leaving the block waits for what was put; when an error leaves it, what still waits is dropped.

    Example:
        >>> written = []
        >>> with Behind(written.append, capacity=2) as behind:
        ...     behind.put("a")
        ...     behind.wait()
        >>> written
        ['a']
    """

    def __init__(self, write: Callable[[Any], Any], capacity: int) -> None:
        self._write, self._error = write, None
        self._queue: queue.Queue = queue.Queue(capacity)
        self._is_dropping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Behind:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_dropping = self._is_dropping or kind is not None
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def put(self, item: Any) -> None:
        """Hand over an item; waits if too many wait already. Raises what an earlier `write` raised."""
        self._raise()
        self._queue.put((item,))

    def wait(self) -> None:
        """Return when every item is written. Raises what a `write` raised."""
        self._queue.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            try:
                if not self._is_dropping:
                    self._write(*entry)
            except BaseException as error:  # raised in the thread that puts
                self._error, self._is_dropping = error, True
            finally:
                self._queue.task_done()
