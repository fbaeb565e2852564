"""Processes that read video: quiet, single-threaded, gone with the run."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from vitascope.engine.loader import open_loader, split, start_method
from vitascope.engine.sampler import Positions
from vitascope.methods.base import Stage

STAGE = Stage(name="only", length=6, unit="steps", batch_size=2)


class Threads(Dataset):
    def __getitem__(self, draw):
        return {"threads": torch.tensor(torch.get_num_threads()), "pid": torch.tensor(os.getpid())}


def test_workers_have_one_thread_and_end_with_the_block():
    with open_loader(Threads(), Positions(STAGE, 5, seed=0), 2, torch.device("cpu")) as batches:
        loaded = list(batches)
        assert len(loaded) == 6
    assert {int(n) for each in loaded for n in each.batch["threads"]} == {1}
    assert len({int(pid) for each in loaded for pid in each.batch["pid"]} - {os.getpid()}) == 2
    assert not multiprocessing.active_children()


def test_leaving_early_ends_the_workers_at_once():
    start = time.monotonic()
    with open_loader(Slow(), Positions(STAGE, 5, seed=0), 2, torch.device("cpu")):
        time.sleep(0.2)
    assert time.monotonic() - start < 3
    assert not multiprocessing.active_children()


class Slow(Dataset):
    def __getitem__(self, draw):
        time.sleep(60)


def test_forking_is_for_the_cpu_only():
    assert start_method(torch.device("cpu")) == ("fork" if sys.platform.startswith("linux") else "spawn")
    assert start_method(torch.device("cuda")) != "fork"


def test_a_batch_is_cut_into_parts_with_their_sizes():
    parts = split({"x": torch.arange(5)}, 5, 2, most=5)
    assert [size for size, _ in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part["x"] for _, part in parts]), torch.arange(5))


def test_processes_with_fewer_samples_have_as_many_parts_without_any():
    assert split(None, 0, 2, most=3) == [(0, None), (0, None)]
    parts = split({"x": torch.arange(2)}, 2, 2, most=5)
    assert [size for size, _ in parts] == [2, 0, 0] and parts[1:] == [(0, None)] * 2
    assert [size for size, _ in split({"x": torch.arange(2)}, 2, None, most=5)] == [2]


ORPHANS = """
import sys, time, torch
sys.path.insert(0, sys.argv[1])
from test_loader import *
with open_loader(Threads(), Positions(STAGE, 5, seed=0), 2, torch.device("cpu")) as batches:
    print(*{int(pid) for each in batches for pid in each.batch["pid"]}, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent's death signal is Linux's")
def test_workers_do_not_outlive_a_killed_parent():
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS, str(Path(__file__).parent)], stdout=subprocess.PIPE)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers and not any(is_running(pid) for pid in workers)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
