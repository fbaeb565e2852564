"""kill -9 at random moments: the resumed run equals the unbroken one bit for bit, and a checkpoint is always valid."""

import multiprocessing
import os
import random
import signal
import time
import warnings
from pathlib import Path

import pytest
from toy_method import TWO_STAGES, ToyConfig, files_of, run_toy

from vitascope.engine import checkpoint
from vitascope.methods.base import Stage

# children are forked from a process that has imported torch and computed nothing: a launch costs milliseconds
LAUNCHER = multiprocessing.get_context("forkserver") if hasattr(os, "fork") else None
pytestmark = pytest.mark.skipif(LAUNCHER is None, reason="needs SIGKILL and fork")
CONFIG = ToyConfig(stages=TWO_STAGES, sleep_seconds=0.005)
LARGE = ToyConfig(width=120_000, stages=(Stage(name="only", length=400, unit="steps", batch_size=4),))  # 10 MB to save


def launch(run_dir: Path, config: ToyConfig, settings: dict) -> multiprocessing.Process:
    LAUNCHER.set_forkserver_preload(["vitascope.engine.train"])
    process = LAUNCHER.Process(target=child, args=(str(Path(__file__).parent), run_dir, config, settings))
    process.start()
    return process


def child(folder: str, run_dir: Path, config: ToyConfig, settings: dict) -> None:
    import torch

    torch.set_num_threads(1)
    run_toy(run_dir, config, **settings)


def kill(process: multiprocessing.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def lines_of(run_dir: Path) -> int:
    metrics = run_dir / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def kill_during_training(run_dir: Path, chance: random.Random, num_workers: int, most_lines: int) -> bool:
    """Start or resume the run, kill it at a random moment of its next lines; False if it finished before."""
    process = launch(run_dir, CONFIG, {"log_every": 1, "save_every_steps": 7, "num_workers": num_workers})
    target = lines_of(run_dir) + chance.randint(0, most_lines)
    while process.is_alive() and lines_of(run_dir) < target:
        time.sleep(0.0005)
    time.sleep(chance.uniform(0, 0.008))
    was_alive = process.is_alive()
    kill(process)
    return was_alive


def resume_to_the_end(run_dir: Path, config: ToyConfig, num_workers: int = 0) -> None:
    process = launch(run_dir, config, {"log_every": 1, "save_every_steps": 7, "num_workers": num_workers})
    process.join(60)
    assert process.exitcode == 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, bytes]:
    run_dir = tmp_path_factory.mktemp("unbroken")
    resume_to_the_end(run_dir, CONFIG)
    return files_of(run_dir)


def test_five_kills_of_one_run_change_no_bit(tmp_path, unbroken):
    chance = random.Random(0)
    killed = [kill_during_training(tmp_path, chance, num_workers, most_lines=6) for num_workers in (0, 1, 2, 0, 2)]
    assert sum(killed) >= 3, "the run ended before it was killed: the kills come too late to show anything"
    resume_to_the_end(tmp_path, CONFIG, num_workers=1)
    assert files_of(tmp_path) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_a_kill_at_a_random_moment_changes_no_bit(tmp_path, unbroken, seed):
    chance = random.Random(seed)
    kill_during_training(tmp_path, chance, num_workers=seed % 3, most_lines=58)
    resume_to_the_end(tmp_path, CONFIG, num_workers=(seed // 3) % 3)
    assert files_of(tmp_path) == unbroken


def kill_while_saving(run_dir: Path, chance: random.Random) -> int:
    """Kill the run at a random moment of a save; return the step of the newest valid checkpoint."""
    before = checkpoint.newest(run_dir)
    process = launch(run_dir, LARGE, {"save_every_steps": 1, "log_every": 50})
    folder, nth, seen = run_dir / "checkpoints", chance.randint(1, 4), set()
    while process.is_alive() and len(seen) < nth:
        names = os.listdir(folder) if folder.exists() else []
        seen |= {name for name in names if name.startswith(".") and f"-{process.pid}-" in name}
    time.sleep(chance.uniform(0, 0.03))  # a save takes about 20 ms
    kill(process)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # falling back would be a warning: every folder with a final name is whole
        after = checkpoint.newest(run_dir)
    had = before.trainer["step"] if before else 0
    got = after.trainer["step"] if after else 0
    assert had <= got
    assert after is not None or nth == 1
    return got


def kills_while_saving(run_dir: Path, count: int, seed: int) -> int:
    """Kill one run until so many kills left a temporary name behind, so hit a save half-way; return how many it took."""
    chance, hits, kills = random.Random(seed), 0, 0
    while hits < count:
        step = kill_while_saving(run_dir, chance)
        hits += any(name.startswith(".") for name in os.listdir(run_dir / "checkpoints"))
        kills += 1
        assert kills < 6 * count + 6, f"only {hits} of {kills} kills hit a save; the test kills at the wrong moments"
    process = launch(run_dir, LARGE, {"save_every_steps": 1, "log_every": 50, "max_steps": step + 4})
    process.join(120)
    assert process.exitcode == 0
    assert not [name for name in os.listdir(run_dir / "checkpoints") if name.startswith(".")]
    return kills


def test_kills_while_saving_leave_a_valid_checkpoint(tmp_path):
    assert kills_while_saving(tmp_path, count=2, seed=0) >= 2


@pytest.mark.slow
def test_fifty_kills_while_saving_leave_a_valid_checkpoint_each_time(tmp_path):
    print(f"50 saves killed half-way by {kills_while_saving(tmp_path, count=50, seed=1)} kills")
