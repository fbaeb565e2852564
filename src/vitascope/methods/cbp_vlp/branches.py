"""The two branches, as a configuration wants them."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from vitascope.methods.cbp_vlp.basnet import BasNet
from vitascope.methods.cbp_vlp.co2net import Co2Net
from vitascope.methods.cbp_vlp.config import CbpVlpConfig
from vitascope.methods.cbp_vlp.loss import WARMUP
from vitascope.methods.cbp_vlp.model import CbpTransformer, Mil, Out, UntrimmedNet
from vitascope.methods.cbp_vlp.vlp import Prompts, Vlp
from vitascope.nn.clip import ImageText


def make_cbp(c: CbpVlpConfig) -> nn.Module:
    """The network that classifies snippets.

    Raises:
        ValueError: Its sizes do not fit.
    """
    size: tuple[Any, ...] = c.dim, len(c.classes)
    background = c.background_kind == "class"
    if c.cbp == "transformer":
        how = {"width": c.width, "depth": c.depth, "num_heads": c.num_heads, "window": c.window, "dropout": c.dropout}
        return CbpTransformer(*size, background=background, **how)
    if c.cbp == "mil":
        return Mil(*size, background=background, width=c.width, dropout=c.dropout)
    return {"untrimmednet": UntrimmedNet, "basnet": BasNet, "co2net": Co2Net}[c.cbp](*size, background=background)


def make_vlp(c: CbpVlpConfig, clip: ImageText) -> tuple[Vlp, Prompts]:
    """The network on vectors of frames, and the learned vectors around the names of the classes.

    Raises:
        ValueError: Its sizes do not fit.
    """
    vlp = Vlp(
        clip.dim,
        depth=c.vlp_depth,
        num_heads=c.vlp_heads,
        window=c.vlp_window,
        temperature=c.similarity_temperature,
        background=c.vlp_background_kind == "class",
    )
    return vlp, Prompts(clip.token_width, c.num_prefix, c.num_postfix, c.postfix, clip.max_tokens)


def warmup_loss(c: CbpVlpConfig, out: Out, targets: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What the CBP branch learns from tags.

    A softmax that shares itself among several tags, or a tag and background, has a cross-entropy above 0 at its best; this
    constant is taken off, so that 0 is perfect.
    """
    if c.cbp in ("basnet", "co2net"):
        return WARMUP[c.cbp](out, targets, mask, ratio=c.topk_ratio)
    terms = WARMUP[c.cbp](out, targets, mask, ratio=c.topk_ratio, background=c.background_kind)
    shared = targets.sum(1) + (c.background_kind == "class")
    return terms | {"loss": terms["loss"] - shared.clamp(min=1).log().mean()}


def tokens_of(c: CbpVlpConfig, clip: ImageText) -> list[Tensor]:
    """What the text encoder is given for each class."""
    return [clip.tokens(name) for name in c.prompt_names or map(spoken, c.classes)]


def spoken(name: str) -> str:
    """The name of a class as a text: lower case, its words apart.

    Example:
        >>> spoken("CleanAndJerk"), spoken("tennis_swing"), spoken("put on ECG")
        ('clean and jerk', 'tennis swing', 'put on ecg')
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return " ".join(re.sub(r"[_\-]+", " ", words).lower().split())
