"""Checkpoints: whole or not at all, strict when loaded, never code."""

import json
import os
import shutil

import pytest
import torch
from torch import nn
from toy_method import ToyConfig, run_toy

from vitascope.engine import checkpoint
from vitascope.engine.checkpoint import Checkpoint, CheckpointError, folder_of, folders, newest, read, read_model, write
from vitascope.engine.optim import make_optimizer
from vitascope.methods.base import Optim


def state_of(step: int) -> Checkpoint:
    weights = {"w": torch.full((3,), float(step))}
    return Checkpoint(None, weights, {"w/m": torch.zeros(3)}, {"method": "toy"}, {"step": step})


def write_step(run_dir, step, keep_last=2):
    return write(run_dir, step, state_of(step), keep_last)


def test_a_checkpoint_comes_back_equal(tmp_path):
    found = read(write_step(tmp_path, 7))
    assert torch.equal(found.weights["w"], torch.full((3,), 7.0))
    assert (found.config, found.trainer) == ({"method": "toy"}, {"step": 7})
    assert sorted(os.listdir(found.path)) == [
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "trainer.json",
    ]


def test_only_the_last_ones_are_kept(tmp_path):
    for step in (2, 4, 6, 8, 100):
        write_step(tmp_path, step, keep_last=3)
    assert [path.name for path in folders(tmp_path)] == ["step-00000100", "step-00000008", "step-00000006"]
    assert len(os.listdir(tmp_path / "checkpoints")) == 3


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "config.json", "trainer.json"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "garbage", "remove"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path, file, damage):
    write_step(tmp_path, 1)
    path = write_step(tmp_path, 2) / file
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"truncate": data[: len(data) // 2], "empty": b"", "garbage": b"\xff" * 40}[damage])
    with pytest.warns(RuntimeWarning, match=rf"step-00000002/{file} cannot be read.*falling back to .*step-00000001"):
        assert newest(tmp_path).trainer["step"] == 1


def test_a_later_damaged_checkpoint_does_not_crowd_out_the_good_ones(tmp_path):
    write_step(tmp_path, 9)
    (folder_of(tmp_path, 9) / "model.safetensors").write_bytes(b"")
    write_step(tmp_path, 5, keep_last=1)
    with pytest.warns(RuntimeWarning, match="falling back"):
        assert newest(tmp_path).trainer["step"] == 5
    write_step(tmp_path, 9, keep_last=1)
    assert [path.name for path in folders(tmp_path)] == ["step-00000009"]
    assert newest(tmp_path).trainer["step"] == 9


def test_if_none_can_be_read_the_run_does_not_start_over(tmp_path):
    run_toy(tmp_path, ToyConfig(), save_every_steps=4)
    for folder in folders(tmp_path):
        (folder / "trainer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no checkpoint of .* can be read: .*step-00000008.*step-00000004"):
        run_toy(tmp_path, ToyConfig())


def test_a_run_without_checkpoints_has_none(tmp_path):
    assert newest(tmp_path) is None


def test_stray_temporary_folders_vanish_at_the_next_start(tmp_path):
    run_toy(tmp_path, ToyConfig(), max_steps=2)
    host_and_dead_pid = checkpoint.atomic.temp_name(tmp_path / "x").name.replace(f"-{os.getpid()}-", "-4194303-")
    stray = tmp_path / "checkpoints" / host_and_dead_pid.replace(".x.", ".step-00000003.")
    shutil.copytree(folder_of(tmp_path, 2), stray)
    run_toy(tmp_path, ToyConfig())
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step-00000002", "step-00000008"]


def test_a_failed_write_leaves_the_older_checkpoint_and_no_trace(tmp_path, monkeypatch):
    write_step(tmp_path, 1)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.atomic, "replace_dir", fail)
    with pytest.raises(OSError, match="No space left"):
        write_step(tmp_path, 2)
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000001"]


def test_loading_names_what_does_not_fit():
    weights = {"0.weight": torch.zeros(2, 2), "1.weight": torch.zeros(3, 2), "2.weight": torch.zeros(1)}
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    before = module[0].weight.clone()
    with pytest.raises(
        CheckpointError,
        match=r"a does not fit: missing 0.bias; unexpected 2.weight; 1.weight is \[3, 2\], not \[2, 2\]",
    ):
        checkpoint.load_weights(module, weights, "a")
    assert torch.equal(module[0].weight, before)


def test_tied_weights_are_saved_once_and_stay_tied(tmp_path):
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    module["b"].weight = module["a"].weight
    weights = checkpoint.weights_of(module)
    assert "b.weight" not in weights
    module["a"].weight.data.zero_()
    checkpoint.load_weights(module, {**weights, "a.weight": torch.ones(2, 2)}, "a")
    assert module["b"].weight.sum() == 4 and module["b"].weight is module["a"].weight


@pytest.mark.parametrize("name", ["adamw", "adam", "lars", "sgd"])
def test_the_state_of_every_optimiser_comes_back_to_equal_steps(tmp_path, name):
    from toy_method import make_toy

    def one_step(method, optimizer):
        optimizer.zero_grad()
        (method.head.weight**2 + method.head.bias).sum().backward()
        optimizer.step()

    method, other = make_toy(), make_toy()
    names = ["head.weight", "head.bias"]
    optimizer, fresh = (make_optimizer(m, names, Optim(name=name)) for m in (method, other))
    for _ in range(3):
        one_step(method, optimizer)
    state = Checkpoint(None, checkpoint.weights_of(method), checkpoint.optimizer_tensors(optimizer), {}, {"step": 3})
    found = read(write(tmp_path, 3, state, 1))
    checkpoint.load_weights(other, found.weights, "a")
    checkpoint.load_optimizer(fresh, found.optimizer, "a")
    one_step(method, optimizer)
    one_step(other, fresh)
    assert torch.equal(method.head.weight, other.head.weight) and torch.equal(method.head.bias, other.head.bias)
    with pytest.raises(CheckpointError, match="a does not fit: unexpected encoder.0.weight"):
        checkpoint.load_optimizer(fresh, {"encoder.0.weight/exp_avg": torch.zeros(1)}, "a")


def test_a_model_is_read_without_its_training_state(tmp_path):
    folder = run_toy(tmp_path, ToyConfig()).checkpoint
    for file in ("optimizer.safetensors", "trainer.json"):
        (folder / file).unlink()
    config, weights = read_model(folder)
    assert ToyConfig(**config["config"]) == ToyConfig() and "head.weight" in weights


def test_json_that_is_no_object_is_refused(tmp_path):
    folder = write_step(tmp_path, 1)
    (folder / "config.json").write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match=r"config.json cannot be read: it holds a list, not an object"):
        read(folder)
