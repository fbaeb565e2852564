"""I3D: Inception-v1 with its filters inflated over time, for RGB or optical flow.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017. Parameters carry the names of the files of
pytorch-i3d (`Mixed_4f.b1b.conv3d.weight`, ...), which the features of temporal localization are made with.

Padding is TensorFlow's "same": as much as the output `ceil(size / stride)` needs, the smaller half in front. It goes
by the size of the input, so that a layer of stride 2 pads an odd side otherwise than an even one; pools pad with
zeros.
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitascope.nn.loading import compare, load_weights
from vitascope.nn.s3dg import BLOCKS

EPSILON, MOMENTUM = 1e-3, 0.01  # of all norms
POOL = (2, 7, 7)  # the last one: 16 frames of 224 pixels become one vector


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad the last sides of `x` with zeros, one for each of `kernel`, so that `ceil(size / stride)` windows fit.

    Example:
        >>> pad_same(torch.ones(1, 5), (7,), (2,)).tolist(), pad_same(torch.ones(1, 4), (3,), (2,)).tolist()
        ([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0, 1.0, 0.0]])
    """
    pads: list[int] = []
    for size, k, s in zip(x.shape[-len(kernel) :], kernel, stride, strict=True):
        total = max(k - (size % s or s), 0)
        pads = [total // 2, total - total // 2, *pads]  # torch wants the last side first
    return F.pad(x, pads) if any(pads) else x


class Unit(nn.Module):
    """Convolution padded as "same", batch norm and ReLU; `is_head` is the classes', with a bias and nothing after."""

    def __init__(
        self, in_dim: int, dim: int, kernel: tuple[int, ...] = (1, 1, 1), stride: int = 1, is_head: bool = False
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, (stride,) * 3
        self.conv3d = nn.Conv3d(in_dim, dim, kernel, stride, bias=is_head)
        if not is_head:
            self.bn = nn.BatchNorm3d(dim, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, T, H, W]` -> `[B, D, T / stride, H / stride, W / stride]`, rounded up."""
        x = self.conv3d(pad_same(x, self.kernel, self.stride))
        return self.bn(x).relu_() if hasattr(self, "bn") else x


class Pool(nn.MaxPool3d):
    """Maximum over windows, padded as "same"."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__(kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size, self.stride))


class Mixed(nn.Module):
    """Four branches side by side; `widths` as in `nn.s3dg.BLOCKS`."""

    def __init__(self, in_dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        b0, b1_in, b1, b2_in, b2, b3 = widths
        self.b0 = Unit(in_dim, b0)
        self.b1a, self.b1b = Unit(in_dim, b1_in), Unit(b1_in, b1, (3, 3, 3))
        self.b2a, self.b2b = Unit(in_dim, b2_in), Unit(b2_in, b2, (3, 3, 3))
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), Unit(in_dim, b3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], 1)


class I3D(nn.Module):
    """Clips to vectors of width 1024; 12.7 million weights with 400 classes.

    Args:
        in_channels: 3 for RGB, 2 for flow.
        num_classes: Of the classes' layer, which `forward` does not use; Kinetics has 400.

    Attributes:
        dim: Width of what comes out, 1024.

    Example:
        >>> I3D(in_channels=2).eval().feature_maps(torch.zeros(1, 9, 2, 33, 40)).shape
        torch.Size([1, 1024, 2, 2, 2])
    """

    dim = 1024

    def __init__(self, in_channels: int = 3, num_classes: int = 400) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.Conv3d_1a_7x7 = Unit(in_channels, 64, (7, 7, 7), stride=2)
        self.MaxPool3d_2a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, (3, 3, 3))
        pools = {
            "Mixed_3b": ("MaxPool3d_3a_3x3", Pool((1, 3, 3), (1, 2, 2))),
            "Mixed_4b": ("MaxPool3d_4a_3x3", Pool((3, 3, 3), (2, 2, 2))),
            "Mixed_5b": ("MaxPool3d_5a_2x2", Pool((2, 2, 2), (2, 2, 2))),
        }
        dim = 192
        for name, widths in BLOCKS.items():
            if name in pools:
                self.add_module(*pools[name])
            self.add_module(name, Mixed(dim, widths))
            dim = widths[0] + widths[2] + widths[4] + widths[5]
        self.logits = Unit(dim, num_classes, is_head=True)

    def feature_maps(self, clips: Tensor) -> Tensor:
        """`[B, T, C, H, W]` in [-1, 1] -> `[B, 1024, T / 8, H / 32, W / 32]`, rounded up.

        Raises:
            ValueError: The clips have another number of channels.
        """
        if clips.ndim != 5 or clips.shape[2] != self.in_channels:
            raise ValueError(f"clips {list(clips.shape)} must be [B, T, {self.in_channels}, H, W]")
        x = clips.transpose(1, 2)  # [B, C, T, H, W]
        for name, layer in self.named_children():
            x = x if name == "logits" else layer(x)
        return x

    def forward(self, clips: Tensor) -> Tensor:
        """`[B, T, C, H, W]` in [-1, 1] -> `[B, 1024]`, the mean of the last pool's windows.

        Raises:
            ValueError: The clips have another number of channels, or are too small for the pool.
        """
        if clips.ndim == 5 and (clips.shape[1] < 9 or min(clips.shape[3:]) < 193):
            raise ValueError(
                f"clips {list(clips.shape)} must have at least 9 frames of 193 pixels; 16 of 224 are usual"
            )
        return F.avg_pool3d(self.feature_maps(clips), POOL, stride=1).mean((2, 3, 4))


def load_i3d(path: str | os.PathLike[str]) -> I3D:
    """The network of a file of pytorch-i3d, ready to use; what it takes and its number of classes are the file's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or anything is missing, unexpected or of another shape.
    """
    given = {name.removeprefix("module."): tensor for name, tensor in load_weights(path).items()}
    first, last = given.get("Conv3d_1a_7x7.conv3d.weight"), given.get("logits.conv3d.weight")
    if first is None or last is None or first.ndim != 5 or last.ndim != 5:
        raise ValueError(f"weights ({path}) must be I3D's as pytorch-i3d names them: Conv3d_1a_7x7 to logits")
    network = I3D(first.shape[1], last.shape[0])
    wanted = network.state_dict()
    for name in wanted.keys() - given.keys():
        if name.endswith("num_batches_tracked"):  # older files lack it, and it has no influence
            given[name] = wanted[name]
    report = compare(given, wanted)
    if not report.fits:
        raise ValueError(f"weights ({path}) do not fit I3D: {report}")
    network.load_state_dict(given)
    return network.eval()
