"""The encoder of masked pre-training, the mean of its tokens, a norm and a linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from vitascope.nn.vit import Grid, VisionTransformer

HEAD_SCALE = 0.001  # of the fresh head's weights: at the start all classes are alike


class ClipClassifier(nn.Module):
    """Clips -> logits. Parameters are named as in the papers' fine-tuned files, the encoder's under `encoder.`.

    The encoder's last norm is left out, and a fresh one follows the mean over all tokens, as the papers do.

    Args:
        grid: Tokens along T, H, W of a clip.
        num_classes: Outputs.
        embed_dim, depth, num_heads: The encoder's width, blocks, heads.
        mlp_ratio: Hidden width of every MLP over its block's width.
        tubelet_frames: Frames of one token.
        patch_size: Height and width of one token, in pixels.
        layer_norm_eps: Epsilon of every norm.
        drop_path: Stochastic depth of the last block.

    Example:
        >>> import torch
        >>> model = ClipClassifier((1, 2, 2), num_classes=5, embed_dim=32, depth=1, num_heads=2)
        >>> model(torch.rand(2, 2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        grid: Grid,
        num_classes: int,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        tubelet_frames: int = 2,
        patch_size: int = 16,
        layer_norm_eps: float = 1e-6,
        drop_path: float = 0.0,
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
            drop_path=drop_path,
        )
        self.encoder.norm = nn.Identity()
        self.fc_norm = nn.LayerNorm(embed_dim, eps=layer_norm_eps)
        self.head = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02 * HEAD_SCALE, a=-2 * HEAD_SCALE, b=2 * HEAD_SCALE)
        nn.init.zeros_(self.head.bias)

    def features(self, clips: Tensor) -> Tensor:
        """Normalised pixels `[B, T, C, H, W]` -> `[B, D]`, what the head sees."""
        return self.fc_norm(self.encoder(clips).mean(1))

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised pixels `[B, T, C, H, W]` -> logits `[B, K]`."""
        return self.head(self.features(clips))
