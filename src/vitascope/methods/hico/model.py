"""The network: an encoder of clips, a head for moments, one for topics, a predictor of whether two clips share a topic."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitascope.nn.chunked import chunked
from vitascope.nn.r2plus1d import R2Plus1D10
from vitascope.nn.r3d import R3D18
from vitascope.nn.s3dg import S3DG
from vitascope.nn.tiny3d import Tiny3D
from vitascope.nn.vit import VisionTransformer

HeadNorm = Literal["batch", "layer"]

BACKBONES: dict[str, Callable[[], nn.Module]] = {  # those whose sizes are fixed
    "s3dg": S3DG,
    "s3d": partial(S3DG, gating=False, separable_eps=1e-5),
    "r2plus1d-10": R2Plus1D10,
    "r3d-18": R3D18,
}
VIT_SIZES = ("embed_dim", "depth", "num_heads", "mlp_ratio", "tubelet_frames", "patch_size", "layer_norm_eps")
HEAD_EPS = 1e-3  # of the heads' norms (released code)
PAIR_VALUES = 2**24  # of the predictor's hidden layer that are in memory at once: 64 MiB


def make_encoder(backbone: str, tiny_width: int = 32, **vit: Any) -> nn.Module:
    """The encoder of a name: one of `BACKBONES`, `tiny3d` or `vit`.

    Args:
        backbone: Its name.
        tiny_width: Of `tiny3d`.
        vit: Of `vit`: `grid`, and those of `VIT_SIZES`.

    Raises:
        ValueError: No such name.
    """
    if backbone == "vit":
        return VisionTransformer(**vit)
    if backbone == "tiny3d":
        return Tiny3D(tiny_width)
    if backbone not in BACKBONES:
        raise ValueError(f"backbone ({backbone}) must be one of: {', '.join((*BACKBONES, 'tiny3d', 'vit'))}")
    return BACKBONES[backbone]()


def projection_head(dim: int, hidden_dim: int = 1024, out_dim: int = 128, norm: HeadNorm = "batch") -> nn.Sequential:
    """Three linear layers, the first two with a norm and ReLU; parameters are named as in HiCo's files.

    Args:
        dim: Width of what comes in.
        hidden_dim: Width of both hidden layers.
        out_dim: Width of what goes out.
        norm: `batch` as in the paper; `layer`, with which no clip depends on what else is in the batch or the process.

    Example:
        >>> projection_head(16, hidden_dim=8, out_dim=4)(torch.rand(3, 16)).shape
        torch.Size([3, 4])
    """
    norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    if norm not in norms:
        raise ValueError(f"norm ({norm}) must be batch or layer")
    layers = OrderedDict(
        linear_a=nn.Linear(dim, hidden_dim),
        linear_a_bn=norms[norm](hidden_dim, eps=HEAD_EPS),
        relu_a=nn.ReLU(inplace=True),
        linear_b=nn.Linear(hidden_dim, hidden_dim),
        linear_b_bn=norms[norm](hidden_dim, eps=HEAD_EPS),
        relu_b=nn.ReLU(inplace=True),
        logits_out_b2=nn.Linear(hidden_dim, out_dim),
    )
    return nn.Sequential(layers)


class HiCoModel(nn.Module):
    """Clips -> features and the embeddings that are compared.

    Args:
        encoder: Normalised pixels `[B, T, C, H, W]` -> `[B, D]`, or tokens `[B, N, D]` of which the mean is taken.
        dim: D.
        topical: Whether there are a topical head and a predictor.
        hidden_dim: Hidden width of both heads.
        projection_dim: Width of the embeddings.
        head_norm: As `projection_head` takes it.

    Example:
        >>> from vitascope.nn.tiny3d import Tiny3D
        >>> model = HiCoModel(Tiny3D(width=8), dim=64, hidden_dim=32)
        >>> out = model(torch.rand(6, 4, 3, 32, 32))
        >>> {name: tuple(value.shape) for name, value in out.items()}
        {'pooled': (6, 64), 'visual': (6, 128), 'topical': (6, 128)}
        >>> model.pair_logits(out["topical"]).shape
        torch.Size([6, 6])
    """

    def __init__(
        self,
        encoder: nn.Module,
        dim: int,
        topical: bool = True,
        hidden_dim: int = 1024,
        projection_dim: int = 128,
        head_norm: HeadNorm = "batch",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.visual_head = projection_head(dim, hidden_dim, projection_dim, head_norm)
        self.topical_head = projection_head(dim, hidden_dim, projection_dim, head_norm) if topical else None
        self.predictor = _predictor(2 * projection_dim) if topical else None

    def encode(self, clips: Tensor, chunk: int | None = None) -> Tensor:
        """Features of clips, in front of the heads.

        Args:
            clips: Normalised pixels `[B, T, C, H, W]`.
            chunk: Clips that go through the encoder at once, see `nn.chunked`; None for all.

        Returns:
            `[B, D]`.
        """
        features = chunked(self.encoder, clips, chunk)
        return features.mean(1) if features.ndim == 3 else features  # [B, D]

    def forward(self, clips: Tensor, chunk: int | None = None) -> dict[str, Tensor]:
        """Features and embeddings of clips.

        Args:
            clips, chunk: As `encode` takes them; the heads see the whole batch at once.

        Returns:
            `pooled` `[B, D]`; `visual` and, if there are topics, `topical` `[B, P]`, of length 1, float32 or wider.
        """
        pooled = self.encode(clips, chunk)
        out = {"pooled": pooled, "visual": _unit(self.visual_head(pooled))}
        return out if self.topical_head is None else out | {"topical": _unit(self.topical_head(pooled))}

    def pair_logits(self, topical: Tensor) -> Tensor:
        """What the predictor says of every ordered pair of clips: the row's embedding first, then the column's.

        The first layer is applied to each half once and not to every pair; its sums are made for so many rows at a time
        as `PAIR_VALUES` allows, and again for the gradient if that is not all of them.

        Args:
            topical: `[R, P]`.

        Returns:
            `[R, R]`.

        Raises:
            ValueError: The model was made without topics.
        """
        if self.predictor is None:
            raise ValueError("topical (False) must be True for pairs to be predicted")
        first, last = self.predictor[0], self.predictor[2]
        of_row, of_column = first.weight.chunk(2, dim=1)
        rows, columns = F.linear(topical, of_row, first.bias), F.linear(topical, of_column)  # [R, hidden] each

        def logits_of(some: Tensor) -> Tensor:
            return last((some[:, None] + columns).relu_()).squeeze(-1)  # [r, R]

        at_once = max(1, PAIR_VALUES // max(1, columns.numel()))
        if len(rows) <= at_once:
            return logits_of(rows)
        return torch.cat([checkpoint(logits_of, some, use_reentrant=False) for some in rows.split(at_once)])


def _predictor(dim: int) -> nn.Sequential:
    first = nn.Linear(dim, dim)
    nn.init.normal_(first.weight)  # for two unit vectors; drawn as usual, all pairs get one answer for a hundred steps
    return nn.Sequential(first, nn.ReLU(), nn.Linear(dim, 1))


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)
