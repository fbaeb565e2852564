"""The networks that classify snippets of video features: a transformer of local attention, plain MIL and UntrimmedNet.

A branch is `forward(features [B, T, D], mask [B, T])` -> a dict of

| key | shape | what |
| --- | --- | --- |
| `logits` | `[B, T, K or K + 1]` | of the classes; the last is background, if the branch has one |
| `features` | `[B, T, D']` | of the snippets, for the contrast of foreground and background |
| `attention` | `[B, T, 1]` | in [0, 1], in branches that have one |
| `suppressed` | as `logits` | with background held down by the attention, in branches that have one |

The real snippets of a video come first, padding after them, and what stands in the padding is without any influence.
`basnet.py` and `co2net.py` hold two further branches, `vlp.py` the one of vision and language.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitascope.methods.cbp_vlp.targets import Background

Out = dict[str, Tensor]


def final_logits(out: Out) -> Tensor:
    """The logits that a branch localises by: the suppressed ones, if it has an attention."""
    return out.get("suppressed", out["logits"])


def probabilities(out: Out, num_classes: int, background: Background = "none") -> Tensor:
    """Probabilities of the classes, for pseudo-labels, distillation and inference; never for the pooled scores of a loss.

    Args:
        out: What a branch returned.
        num_classes: K.
        background: What the softmax has beside the K classes: nothing, a logit of 0, or the branch's last logit.

    Returns:
        `[B, T, K]`, float32 or wider.

    Raises:
        ValueError: The branch's logits are not as many as `background` needs.

    Example:
        >>> probabilities({"logits": torch.zeros(1, 1, 3)}, num_classes=3, background="zero")
        tensor([[[0.2500, 0.2500, 0.2500]]])
    """
    logits = final_logits(out)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    wanted = num_classes + (background == "class")
    if logits.shape[-1] != wanted:
        raise ValueError(
            f"logits ({logits.shape[-1]}) must be {wanted} for {num_classes} classes and background '{background}'; "
            "build the branch with the same background"
        )
    if background == "zero":
        logits = F.pad(logits, (0, 1))
    return logits.softmax(-1)[..., :num_classes]


def suppress(logits: Tensor, attention: Tensor) -> Tensor:
    """Logits `[B, T, K]` drawn to the lowest of their snippet as far as the attention `[B, T, 1]` lacks to 1.

    Example:
        >>> suppress(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.5]]]))
        tensor([[[1., 2.]]])
    """
    lowest = logits.amin(-1, keepdim=True)
    return attention * (logits - lowest) + lowest


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """`[B, T, D]` with zeros in the padding, whatever stood there."""
    return x.masked_fill(~mask[..., None], 0)


def rows_of(mask: Tensor) -> Tensor:
    """The places that are worked on, bool `[B, T]`: the real ones, and padding up to a multiple of an eighth of all.

    Batches then come in few sizes, so that memory is used again: with as many sizes as batches it grew by 25 MB a step.
    """
    count, eighth = int(mask.sum()), -(-mask.numel() // 8)
    spare = ~mask
    return mask | (spare & (spare.flatten().cumsum(0).view_as(mask) <= -count % eighth))


def unpacked(x: Tensor, rows: Tensor) -> Tensor:
    """What was worked on, `[N, D]`, at its places among zeros, `[B, T, D]`."""
    return x.new_zeros(*rows.shape, x.shape[-1]).masked_scatter(rows[..., None], x)


class TemporalConv(nn.Conv1d):
    """A convolution over time of `[B, T, D]` that keeps T; padding counts as what lies beyond the end of the video."""

    def __init__(self, in_dim: int, out_dim: int, kernel_size: int = 3, bias: bool = True) -> None:
        super().__init__(in_dim, out_dim, kernel_size, padding=kernel_size // 2, bias=bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(masked(x, mask).transpose(1, 2)).transpose(1, 2)  # [B, T, out]


def local_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, window: int | None) -> Tensor:
    """Softmax attention of each snippet to the real ones at most `window` away, in O(T * window) time and memory.

    Each chunk of `window` queries meets its own chunk of keys and the two beside it.

    Args:
        q, k, v: `[B, H, T, D]`, H heads.
        mask: Which snippets are real, bool `[B, T]`.
        window: How far a snippet sees to either side; None for the whole video.

    Returns:
        `[B, H, T, D]`; what it says of padding means nothing.
    """
    b, heads, t, dim = q.shape
    if window is None or t <= window + 1:
        allowed = mask[:, None, None] | torch.eye(t, dtype=torch.bool, device=q.device)  # no row without a key
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    n = -(-t // window)
    end = n * window - t

    def around(x: Tensor) -> Tensor:
        chunks = F.pad(x, (0, 0, window, end + window)).view(b, heads, n + 2, window, dim)
        return torch.cat([chunks[:, :, :-2], chunks[:, :, 1:-1], chunks[:, :, 2:]], 3).transpose(1, 2).flatten(0, 1)

    queries = F.pad(q, (0, 0, 0, end)).view(b, heads, n, window, dim).transpose(1, 2).flatten(0, 1)  # [B n, H, w, D]
    away = torch.arange(3 * window, device=q.device) - torch.arange(window, 2 * window, device=q.device)[:, None]
    valid = F.pad(mask, (window, end + window)).unfold(1, 3 * window, window)  # [B, n, 3w]
    allowed = ((away.abs() <= window) & valid[:, :, None]) | (away == 0)  # [B, n, w, 3w]
    mixed = F.scaled_dot_product_attention(queries, around(k), around(v), attn_mask=allowed.flatten(0, 1)[:, None])
    return mixed.view(b, n, heads, window, dim).transpose(1, 2).reshape(b, heads, n * window, dim)[:, :, :t]


class Block(nn.Module):
    """A pre-norm transformer block of local attention, on N places of a batch: little work goes into padding.

    Args:
        dim: D.
        num_heads: A divisor of D.
        window: As `local_attention` takes it.
        mlp_ratio: Width of the hidden layer over D.
        dropout: Of both residual paths.
        activation: Of the hidden layer.

    Raises:
        ValueError: `dim` is no multiple of `num_heads`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: int | None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = F.gelu,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be a multiple of num_heads ({num_heads})")
        if window is not None and window < 1:
            raise ValueError(f"window ({window}) must be > 0, or None for attention over the whole video")
        self.num_heads, self.window, self.activation = num_heads, window, activation
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, int(dim * mlp_ratio)), nn.Linear(int(dim * mlp_ratio), dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """`[N, D]`; what is real, and which the N places are, both bool `[B, T]` -> `[N, D]`."""
        qkv = unpacked(self.qkv(self.norm1(x)), rows)  # [B, T, 3 D]
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # [B, H, T, D / H]
        mixed = local_attention(q, k, v, mask, self.window).transpose(1, 2)[rows].flatten(1)  # [N, D]
        x = x + self.drop(self.proj(mixed))
        return x + self.drop(self.fc2(self.drop(self.activation(self.fc1(self.norm2(x))))))


class Positions(nn.Module):
    """Learned places in a video: a table that is stretched over the video's real snippets, however many there are.

    Args:
        num_positions: Rows of the table.
        dim: Width.
        std: Of the table at first.
    """

    def __init__(self, num_positions: int, dim: int, std: float = 0.02) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(num_positions, dim) * std)

    def forward(self, mask: Tensor) -> Tensor:
        """Vectors of the places, bool `[B, T]` -> `[B, T, D]`."""
        last = len(self.table) - 1
        place = (mask.cumsum(1) - 0.5) / mask.sum(1, keepdim=True).clamp(min=1) * len(self.table) - 0.5
        place = place.clamp(0, last)  # [B, T]
        below = place.long()
        share = (place - below)[..., None].to(self.table.dtype)
        at, after = F.embedding(below, self.table), F.embedding((below + 1).clamp(max=last), self.table)
        return torch.lerp(at, after, share)


class CbpTransformer(nn.Module):
    """The classification-based branch of the paper: transformer blocks on frozen features of snippets, and a classifier.

    Attention is local: when every snippet sees the whole video, each learns the video's tags and all become foreground.

    Args:
        dim: Width of the features.
        num_classes: K.
        background: Whether there is a logit of background, the last.
        width: Of the blocks.
        depth: Blocks.
        num_heads: Of each.
        window: How many snippets a snippet sees to either side in each block; None for all.
        num_positions: Rows of the table of positions; 0 for no positions.
        dropout: In the blocks.

    Example:
        >>> branch = CbpTransformer(6, 3, background=True, width=16, num_heads=2)
        >>> out = branch(torch.rand(2, 40, 6), torch.ones(2, 40, dtype=torch.bool))
        >>> {name: tuple(value.shape) for name, value in out.items()}
        {'logits': (2, 40, 4), 'features': (2, 40, 16)}
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        background: bool,
        width: int = 512,
        depth: int = 2,
        num_heads: int = 8,
        window: int | None = 8,
        num_positions: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.positions = Positions(num_positions, width) if num_positions else None
        self.blocks = nn.ModuleList(Block(width, num_heads, window, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes + background)

    def forward(self, features: Tensor, mask: Tensor) -> Out:
        rows = rows_of(mask)
        x = self.embed(masked(features, mask)[rows])  # [N, D']
        if self.positions is not None:
            x = x + self.positions(mask)[rows]
        for block in self.blocks:
            x = block(x, mask, rows)
        x = masked(unpacked(self.norm(x), rows), mask)  # [B, T, D']
        return {"logits": self.head(x), "features": x}


class Mil(nn.Module):
    """Plain multiple-instance learning: one convolution over time and a classifier.

    Args:
        dim, num_classes, background: As `CbpTransformer` takes them.
        width: Of the features in front of the classifier.
        kernel_size: Of the convolution, odd.
        dropout: In front of the classifier.

    Example:
        >>> branch = Mil(6, 3, background=False, width=16)
        >>> branch(torch.rand(2, 40, 6), torch.ones(2, 40, dtype=torch.bool))["logits"].shape
        torch.Size([2, 40, 3])
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        background: bool,
        width: int = 512,
        kernel_size: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed = TemporalConv(dim, width, kernel_size)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes + background)

    def forward(self, features: Tensor, mask: Tensor) -> Out:
        x = self.embed(features, mask).relu()  # [B, T, D']
        return {"logits": self.head(self.drop(x)), "features": x}


class UntrimmedNet(nn.Module):
    """A linear classifier of snippets and, with soft selection, a linear attention over time.

    The attention of the loss is a softmax over the video, and so small; `attention` is the same over its highest value.

    Args:
        dim, num_classes, background: As `CbpTransformer` takes them.
        selection: `soft`, or `hard`: the highest snippets of each class count, and there is no attention.

    Raises:
        ValueError: `selection` is neither.

    Example:
        >>> branch = UntrimmedNet(6, 3, background=False)
        >>> out = branch(torch.rand(2, 40, 6), torch.ones(2, 40, dtype=torch.bool))
        >>> {name: tuple(value.shape) for name, value in out.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'logits': (2, 40, 3), 'features': (2, 40, 6), 'weights': (2, 40, 1), 'attention': (2, 40, 1),
         'suppressed': (2, 40, 3)}
    """

    def __init__(
        self, dim: int, num_classes: int, *, background: bool, selection: Literal["soft", "hard"] = "soft"
    ) -> None:
        super().__init__()
        if selection not in ("soft", "hard"):
            raise ValueError(f"selection ({selection}) must be soft or hard")
        self.head = nn.Linear(dim, num_classes + background)
        self.select = nn.Linear(dim, 1, bias=False) if selection == "soft" else None  # a bias cancels in the softmax

    def forward(self, features: Tensor, mask: Tensor) -> Out:
        x = masked(features, mask)
        out = {"logits": self.head(x), "features": x}
        if self.select is None:
            return out
        lowest = torch.finfo(x.dtype).min  # and not -inf, which is no number if nothing is real
        scores = self.select(x).masked_fill(~mask[..., None], lowest)
        attention = (scores - scores.amax(1, keepdim=True)).exp() * mask[..., None]
        suppressed = suppress(out["logits"], attention)
        return out | {"weights": scores.softmax(1), "attention": attention, "suppressed": suppressed}
