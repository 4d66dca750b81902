"""Stage ``dpd``: velocity prediction on multi-chunk noisy latents (Eq. 2-9, section 4 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melody.config import DenoiserStage
from melody.diffusion.angles import add_noise, draw_chunk_angles, velocity_target
from melody.training.recipe import Recipe
from melody.training.shares import WHOLE, Share


@dataclass(frozen=True)
class LatentData:
    """``latents`` ``(segments, L, D)`` and the ``tokens`` ``(segments, N)`` of the same audio."""

    latents: Tensor
    tokens: Tensor


class VelocityPrediction(Recipe):
    def __init__(
        self, part: torch.nn.Module, settings: DenoiserStage, train: LatentData, validation: LatentData, chunks: int
    ) -> None:
        super().__init__(part, settings)
        self.train_data, self.validation_data, self.chunks = train, validation, chunks

    def batch(self, step: int, share: Share = WHOLE) -> tuple[Tensor, ...]:
        generator, size = self.generator(step), self.settings.batch_size
        rows = torch.randint(len(self.train_data.latents), (size,), generator=generator)
        length, width = self.train_data.latents.shape[1:]
        noise = torch.randn((size, length, width), generator=generator)
        angle = draw_chunk_angles(size, length, self.chunks, generator)
        dropped = torch.rand(size, generator=generator) < self.settings.guidance_dropout  # type: ignore[attr-defined]
        own = share.rows(size)
        latents, tokens = self.train_data.latents[rows[own]], self.train_data.tokens[rows[own]]
        return latents, tokens, noise[own], angle[own], dropped[own]

    def losses(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        latents, tokens, noise, angle, dropped = (tensor.to(self.device) for tensor in batch)
        return {"loss": _velocity_error(self.part, latents, tokens, noise, angle, dropped)}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Velocity MSE on held-out latents with seeded noise and angles: with tokens, without, of predicting zero."""
        part = self.trained().eval()
        generator = torch.Generator().manual_seed(self.settings.seed)
        errors: dict[str, list[Tensor]] = {
            "velocity_mse": [],
            "velocity_mse_unconditional": [],
            "velocity_mse_zero": [],
        }
        for latents, tokens in zip(
            self.validation_data.latents.split(16), self.validation_data.tokens.split(16), strict=True
        ):
            noise = torch.randn(latents.shape, generator=generator)
            angle = draw_chunk_angles(len(latents), latents.shape[1], self.chunks, generator)
            every = torch.ones(len(latents), dtype=torch.bool)
            for name, dropped in (("velocity_mse", ~every), ("velocity_mse_unconditional", every)):
                batch = (tensor.to(self.device) for tensor in (latents, tokens, noise, angle, dropped))
                errors[name].append(_velocity_error(part, *batch))
            errors["velocity_mse_zero"].append(velocity_target(latents, noise, angle).square().mean())
        return {name: float(torch.stack(values).mean()) for name, values in errors.items()}


def _velocity_error(
    part: torch.nn.Module, latents: Tensor, tokens: Tensor, noise: Tensor, angle: Tensor, dropped: Tensor
) -> Tensor:
    condition = part.prepare(tokens)  # type: ignore[operator]
    predicted = part(add_noise(latents, noise, angle), angle, condition, dropped)
    error: Tensor = (predicted - velocity_target(latents, noise, angle)).square().mean()
    return error
