"""The form of a trained network that only infers: norms folded, pixels before channels, bfloat16 where it is fast."""

from __future__ import annotations

import copy
import functools
import time
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitascope.methods.stm.model import MaskNetwork

WORTH = 1.3  # bfloat16 must be this many times as fast as float32 to be chosen by measurement


def prepare(network: MaskNetwork, *, bf16: bool | Literal["auto"] = False, channels_last: bool = True) -> MaskNetwork:
    """Copy a trained network into the form in which it infers fastest. The copy cannot be trained.

    Batch norms are folded into their convolutions, which changes results by rounding alone. In bfloat16 the convolutions
    and memory are 16 bits wide; similarities, their softmax, probabilities and their aggregation stay float32.

    Args:
        network: On the device where it is to run; left as it is.
        bf16: False for float32, "auto" for bfloat16 where a short measurement finds it faster.
        channels_last: Whether convolutions keep the channels of a pixel together, which is faster.

    Returns:
        The copy, in evaluation mode, its weights without gradient.

    Raises:
        ValueError: `bf16` is True on a device where it is slower than float32, or is none of the three.

    Example:
        >>> from vitascope.methods.stm.light import LightSTM
        >>> fast = prepare(LightSTM())
        >>> any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
        False
    """
    if bf16 not in (True, False, "auto"):
        raise ValueError(f"bf16 ({bf16!r}) must be True, False or 'auto'")
    network = copy.deepcopy(network).eval().requires_grad_(False)
    fold_norms(network)
    device = str(next(network.parameters()).device)
    gain = bf16_gain(device) if bf16 else 0.0
    if bf16 is True and gain < 1:
        raise ValueError(
            f"bf16 (True) is {gain:.2f} times as fast as float32 on {device}, emulated; use 'auto' or False"
        )
    if bf16 is True or gain >= WORTH:
        narrow(network)
    return network.to(memory_format=torch.channels_last) if channels_last else network


def fold_norms(network: nn.Module) -> None:
    """Fold batch norms, as they are in evaluation mode, into the convolutions before them, in place.

    A norm belongs to the convolution right before it in an `nn.Sequential`, and elsewhere to those of its name: `bn1` to
    `conv1`, and to every `conv1_...` that is added to it.
    """
    for module in network.modules():
        for name, norm in list(module.named_children()):
            convolutions = _normalised_by(module, name) if isinstance(norm, nn.BatchNorm2d) else []
            if convolutions:
                _fold(convolutions, norm)
                setattr(module, name, nn.Identity())


def _normalised_by(module: nn.Module, name: str) -> list[nn.Conv2d]:
    children = dict(module.named_children())
    if isinstance(module, nn.Sequential):
        names = list(children)
        found = [children[names[names.index(name) - 1]]] if names.index(name) else []
    else:
        own = name.replace("bn", "conv")
        found = [child for other, child in children.items() if other == own or other.startswith(f"{own}_")]
    return [child for child in found if isinstance(child, nn.Conv2d)]


def _fold(convolutions: list[nn.Conv2d], norm: nn.BatchNorm2d) -> None:
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * factor
    for convolution in convolutions:
        folded = convolution.weight.double() * factor[:, None, None, None]
        convolution.weight = nn.Parameter(folded.to(convolution.weight.dtype), requires_grad=False)
        if convolution.bias is not None:
            shift = shift + convolution.bias.double() * factor
            convolution.bias = None
    convolutions[0].bias = nn.Parameter(shift.to(norm.weight.dtype), requires_grad=False)


def narrow(network: nn.Module) -> None:
    """Let the convolutions work in bfloat16, whatever they are given, in place; all else keeps its type."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(torch.bfloat16)
            module.register_forward_pre_hook(_cast)


def _cast(module: nn.Conv2d, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].to(module.weight.dtype),)


@functools.cache
def bf16_gain(device: str = "cpu") -> float:
    """How many times faster a convolution is in bfloat16 than in float32, measured in about 0.2 s, once a process.

    A CPU without instructions for bfloat16 emulates it, slower than float32: no flag tells that on every machine.
    """
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    images = torch.randn(1, 256, 32, 32, device=device).to(memory_format=torch.channels_last)
    weights = torch.randn(256, 256, 3, 3, device=device).to(memory_format=torch.channels_last)
    cases = {dtype: (images.to(dtype), weights.to(dtype)) for dtype in best}
    for _ in range(6):
        for dtype, (x, weight) in cases.items():
            _wait(device)
            start = time.perf_counter()
            functional.conv2d(x, weight, padding=1)
            _wait(device)
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
