"""S3D-G: Inception with 3-D convolutions, each split into one over space and one over time, and gates on channels.

Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018 (arXiv 1712.04851). Parameters carry the names of the
released files of HiCo and CoCLR (`Conv_1a.conv1`, `Mixed_4f.branch1.1.bn2`, ...), so their weights load by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

POINTWISE_EPS = 1e-5  # of the norms after 1 x 1 x 1 convolutions
BLOCKS = {  # name -> channels of branch 0; of 1 x 1 x 1 and 3 x 3 x 3 of branches 1 and 2; of branch 3
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


class PointwiseConv(nn.Module):
    """1 x 1 x 1 convolution, batch norm, ReLU: `[B, C, T, H, W]` -> `[B, D, T, H, W]`."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_dim, dim, 1, bias=False)
        self.bn = nn.BatchNorm3d(dim, eps=POINTWISE_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu_()


class SeparableConv(nn.Module):
    """A convolution over space, then one over time, each with batch norm and ReLU.

    Args:
        in_dim: Channels that come in.
        dim: Channels of both convolutions.
        kernel_size: Along T, H and W; odd.
        stride: Along T, H and W.
        eps: Of both norms.
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int, stride: int, eps: float) -> None:
        super().__init__()
        k, s, pad = kernel_size, stride, kernel_size // 2
        self.conv1 = nn.Conv3d(in_dim, dim, (1, k, k), (1, s, s), (0, pad, pad), bias=False)
        self.bn1 = nn.BatchNorm3d(dim, eps=eps)
        self.conv2 = nn.Conv3d(dim, dim, (k, 1, 1), (s, 1, 1), (pad, 0, 0), bias=False)
        self.bn2 = nn.BatchNorm3d(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, T, H, W]` -> `[B, D, T / stride, H / stride, W / stride]`, rounded up."""
        x = self.bn1(self.conv1(x)).relu_()
        return self.bn2(self.conv2(x)).relu_()


class SelfGating(nn.Module):
    """Weighs each channel of a clip by a sigmoid of all channels' means (the paper's feature gating)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, T, H, W]` -> the same shape."""
        return x * self.fc(x.mean((2, 3, 4))).sigmoid()[:, :, None, None, None]


class Inception(nn.Module):
    """Four branches side by side, each with a gate at its end.

    Args:
        in_dim: Channels that come in.
        widths: Channels, as in `BLOCKS`.
        gating: Whether there are gates.
        separable_eps: Epsilon of the norms of the separable convolutions.
    """

    def __init__(self, in_dim: int, widths: tuple[int, ...], gating: bool, separable_eps: float) -> None:
        super().__init__()
        b0, b1_in, b1, b2_in, b2, b3 = widths
        self.branch0 = nn.Sequential(PointwiseConv(in_dim, b0))
        self.branch1 = nn.Sequential(PointwiseConv(in_dim, b1_in), SeparableConv(b1_in, b1, 3, 1, separable_eps))
        self.branch2 = nn.Sequential(PointwiseConv(in_dim, b2_in), SeparableConv(b2_in, b2, 3, 1, separable_eps))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), PointwiseConv(in_dim, b3))
        self.gated = gating
        if gating:
            for i, width in enumerate((b0, b1, b2, b3)):
                self.add_module(f"gating_b{i}", SelfGating(width))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, T, H, W]` -> `[B, D, T, H, W]`, D the sum of the branches' channels."""
        branches = [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)]
        if self.gated:
            gates = (self.gating_b0, self.gating_b1, self.gating_b2, self.gating_b3)
            branches = [gate(branch) for gate, branch in zip(gates, branches, strict=True)]
        return torch.cat(branches, dim=1)


class S3DG(nn.Module):
    """Clips -> `[B, 1024]`: 9.10 M parameters, 8.95 GFLOP for 16 frames of 112 x 112 pixels.

    Norms of separable convolutions have another epsilon than those of 1 x 1 x 1 ones, as HiCo trains it; CoCLR's S3D is
    `S3DG(gating=False, separable_eps=1e-5)`. Weights begin as N(0, 0.01).

    Args:
        gating: Gate the branches; without, the network is the paper's S3D.
        separable_eps: Epsilon of the norms of the separable convolutions.

    Attributes:
        dim: Width of what comes out, 1024.

    Example:
        >>> with torch.device("meta"):
        ...     S3DG().feature_maps(torch.empty(1, 16, 3, 112, 112)).shape
        torch.Size([1, 1024, 2, 3, 3])
    """

    dim = 1024

    def __init__(self, gating: bool = True, separable_eps: float = 1e-3) -> None:
        super().__init__()
        self.Conv_1a = SeparableConv(3, 64, 7, 2, separable_eps)
        self.MaxPool_2a = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.Conv_2b = PointwiseConv(64, 64)
        self.Conv_2c = SeparableConv(64, 192, 3, 1, separable_eps)
        pools = {
            "Mixed_3b": ("MaxPool_3a", nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))),
            "Mixed_4b": ("MaxPool_4a", nn.MaxPool3d(3, 2, 1)),
            "Mixed_5b": ("MaxPool_5a", nn.MaxPool3d(2, 2)),
        }
        dim = 192
        for name, widths in BLOCKS.items():
            if name in pools:
                self.add_module(*pools[name])
            self.add_module(name, Inception(dim, widths, gating, separable_eps))
            dim = widths[0] + widths[2] + widths[4] + widths[5]
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, std=0.01)

    def feature_maps(self, clips: Tensor) -> Tensor:
        """Normalised pixels `[B, T, C, H, W]` -> `[B, 1024, T / 8, H / 32, W / 32]`, about.

        Raises:
            ValueError: The clips are shorter than 5 frames or smaller than 17 pixels: nothing would be left of them.
        """
        if clips.ndim != 5 or clips.shape[1] < 5 or min(clips.shape[3:]) < 17:
            raise ValueError(f"clips {list(clips.shape)} must be [B, T, 3, H, W] with T >= 5 and H, W >= 17")
        x = clips.transpose(1, 2)  # [B, C, T, H, W]
        for layer in self.children():
            x = layer(x)
        return x

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised pixels `[B, T, C, H, W]` -> `[B, 1024]`, the mean over time and space."""
        return self.feature_maps(clips).mean((2, 3, 4))
