"""The branch of vision and language: frozen vectors of frames, mixed over time, against the text of each class."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitascope.methods.cbp_vlp.model import Block, Out, Positions, masked, rows_of, unpacked
from vitascope.nn.clip import quick_gelu

COLDEST, WARMEST = 0.005, 0.1  # temperatures
NEARLY_ZERO = 1e-8  # of a float32 logit it changes the last digits, and a gradient passes, which 0 would not let by


class Prompts(nn.Module):
    """Learned vectors around the name of each class, as `nn.clip` takes them: drawn from N(0, 0.01).

    Args:
        width: Of the text encoder's tokens.
        num_prefix: Vectors before the name.
        num_postfix: Vectors behind it.
        postfix: `shared`: the same ones behind each name; `positional`: one for each place of the prompt, of which the
            prefix takes those of its places, so that names of unlike lengths share only a part.
        max_tokens: Places of a prompt.

    Raises:
        ValueError: `postfix` is neither.

    Example:
        >>> prefix, postfix = Prompts(8)()
        >>> prefix.shape, postfix.shape
        (torch.Size([16, 8]), torch.Size([16, 8]))
        >>> prefix, postfix = Prompts(8, num_prefix=4, postfix="positional")()
        >>> prefix.shape, postfix.shape
        (torch.Size([4, 8]), torch.Size([77, 8]))
    """

    def __init__(
        self,
        width: int,
        num_prefix: int = 16,
        num_postfix: int = 16,
        postfix: Literal["shared", "positional"] = "shared",
        max_tokens: int = 77,
    ) -> None:
        super().__init__()
        if postfix not in ("shared", "positional"):
            raise ValueError(f"postfix ({postfix}) must be shared or positional")
        self.positional, self.num_prefix, self.num_postfix = postfix == "positional", num_prefix, num_postfix
        if self.positional:
            self.table = _small(max_tokens, width)
        else:
            self.prefix = _small(num_prefix, width) if num_prefix else None
            self.postfix = _small(num_postfix, width) if num_postfix else None

    def forward(self) -> tuple[Tensor | None, Tensor | None]:
        """Prefix `[P, W]` and postfix `[Q, W]`, or if positional `[max_tokens, W]`; None for one without vectors."""
        if not self.positional:
            return self.prefix, self.postfix
        first = 1  # after the start token
        prefix = self.table[first : first + self.num_prefix] if self.num_prefix else None
        return prefix, self.table if self.num_postfix else None


class Vlp(nn.Module):
    """A temporal transformer on vectors of frames; logits are likenesses to the text of each class over a temperature.

    The projections that lead out of its blocks begin at nothing, and so do its positions: at first it says what the
    image-text encoder says of each frame by itself.

    No likeness of an image and a text means "absent" for all encoders. The background logit therefore starts at what the
    best class of the video's average snippet has, and a learned direction raises or lowers it.

    Args:
        dim: Width D of the joint space.
        depth: Blocks.
        num_heads: Of each.
        window: How many snippets a snippet sees to either side in each block; None for all.
        max_snippets: Rows of the table of positions, stretched over each video; 0 for no positions.
        temperature: Of the likenesses at first; learned, and held in [0.005, 0.1].
        background: Whether there is a logit of background, the last.

    Raises:
        ValueError: `temperature` is out of its range.

    Example:
        >>> branch = Vlp(8, num_heads=2, background=True)
        >>> out = branch(torch.rand(2, 40, 8), torch.ones(2, 40, dtype=torch.bool), torch.rand(3, 8))
        >>> {name: tuple(value.shape) for name, value in out.items()}
        {'logits': (2, 40, 4), 'features': (2, 40, 8)}
    """

    def __init__(
        self,
        dim: int,
        *,
        depth: int = 2,
        num_heads: int = 8,
        window: int | None = 8,
        max_snippets: int = 1000,
        temperature: float = 0.01,
        background: bool = False,
    ) -> None:
        super().__init__()
        if not COLDEST <= temperature <= WARMEST:
            raise ValueError(f"temperature ({temperature}) must be from {COLDEST} to {WARMEST}")
        self.positions = Positions(max_snippets, dim, std=0.0) if max_snippets else None
        self.blocks = nn.ModuleList(Block(dim, num_heads, window, activation=quick_gelu) for _ in range(depth))
        for block in self.blocks:
            for leading_out in (block.proj, block.fc2):
                nn.init.normal_(leading_out.weight, std=NEARLY_ZERO)
                nn.init.zeros_(leading_out.bias)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.background = nn.Parameter(torch.zeros(dim)) if background else None

    @property
    def temperature(self) -> Tensor:
        """What likenesses are divided by; its gradient passes where it is held, so that it can come back."""
        held = self.log_temperature.clamp(math.log(COLDEST), math.log(WARMEST))
        return (self.log_temperature + (held - self.log_temperature).detach()).exp()

    def forward(self, frames: Tensor, mask: Tensor, text: Tensor) -> Out:
        """Logits and features of snippets.

        Args:
            frames: `[B, T, D]`, of any length.
            mask: Which snippets are real, bool `[B, T]`.
            text: `[K, D]`, of any length.

        Returns:
            As the other branches; features have length 1.
        """
        rows = rows_of(mask)
        x = F.normalize(masked(frames, mask)[rows], dim=-1) * frames.shape[-1] ** 0.5  # [N, D], of variance 1
        if self.positions is not None:
            x = x + self.positions(mask)[rows]
        for block in self.blocks:
            x = block(x, mask, rows)
        x = masked(unpacked(F.normalize(x, dim=-1), rows), mask)  # [B, T, D]
        logits = x @ F.normalize(text, dim=-1).T / self.temperature  # [B, T, K]
        if self.background is not None:
            level = masked(logits.detach().amax(-1, keepdim=True), mask).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
            beside = level[:, None] + (x @ self.background / self.temperature)[..., None]  # [B, T, 1]
            logits = torch.cat([logits, beside], -1)
        return {"logits": logits, "features": x}


def _small(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, width) * 0.01)
