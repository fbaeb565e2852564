"""Checkpoints: folders of safetensors and JSON that are there whole or not at all.

| file | holds |
| --- | --- |
| `model.safetensors` | weights and buffers, by name; of tensors that share memory the first name |
| `optimizer.safetensors` | the optimiser's state, `parameter name/state name` |
| `config.json` | `method`, `recipe`, `config` |
| `trainer.json` | step, settings, videos that could not be read, versions |

No state of a random generator is kept: randomness is derived from the seed and the position.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vitascope.store import atomic


class CheckpointError(Exception):
    """A checkpoint that cannot be written, read, or used with this method or configuration."""


class Checkpoint(NamedTuple):
    """A checkpoint in memory."""

    path: Path
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    config: dict[str, Any]
    trainer: dict[str, Any]


def folder_of(run_dir: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies.

    Example:
        >>> folder_of(Path("run"), 100).as_posix()
        'run/checkpoints/step-00000100'
    """
    return run_dir / "checkpoints" / f"step-{step:08d}"


def folders(run_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    found = [path for path in (Path(run_dir) / "checkpoints").glob("step-*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def write(run_dir: Path, step: int, state: Checkpoint, keep_last: int) -> Path:
    """Write a checkpoint beside its final name, sync, rename; then remove all but the last `keep_last` up to it.

    Raises:
        CheckpointError: The tensors cannot be written (disk full); older checkpoints are untouched.
        OSError: A file or folder cannot be written.
    """
    final = folder_of(run_dir, step)
    temp = atomic.temp_name(final)
    try:
        temp.mkdir(parents=True)
        save_file(state.weights, temp / "model.safetensors", metadata={"format": "pt"})
        save_file(state.optimizer, temp / "optimizer.safetensors", metadata={"format": "pt"})
        (temp / "config.json").write_text(json.dumps(state.config, indent=2) + "\n")
        (temp / "trainer.json").write_text(json.dumps(state.trainer, indent=2) + "\n")
        atomic.replace_dir(temp, final)
    except BaseException as error:
        shutil.rmtree(temp, ignore_errors=True)
        if isinstance(error, SafetensorError):
            raise CheckpointError(f"{final} cannot be written: {error}; free some space and resume") from error
        raise
    # a folder of a later step is one that could not be read when this run was resumed; it will be replaced
    upto = [path for path in folders(run_dir) if int(path.name[5:]) <= step]
    for path in upto[keep_last:]:
        aside = atomic.temp_name(path)
        os.rename(path, aside)  # never half a folder under a valid name
        shutil.rmtree(aside, ignore_errors=True)
    return final


def read_model(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the `config.json` and the weights of a checkpoint folder, for use without training.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    folder = Path(folder)
    return _json(folder / "config.json"), _tensors(folder / "model.safetensors")


def read(folder: Path) -> Checkpoint:
    """Return a checkpoint whole.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    folder = Path(folder)
    config, weights = read_model(folder)
    optimizer, trainer = _tensors(folder / "optimizer.safetensors"), _json(folder / "trainer.json")
    if not isinstance(trainer.get("step"), int):
        raise CheckpointError(f"{folder / 'trainer.json'} names no step; the file is damaged")
    return Checkpoint(folder, weights, optimizer, config, trainer)


def newest(run_dir: Path) -> Checkpoint | None:
    """Return the newest checkpoint that can be read, None if the run has none; warns about each that cannot.

    Raises:
        CheckpointError: There are checkpoints and none can be read.
    """
    problems = []
    for folder in folders(run_dir):
        try:
            checkpoint = read(folder)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"{problem}; falling back to {checkpoint.path}", RuntimeWarning, stacklevel=2)
        return checkpoint
    if problems:
        raise CheckpointError(f"no checkpoint of {run_dir} can be read: {'; '.join(problems)}; use another run folder")
    return None


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights and buffers of a module on the CPU; of tensors that share memory only the first."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in _own_tensors(module).items()}


def load_weights(module: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy weights into a module; names and shapes must agree exactly.

    Raises:
        CheckpointError: Names are missing or too many, or shapes differ.

    Example:
        >>> load_weights(nn.Linear(2, 1), {"weight": torch.zeros(1, 3)}, "a.safetensors")
        Traceback (most recent call last):
        vitascope.engine.checkpoint.CheckpointError: a.safetensors does not fit: missing bias; weight is [1, 3], not [1, 2]
    """
    own = _own_tensors(module)
    _require_equal({name: t.shape for name, t in own.items()}, {name: t.shape for name, t in weights.items()}, source)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser whose groups hold the `names` of their parameters."""
    found = {}
    for name, parameter in _named(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                found[f"{name}/{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return found


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], source: str) -> None:
    """Put back what `optimizer_tensors` gave.

    Raises:
        CheckpointError: The state is of other parameters.
    """
    named = dict(_named(optimizer))
    unknown = sorted({key.rpartition("/")[0] for key in tensors} - named.keys())
    if unknown:
        raise CheckpointError(f"{source} does not fit: unexpected {_some(unknown)}")
    for key, tensor in tensors.items():
        name, _, state = key.rpartition("/")
        # a copy: what safetensors gives may be a view of the file
        keeps_place = tensor.ndim == 0 and not optimizer.defaults.get("fused")  # only fused kernels count on the device
        tensor = tensor.clone() if keeps_place else tensor.to(named[name].device, copy=True)
        optimizer.state[named[name]][state] = tensor


def _named(optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"])]


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    seen = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{name} of the module is a {type(tensor).__name__}; only tensors can be saved")
        if id(tensor) not in seen:
            found[name] = tensor
            seen.add(id(tensor))
    return found


def _require_equal(own: dict[str, torch.Size], given: dict[str, torch.Size], source: str) -> None:
    problems = []
    for word, names in (("missing", own.keys() - given.keys()), ("unexpected", given.keys() - own.keys())):
        if names:
            problems.append(f"{word} {_some(sorted(names))}")
    for name in own.keys() & given.keys():
        if own[name] != given[name]:
            problems.append(f"{name} is {list(given[name])}, not {list(own[name])}")
    if problems:
        raise CheckpointError(f"{source} does not fit: {'; '.join(problems)}")


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} cannot be read: it holds a {type(value).__name__}, not an object")
    return value


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
