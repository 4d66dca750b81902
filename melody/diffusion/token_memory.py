"""The semantic tokens as a sequence to attend to, for networks that know neither places nor hidden rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melody.diffusion.inputs import check_tokens, mlp
from melody.errors import MelodyError

SLOWEST_TOKENS = 1000.0
"""Tokens in a period of the slowest wave that tells time, over 2π; the fastest has 2π tokens."""


class TokenMemory(nn.Module):
    """Embeds tokens with their times; rows that must not see them get one learned vector in every token's place.

    Args:
        position_channels: sines and cosines of a time.

    Raises:
        MelodyError: an odd number of them.
    """

    def __init__(self, codebook_size: int, semantic_dim: int, position_channels: int) -> None:
        if position_channels % 2:
            raise MelodyError(f"position_channels is {position_channels}: expected an even number, 2 or more")
        super().__init__()
        self.codebook_size = codebook_size
        self.position_channels = position_channels
        self.semantic_embedding = nn.Embedding(codebook_size, semantic_dim)
        self.semantic_mlp = mlp(semantic_dim, semantic_dim)
        self.times_in = nn.Linear(position_channels, semantic_dim, bias=False)
        self.unseen = nn.Parameter(torch.randn(semantic_dim) * 0.02)

    def prepare(self, semantic_tokens: Tensor) -> Tensor:
        """Embedding ``(B, N, semantic_dim)`` of tokens ``(B, N)``, with their times.

        Raises:
            MelodyError: not a batch of token sequences, or a token outside the codebook.
        """
        check_tokens(semantic_tokens, self.codebook_size)
        embedding = self.semantic_mlp(self.semantic_embedding(semantic_tokens))
        times = torch.arange(semantic_tokens.shape[1], device=embedding.device) + 0.5
        prepared: Tensor = embedding + self.times_in(waves(times, self.position_channels).to(embedding.dtype))
        return prepared

    def repeat(self, condition: Tensor, times: int) -> Tensor:
        """The condition for ``times`` copies of the rows, in the order of ``torch.cat([x] * times)``."""
        return torch.cat([condition] * times)

    def seen(self, condition: Tensor, unconditional: Tensor | None) -> Tensor:
        """``prepare``'s result as each row may see it."""
        if unconditional is None:
            return condition
        return torch.where(unconditional.to(condition.device)[:, None, None], self.unseen, condition)


def waves(times: Tensor, count: int) -> Tensor:
    """Sines and cosines of times ``(N,)`` in token periods, ``(N, count)``, from fast to slow."""
    slowness = SLOWEST_TOKENS ** (torch.arange(count // 2, device=times.device) / max(1, count // 2 - 1))
    phase = times[:, None] / slowness
    return torch.cat([phase.sin(), phase.cos()], dim=-1)
