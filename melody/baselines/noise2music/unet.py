"""A U-Net of one dimension, in the order of its forward pass.

After the "efficient U-Net" of image diffusion (arXiv 2205.11487: more blocks at low resolutions, skips scaled by
1/√2), with our own sizes: strided convolutions between levels, residual blocks modulated by the angle and the
condition (FiLM), self-attention at the lowest level. Skips are added, not concatenated (ours: half the weights).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.errors import MelodyError

GROUPS = 8
"""Of every group norm (ours)."""


class UNet1d(nn.Module):
    """``(B, L, in_channels)`` and an embedding ``(B, E)`` -> ``(B, L, out_channels)``, any L.

    Args:
        widths: channels of each level; every level has half the frames of the one before.
        blocks: residual blocks of each level, on the way down and again on the way up.
        embedding_size: E.
        num_heads: of the attention at the lowest level.
        patch: frames that are folded into the channels of one before the first level.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        embedding_size: int,
        num_heads: int,
        patch: int = 1,
    ) -> None:
        super().__init__()
        _check_sizes(widths, blocks, num_heads, patch)
        self.patch = patch
        self.multiple = patch * 2 ** (len(widths) - 1)
        pairs = list(itertools.pairwise(widths))
        self.conv_in = nn.Conv1d(patch * in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(_blocks(w, n, embedding_size) for w, n in zip(widths, blocks, strict=True))
        self.downs = nn.ModuleList(nn.Conv1d(a, b, 2, stride=2) for a, b in pairs)
        self.attention = Attention(widths[-1], num_heads)
        self.up_blocks = nn.ModuleList(_blocks(w, n, embedding_size) for w, n in zip(widths, blocks, strict=True))
        self.ups = nn.ModuleList(nn.ConvTranspose1d(b, a, 2, stride=2) for a, b in pairs)
        self.norm_out = nn.GroupNorm(GROUPS, widths[0])
        self.conv_out = nn.Conv1d(widths[0], patch * out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        length = x.shape[1]
        x = F.pad(x, (0, 0, 0, -length % self.multiple))
        x = x.unflatten(1, (-1, self.patch)).flatten(2).transpose(1, 2)  # (B, patch * C, L / patch)
        embedding = F.silu(embedding)
        x, skips = self.conv_in(x), []
        for level, blocks in enumerate(self.down_blocks):
            x = self.downs[level - 1](x) if level else x
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, embedding)
            skips.append(x)
        x = self.attention(x)
        for level in reversed(range(len(skips))):
            if level < len(self.ups):
                x = (self.ups[level](x) + skips[level]) / math.sqrt(2)
            for block in self.up_blocks[level]:  # type: ignore[attr-defined]
                x = block(x, embedding)
        x = self.conv_out(F.silu(self.norm_out(x)))
        x = x.transpose(1, 2).unflatten(2, (self.patch, -1)).flatten(1, 2)  # (B, L, C)
        return x[:, :length]


class ResidualBlock(nn.Module):
    """Two convolutions of three frames, the second modulated: ``(B, C, L)``, ``(B, E)`` -> ``(B, C, L)``."""

    def __init__(self, width: int, embedding_size: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, width)
        self.conv1 = nn.Conv1d(width, width, 3, padding=1)
        self.film = nn.Linear(embedding_size, 2 * width)
        self.norm2 = nn.GroupNorm(GROUPS, width)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None].chunk(2, dim=1)  # (B, C, 1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention over all frames, told apart by sines of their places: ``(B, C, L) -> (B, C, L)``."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(GROUPS, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x) + _places(x.shape[1], x.shape[2], x)
        heads = self.qkv(h).unflatten(1, (3, self.num_heads, -1)).transpose(3, 4)  # (B, 3, H, L, C / H)
        mixed = F.scaled_dot_product_attention(heads[:, 0], heads[:, 1], heads[:, 2])
        return x + self.out(mixed.transpose(2, 3).flatten(1, 2))  # type: ignore[no-any-return]


def _places(width: int, length: int, like: Tensor) -> Tensor:
    """Sines and cosines of the frames' numbers (arXiv 1706.03762, section 3.5): ``(width, length)``."""
    half = torch.arange(width // 2, device=like.device, dtype=like.dtype)
    rates = torch.exp(-math.log(10_000) * half / (width // 2))[:, None]
    phase = rates * torch.arange(length, device=like.device, dtype=like.dtype)
    return torch.cat([phase.sin(), phase.cos()])


def _blocks(width: int, count: int, embedding_size: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(width, embedding_size) for _ in range(count))


def _check_sizes(widths: Sequence[int], blocks: Sequence[int], num_heads: int, patch: int) -> None:
    if not widths or len(blocks) != len(widths):
        raise MelodyError(f"blocks has {len(blocks)} numbers: expected one for each of the {len(widths)} widths")
    for width in widths:
        if width < 1 or width % GROUPS:
            raise MelodyError(f"widths holds {width}: expected multiples of {GROUPS}")
    if num_heads < 1 or widths[-1] % num_heads:
        raise MelodyError(f"num_heads is {num_heads}: expected a divisor of the last width, {widths[-1]}")
    if patch < 1:
        raise MelodyError(f"patch is {patch}: expected 1 or more")
