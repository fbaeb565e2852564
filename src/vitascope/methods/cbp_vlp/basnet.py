"""BaS-Net (Lee et al., AAAI 2020): one classifier sees the video twice, once with its background held down."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitascope.methods.cbp_vlp.model import Out, TemporalConv


class BasNet(nn.Module):
    """Attention on each snippet by itself, and a classifier of convolutions that both passes share.

    Args:
        dim: Width D of the features; that of the classifier as well.
        num_classes: K.
        background: Must be True: the method is about the background class.
        hidden: Width of the attention.
        dropout: In front of the last layer.

    Raises:
        ValueError: `background` is False.

    Example:
        >>> import torch
        >>> out = BasNet(6, 3)(torch.rand(2, 40, 6), torch.ones(2, 40, dtype=torch.bool))
        >>> {name: tuple(value.shape) for name, value in out.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'logits': (2, 40, 4), 'features': (2, 40, 6), 'attention': (2, 40, 1), 'suppressed': (2, 40, 4)}
    """

    def __init__(
        self, dim: int, num_classes: int, *, background: bool = True, hidden: int = 512, dropout: float = 0.7
    ) -> None:
        super().__init__()
        if not background:
            raise ValueError("background (False) must be True for BaS-Net; choose another branch")
        self.filter1, self.filter2 = nn.Linear(dim, hidden), nn.Linear(hidden, 1)  # convolutions of one snippet
        self.conv1, self.conv2 = TemporalConv(dim, dim), TemporalConv(dim, dim)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(dim, num_classes + 1, bias=False)

    def forward(self, features: Tensor, mask: Tensor) -> Out:
        """As `model` says; `features` are those of the pass with background held down."""
        x = features.masked_fill(~mask[..., None], 0)
        attention = self.filter2(F.leaky_relu(self.filter1(x))).sigmoid()  # [B, T, 1]
        logits, _ = self._classify(x, mask)
        suppressed, shown = self._classify(attention * x, mask)
        return {"logits": logits, "features": shown, "attention": attention, "suppressed": suppressed}

    def _classify(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        for conv in (self.conv1, self.conv2):
            x = F.leaky_relu(conv(x, mask))
        return self.head(self.drop(x)), x
