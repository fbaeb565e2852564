"""A residual network over clips that trains on two CPU cores."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class SplitBlock(nn.Module):
    """A convolution over space, one over time, and a 1 x 1 x 1 one around both.

    Args:
        in_dim: Channels that come in.
        dim: Channels that go out.
        strides: Along T, H and W.
    """

    def __init__(self, in_dim: int, dim: int, strides: tuple[int, int, int]) -> None:
        super().__init__()
        along_t, *along_space = strides
        self.space = nn.Conv3d(in_dim, dim, (1, 3, 3), (1, *along_space), (0, 1, 1), bias=False)
        self.space_norm = nn.BatchNorm3d(dim)
        self.time = nn.Conv3d(dim, dim, (3, 1, 1), (along_t, 1, 1), (1, 0, 0), bias=False)
        self.time_norm = nn.BatchNorm3d(dim)
        self.around = nn.Conv3d(in_dim, dim, 1, strides, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, T, H, W]` -> `[B, D, T', H', W']`, divided by the strides and rounded up."""
        y = self.space_norm(self.space(x)).relu_()
        return (self.time_norm(self.time(y)) + self.around(x)).relu_()


class Tiny3D(nn.Module):
    """Clips -> `[B, 8 * width]`: 0.70 M parameters, 0.17 GFLOP for 8 frames of 64 x 64 pixels at width 32.

    Its norms are of the batch, as in the networks of the paper. Group norms would make each clip independent of the others;
    contrastive pre-training in minutes then gave features that a linear probe tells much worse.

    Args:
        width: Channels of the stem.

    Attributes:
        dim: Width of what comes out.

    Example:
        >>> import torch
        >>> encoder = Tiny3D(width=8)
        >>> encoder(torch.rand(2, 8, 3, 64, 64)).shape, encoder.dim
        (torch.Size([2, 64]), 64)
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.dim = 8 * width
        stem = OrderedDict(
            conv=nn.Conv3d(3, width, (3, 7, 7), (1, 4, 4), (1, 3, 3), bias=False),
            norm=nn.BatchNorm3d(width),
            relu=nn.ReLU(inplace=True),
        )
        self.stem = nn.Sequential(stem)
        self.blocks = nn.Sequential(
            SplitBlock(width, 2 * width, (1, 2, 2)),
            SplitBlock(2 * width, 4 * width, (2, 2, 2)),
            SplitBlock(4 * width, 8 * width, (2, 1, 1)),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def feature_maps(self, clips: Tensor) -> Tensor:
        """Normalised pixels `[B, T, C, H, W]` -> `[B, 8 * width, T / 4, H / 16, W / 16]`, rounded up."""
        return self.blocks(self.stem(clips.transpose(1, 2)))  # [B, C, T, H, W] inside

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised pixels `[B, T, C, H, W]` -> `[B, 8 * width]`, the mean over time and space."""
        return self.feature_maps(clips).mean((2, 3, 4))
