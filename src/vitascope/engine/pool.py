"""Many small tasks in worker processes that may crash or hang without taking the rest with them."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

BATCH_SECONDS = 0.1  # of work that is handed to a worker at once: small against a wait, large against a message
MOST_IN_BATCH = 64
START_SECONDS = 120.0
GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Failure:
    """What came of an item instead of a result: its worker died or took too long, or the function raised."""

    reason: Literal["worker died", "timed out", "error"]
    detail: str


@dataclass
class _Task:
    item: Any
    tries: int = 0


@dataclass
class _Worker:
    process: Any
    pipe: Any
    tasks: deque[_Task] = field(default_factory=deque)  # handed over and not answered, in order
    is_ready: bool = False
    since: float = 0.0  # when it began with the first of its tasks, or was started


def run_isolated(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    num_workers: int,
    timeout_seconds: float | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Yield `(item, function(item))` for every item, in the order in which they are done.

    The workers are fresh processes (spawn), which import the module of `function` and nothing else of ours. A worker
    that dies costs the item it was at one more try, in another worker; the second time, or when an item takes too
    long, the item's result is a `Failure`, and the rest goes on. What the function raises is a `Failure` too. Workers
    end when this process ends, however it ends, at the latest when their present item's time is up.

    Args:
        function: Found by name in an importable module, since other processes call it.
        items: Taken as they are needed; they and the results go through pickle.
        num_workers: 0 calls the function in this process, where nothing is isolated and nothing times out.
        timeout_seconds: For one item; None waits for ever.

    Raises:
        ValueError: `num_workers` is negative.
        RuntimeError: The workers cannot start.

    Example:
        >>> sorted(run_isolated(abs, [-1, 2], num_workers=0))
        [(-1, 1), (2, 2)]
    """
    if num_workers < 0:
        raise ValueError(f"num_workers ({num_workers}) must be >= 0")
    if num_workers == 0:
        return ((item, _called(function, item)) for item in items)
    return _Pool(function, items, num_workers, timeout_seconds).results()


class _Pool:
    def __init__(self, function: Callable, items: Iterable, num_workers: int, timeout_seconds: float | None) -> None:
        self.function, self.items, self.num_workers = function, iter(items), num_workers
        self.timeout_seconds = timeout_seconds
        self.workers: list[_Worker] = []
        self.again: deque[_Task] = deque()  # given back by dead workers
        self.seconds_per_item = BATCH_SECONDS
        self.is_proven = False  # whether any worker ever started
        self.context = multiprocessing.get_context("spawn")

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Keep the workers busy, and pass on what they say, until nothing is left."""
        try:
            while True:
                self._hand_out()
                busy = [worker for worker in self.workers if worker.tasks]
                if not busy:
                    return
                pipes = {worker.pipe: worker for worker in busy}
                for pipe in multiprocessing.connection.wait(list(pipes), self._wait_seconds(busy)):
                    yield from self._heard(pipes[pipe])
                for worker in busy:
                    yield from self._overdue(worker)
        finally:
            for worker in self.workers:
                worker.process.kill()
            for worker in self.workers:
                worker.process.join()
                worker.pipe.close()

    def _hand_out(self) -> None:
        """Give every idle worker a batch; start workers while there is work for more."""
        while True:
            idle = next((worker for worker in self.workers if not worker.tasks), None)
            if idle is None and len(self.workers) >= self.num_workers:
                return
            batch = self._batch()
            if not batch:
                return
            if idle is None:
                idle = self._started()
            idle.tasks.extend(batch)
            idle.since = time.monotonic()
            with suppress(BrokenPipeError, ConnectionResetError):  # it died while idle; the next wait hears of it
                idle.pipe.send([task.item for task in batch])

    def _batch(self) -> list[_Task]:
        if self.again:  # alone, so that what kills a worker again takes nothing else along
            return [self.again.popleft()]
        count = min(MOST_IN_BATCH, max(1, int(BATCH_SECONDS / max(self.seconds_per_item, 1e-6))))
        return [_Task(item) for _, item in zip(range(count), self.items)]

    def _started(self) -> _Worker:
        here, there = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(there, self.function, self.timeout_seconds), daemon=True)
        process.start()
        there.close()
        worker = _Worker(process, here)
        self.workers.append(worker)
        return worker

    def _heard(self, worker: _Worker) -> Iterator[tuple[Any, Any]]:
        """Take one message of a worker: that it is ready, a result, or its end."""
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):  # OSError: it ended in the middle of a message
            yield from self._dead(worker)
            return
        except Exception as error:  # a result that can be pickled and not restored
            message = Failure("error", f"the result cannot be read: {type(error).__name__}: {error}")
        now = time.monotonic()
        if not worker.is_ready:
            worker.is_ready = self.is_proven = True
        else:
            task = worker.tasks.popleft()
            self.seconds_per_item += 0.2 * (now - worker.since - self.seconds_per_item)
            worker.since = now
            yield task.item, message
        worker.since = now

    def _overdue(self, worker: _Worker) -> Iterator[tuple[Any, Any]]:
        limit = self._limit(worker)
        if not worker.tasks or limit is None or time.monotonic() - worker.since < limit or worker.pipe.poll():
            return
        if not worker.is_ready:
            raise RuntimeError(
                f"a worker process did not start within {START_SECONDS:.0f} s; is the machine overloaded?"
            )
        task = worker.tasks.popleft()
        self._drop(worker)
        yield task.item, Failure("timed out", f"took longer than {self.timeout_seconds:g} s")

    def _dead(self, worker: _Worker) -> Iterator[tuple[Any, Any]]:
        worker.process.join(GRACE_SECONDS)
        worker.process.kill()
        worker.process.join()
        code = worker.process.exitcode
        if not worker.is_ready and not self.is_proven:
            raise RuntimeError(
                f"the worker processes cannot start (exit code {code}); their message is above. The function must be "
                "found by name in a module, and a script must guard its start with `if __name__ == '__main__':`"
            )
        task = worker.tasks.popleft()
        self._drop(worker)
        if code == -signal.SIGALRM:  # it hung in native code, and ended itself
            yield task.item, Failure("timed out", f"took longer than {self.timeout_seconds:g} s")
        elif task.tries == 0:
            self.again.append(_Task(task.item, 1))
        else:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            yield task.item, Failure("worker died", f"its process ended twice, the last time by {how}")

    def _drop(self, worker: _Worker) -> None:
        """End a worker and take back what it has not begun."""
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        self.again.extend(worker.tasks)
        worker.tasks.clear()

    def _limit(self, worker: _Worker) -> float | None:
        return self.timeout_seconds if worker.is_ready else START_SECONDS

    def _wait_seconds(self, busy: list[_Worker]) -> float | None:
        limits = [(worker.since, self._limit(worker)) for worker in busy]
        ends = [since + limit for since, limit in limits if limit is not None]
        return max(0.0, min(ends) - time.monotonic()) if ends else None


def _called(function: Callable[[Any], Any], item: Any) -> Any:
    try:
        return function(item)
    except Exception as error:
        return Failure("error", f"{type(error).__name__}: {error}")


def _serve(pipe: Any, function: Callable[[Any], Any], timeout_seconds: float | None) -> None:
    """What a worker does: answer batches, item by item, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of the terminal's processes; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        pipe.send("ready")
        while True:
            for item in pipe.recv():
                _alarm(timeout_seconds)
                result = _called(function, item)
                _alarm(None)
                _answer(pipe, result)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(pipe: Any, result: Any) -> None:
    try:
        pipe.send(result)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # nothing was sent: pickling comes first
        pipe.send(Failure("error", f"the result cannot be sent: {type(error).__name__}: {error}"))


def _alarm(timeout_seconds: float | None) -> None:
    """Have the system end this process when the time is up, even if native code holds the interpreter by then."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0 if timeout_seconds is None else timeout_seconds + GRACE_SECONDS)


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
