"""The light network, for CPUs: an EfficientNet-lite0 trunk, keys that all objects share, a narrow decoder.

What differs from the paper's network, and why (measured: `benchmarks/bench_stm.py`):

- One trunk, run once a frame. The key is the image's alone, so every object of a frame has the same one, and memory needs
  no second pass through a trunk (space-time correspondence networks, Cheng et al., NeurIPS 2021).
- Similarity is the negative squared distance, not the dot product, so that long keys do not win everywhere (same paper).
- What tells objects apart is the value: the trunk's features of the frame, fused with the object's mask and the others'.
- The decoder is 160 to 64 wide, not 256: it was 4/5 of the cost.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitascope.methods.stm.model import MaskNetwork, Query
from vitascope.nn.lite0 import Lite0


class PreActivated(nn.Module):
    """`x + conv(relu(conv(relu(x))))`, 3x3, no norm (paper, section 3.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(functional.relu(self.conv1(functional.relu(x))))


class MaskEncoder(nn.Module):
    """Memory value of an object: its mask and the others', from full size down, fused with the frame's features."""

    def __init__(self, widths: tuple[int, int, int], value_width: int) -> None:
        super().__init__()
        quarter, eighth, sixteenth = widths
        self.masks = nn.Conv2d(2, 32, 8, stride=4, padding=2)
        self.quarter = nn.Conv2d(32 + quarter, 48, 3, padding=1)
        self.eighth = nn.Conv2d(48 + eighth, 96, 3, padding=1)
        self.down = nn.Conv2d(48, 48, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(96, 96, 3, stride=2, padding=1)
        self.sixteenth = nn.Conv2d(96 + sixteenth, value_width, 3, padding=1)
        self.residual = PreActivated(value_width)

    def forward(self, masks: Tensor, features: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Masks `[P, 2, H, W]` and the frame's features at 1/4, 1/8, 1/16, to `[P, Cv, h, w]`."""
        relu = functional.relu
        x = relu(self.quarter(torch.cat([relu(self.masks(masks)), features[0]], 1)))
        x = relu(self.eighth(torch.cat([relu(self.down(x)), features[1]], 1)))
        x = self.sixteenth(torch.cat([relu(self.down2(x)), features[2]], 1))
        return self.residual(x)


class Decoder(nn.Module):
    """What was read, refined at 1/16, 1/8 and 1/4 (paper, section 3.3, narrower)."""

    def __init__(self, width_in: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, third = widths
        self.reduce = nn.Sequential(nn.Conv2d(width_in, first, 3, padding=1), PreActivated(first))
        self.narrow8, self.narrow4 = nn.Conv2d(first, second, 1), nn.Conv2d(second, third, 1)
        self.refine8, self.refine4 = PreActivated(second), PreActivated(third)
        self.predict = nn.Conv2d(third, 2, 3, padding=1)

    def forward(self, x: Tensor, skips: tuple[Tensor, Tensor]) -> Tensor:
        """`[P, Cv + Cq, h, w]` and skips at 1/8 and 1/4, to logits `[P, 2, H, W]`."""
        x = self.refine8(skips[0] + enlarge(self.narrow8(self.reduce(x)), 2))
        x = self.refine4(skips[1] + enlarge(self.narrow4(x), 2))
        return enlarge(self.predict(functional.relu(x)), 4)


def enlarge(x: Tensor, factor: int) -> Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class LightSTM(MaskNetwork):
    """The light network; 3.7 million weights by default.

    Args:
        key_width: `Ck`.
        value_width: `Cv`.
        query_width: Channels of the frame that the decoder gets at 1/16.
        decoder_widths: Of the decoder at 1/16, 1/8 and 1/4.

    Example:
        >>> network = LightSTM().eval()
        >>> frame, masks = torch.zeros(1, 3, 40, 60), torch.zeros(1, 3, 40, 60)
        >>> keys, values = network.memorize(frame, masks, num_objects=2)
        >>> keys.shape, values.shape
        (torch.Size([2, 64, 3, 4]), torch.Size([2, 192, 3, 4]))
        >>> network.segment(frame, keys[:, :, None], values[:, :, None], num_channels=3).shape
        torch.Size([1, 3, 40, 60])
    """

    works_at = 480  # objects of small videos are too few tokens: measured, see the README

    def __init__(
        self,
        key_width: int = 64,
        value_width: int = 192,
        query_width: int = 96,
        decoder_widths: tuple[int, int, int] = (160, 96, 64),
    ) -> None:
        super().__init__()
        self.key_width, self.value_width = key_width, value_width
        self.scale = 2 * key_width**-0.5
        self.trunk = Lite0()
        quarter, eighth, sixteenth = Lite0.widths
        self.key = nn.Conv2d(sixteenth, key_width, 3, padding=1)
        self.value = nn.Conv2d(sixteenth, query_width, 3, padding=1)
        self.skip8 = nn.Sequential(nn.Conv2d(eighth, decoder_widths[1], 3, padding=1), PreActivated(decoder_widths[1]))
        self.skip4 = nn.Sequential(nn.Conv2d(quarter, decoder_widths[2], 3, padding=1), PreActivated(decoder_widths[2]))
        self.mask_encoder = MaskEncoder(Lite0.widths, value_width)
        self.decoder = Decoder(value_width + query_width, decoder_widths)

    def encode_query(self, frames: Tensor) -> Query:
        quarter, eighth, sixteenth = self.trunk(frames)
        skips = partial(self._skips, quarter, eighth)  # a frame without objects needs none
        return Query(self.key(sixteenth), self.value(sixteenth), (quarter, eighth, sixteenth), skips)

    def _skips(self, quarter: Tensor, eighth: Tensor) -> tuple[Tensor, Tensor]:
        return self.skip8(eighth), self.skip4(quarter)

    def encode_memory(self, frames: Tensor, masks: Tensor, others: Tensor, query: Query) -> tuple[Tensor, Tensor]:
        count = len(masks)
        features = tuple(level.expand(count, -1, -1, -1) for level in query.trunk)
        keys = query.key.expand(count, -1, -1, -1)
        return keys, self.mask_encoder(torch.cat([masks, others], 1), features)

    def bias(self, keys: Tensor) -> Tensor:
        """`-|key|^2 / sqrt(Ck)`: with the scaled product, minus the squared distance but for what all tokens share."""
        return -keys.square().sum(1) * self.key_width**-0.5

    def decode(self, read: Tensor, query: Query) -> Tensor:
        value, skips = query.value.expand(len(read), -1, -1, -1), query.skips
        return self.decoder(torch.cat([read, value], 1), skips)
