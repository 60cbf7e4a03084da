"""Stems and transformer of ImageBind. Shapes: N items, L tokens, W width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Positions(nn.Module):
    """Learned positions of a class token and a grid of patches; interpolated for other grids."""

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.grid = grid
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid[0] * grid[1], width) * 0.02)

    def forward(self, grid: tuple[int, int]) -> Tensor:
        if grid == self.grid:
            return self.pos_embed
        first, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        square = patches.unflatten(1, self.grid).permute(0, 3, 1, 2)
        resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
        return torch.cat([first, resized.flatten(2).transpose(1, 2)], dim=1)


class _FramesFirst(nn.Module):
    """Repeats images ``(N, 3, H, W)`` to clips of equal frames."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(2).expand(-1, -1, self.frames, -1, -1) if x.ndim == 4 else x


class _Holder(nn.Module):
    """A container that gives its children the names of the published weights."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class VisionStem(nn.Module):
    """Patches over space and time, ``(N, 3, [T,] H, W)`` to ``(N, L, W)``."""

    def __init__(self, width: int, size: int, patch: int, frames: int) -> None:
        super().__init__()
        kernel = (frames, patch, patch)
        conv = nn.Conv3d(3, width, kernel, stride=kernel, bias=False)
        self.rgbt_stem = _Holder(proj=nn.Sequential(_FramesFirst(frames), conv))
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embedding_helper = _Positions((size // patch, size // patch), width)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Tokens with positions, and no mask."""
        patches = self.rgbt_stem.get_submodule("proj")(x)
        grid = (patches.shape[-2], patches.shape[-1])
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens + self.pos_embedding_helper(grid), None


class PatchStem(nn.Module):
    """Patches of one-channel pictures (spectrogram, depth, thermal), ``(N, 1, H, W)`` to ``(N, L, W)``."""

    def __init__(self, width: int, size: tuple[int, int], kernel: int, stride: int, stem_name: str) -> None:
        super().__init__()
        self.stem_name = stem_name
        stem = _Holder(proj=nn.Conv2d(1, width, kernel, stride=stride, bias=False), norm_layer=nn.LayerNorm(width))
        self.add_module(stem_name, stem)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        grid = ((size[0] - kernel) // stride + 1, (size[1] - kernel) // stride + 1)
        self.pos_embedding_helper = _Positions(grid, width)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Tokens with positions, and no mask."""
        stem = self.get_submodule(self.stem_name)
        patches = stem.get_submodule("proj")(x)
        tokens = stem.get_submodule("norm_layer")(patches.flatten(2).transpose(1, 2))
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens + self.pos_embedding_helper((patches.shape[-2], patches.shape[-1])), None


class TextStem(nn.Module):
    """Token ids ``(N, L)`` to embeddings ``(N, L, W)`` and the causal mask."""

    mask: Tensor

    def __init__(self, width: int, vocab_size: int, context_length: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, context_length, width) * 0.01)
        self.register_buffer("mask", torch.full((context_length, context_length), float("-inf")).triu(1))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens with positions, and the mask."""
        length = ids.shape[1]
        return self.token_embedding(ids) + self.pos_embed[:, :length], self.mask[:length, :length]


class ImuStem(nn.Module):
    """Windows of eight readings of six sensors, ``(N, 6, 2000)`` to ``(N, 251, W)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.imu_stem = _Holder(proj=nn.Linear(48, width, bias=False), norm_layer=nn.LayerNorm(width))
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 251, width) * 0.02)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Tokens with positions, and no mask."""
        windows = x.unfold(-1, 8, 8).transpose(1, 2).flatten(2)
        tokens = self.imu_stem.get_submodule("norm_layer")(self.imu_stem.get_submodule("proj")(windows))
        return torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.pos_embed, None


class _Block(nn.Module):
    """Pre-norm attention and MLP; with stochastic depth per sample in training."""

    def __init__(self, width: int, heads: int, drop_path: float, bias_kv: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True, add_bias_kv=bias_kv)
        self.mlp = _Holder(fc1=nn.Linear(width, 4 * width), fc2=nn.Linear(4 * width, width))
        self.norm_1 = nn.LayerNorm(width, eps=1e-6)
        self.norm_2 = nn.LayerNorm(width, eps=1e-6)
        self.drop_path = drop_path

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return x
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.drop_path
        return x * kept / (1 - self.drop_path)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.norm_1(x)
        x = x + self._dropped(self.attn(y, y, y, attn_mask=mask, need_weights=False)[0])
        y = self.mlp.get_submodule("fc2")(F.gelu(self.mlp.get_submodule("fc1")(self.norm_2(x))))
        return x + self._dropped(y)


class Tower(nn.Module):
    """The blocks of one modality; drop path grows from zero to ``drop_path`` over them."""

    def __init__(
        self, width: int, blocks: int, heads: int, *, drop_path: float, bias_kv: bool, norm_first_tokens: bool
    ) -> None:
        super().__init__()
        first: list[nn.Module] = [nn.LayerNorm(width, eps=1e-6)] if norm_first_tokens else []
        self.pre_transformer_layer = nn.Sequential(*first)
        rates = [drop_path * i / max(1, blocks - 1) for i in range(blocks)]
        self.blocks = nn.ModuleList(_Block(width, heads, rate, bias_kv) for rate in rates)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """``(N, L, W)`` to the same shape; without final norm, which the head has."""
        tokens = self.pre_transformer_layer(tokens)
        for block in self.blocks:
            tokens = block(tokens, mask)
        return tokens
