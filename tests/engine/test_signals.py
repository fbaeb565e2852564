"""SIGTERM and SIGINT save what the last completed step left and end the run within 5 s."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from toy_method import ToyConfig, files_of, good, make_toy, run_toy

from vitascope.engine import checkpoint
from vitascope.engine.settings import TrainSettings
from vitascope.engine.signals import Interrupted, Signals
from vitascope.engine.train import train
from vitascope.methods.base import Optim, Stage

SCRIPT = Path(__file__).with_name("toy_method.py")
CONFIG = ToyConfig(stages=(Stage(name="only", length=30, unit="steps", batch_size=4, optim=Optim(lr=0.01)),))


def send(signum: int, when) -> threading.Thread:
    """Send this process a signal as soon as `when()` holds."""

    def wait_and_send():
        while not when():
            time.sleep(0.001)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=wait_and_send)
    thread.start()
    return thread


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_a_step_saves_the_last_completed_one(tmp_path, signum, num_workers):
    run_toy(tmp_path / "whole", CONFIG, log_every=1)
    method = make_toy(CONFIG)
    step, entered = method.training_step, []

    def slow_at_the_tenth(batch):
        terms = step(batch)  # has changed buffers and the teacher by now
        entered.append(time.monotonic())
        if len(entered) == 10:
            time.sleep(60)
        return terms

    method.training_step = slow_at_the_tenth
    sender = send(signum, lambda: len(entered) == 10)
    settings = TrainSettings(device="cpu", log_every=1, num_workers=num_workers)
    before = signal.getsignal(signum)
    result = train(method, {"train": good(10)}, tmp_path / "broken", settings)
    sender.join()
    assert time.monotonic() - entered[-1] < 5
    assert (result.interrupted, result.step) == (signum, 9)
    assert result.checkpoint.name == "step-00000009"
    assert signal.getsignal(signum) == before
    run_toy(tmp_path / "broken", CONFIG, log_every=1)
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")


def test_a_signal_while_saving_waits_for_the_checkpoint(tmp_path, monkeypatch):
    write, writing = checkpoint.write, threading.Event()

    def slow_write(*args):
        writing.set()
        time.sleep(0.3)
        return write(*args)

    monkeypatch.setattr(checkpoint, "write", slow_write)
    sender = send(signal.SIGTERM, writing.is_set)
    result = run_toy(tmp_path, CONFIG, save_every_steps=4)
    sender.join()
    assert (result.interrupted, result.step) == (signal.SIGTERM, 4)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]
    assert checkpoint.newest(tmp_path).trainer["step"] == 4


def start(run_dir: Path, **options) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    config = {"stages": [{"name": "only", "length": 100_000, "unit": "steps", "batch_size": 4}]}
    text = json.dumps({"config": {**config, **options.pop("config", {})}, "log_every": 1, **options})
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(run_dir), text], stdout=subprocess.PIPE, env=env)
    metrics = run_dir / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 5):
        time.sleep(0.01)
    assert process.poll() is None
    return process


@pytest.mark.parametrize(("signum", "num_workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_the_process_leaves_within_5_s_with_its_exit_code(tmp_path, signum, num_workers):
    process = start(tmp_path, num_workers=num_workers)
    process.send_signal(signum)
    begun = time.monotonic()
    output, _ = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert process.returncode == 128 + signum
    told = json.loads(output)
    assert told["interrupted"] == signum and told["step"] == checkpoint.newest(tmp_path).trainer["step"] >= 5


DEAF = """
import ctypes, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
from toy_method import *

class Duration(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]

toy = make_toy(ToyConfig(stages=(Stage(name="only", length=9, unit="steps", batch_size=4),)))
step = toy.training_step

def deaf(batch):
    terms = step(batch)
    if toy.seen > 20:  # the sixth step: one call in which no handler of Python's can run, like a long backward pass
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # so that it does not cut the sleep short
        print("deaf", flush=True)
        ctypes.CDLL(None).nanosleep(ctypes.byref(Duration(30, 0)), None)
    return terms

toy.training_step = deaf
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # a thread that the signal can reach
train(toy, {"train": good(10)}, sys.argv[2], TrainSettings(device="cpu"))
"""


def test_a_main_thread_that_cannot_answer_is_saved_by_the_watcher(tmp_path):
    command = [sys.executable, "-c", DEAF, str(SCRIPT.parent), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"deaf\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 5
    found = checkpoint.newest(tmp_path)
    assert found.trainer["step"] == 5 and found.weights["seen"] == 20


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    code = """
import time
from vitascope.engine.signals import Signals
signals = Signals(lambda: time.sleep(60), raises=True)
try:
    with signals:
        print("ready", flush=True)
        time.sleep(60)
except BaseException:
    print("saving", flush=True)
    signals.leave()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == b"saving\n"
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 128 + signal.SIGINT
    assert time.monotonic() - begun < 1


def test_a_signal_waits_for_the_end_of_a_held_block():
    done = []
    signals = Signals(lambda: done.append("saved"))
    with pytest.raises(Interrupted), signals, signals.held():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        done.append("changed")
    signals.leave()
    assert done == ["changed", "saved"]


def test_a_state_that_was_changed_by_half_is_not_saved():
    done = []
    signals = Signals(lambda: done.append("saved"))
    with signals:
        with pytest.raises(OSError, match="disk full"), signals.held():
            raise OSError("disk full")
        signals.leave()
    assert done == []


def test_outside_the_main_thread_nothing_is_caught(tmp_path):
    before, results = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=lambda: results.append(run_toy(tmp_path, ToyConfig())))
    thread.start()
    thread.join()
    assert results[0].step == 8 and signal.getsignal(signal.SIGTERM) == before


def test_nothing_of_it_runs_on_when_the_block_has_ended():
    before = set(threading.enumerate())
    for _ in range(20):
        with Signals(lambda: None):
            assert len(threading.enumerate()) == len(before) + 1
        assert set(threading.enumerate()) == before
