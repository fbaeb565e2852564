"""Two processes on loopback (torchrun, gloo) do what one process does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vitascope.engine.checkpoint import folders, newest
from vitascope.engine.log import read_metrics

SCRIPT = Path(__file__).with_name("toy_method.py")
STAGE = {"name": "only", "length": 6, "unit": "steps", "optim": {"name": "sgd", "lr": 0.1, "clip_norm": None}}


def toy(run_dir: Path, num_processes: int, batch_size: int, **options) -> Path:
    config = {"dropout": 0.0, "double": True, "batch_norm": False, "stages": [{**STAGE, "batch_size": batch_size}]}
    options = {"config": config, "log_every": 1, **options}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    command = [sys.executable, *(launcher if num_processes > 1 else []), str(SCRIPT), str(run_dir), json.dumps(options)]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == options.pop("code", 0), done.stderr
    return run_dir


# 5 samples: one process has 2, the other 3; 1 sample: one process has none; micro-batches; unreadable videos
@pytest.mark.parametrize(("batch_size", "options"), [(5, {"micro_batch": 2, "bad": 4, "good": 6}), (1, {"bad": 2})])
def test_two_processes_give_the_gradient_of_one(tmp_path, batch_size, options):
    one, two = toy(tmp_path / "one", 1, batch_size, **options), toy(tmp_path / "two", 2, batch_size, **options)
    lines, others = read_metrics(one), read_metrics(two)
    assert len(lines) == len(others) == 6
    for line, other in zip(lines, others):
        assert line["unreadable"] == other["unreadable"] and line["samples"] == other["samples"]
        for name in ("loss", "error", "grad_norm"):
            assert line.get(name) == pytest.approx(other.get(name), abs=1e-6)
    before, after = (load_file(folders(run)[0] / "model.safetensors") for run in (one, two))
    for name in before.keys() - {"seen", "teacher"}:  # these count forward passes, not samples of all processes
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-6)
    assert any(line["samples"] for line in lines)


@pytest.mark.slow
def test_two_processes_agree_on_the_step_at_which_a_signal_ends_them(tmp_path):
    options = {"log_every": 1, "config": {"stages": [{**STAGE, "length": 100_000, "batch_size": 4}]}}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    process = subprocess.Popen([*launcher, str(SCRIPT), str(tmp_path), json.dumps(options)], env=env)
    while process.poll() is None and len(read_metrics(tmp_path)) < 5:
        time.sleep(0.05)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    assert time.monotonic() - begun < 5
    assert newest(tmp_path).trainer["step"] == read_metrics(tmp_path)[-1]["step"] >= 5
