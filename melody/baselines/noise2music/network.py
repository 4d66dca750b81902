"""The diffusion network of one stage: a U-Net that is told the angle, the prompt and what the stages before made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from melody.baselines.noise2music.unet import UNet1d
from melody.diffusion.inputs import AngleEmbedding, mlp
from melody.errors import MelodyError

SMALLEST_DEVIATION = 1e-3
"""A channel that is constant in the data is not blown up."""


@dataclass(frozen=True)
class Condition:
    """What does not depend on the angle, computed once a generation."""

    prompt: Tensor
    """``(B, E)``"""
    lower: Tensor
    """What the stages before made, at unit scale, ``(B, L, lower_channels)``; no channels in the first stage."""


class StageNetwork(nn.Module):
    """Predicts the velocity of one stage's frames at an angle; is called as ``guided_velocity`` calls a denoiser.

    Its data are brought to mean 0 and deviation 1 by channel, by buffers that ``fit_scale`` fills. One angle holds for
    a whole clip.

    Args:
        channels: C, values a frame that the stage makes.
        lower_channels: values a frame that the stages before made; 0 in the first.
        prompt_size: width of the joint embedding.
        hidden_size: E, width of the embedding of angle and prompt.
        widths, blocks, num_heads, patch: see ``UNet1d``.
    """

    mean: Tensor
    deviation: Tensor
    lower_mean: Tensor
    lower_deviation: Tensor

    def __init__(
        self,
        channels: int,
        lower_channels: int,
        prompt_size: int,
        hidden_size: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        num_heads: int,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.channels, self.lower_channels = channels, lower_channels
        self.angle_embedding = AngleEmbedding(hidden_size, hidden_size)
        self.prompt_embedding = mlp(prompt_size, hidden_size)
        self.no_prompt = nn.Parameter(torch.zeros(hidden_size))
        self.unet = UNet1d(channels + lower_channels, channels, widths, blocks, hidden_size, num_heads, patch)
        for name, size in (("", channels), ("lower_", lower_channels)):
            self.register_buffer(f"{name}mean", torch.zeros(size))
            self.register_buffer(f"{name}deviation", torch.ones(size))

    def fit_scale(self, frames: Tensor, lower: Tensor) -> None:
        """Take mean and deviation by channel from data ``(n, L, C)`` and ``(n, L, lower_channels)``."""
        for name, values in (("", frames), ("lower_", lower)):
            if not values.shape[2]:
                continue
            flat = values.flatten(0, 1).double()
            getattr(self, f"{name}mean").copy_(flat.mean(dim=0))
            getattr(self, f"{name}deviation").copy_(flat.std(dim=0).clamp(min=SMALLEST_DEVIATION))

    def scaled(self, frames: Tensor) -> Tensor:
        """Data of the stage ``(B, L, C)`` at unit scale."""
        return (frames - self.mean) / self.deviation

    def unscaled(self, latents: Tensor) -> Tensor:
        """The inverse of ``scaled``."""
        return latents * self.deviation + self.mean

    def prepare(self, prompt: Tensor, lower: Tensor) -> Condition:
        """Joint embeddings ``(B, prompt_size)`` and the lower stages' data ``(B, L, lower_channels)``."""
        # At unit variance a component, whatever the width of the unit vector.
        embedded = self.prompt_embedding(prompt * prompt.shape[1] ** 0.5)
        return Condition(embedded, (lower - self.lower_mean) / self.lower_deviation)

    def repeat(self, condition: Condition, times: int) -> Condition:
        """The condition for a batch of ``times`` copies of the rows."""
        return Condition(torch.cat([condition.prompt] * times), torch.cat([condition.lower] * times))

    def forward(
        self, latents: Tensor, angle: Tensor, condition: Condition, unconditional: Tensor | None = None
    ) -> Tensor:
        """Latents ``(B, L, C)``, angle ``(B, L)`` in [0, π/2], the same for all frames -> velocity ``(B, L, C)``.

        ``unconditional`` ``(B,)``, boolean, marks the rows that must not see the prompt.
        """
        if latents.ndim != 3 or latents.shape[2] != self.channels or condition.lower.shape[:2] != latents.shape[:2]:
            raise MelodyError(
                f"latents have shape {tuple(latents.shape)}, expected {(*condition.lower.shape[:2], self.channels)}"
            )
        prompt = condition.prompt
        if unconditional is not None:
            prompt = torch.where(unconditional[:, None], self.no_prompt, prompt)
        embedding = self.angle_embedding(angle[:, 0]) + prompt  # (B, E)
        velocity: Tensor = self.unet(torch.cat([latents, condition.lower], dim=2), embedding)
        return velocity
