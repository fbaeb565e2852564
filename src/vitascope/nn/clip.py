"""CLIP (Radford et al., ICML 2021): frames and texts as vectors of one space, with vectors of one's own in the prompt.

The network is the paper's ViT variant, of any size. Parameters carry the names of the paper's files, which open_clip
shares (`visual.conv1`, `transformer.resblocks.N.attn.in_proj_weight`, ...). `nn.clip_files.load_clip` fills it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the paper's images, RGB in [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)
Activation = Literal["quick_gelu", "gelu"]


class ImageText(Protocol):
    """What encodes frames and texts into one space; compare them by cosine."""

    dim: int  # width of that space
    token_width: int  # width of a token, and of vectors put into a prompt
    max_tokens: int  # of a prompt, with its start and its end
    image_size: int

    def encode_image(self, frames: Tensor) -> Tensor: ...
    def tokens(self, name: str) -> Tensor: ...
    def encode_text(
        self,
        tokens: Sequence[Tensor],
        prefix: Tensor | None = None,
        postfix: Tensor | None = None,
        positional: bool = False,
        num_postfix: int | None = None,
    ) -> Tensor: ...


class Attention(nn.Module):
    """Multi-head self-attention by the paper's names; `causal` hides what comes later."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width ({width}) must be a multiple of heads ({heads})")
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, D]` -> the same."""
        b, n, d = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)  # [B, heads, N, D / heads]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(mixed.transpose(1, 2).reshape(b, n, d))


def quick_gelu(x: Tensor) -> Tensor:
    """The activation of the paper: `x * sigmoid(1.702 x)`."""
    return x * torch.sigmoid(1.702 * x)


class Mlp(nn.Module):
    """Two layers."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_fc(x)
        x = quick_gelu(x) if self.activation == "quick_gelu" else F.gelu(x)
        return self.c_proj(x)


class Block(nn.Module):
    """Attention and MLP, each after a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, causal: bool, activation: Activation) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), Attention(width, heads, causal)
        self.ln_2, self.mlp = nn.LayerNorm(width), Mlp(width, hidden, activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """`depth` blocks."""

    def __init__(self, width: int, depth: int, heads: int, hidden: int, causal: bool, activation: Activation) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, hidden, causal, activation) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class ImageTower(nn.Module):
    """A vision transformer over the patches of one image; the class token tells what it is."""

    def __init__(
        self, dim: int, size: int, patch: int, width: int, depth: int, heads: int, hidden: int, activation: Activation
    ) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"image_size ({size}) must be a multiple of patch_size ({patch})")
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, depth, heads, hidden, False, activation)
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, dim))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised `[B, 3, S, S]` -> `[B, D]`."""
        x = self.conv1(images).flatten(2).transpose(1, 2)  # [B, N, width]
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        x = self.transformer(self.ln_pre(x))
        return self.ln_post(x[:, 0]) @ self.proj  # [B, D]


class Clip(nn.Module):
    """CLIP with a vision transformer: an `ImageText`.

    Args:
        dim: Width of the space that images and texts share.
        image_size: Height and width that the image tower sees.
        patch_size: Of its patches, in pixels.
        image_width, image_depth, image_heads: The image tower.
        vocabulary_size: Tokens that there are.
        max_tokens: Length of a prompt, with its start and its end.
        token_width, text_depth, text_heads: The text tower.
        image_hidden, text_hidden: Width inside the MLPs; None for four times the tower's.
        activation: Inside the MLPs: `quick_gelu` in the paper's files, `gelu` in most of open_clip's.
        mean, std: By which images in [0, 1] are normalised.
        start_token, end_token: Around a prompt; None for the last two of the vocabulary, as in CLIP's.

    Attributes:
        tokenizer: Text -> token ids without start and end; None where the files came without a vocabulary.

    Example:
        >>> clip = Clip(dim=8, image_size=16, patch_size=8, image_width=16, image_depth=1, image_heads=2,
        ...     vocabulary_size=20, max_tokens=10, token_width=12, text_depth=1, text_heads=2)
        >>> clip.encode_image(torch.zeros(2, 3, 40, 30, dtype=torch.uint8)).shape
        torch.Size([2, 8])
        >>> names, prefix = [torch.tensor([3, 4]), torch.tensor([5])], torch.zeros(4, 12, requires_grad=True)
        >>> clip.encode_text(names, prefix).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        *,
        dim: int,
        image_size: int,
        patch_size: int,
        image_width: int,
        image_depth: int,
        image_heads: int,
        vocabulary_size: int,
        max_tokens: int,
        token_width: int,
        text_depth: int,
        text_heads: int,
        image_hidden: int | None = None,
        text_hidden: int | None = None,
        activation: Activation = "quick_gelu",
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        start_token: int | None = None,
        end_token: int | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.token_width, self.max_tokens, self.image_size = dim, token_width, max_tokens, image_size
        self.start_token = vocabulary_size - 2 if start_token is None else start_token
        self.end_token = vocabulary_size - 1 if end_token is None else end_token
        self.tokenizer: Callable[[str], list[int]] | None = None
        image = (image_width, image_depth, image_heads, image_hidden or 4 * image_width, activation)
        self.visual = ImageTower(dim, image_size, patch_size, *image)
        self.transformer = Transformer(
            token_width, text_depth, text_heads, text_hidden or 4 * token_width, True, activation
        )
        self.token_embedding = nn.Embedding(vocabulary_size, token_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(max_tokens, token_width))
        self.ln_final = nn.LayerNorm(token_width)
        self.text_projection = nn.Parameter(token_width**-0.5 * torch.randn(token_width, dim))
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_image(self, frames: Tensor) -> Tensor:
        """Vectors of frames.

        Args:
            frames: uint8 RGB `[B, 3, H, W]` of any height and width; the middle square is seen.

        Returns:
            float32 `[B, D]`, not normalised.

        Raises:
            ValueError: The frames are of another type or shape.
        """
        images = middle_square(frames, self.image_size) / 255
        return self.visual((images - self.mean) / self.std)

    def tokens(self, name: str) -> Tensor:
        """Token ids of a text, int64 `[n]`, without start and end.

        Raises:
            ValueError: There is no vocabulary, or it does not have these words.
        """
        if self.tokenizer is None:
            raise ValueError(
                f"text ({name!r}) cannot be cut into tokens: this CLIP came without a vocabulary; "
                "put vocab.json and merges.txt (or tokenizer.json) beside its weights"
            )
        return torch.tensor(self.tokenizer(name), dtype=torch.int64)

    def encode_text(
        self,
        tokens: Sequence[Tensor],
        prefix: Tensor | None = None,
        postfix: Tensor | None = None,
        positional: bool = False,
        num_postfix: int | None = None,
    ) -> Tensor:
        """Vectors of texts, each read as `start, prefix, its tokens, postfix, end`.

        Gradients reach `prefix` and `postfix`, whatever is frozen; do not call this under `no_grad` to learn them.

        Args:
            tokens: int64 `[n]` for each of `K` texts, without start and end.
            prefix: Vectors before each text, `[P, W]` with W = `token_width`.
            postfix: Vectors after each text, `[Q, W]`; or, if `positional`, one for each place of the prompt,
                `[max_tokens, W]`, of which each text takes those of the places that follow its name.
            positional: How `postfix` is meant.
            num_postfix: Q, if `positional`; None for as many as `prefix` has.

        Returns:
            float32 `[K, D]`, not normalised: the output at the end token.

        Raises:
            ValueError: A prompt is longer than `max_tokens`, there are no texts, or vectors are of a wrong shape.
        """
        x, lengths = prompts_of(
            tokens,
            self.token_embedding,
            (self.start_token, self.end_token),
            self.max_tokens,
            prefix,
            postfix,
            positional,
            num_postfix,
        )  # [K, N, W]; causal: no end sees the padding after it
        x = self.transformer(x + self.positional_embedding[: x.shape[1]])
        x = x[torch.arange(len(x), device=x.device), lengths - 1]  # [K, W]
        return self.ln_final(x) @ self.text_projection  # [K, D]


def prompts_of(
    tokens: Sequence[Tensor],
    table: nn.Embedding,
    around: tuple[int, int],
    max_tokens: int,
    prefix: Tensor | None = None,
    postfix: Tensor | None = None,
    positional: bool = False,
    num_postfix: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Vectors of prompts, each laid out as `start, prefix, its tokens, postfix, end`.

    Args:
        tokens, prefix, postfix, positional, num_postfix: See `Clip.encode_text`.
        table: Vectors of width W of all tokens.
        around: Tokens of the start and of the end.
        max_tokens: Of a prompt, with both of them.

    Returns:
        Prompts `[K, N, W]`, zeros behind the shorter ones, and their lengths, int64 `[K]`.

    Raises:
        ValueError: A prompt is longer than `max_tokens`, there are no texts, or vectors are of a wrong shape.

    Example:
        >>> prompts, lengths = prompts_of([torch.tensor([3, 4]), torch.tensor([5])], nn.Embedding(9, 6), (7, 8), 10)
        >>> prompts.shape, lengths
        (torch.Size([2, 4, 6]), tensor([4, 3]))
    """
    if not len(tokens):
        raise ValueError("tokens hold no text; give at least one")
    width = table.embedding_dim
    for name, vectors in (("prefix", prefix), ("postfix", postfix)):
        if vectors is not None and (vectors.ndim != 2 or vectors.shape[1] != width):
            raise ValueError(f"{name} of shape {list(vectors.shape)} must be [vectors, {width}]")
    before = 0 if prefix is None else len(prefix)
    after = 0 if postfix is None else len(postfix)
    if positional and postfix is not None:
        if len(postfix) != max_tokens:
            raise ValueError(f"postfix has {len(postfix)} vectors, must be {max_tokens}, one for each place")
        after = before if num_postfix is None else num_postfix
    prompts = []
    for ids in tokens:
        total = 2 + before + len(ids) + after
        if total > max_tokens:
            raise ValueError(
                f"prompt of {total} tokens ({len(ids)} of its text, {before} vectors before, {after} after, start and "
                f"end) must be <= {max_tokens}; shorten the name, or learn fewer vectors"
            )
        with_ends = [ids.new_tensor([around[0]]), ids, ids.new_tensor([around[1]])]
        start, name, end = table(torch.cat(with_ends).to(table.weight.device)).split([1, len(ids), 1])
        parts = [start, *([] if prefix is None else [prefix]), name]
        if postfix is not None:
            at = 1 + before + len(ids) if positional else 0
            parts.append(postfix[at : at + after])
        prompts.append(torch.cat([*parts, end]))
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=table.weight.device)
    return nn.utils.rnn.pad_sequence(prompts, batch_first=True), lengths


def middle_square(frames: Tensor, size: int) -> Tensor:
    """The middle of images with their shorter side scaled to `size`, float32 `[B, C, size, size]` in [0, 255].

    Bicubic with whole levels, as CLIP was trained on.

    Raises:
        ValueError: The images are no uint8 RGB `[B, 3, H, W]`.

    Example:
        >>> middle_square(torch.full((1, 3, 20, 50), 7, dtype=torch.uint8), 10).shape
        torch.Size([1, 3, 10, 10])
    """
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(f"frames ({frames.dtype} {list(frames.shape)}) must be uint8 RGB [B, 3, H, W]")
    height, width = frames.shape[-2:]
    scale = size / min(height, width)
    sides = [max(size, int(scale * side)) for side in (height, width)]
    images = frames.float()
    if sides != [height, width]:
        images = F.interpolate(images, size=sides, mode="bicubic", antialias=True).round().clamp(0, 255)
    top, left = ((side - size) // 2 for side in sides)
    return images[..., top : top + size, left : left + size]
