"""Weights from elsewhere: the released file of the paper's network, loaded strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vitascope.methods.stm.resnet50 import STM
from vitascope.nn.loading import load_weights, tensors_of

NAMES = ((r"^module\.", ""),)  # (pattern, ours): the released network was wrapped for several GPUs
STRANGERS = {  # a part of a name -> whose it is
    "mask_rgb_encoder.": "Mask-Propagation or MiVOS",
    "value_encoder.": "STCN or XMem",
    "kv_q_f16.": "Mask-Propagation or MiVOS",
}
OFFICIAL = "the released STM_weights.pth (558 tensors) fits, and so do files with the same names"


def load_official(path_or_state_dict: str | Path | Mapping) -> STM:
    """Build the paper's network from the released weights, or from any with the same names.

    Args:
        path_or_state_dict: A file as `nn.loading.load_weights` takes it, or the state dict itself; with or without the
            prefix `module.`, with or without a wrapper `state_dict`.

    Returns:
        The network on the CPU, in float32 and in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, the weights are of another kind, or a tensor is missing, unexpected or of
            another shape.

    Example:
        >>> state = {f"module.{name}": tensor for name, tensor in STM().state_dict().items()}
        >>> len(state), load_official(state).training
        (558, False)
    """
    is_state = isinstance(path_or_state_dict, Mapping)
    given = tensors_of(path_or_state_dict) if is_state else load_weights(path_or_state_dict)
    state, network = to_ours(given), STM()
    problem = _misfit(network.state_dict(), state)
    if problem:
        raise ValueError(f"weights do not fit the network of the paper: {problem}; {OFFICIAL}")
    network.load_state_dict(state)
    return network.eval()


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors to our names, those of the released file without `module.`; other names stay, for loading to tell.

    Raises:
        ValueError: The names are those of another network, or two become one.

    Example:
        >>> import torch
        >>> list(to_ours({"module.Decoder.pred2.bias": torch.zeros(2)}))
        ['Decoder.pred2.bias']
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for part, owner in STRANGERS.items():
            if part in name:
                raise ValueError(
                    f"weights hold {name}: they are of {owner}, another network (its decoder says one number a pixel, not "
                    f"two), which cannot be converted; {OFFICIAL}"
                )
        renamed = name
        for pattern, replacement in NAMES:
            renamed = re.sub(pattern, replacement, renamed)
        if renamed in ours:
            raise ValueError(f"weights hold {renamed} twice, the second time as {name}; the file mixes two networks")
        ours[renamed] = tensor
    return ours


def _misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What is missing, unexpected or of another shape, a few names of each; empty if all fits."""
    reshaped = [
        f"{name} {list(given[name].shape)} instead of {list(wanted[name].shape)}"
        for name in sorted(wanted.keys() & given.keys())
        if wanted[name].shape != given[name].shape
    ]
    kinds = {
        "missing": sorted(wanted.keys() - given.keys()),
        "unexpected": sorted(given.keys() - wanted.keys()),
        "of another shape": reshaped,
    }
    return "; ".join(f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds.items() if names)


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
