"""SIGTERM and SIGINT during training: keep what the last completed step left, and leave within seconds."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

GRACE_SECONDS = 2.5
CAUGHT = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """SIGTERM or SIGINT came; not an `Exception`, so that no handler of errors in between takes it."""


class Signals:
    """Catches SIGTERM and SIGINT inside a `with` block.

    The first signal raises `Interrupted` in the main thread, at once between two operations, or at the end of a `held`
    block, where state changes. If the main thread sits in one long operation (the backward pass of a large model is a
    single call), a thread calls `rescue` after `GRACE_SECONDS` in its stead and ends the process. A second signal ends
    the process at once. Ended processes exit with 128 + the signal's number. Outside the main thread nothing is caught.

    Args:
        rescue: Saves what the last completed step left.
        raises: Whether a signal raises; with several processes it is noted in `signum` only, and they agree on a step.
    """

    def __init__(self, rescue: Callable[[], Any], raises: bool = True) -> None:
        self.rescue, self.raises = rescue, raises
        self.signum: int | None = None
        self._process = os.getpid()
        self._deferred = self._torn = self._left = False
        self._lock = threading.Lock()  # held while state changes
        self._previous: dict[int, Any] = {}
        self._previous_wakeup = -1

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            # Python runs `_handle` only between two operations; the number is written to the socket at once
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._previous_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self._watcher = threading.Thread(target=self._watch, args=(self._reader,), daemon=True)
            self._watcher.start()
            self._previous = {signum: signal.signal(signum, self._handle) for signum in CAUGHT}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, Interrupted):  # then `leave` comes next
            self._restore()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Change the state of the run as a whole: a signal waits for the end of the block."""
        self._deferred = True
        with self._lock:
            try:
                yield
            except BaseException:
                self._torn = True
                raise
        self._deferred = False
        if self.signum is not None and self.raises:
            raise Interrupted(self.signum)

    def leave(self) -> None:
        """Save what the last completed step left, after `Interrupted`."""
        self._deferred = True
        with self._lock:
            self._left = True
            if not self._torn:
                self.rescue()
        self._restore()

    def _restore(self) -> None:
        self._left = True
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        if self._previous:
            signal.set_wakeup_fd(self._previous_wakeup)
            self._writer.close()  # ends the watcher
            # it refers to all that `rescue` does: letting go of a model while Python shuts down would abort the process
            self._watcher.join()
            self._previous = {}

    def _handle(self, signum: int, frame: object) -> None:
        if self.signum is not None or os.getpid() != self._process:  # the second one, or in a forked child
            os._exit(128 + signum)
        self.signum = signum
        if self.raises and not self._deferred:
            raise Interrupted(signum)

    def _watch(self, reader: socket.socket) -> None:
        with reader:
            signum = _next_signal(reader, None)
            if signum is None:
                return
            second = _next_signal(reader, GRACE_SECONDS)
        if second is not None:
            os._exit(128 + second)
        with self._lock:
            if self._left:
                return
            if not self._torn:
                self.rescue()
            os._exit(128 + signum)


def _next_signal(reader: socket.socket, timeout_seconds: float | None) -> int | None:
    """Wait for SIGTERM or SIGINT; None if the time is over or the run has left."""
    reader.settimeout(timeout_seconds)
    try:
        while number := reader.recv(1):
            if number[0] in CAUGHT:
                return number[0]
    except TimeoutError:
        pass
    return None


def _forget_in_child() -> None:
    """Have a forked loader process, before it sets itself up, not report its signals to its parent's watcher."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
