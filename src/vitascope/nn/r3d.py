"""R3D-18, and the residual network over clips that it is one of.

Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018 (arXiv 1711.11248).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)  # of the four stages


class ResidualBlock(nn.Module):
    """ReLU of a branch plus what came in, which goes through a 1 x 1 x 1 convolution where the shape changes.

    Args:
        conv_branch: `[B, C, T, H, W]` -> `[B, D, T / stride, H / stride, W / stride]`.
        in_dim: C.
        dim: D.
        stride: Along T, H and W.
    """

    def __init__(self, conv_branch: nn.Module, in_dim: int, dim: int, stride: int) -> None:
        super().__init__()
        self.conv_branch = conv_branch
        self.changes = stride != 1 or in_dim != dim
        if self.changes:
            self.short_cut = nn.Conv3d(in_dim, dim, 1, stride, bias=False)
            self.short_cut_bn = nn.BatchNorm3d(dim)

    def forward(self, x: Tensor) -> Tensor:
        around = self.short_cut_bn(self.short_cut(x)) if self.changes else x
        return (self.conv_branch(x) + around).relu_()


class ResNet3D(nn.Module):
    """A stem and four stages of residual blocks; time and space are halved at the first block of stages 3 to 5.

    Args:
        stem: `[B, 3, T, H, W]` -> `[B, 64, T, H / 2, W / 2]`; called `conv1`, the stages `conv2` to `conv5`.
        branch: Makes a block's branch, given its channels in and out and its stride.
        num_blocks: Blocks of a stage, called `res_1`, `res_2`, ...

    Attributes:
        dim: Width of what comes out, 512.
    """

    dim = WIDTHS[-1]

    def __init__(self, stem: nn.Module, branch: Callable[[int, int, int], nn.Module], num_blocks: int) -> None:
        super().__init__()
        self.conv1 = stem
        in_dim = WIDTHS[0]
        for number, dim in enumerate(WIDTHS, start=2):
            blocks = OrderedDict()
            for i in range(num_blocks):
                stride = 2 if i == 0 and number > 2 else 1
                blocks[f"res_{i + 1}"] = ResidualBlock(branch(in_dim, dim, stride), in_dim, dim, stride)
                in_dim = dim
            self.add_module(f"conv{number}", nn.Sequential(blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def feature_maps(self, clips: Tensor) -> Tensor:
        """Normalised pixels `[B, T, C, H, W]` -> `[B, 512, T / 8, H / 16, W / 16]`, rounded up."""
        x = clips.transpose(1, 2)  # [B, C, T, H, W]
        for stage in self.children():
            x = stage(x)
        return x

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised pixels `[B, T, C, H, W]` -> `[B, 512]`, the mean over time and space."""
        return self.feature_maps(clips).mean((2, 3, 4))


class R3D18(ResNet3D):
    """Two blocks a stage of two 3 x 3 x 3 convolutions: 33.17 M parameters.

    HiCo's files of this network are not released; the names follow those of its R(2+1)D-10.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     R3D18().feature_maps(torch.empty(1, 8, 3, 112, 112)).shape
        torch.Size([1, 512, 1, 7, 7])
    """

    def __init__(self) -> None:
        stem = OrderedDict(
            a=nn.Conv3d(3, WIDTHS[0], (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            a_bn=nn.BatchNorm3d(WIDTHS[0]),
            relu=nn.ReLU(inplace=True),
        )
        super().__init__(nn.Sequential(stem), _branch, num_blocks=2)


def _branch(in_dim: int, dim: int, stride: int) -> nn.Sequential:
    """Two convolutions with norms, the ReLU after the second left to the block."""
    layers = OrderedDict(
        a=nn.Conv3d(in_dim, dim, 3, stride, 1, bias=False),
        a_bn=nn.BatchNorm3d(dim),
        relu=nn.ReLU(inplace=True),
        b=nn.Conv3d(dim, dim, 3, 1, 1, bias=False),
        b_bn=nn.BatchNorm3d(dim),
    )
    return nn.Sequential(layers)
