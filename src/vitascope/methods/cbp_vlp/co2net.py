"""CO2-Net (Hong et al., ACM MM 2021): appearance and motion each say what of the other one to look at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitascope.methods.cbp_vlp.model import Out, TemporalConv, suppress

SLOPE = 0.2  # of all leaky rectifiers here


class Consensus(nn.Module):
    """One stream filtered by what it shows on the whole and by what the other shows at each moment, and an attention.

    Args:
        dim: Width of either stream.
        hidden: Width of the attention.
        dropout: After the convolutions; of the attention's logit as well, as in the released code.
    """

    def __init__(self, dim: int, hidden: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.whole, self.local = TemporalConv(dim, dim), TemporalConv(dim, dim)
        self.attend1, self.attend2 = TemporalConv(dim, hidden), TemporalConv(hidden, hidden)
        self.attend3 = nn.Linear(hidden, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, main: Tensor, other: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The filtered stream `[B, T, D]` and its attention `[B, T, 1]`, of two streams that are 0 in the padding."""
        mean = main.sum(1, keepdim=True) / mask.sum(1).clamp(min=1)[:, None, None]  # [B, 1, D]
        whole = F.leaky_relu(self.whole(mean, torch.ones_like(mask[:, :1])), SLOPE)
        local = F.leaky_relu(self.local(other, mask), SLOPE)
        filtered = (self.drop(local) * self.drop(whole)).sigmoid() * main
        x = self.drop(F.leaky_relu(self.attend1(filtered, mask), SLOPE))
        x = F.leaky_relu(self.attend2(x, mask), SLOPE)
        return filtered, self.drop(self.attend3(x)).sigmoid()


class Co2Net(nn.Module):
    """Two streams, each filtered by the other, their mean attention, and a classifier of both.

    Args:
        dim: Width D of the features: the first half is one stream (RGB), the second the other (flow).
        num_classes: K.
        background: Must be True: the attention is trained against the background class.
        hidden: Width of the attention.
        dropout: Before and in the classifier.

    Raises:
        ValueError: `background` is False, or `dim` is odd.

    Example:
        >>> out = Co2Net(6, 3)(torch.rand(2, 40, 6), torch.ones(2, 40, dtype=torch.bool))
        >>> {name: tuple(value.shape) for name, value in out.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'logits': (2, 40, 4), 'features': (2, 40, 6), 'attention': (2, 40, 1), 'attention_first': (2, 40, 1),
         'attention_second': (2, 40, 1), 'suppressed': (2, 40, 4)}
    """

    def __init__(
        self, dim: int, num_classes: int, *, background: bool = True, hidden: int = 512, dropout: float = 0.7
    ) -> None:
        super().__init__()
        if not background:
            raise ValueError("background (False) must be True for CO2-Net; choose another branch")
        if dim % 2:
            raise ValueError(f"dim ({dim}) must be even for CO2-Net: one half for each stream")
        self.first, self.second = Consensus(dim // 2, hidden), Consensus(dim // 2, hidden)
        self.fuse, self.conv = nn.Linear(dim, dim), TemporalConv(dim, dim)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(dim, num_classes + 1)

    def forward(self, features: Tensor, mask: Tensor) -> Out:
        """As `model` says, and the attention of each stream as `attention_first` and `attention_second`."""
        first, second = features.masked_fill(~mask[..., None], 0).chunk(2, -1)  # [B, T, D / 2] each
        shown_first, attention_first = self.first(first, second, mask)
        shown_second, attention_second = self.second(second, first, mask)
        attention = (attention_first + attention_second) / 2
        x = F.leaky_relu(self.fuse(torch.cat([shown_first, shown_second], -1)), SLOPE)  # [B, T, D]
        logits = self.head(self.drop(F.leaky_relu(self.conv(self.drop(x), mask), SLOPE)))
        return {
            "logits": logits,
            "features": x,
            "attention": attention,
            "attention_first": attention_first,
            "attention_second": attention_second,
            "suppressed": suppress(logits, attention),
        }
