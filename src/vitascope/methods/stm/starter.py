"""Weights ready to segment with: the light network's that come with the package, or those of a file."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from vitascope.methods.stm.convert import load_official
from vitascope.methods.stm.light import LightSTM
from vitascope.methods.stm.model import MaskNetwork

WEIGHTS = Path(__file__).parent / "weights" / "stm_small.safetensors"


def load_starter(path: str | os.PathLike[str] = WEIGHTS) -> LightSTM:
    """The light network with the weights that come with the package, ready to segment.

    Raises:
        FileNotFoundError: The package was installed without its weights.
        RuntimeError: The file holds other weights.
    """
    network = LightSTM()
    weights = {name.removeprefix("network."): tensor.float() for name, tensor in load_file(path).items()}
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def load_network(weights: str | os.PathLike[str] | None = None) -> MaskNetwork:
    """A network ready to segment: the light one, or the paper's where the file holds its weights.

    Args:
        weights: None for the light network's that come with the package, or a file: `.safetensors` of the light network,
            or anything that `load_official` takes.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file holds other weights.
    """
    if weights is None:
        return load_starter()
    if str(weights).endswith(".safetensors"):
        with safe_open(weights, "pt") as file:
            is_light = any("trunk." in name for name in file.keys())  # noqa: SIM118, not a dict
        if is_light:
            return load_starter(weights)
    return load_official(weights)
