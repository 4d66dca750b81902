"""What denoisers do alike: the embedding of the angle, the tokens as they use them, checks of their inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from melody.diffusion.attention import Memory
from melody.diffusion.norm import RMSNorm
from melody.errors import MelodyError


@dataclass(frozen=True)
class Condition:
    """The semantic tokens as the network uses them, computed once per generation."""

    mean: Tensor
    """Mean of E_ST over time, ``(B, d)``."""
    memories: tuple[Memory, ...]
    """Keys and values for every cross-attention, in the order of the layers."""

    @property
    def rows(self) -> int:
        return len(self.mean)

    def repeated(self, times: int) -> Condition:
        """For ``times`` copies of the rows, in the order of ``torch.cat([x] * times)``."""
        memories = tuple((torch.cat([k] * times), torch.cat([v] * times)) for k, v in self.memories)
        return Condition(torch.cat([self.mean] * times), memories)

    def mean_seen(self, unconditional: Tensor | None) -> Tensor:
        """``mean``, and zero in the rows that must not see the tokens."""
        if unconditional is None:
            return self.mean
        # A mask on the CPU will do: its rows are then known without waiting for the device, the meta device too.
        return self.mean.masked_fill(unconditional[:, None].to(self.mean.device), 0.0)


class AngleEmbedding(nn.Module):
    """E_δ: spherical interpolation of two learned vectors, then an MLP: ``(B, L)`` -> ``(B, L, d)`` (Figure 2; the
    interpolation is of grade S: from a public summary of the paper)."""

    def __init__(self, width: int, hidden_size: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(width))
        self.end = nn.Parameter(torch.randn(width))
        self.mlp = mlp(width, hidden_size)

    def forward(self, angle: Tensor) -> Tensor:
        # A summary of the paper prints sin twice, which cannot interpolate: cos at the start is meant.
        slerp = angle.cos()[..., None] * self.start + angle.sin()[..., None] * self.end
        embedding: Tensor = self.mlp(slerp)
        return embedding


def mlp(in_size: int, hidden_size: int) -> nn.Sequential:
    """Two layers with RMSNorm and GELU between them (their order: ours)."""
    return nn.Sequential(
        nn.Linear(in_size, hidden_size), RMSNorm(hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size)
    )


def check_inputs(latents: Tensor, angle: Tensor, rows: int, unconditional: Tensor | None, *, latent_dim: int) -> None:
    """Refuse shapes that do not fit together with a ``MelodyError``; ``rows``: of the condition."""
    if latents.ndim != 3 or latents.shape[2] != latent_dim:
        raise MelodyError(f"latents have shape {tuple(latents.shape)}: expected (batch, frames, {latent_dim})")
    if not latents.shape[1]:
        raise MelodyError("there are 0 latent frames: expected 1 or more")
    if angle.shape != latents.shape[:2]:
        raise MelodyError(f"the angle has shape {tuple(angle.shape)}: expected {tuple(latents.shape[:2])}, one a frame")
    if rows != len(latents):
        raise MelodyError(f"the condition has {rows} rows for {len(latents)} rows of latents")
    if unconditional is not None and (unconditional.dtype != torch.bool or unconditional.shape != latents.shape[:1]):
        raise MelodyError(
            f"unconditional is {unconditional.dtype} of shape {tuple(unconditional.shape)}: "
            f"expected torch.bool of shape ({len(latents)},)"
        )


def check_levels(channels: tuple[int, ...], **settings: tuple[int, ...]) -> None:
    """Raise ``MelodyError`` unless every setting has a value for each level of a U-Net, as ``channels`` has."""
    for name, values in settings.items():
        if len(values) != len(channels):
            raise MelodyError(f"{name} has {len(values)} values: expected one for each of the {len(channels)} levels")


def check_tokens(semantic_tokens: Tensor, codebook_size: int) -> None:
    if semantic_tokens.ndim != 2 or semantic_tokens.shape[1] < 1 or semantic_tokens.is_floating_point():
        raise MelodyError(
            f"semantic tokens are {semantic_tokens.dtype} of shape {tuple(semantic_tokens.shape)}: "
            "expected integers of shape (batch, tokens), 1 token or more"
        )
    if not semantic_tokens.numel() or semantic_tokens.is_meta:
        return
    low, high = (int(bound) for bound in semantic_tokens.aminmax())
    if low < 0 or high >= codebook_size:
        raise MelodyError(f"semantic tokens lie in [{low}, {high}]: expected [0, {codebook_size - 1}]")
