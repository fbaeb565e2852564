"""Tensors of a TorchScript archive, such as OpenAI's CLIP files, without running the program that it holds.

The archive is a zip: `data.pkl` is a tree of modules whose leaves name the files `data/N` of raw numbers. The tree is
read by an unpickler that admits tensors, lists and attribute-only stand-ins for the program's classes, and nothing else.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    f"{kind}Storage": dtype
    for kind, dtype in (
        ("Half", torch.float16),
        ("BFloat16", torch.bfloat16),
        ("Float", torch.float32),
        ("Double", torch.float64),
        ("Long", torch.int64),
        ("Int", torch.int32),
        ("Short", torch.int16),
        ("Char", torch.int8),
        ("Byte", torch.uint8),
        ("Bool", torch.bool),
    )
}


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is a TorchScript archive, and no mere state dict."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())
    except zipfile.BadZipFile:  # its end is that of a zip, and no more
        return False


def torchscript_tensors(path: str | Path) -> dict[str, Tensor]:
    """Every tensor of an archive by its dotted name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The archive is damaged, or holds objects of a kind that no plain network has.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (data,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            with archive.open(data) as file:
                return dict(_leaves(_Reader(file, archive, data.removesuffix("data.pkl")).load(), ""))
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"weights ({path}) are no TorchScript archive of plain tensors ({error})") from None


class _Node:
    """A module of the program: its attributes, and nothing that it could do."""


def _list(items: list[Any], *_: Any) -> list[Any]:
    return items


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)  # refuses to reach beyond the storage


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(file)
        self.archive, self.prefix = archive, prefix

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Node
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")):
            return _tensor if name.endswith("v2") else lambda tensor, *_: tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" and name in ("build_intlist", "build_doublelist", "build_boollist"):
            return _list
        if module == "torch.jit._pickle" and name in ("build_tensorlist", "restore_type_tag"):
            return _list
        raise pickle.UnpicklingError(f"it holds {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        numbers = bytearray(self.archive.read(f"{self.prefix}data/{key}"))
        return torch.frombuffer(numbers, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _leaves(node: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, _Node):
        for key, value in vars(node).items():
            yield from _leaves(value, f"{name}.{key}" if name else key)
