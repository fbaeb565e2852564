"""The vision transformer over tubelets of a clip: patches, positions, attention, encoder.

Plain pre-norm ViT as in VideoMAE (Tong et al., NeurIPS 2022) and MME (Sun et al., CVPR 2023). Parameters carry the names
that both papers' files use (`patch_embed.proj`, `blocks.N.attn.qkv`, `q_bias`, ...), so their weights load by name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int, int]  # tokens along T, H, W


def patchify(clips: Tensor, tubelet_frames: int, patch_size: int) -> Tensor:
    """Cut clips into tubelets, token index running over T, then H, then W.

    Args:
        clips: Of any dtype `[B, T, C, H, W]`; T a multiple of `tubelet_frames`, H and W of `patch_size`.
        tubelet_frames: Frames of one token.
        patch_size: Height and width of one token, in pixels.

    Returns:
        `[B, N, tubelet_frames, patch_size, patch_size, C]`.

    Raises:
        ValueError: A side is no multiple of its step.

    Example:
        >>> patchify(torch.zeros(1, 4, 3, 32, 48), tubelet_frames=2, patch_size=16).shape
        torch.Size([1, 12, 2, 16, 16, 3])
    """
    b, _, c = clips.shape[:3]
    t, h, w = token_grid(clips, tubelet_frames, patch_size)
    cut = clips.reshape(b, t, tubelet_frames, c, h, patch_size, w, patch_size)
    cut = cut.permute(0, 1, 4, 6, 2, 5, 7, 3)  # [B, t, h, w, frames, rows, columns, C]
    return cut.reshape(b, t * h * w, tubelet_frames, patch_size, patch_size, c)


def unpatchify(patches: Tensor, grid: Grid) -> Tensor:
    """Put tubelets back in their places: the inverse of `patchify`.

    Args:
        patches: `[B, N, frames, rows, columns, C]`, N the product of `grid`.
        grid: Tokens along T, H, W.

    Returns:
        Clips `[B, T, C, H, W]`.

    Example:
        >>> clips = torch.rand(2, 4, 3, 32, 48)
        >>> torch.equal(unpatchify(patchify(clips, 2, 16), (2, 2, 3)), clips)
        True
    """
    b, _, frames, rows, columns, c = patches.shape
    t, h, w = grid
    placed = patches.reshape(b, t, h, w, frames, rows, columns, c).permute(0, 1, 4, 7, 2, 5, 3, 6)
    return placed.reshape(b, t * frames, c, h * rows, w * columns)


def token_grid(clips: Tensor, tubelet_frames: int, patch_size: int) -> Grid:
    """Tokens along T, H, W of clips `[B, T, C, H, W]`.

    Raises:
        ValueError: A side is no multiple of its step.

    Example:
        >>> token_grid(torch.zeros(1, 16, 3, 224, 224), tubelet_frames=2, patch_size=16)
        (8, 14, 14)
    """
    if clips.ndim != 5:
        raise ValueError(f"clips of shape {list(clips.shape)} must have 5 axes [B, T, C, H, W]")
    _, frames, _, height, width = clips.shape
    sides = (("frames", frames, tubelet_frames), ("height", height, patch_size), ("width", width, patch_size))
    for name, side, step in sides:
        if side == 0 or side % step:
            raise ValueError(f"{name} ({side}) of the clips must be a multiple of {step}; crop or resample the clips")
    return frames // tubelet_frames, height // patch_size, width // patch_size


def sinusoid_table(num_positions: int, dim: int) -> Tensor:
    """Fixed positions: angle `n / 10000^(2 floor(j/2) / dim)`, sine on even `j`, cosine on odd `j`.

    Returns:
        float32 `[num_positions, dim]`; computed in float64, because float32 angles are off by up to 1.2e-4.

    Example:
        >>> sinusoid_table(2, 4)[0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    j = torch.arange(dim, dtype=torch.float64)
    wavelengths = 10000.0 ** (2 * torch.div(j, 2, rounding_mode="floor") / dim)
    angles = torch.arange(num_positions, dtype=torch.float64)[:, None] / wavelengths  # [N, D]
    return torch.where(j % 2 == 0, angles.sin(), angles.cos()).float()


def resample_positions(table: Tensor, trained: Grid, grid: Grid) -> Tensor:
    """Positions for another grid than the trained one, by trilinear interpolation of the trained table.

    The table counts the flattened token index, so a table made anew for another width would give every row of tokens a
    position that the weights have never seen there; the trained one is laid out in 3-D and interpolated instead.

    Args:
        table: `[N, D]`, N the product of `trained`.
        trained: Grid that the table is for.
        grid: Grid that is asked for; the trained one returns `table` itself.

    Returns:
        `[N', D]`, N' the product of `grid`.

    Example:
        >>> resample_positions(sinusoid_table(12, 8), trained=(3, 2, 2), grid=(6, 4, 4)).shape
        torch.Size([96, 8])
    """
    if grid == trained:
        return table
    volume = table.T.reshape(1, -1, *trained)  # [1, D, t, h, w]
    volume = F.interpolate(volume.float(), size=grid, mode="trilinear", align_corners=False)
    return volume.flatten(2)[0].T.to(table.dtype)


def init_vit_weights(module: nn.Module) -> None:
    """The papers' initialisation, for `nn.Module.apply`: Xavier-uniform linear weights, zero biases, unit norms."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class TubeletEmbed(nn.Module):
    """A strided 3-D convolution that makes one token of each tubelet, computed for the wanted tubelets only.

    Args:
        embed_dim: Width of a token.
        tubelet_frames: Frames of one token.
        patch_size: Height and width of one token, in pixels.
        in_chans: Channels of a frame.
    """

    def __init__(self, embed_dim: int, tubelet_frames: int = 2, patch_size: int = 16, in_chans: int = 3) -> None:
        super().__init__()
        kernel = (tubelet_frames, patch_size, patch_size)
        self.tubelet_frames, self.patch_size = tubelet_frames, patch_size
        self.proj = nn.Conv3d(in_chans, embed_dim, kernel_size=kernel, stride=kernel)

    def forward(self, clips: Tensor, visible: Tensor | None = None) -> Tensor:
        """Tokens of clips `[B, T, C, H, W]`: all `[B, N, D]`, or those where `visible` bool `[B, N]` is true `[B, N_v, D]`.

        Stride equals kernel, so the convolution is a matrix product per tubelet; with 90% masked, a tenth of them is made.
        """
        patches = patchify(clips, self.tubelet_frames, self.patch_size)
        if visible is not None:
            patches = select_tokens(patches, visible)
        weight = self.proj.weight.permute(0, 2, 3, 4, 1).flatten(1)  # [D, frames * rows * columns * C]
        return F.linear(patches.flatten(2), weight, self.proj.bias)  # [B, N_v, D]


def select_tokens(tokens: Tensor, chosen: Tensor) -> Tensor:
    """The tokens where `chosen` is true, in their order; as many in every sample.

    Args:
        tokens: `[B, N, ...]`.
        chosen: bool `[B, N]`.

    Returns:
        `[B, N_chosen, ...]`.

    Raises:
        ValueError: `chosen` is not bool, or samples choose different numbers of tokens.

    Example:
        >>> select_tokens(torch.arange(6).reshape(2, 3), torch.tensor([[True, False, True], [False, True, True]])).tolist()
        [[0, 2], [4, 5]]
    """
    if chosen.dtype != torch.bool or chosen.shape != tokens.shape[:2]:
        raise ValueError(f"mask ({chosen.dtype} {list(chosen.shape)}) must be bool {list(tokens.shape[:2])}")
    counts = chosen.sum(1)
    if (counts != counts[0]).any():
        raise ValueError(f"mask chooses {counts.tolist()} tokens; every sample of a batch must have as many")
    return tokens[chosen].reshape(len(tokens), -1, *tokens.shape[2:])


class Attention(nn.Module):
    """Multi-head self-attention with a bias on queries and values and none on keys.

    Args:
        dim: Width of a token; a multiple of `num_heads`.
        num_heads: Heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be a multiple of num_heads ({num_heads})")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `[B, N, D]` -> `[B, N, D]`."""
        b, n, d = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).reshape(b, n, 3, self.num_heads, d // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, N, D / heads]
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block: attention, then an MLP, each added to what came in.

    Args:
        dim: Width of a token.
        num_heads: Heads.
        mlp_ratio: Width of the MLP's hidden layer over `dim`.
        layer_norm_eps: Epsilon of both norms.
        drop_path: Probability with which, in training, a sample goes past the attention, and likewise past the MLP.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float = 4.0, layer_norm_eps: float = 1e-6, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path ({drop_path}) must be >= 0 and < 1")
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `[B, N, D]` -> `[B, N, D]`."""
        x = x + self._kept(self.attn(self.norm1(x)))
        return x + self._kept(self.mlp(self.norm2(x)))

    def _kept(self, change: Tensor) -> Tensor:
        """What is added, of the samples that do not go past it; scaled, so that its mean stays (stochastic depth)."""
        if not self.training or self.drop_path == 0:
            return change
        share = 1 - self.drop_path
        return change * (torch.rand(len(change), 1, 1, device=change.device) < share) / share


class VisionTransformer(nn.Module):
    """Clips -> normalised tokens, of all tubelets or of the visible ones.

    Args:
        grid: Tokens along T, H, W that the positions are for; other grids are served by `resample_positions`.
        embed_dim: Width of a token.
        depth: Blocks.
        num_heads: Heads of a block.
        mlp_ratio: Width of the MLP's hidden layer over `embed_dim`.
        tubelet_frames: Frames of one token.
        patch_size: Height and width of one token, in pixels.
        in_chans: Channels of a frame.
        layer_norm_eps: Epsilon of all norms.
        drop_path: Of the last block, see `Block`; it rises evenly from 0 at the first one.

    Example:
        >>> encoder = VisionTransformer(grid=(2, 2, 2), embed_dim=32, depth=1, num_heads=2)
        >>> encoder(torch.rand(1, 4, 3, 32, 32)).shape
        torch.Size([1, 8, 32])
    """

    def __init__(
        self,
        grid: Grid,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        tubelet_frames: int = 2,
        patch_size: int = 16,
        in_chans: int = 3,
        layer_norm_eps: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = TubeletEmbed(embed_dim, tubelet_frames, patch_size, in_chans)
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio, layer_norm_eps, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=layer_norm_eps)
        # Not in state dicts: the papers' files hold no table, and it follows from the grid.
        self.register_buffer("positions", sinusoid_table(grid[0] * grid[1] * grid[2], embed_dim), persistent=False)
        self.apply(init_vit_weights)

    def forward(self, clips: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode clips; masked tokens are left out, not replaced.

        Args:
            clips: Normalised pixels `[B, T, C, H, W]`.
            mask: bool `[B, N]`, true where masked, as many in every sample; None to see everything.

        Returns:
            `[B, N_visible, D]` in ascending token order.
        """
        grid = token_grid(clips, self.patch_embed.tubelet_frames, self.patch_embed.patch_size)
        positions = resample_positions(self.positions, self.grid, grid).expand(len(clips), -1, -1)  # [B, N, D]
        if mask is None:
            tokens = self.patch_embed(clips) + positions
        else:
            tokens = self.patch_embed(clips, ~mask) + select_tokens(positions, ~mask)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)
