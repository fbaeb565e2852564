"""The paper's network, two ResNet-50 encoders and a decoder, with the names of the released weights (558 entries).

The form is that of the released code, which differs from the paper's text: what was read stands before the query's value,
similarities are scaled by 1/sqrt(128), and the memory encoder sees the other objects in a channel of their own.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitascope.methods.stm.model import MaskNetwork, Query

KEY, VALUE, WIDTH = 128, 512, 256  # channels of keys, of values, and inside the decoder


def upsample(x: Tensor, factor: int) -> Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def conv3x3(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut; the stride is on the 3x3 (ResNet v1.5)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.downsample = None
        if channels_in != 4 * channels:
            shortcut = nn.Conv2d(channels_in, 4 * channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = functional.relu(self.bn2(self.conv2(x)), inplace=True)
        return functional.relu(self.bn3(self.conv3(x)) + shortcut, inplace=True)


def stage(channels_in: int, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    later = [Bottleneck(4 * channels, channels, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(Bottleneck(channels_in, channels, stride), *later)


class Encoder(nn.Module):
    """ResNet-50 up to res4, of frames in [0, 1], which it normalises itself."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.res2 = stage(64, 64, 3, 1)
        self.res3 = stage(256, 128, 4, 2)
        self.res4 = stage(512, 256, 6, 2)

    def stem(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` to `[B, 64, H/2, W/2]`, before the norm."""
        return self.conv1((frames - self.mean) / self.std)

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """r4 `[B, 1024, H/16, W/16]`, r3 `[B, 512, H/8, W/8]`, r2 `[B, 256, H/4, W/4]` of what the stem gave."""
        x = functional.max_pool2d(functional.relu(self.bn1(x), inplace=True), 3, 2, 1)
        r2 = self.res2(x)
        r3 = self.res3(r2)
        return self.res4(r3), r3, r2

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.stages(self.stem(frames))


class MemoryEncoder(Encoder):
    """The encoder of a frame together with one object's mask and that of all other objects."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1_m = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.conv1_o = nn.Conv2d(1, 64, 7, 2, 3, bias=False)

    def forward(self, frames: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        x = self.stem(frames) + self.conv1_m(masks) + self.conv1_o(others)
        return self.stages(x)[0]


class KeyValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Key = conv3x3(1024, KEY)
        self.Value = conv3x3(1024, VALUE)


class Residual(nn.Module):
    """`x + conv(relu(conv(relu(x))))`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv3x3(WIDTH, WIDTH)
        self.conv2 = conv3x3(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(functional.relu(self.conv1(functional.relu(x)), inplace=True))


class Refine(nn.Module):
    """Joins a finer feature map, whose part is the same for every object, with an object's coarser map."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.convFS = conv3x3(channels_in, WIDTH)
        self.ResFS = Residual()
        self.ResMM = Residual()

    def skip(self, features: Tensor) -> Tensor:
        return self.ResFS(self.convFS(features))

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        return self.ResMM(skip + upsample(coarse, 2))


class Decoder(nn.Module):
    """From what was read to two logits at a quarter of the frame's size, enlarged four times."""

    def __init__(self) -> None:
        super().__init__()
        self.convFM = conv3x3(2 * VALUE, WIDTH)  # of what was read, and the query's value after it
        self.ResMM = Residual()
        self.RF3 = Refine(512)
        self.RF2 = Refine(256)
        self.pred2 = conv3x3(WIDTH, 2)

    def of_query(self, value: Tensor) -> Tensor:
        """The half of convFM that looks at the query's value: `[B, 512, h, w]` to `[B, 256, h, w]`."""
        return functional.conv2d(value, self.convFM.weight[:, VALUE:], self.convFM.bias, padding=1)

    def forward(self, read: Tensor, query: Query) -> Tensor:
        x = functional.conv2d(read.to(self.convFM.weight.dtype), self.convFM.weight[:, :VALUE], padding=1) + query.value
        m4 = self.ResMM(x)  # [P, 256, h, w]
        m3 = self.RF3(query.skips[0], m4)  # [P, 256, 2h, 2w]
        m2 = self.RF2(query.skips[1], m3)  # [P, 256, 4h, 4w]
        logits = self.pred2(functional.relu(m2, inplace=True))  # [P, 2, 4h, 4w]
        return upsample(logits.float() if logits.dtype == torch.bfloat16 else logits, 4)


class STM(MaskNetwork):
    """The paper's network. Its state dict is that of the released weights without the prefix `module.`.

    The parts of the decoder that see the query alone (60 % of its work) are computed once for all objects of a frame, and
    only if something is decoded at all. Batch norms keep the statistics that they were loaded with, in training too, as
    in the paper.

    Example:
        >>> sum(p.numel() for p in STM().parameters())
        38925570
    """

    key_width = KEY
    value_width = VALUE
    scale = 1 / math.sqrt(KEY)
    memory_takes_query = False

    def __init__(self) -> None:
        super().__init__()
        self.Encoder_M = MemoryEncoder()
        self.Encoder_Q = Encoder()
        self.KV_M_r4 = KeyValue()
        self.KV_Q_r4 = KeyValue()
        self.Decoder = Decoder()

    def train(self, mode: bool = True) -> STM:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def encode_query(self, frames: Tensor) -> Query:
        r4, r3, r2 = self.Encoder_Q(frames)
        return Query(self.KV_Q_r4.Key(r4), partial(self._value, r4), (r4,), partial(self._skips, r3, r2))

    def _value(self, r4: Tensor) -> Tensor:
        return self.Decoder.of_query(self.KV_Q_r4.Value(r4))

    def _skips(self, r3: Tensor, r2: Tensor) -> tuple[Tensor, Tensor]:
        return self.Decoder.RF3.skip(r3), self.Decoder.RF2.skip(r2)

    def encode_memory(
        self, frames: Tensor, masks: Tensor, others: Tensor, query: Query | None
    ) -> tuple[Tensor, Tensor]:
        r4 = self.Encoder_M(frames, masks, others)
        return self.KV_M_r4.Key(r4), self.KV_M_r4.Value(r4)

    def decode(self, read: Tensor, query: Query) -> Tensor:
        return self.Decoder(read, query)
