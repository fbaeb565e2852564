"""Worker processes: every item gets a result or a failure, whatever happens to the workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pool_tasks
import pytest

from vitascope.engine import pool
from vitascope.engine.pool import Failure, run_isolated


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_item_gets_its_result(num_workers):
    results = list(run_isolated(pool_tasks.square, range(300), num_workers, 30))
    assert sorted(results) == [(i, i * i) for i in range(300)]


def test_no_items_start_no_worker():
    assert list(run_isolated(pool_tasks.square, [], 2, 30)) == []


def test_a_crash_is_tried_once_more_and_costs_only_its_item():
    results = dict(run_isolated(pool_tasks.crash_on_three, range(10), 2, 30))
    assert results.pop(3) == Failure("worker died", "its process ended twice, the last time by SIGSEGV")
    assert results == {i: i for i in range(10) if i != 3}


def test_an_item_that_dies_once_succeeds_the_second_time(tmp_path):
    assert list(run_isolated(pool_tasks.die_once, [str(tmp_path / "a")], 1, 30)) == [(str(tmp_path / "a"), "alive")]


def test_a_hang_times_out_and_costs_only_its_item():
    results = dict(run_isolated(pool_tasks.hang_on_three, range(8), 2, 0.5))
    assert results.pop(3) == Failure("timed out", "took longer than 0.5 s")
    assert results == {i: i for i in range(8) if i != 3}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_exception_is_a_failure(num_workers):
    ((_, failure),) = run_isolated(pool_tasks.fail, [3], num_workers, 30)
    assert failure == Failure("error", "ValueError: 3 is odd")


def test_a_result_that_cannot_be_sent_is_a_failure():
    results = dict(run_isolated(pool_tasks.unsendable, [1, 2], 1, 30))
    assert all("cannot be sent" in failure.detail for failure in results.values()) and len(results) == 2


def test_a_function_that_no_worker_can_import_is_an_error():
    with pytest.raises(Exception, match="pickle|local object"):
        list(run_isolated(lambda x: x, [1], 1, 30))


def test_negative_workers_are_refused():
    with pytest.raises(ValueError, match=r"num_workers \(-1\) must be >= 0"):
        run_isolated(pool_tasks.square, [1], -1)


def test_workers_import_nothing_heavy():
    ((_, modules),) = run_isolated(pool_tasks.heavy_modules, [1], 1, 30)
    assert modules == []


def test_small_items_run_at_more_than_100_a_second():
    list_of = iter(run_isolated(pool_tasks.short, range(400), 2, 30))
    next(list_of)
    start = time.monotonic()
    count = sum(1 for _ in list_of)
    assert count / (time.monotonic() - start) > 100


def test_leaving_early_ends_the_workers(tmp_path):
    results = run_isolated(pool_tasks.hang_on_three, [1, 3], 2, 60)
    next(results)
    pids = [process.pid for process in pool.multiprocessing.active_children()]
    results.close()
    assert pids and not any(alive(pid) for pid in pids)


PARENT = """
import sys
from vitascope.engine.pool import run_isolated
import pool_tasks
if __name__ == "__main__":
    list(run_isolated(getattr(pool_tasks, sys.argv[1]), [sys.argv[2]], 1, 60))
"""


def test_workers_end_when_the_parent_is_killed(tmp_path):
    script, path = tmp_path / "parent.py", tmp_path / "pid"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, str(script), "write_pid_and_sleep", str(path)], env=environment, stderr=subprocess.DEVNULL
    )
    wait_for(path.exists)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not alive(int(path.read_text())))


def test_a_hang_in_native_code_ends_too(monkeypatch):
    results = dict(run_isolated(pool_tasks.hang_natively, [1, 3, 5], 1, 0.3))
    assert results[3].reason == "timed out" and results[5] == 5


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
