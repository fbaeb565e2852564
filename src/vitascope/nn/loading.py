"""Weights of files: reading them, and what of them a model has a place for."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

State = dict[str, Tensor]

WRAPPERS = ("model", "module", "state_dict", "model_state", "network")  # under which training scripts keep the weights


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of every tensor: names in our naming, sorted."""

    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()  # the model wants it, the file lacks it
    unexpected: tuple[str, ...] = ()  # the file has it, the model has no such place
    mismatched: tuple[str, ...] = ()  # both have it, in different shapes
    ignored: tuple[str, ...] = ()  # the file has it, outside the parts that were asked for

    @property
    def fits(self) -> bool:
        """Whether nothing is missing, unexpected or mismatched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} tensors matched"]
        for kind in ("missing", "unexpected", "mismatched", "ignored"):
            names = getattr(self, kind)
            if names:
                lines.append(f"{len(names)} {kind}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}")
        return "; ".join(lines)


def compare(given: State, wanted: State, parts: tuple[str, ...] = ("",)) -> LoadReport:
    """Tell what of a file's tensors fits a model's.

    Args:
        given: The file's, by our names.
        wanted: The model's.
        parts: Prefixes of our names that count; the file's other tensors are ignored, the model's are not asked for.

    Example:
        >>> one = torch.ones(1)
        >>> print(compare({"a.w": one, "b.w": one}, {"a.w": one, "a.v": one}, ("a.",)))
        1 tensors matched; 1 missing: a.v; 1 ignored: b.w
    """
    wanted = {name: tensor for name, tensor in wanted.items() if name.startswith(parts)}
    common = given.keys() & wanted.keys()
    return LoadReport(
        matched=tuple(sorted(name for name in common if given[name].shape == wanted[name].shape)),
        missing=tuple(sorted(wanted.keys() - given.keys())),
        unexpected=tuple(sorted(name for name in given if name.startswith(parts) and name not in wanted)),
        mismatched=tuple(sorted(name for name in common if given[name].shape != wanted[name].shape)),
        ignored=tuple(sorted(name for name in given if not name.startswith(parts))),
    )


def load_weights(path: str | Path) -> State:
    """Read the tensors of a `.safetensors`, `.pth`, `.pyth`, `.pt`, `.bin` or `.tar` file, whatever their names.

    Some papers' files pickle the command line's `argparse.Namespace` beside the weights; that one class is allowed, and
    nothing else is unpickled. DeepSpeed's files, which nest the weights under `module`, are read too.

    Args:
        path: The file.

    Returns:
        Tensors by their names in the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind or damaged, holds no tensors, or objects beside them.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights ({path}) do not exist; give the path of a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"weights ({path}) cannot be read ({error}); copy the file again from its source"
            ) from None
    if path.suffix not in (".pth", ".pyth", ".pt", ".bin", ".tar"):
        raise ValueError(f"weights ({path}) must be a .safetensors, .pth, .pyth, .pt, .bin or .tar file")
    return tensors_of(_unpickled(path), f"weights ({path})")


def tensors_of(content: object, name: str = "weights") -> State:
    """The tensors of a state dict, which may stand under one of `WRAPPERS`; what is beside them is left out.

    Raises:
        ValueError: There are none; the message begins with `name`.

    Example:
        >>> list(tensors_of({"epoch": 3, "state_dict": {"w": torch.ones(1), "step": 7}}))
        ['w']
    """
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ValueError(f"{name} hold no tensors under {', '.join(map(repr, WRAPPERS))} or at the top")
    return tensors


def _unpickled(path: Path) -> object:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"weights ({path}) hold objects beside tensors, or are damaged ({reason}); save the state dict alone, "
            "or copy the file again from its source"
        ) from None
