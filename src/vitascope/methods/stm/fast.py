"""The form of a trained network that only infers: norms and activations folded, bfloat16 where it is fast."""

from __future__ import annotations

import copy
import functools
import time
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitascope.methods.stm.model import MaskNetwork
from vitascope.methods.stm.read import has_onednn
from vitascope.methods.stm.resnet50 import Bottleneck

WORTH = 1.3  # bfloat16 must be this many times as fast as float32 to be chosen by measurement


def prepare(network: MaskNetwork, *, bf16: bool | Literal["auto"] = False) -> MaskNetwork:
    """Copy a trained network into the form in which it infers fastest. The copy cannot be trained.

    The channels of a pixel lie together. Batch norms are folded into their convolutions, and on a CPU activations follow
    in the same pass: results change by rounding alone. In bfloat16 the convolutions and memory are 16 bits wide; similarities, their softmax,
    probabilities and their aggregation stay float32.

    Args:
        network: On the device where it is to run; left as it is.
        bf16: False for float32, "auto" for bfloat16 where a short measurement finds it faster.

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
    network.to(memory_format=torch.channels_last)
    if device == "cpu" and next(network.parameters()).dtype != torch.float64 and has_onednn():
        fuse(network)
    return network


def fastest(network: MaskNetwork, bf16: bool | Literal["auto"] = False) -> tuple[MaskNetwork, bool]:
    """Prepare a network for the device at hand: an accelerator if there is one.

    Args:
        network: Left as it is.
        bf16: "auto" for bfloat16 where a short measurement finds it faster; True as an earlier call chose.

    Returns:
        The copy, and whether it works in bfloat16.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = bf16_gain(device) >= WORTH if bf16 == "auto" else bf16
    prepared = prepare(copy.deepcopy(network).to(device))
    if chosen:
        narrow(prepared)
    return prepared, chosen


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


class Fused(nn.Module):
    """A convolution with what follows it, in one pass over the pixels (oneDNN, without gradient)."""

    def __init__(self, convolution: nn.Conv2d, then: str, limits: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.weight, self.bias, self.then, self.limits = convolution.weight, convolution.bias, then, list(limits)
        sizes = (convolution.padding, convolution.stride, convolution.dilation)
        self.sizes = (*(list(size) for size in sizes), convolution.groups)

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """The activation of the convolution, or of its sum with `add`."""
        x, run = x.to(self.weight.dtype), torch.ops.mkldnn._convolution_pointwise
        if add is None:
            return run(x, self.weight, self.bias, *self.sizes, self.then, self.limits, None)
        return run.binary(x, add, self.weight, self.bias, *self.sizes, "add", 1.0, self.then, self.limits, None)


class FusedBottleneck(nn.Module):
    """A `Bottleneck` without norms, whose additions and activations are part of its convolutions."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (Fused(c, "relu") for c in (block.conv1, block.conv2, block.conv3))
        self.downsample = nn.Identity() if block.downsample is None else block.downsample

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(x)), add=self.downsample(x))


def fuse(network: nn.Module) -> None:
    """Replace convolutions and what follows them, in place, after `fold_norms`: 1.5 times as fast in an encoder.

    Bottlenecks are replaced, and convolutions with a ReLU or ReLU6 after them in an `nn.Sequential`.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Bottleneck):
                setattr(module, name, FusedBottleneck(child))
        if isinstance(module, nn.Sequential):
            _fuse_activations(module)


def _fuse_activations(steps: nn.Sequential) -> None:
    here = [i for i, step in enumerate(steps) if not isinstance(step, nn.Identity)]
    for i, j in zip(here, here[1:]):
        if isinstance(steps[i], nn.Conv2d) and isinstance(steps[j], (nn.ReLU, nn.ReLU6)):
            then = ("hardtanh", (0.0, 6.0)) if isinstance(steps[j], nn.ReLU6) else ("relu",)
            steps[i], steps[j] = Fused(steps[i], *then), nn.Identity()


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
