"""Dilated convolutions in the place of the dual-path network."""

from __future__ import annotations

import math

import torch
from torch import nn

from melody.protocols import Denoiser


class WaveDenoiser(nn.Module, Denoiser):
    """Gated convolutions over frames, each twice as wide as the last; tokens and angle are added to every frame."""

    def __init__(
        self, latent_dim: int = 32, codebook_size: int = 1024, width: int = 64, kernel: int = 3, num_blocks: int = 6
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.tokens = nn.Embedding(codebook_size + 1, width)  # the last row stands for tokens that are not seen
        self.angle = nn.Linear(2, width)
        self.enter, self.leave = nn.Linear(latent_dim, width), nn.Linear(width, latent_dim)
        self.blocks = nn.ModuleList(
            nn.Conv1d(width, 2 * width, kernel, padding="same", dilation=2**block) for block in range(num_blocks)
        )

    def prepare(self, semantic_tokens):
        return semantic_tokens  # (B, N)

    def repeat(self, condition, times):
        return condition.repeat(times, 1)

    def forward(self, latents, angle, condition, unconditional=None):
        if unconditional is not None:
            condition = condition.masked_fill(unconditional[:, None], self.tokens.num_embeddings - 1)
        hidden = self.enter(latents) + self._spread(self.tokens(condition), latents.shape[1])  # (B, L, H)
        hidden = hidden + self.angle(torch.stack([angle.cos(), angle.sin()], dim=-1).to(hidden))
        for block in self.blocks:
            values, gates = block(hidden.transpose(1, 2)).transpose(1, 2).chunk(2, dim=-1)
            hidden = (hidden + values * torch.sigmoid(gates)) / math.sqrt(2)
        return self.leave(hidden)

    def _spread(self, tokens, frames):
        """Each token over its share of the frames: ``(B, N, H)`` -> ``(B, L, H)``."""
        return nn.functional.interpolate(tokens.transpose(1, 2), size=frames).transpose(1, 2)
