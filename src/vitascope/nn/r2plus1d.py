"""R(2+1)D-10: a residual network whose 3-D convolutions are split into one over space and one over time.

Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018 (arXiv 1711.11248), with one block a stage as in
HiCo. Parameters carry the names of HiCo's files (`conv1.a1`, `conv3.res_1.conv_branch.b2_bn`, ...).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from vitascope.nn.r3d import WIDTHS, ResNet3D


class R2Plus1D10(ResNet3D):
    """One block a stage of two split convolutions: 14.37 M parameters.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     R2Plus1D10().feature_maps(torch.empty(1, 16, 3, 112, 112)).shape
        torch.Size([1, 512, 2, 7, 7])
    """

    def __init__(self) -> None:
        stem = _split_conv("a", 3, WIDTHS[0], spatial=7, strides=(1, 2)) | {"relu": nn.ReLU(inplace=True)}
        super().__init__(nn.Sequential(OrderedDict(stem)), _branch, num_blocks=1)


def middle_width(in_dim: int, dim: int, spatial: int = 3, temporal: int = 3) -> int:
    """Channels between the two convolutions with which both together have as many weights as the 3-D one.

    Args:
        in_dim, dim: Channels of the 3-D convolution.
        spatial, temporal: Its kernel along H and W, and along T.

    Example:
        >>> middle_width(64, 64), middle_width(3, 64, spatial=7)
        (144, 83)
    """
    return temporal * spatial**2 * in_dim * dim // (spatial**2 * in_dim + temporal * dim)


def _branch(in_dim: int, dim: int, stride: int) -> nn.Sequential:
    """Two split convolutions with norms, the ReLU after the second left to the block."""
    first = _split_conv("a", in_dim, dim, spatial=3, strides=(stride, stride))
    second = _split_conv("b", dim, dim, spatial=3, strides=(1, 1))
    return nn.Sequential(OrderedDict(first | {"relu": nn.ReLU(inplace=True)} | second))


def _split_conv(name: str, in_dim: int, dim: int, spatial: int, strides: tuple[int, int]) -> dict[str, nn.Module]:
    """A convolution over space, norm, ReLU, one of 3 frames over time, norm; strides are along time and along space."""
    middle, pad, (step_t, step) = middle_width(in_dim, dim, spatial), spatial // 2, strides
    return {
        f"{name}1": nn.Conv3d(in_dim, middle, (1, spatial, spatial), (1, step, step), (0, pad, pad), bias=False),
        f"{name}1_bn": nn.BatchNorm3d(middle),
        f"{name}1_relu": nn.ReLU(inplace=True),
        f"{name}2": nn.Conv3d(middle, dim, (3, 1, 1), (step_t, 1, 1), (1, 0, 0), bias=False),
        f"{name}2_bn": nn.BatchNorm3d(dim),
    }
