"""The masked autoencoder: an encoder of the visible tokens and a light decoder that speaks of the masked ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitascope.nn.vit import Block, Grid, VisionTransformer, init_vit_weights, select_tokens, sinusoid_table


class Decoder(nn.Module):
    """Blocks over all tokens, then heads on those asked for: one linear one for pixels, or one of each part of motion.

    Args:
        dim: Width of a token.
        depth: Blocks.
        num_heads: Heads of a block.
        out_dim: Values of one prediction; by name where there are several.
        head_dim: Hidden width of each named head; None for linear ones.
        activations: What follows a named head: `sigmoid`, `tanh`, or nothing.
        mlp_ratio: Width of the MLP's hidden layer over `dim`.
        layer_norm_eps: Epsilon of the blocks' norms.
        norm_eps: Epsilon of the last norm.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        out_dim: int | dict[str, int],
        head_dim: int | None = None,
        activations: dict[str, str] | None = None,
        mlp_ratio: float = 4.0,
        layer_norm_eps: float = 1e-6,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, num_heads, mlp_ratio, layer_norm_eps) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.activations = activations or {}
        if isinstance(out_dim, dict):
            self.heads = nn.ModuleDict({name: head(dim, head_dim, out) for name, out in out_dim.items()})
        else:
            self.head = nn.Linear(dim, out_dim)
        self.apply(init_vit_weights)

    def forward(self, tokens: Tensor, num_masked: int) -> Tensor | dict[str, Tensor]:
        """Tokens `[B, N, D]` -> predictions for the last `num_masked` of them `[B, N_masked, out_dim]`."""
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens[:, -num_masked:])
        if hasattr(self, "head"):
            return self.head(tokens)
        said = {name: head(tokens) for name, head in self.heads.items()}
        return {name: getattr(torch, self.activations.get(name, "clone"))(value) for name, value in said.items()}


def head(dim: int, hidden_dim: int | None, out_dim: int) -> nn.Module:
    """Linear, or with a hidden layer: Linear, GELU, Linear."""
    if hidden_dim is None:
        return nn.Linear(dim, out_dim)
    return nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, out_dim))


class MaskedAutoencoder(nn.Module):
    """Clips and a mask -> what stood at the masked tokens. Parameters are named as in VideoMAE's own files.

    Args:
        grid: Tokens along T, H, W of a clip.
        embed_dim, depth, num_heads: The encoder's width, blocks, heads.
        decoder_dim, decoder_depth, decoder_heads: The same of the decoder.
        mlp_ratio: Hidden width of every MLP over its block's width.
        tubelet_frames: Frames of one token.
        patch_size: Height and width of one token, in pixels.
        layer_norm_eps: Epsilon of every norm but the decoder's last.
        decoder_norm_eps: Epsilon of the decoder's last norm (VideoMAE 1e-6, its port in transformers 1e-5).
        heads: Width of each part of motion that is predicted, by name; None to predict pixels.
        head_dim: Hidden width of each of them.
        activations: What follows each of them, as `Decoder` takes it.

    Example:
        >>> model = MaskedAutoencoder((1, 2, 2), embed_dim=32, depth=1, num_heads=2, decoder_dim=32, decoder_depth=1,
        ...                           decoder_heads=2)
        >>> mask = torch.tensor([[True, True, False, True]])
        >>> model(torch.rand(1, 2, 3, 32, 32), mask).shape
        torch.Size([1, 3, 1536])
    """

    def __init__(
        self,
        grid: Grid,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        decoder_dim: int = 384,
        decoder_depth: int = 4,
        decoder_heads: int = 6,
        mlp_ratio: float = 4.0,
        tubelet_frames: int = 2,
        patch_size: int = 16,
        layer_norm_eps: float = 1e-6,
        decoder_norm_eps: float = 1e-6,
        heads: dict[str, int] | None = None,
        head_dim: int | None = None,
        activations: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = VisionTransformer(
            grid,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio,
            tubelet_frames=tubelet_frames,
            patch_size=patch_size,
            layer_norm_eps=layer_norm_eps,
        )
        self.encoder_to_decoder = nn.Linear(embed_dim, decoder_dim, bias=False)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, decoder_dim), std=0.02))
        self.decoder = Decoder(
            decoder_dim,
            decoder_depth,
            decoder_heads,
            heads or tubelet_frames * patch_size**2 * 3,
            head_dim,
            activations,
            mlp_ratio,
            layer_norm_eps,
            decoder_norm_eps,
        )
        table = sinusoid_table(grid[0] * grid[1] * grid[2], decoder_dim)
        self.register_buffer("decoder_positions", table, persistent=False)
        init_vit_weights(self.encoder_to_decoder)

    def forward(self, clips: Tensor, mask: Tensor) -> Tensor | dict[str, Tensor]:
        """Predict the masked tokens.

        Args:
            clips: Normalised pixels `[B, T, C, H, W]`.
            mask: bool `[B, N]`, true where masked, as many in every sample.

        Returns:
            `[B, N_masked, frames * rows * columns * C]` in ascending token order; with `heads` one such tensor of each.
        """
        seen = self.encoder_to_decoder(self.encoder(clips, mask))  # [B, N_visible, D]
        positions = self.decoder_positions.expand(len(clips), -1, -1)  # [B, N, D]
        asked = self.mask_token + select_tokens(positions, mask)  # [B, N_masked, D]
        # Visible first, then masked, and never put back in order: attention does not mind, and the papers' do the same.
        tokens = torch.cat([seen + select_tokens(positions, ~mask), asked.to(seen.dtype)], dim=1)  # [B, N, D]
        return self.decoder(tokens, asked.shape[1])
