"""Stage ``dpd``: velocity prediction on multi-chunk noisy latents (Eq. 2–9 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from melody.config import DenoiserStage, Generation
from melody.devices import place_of
from melody.diffusion.angles import add_noise, draw_chunk_angles, velocity_target
from melody.diffusion.guidance import guided_velocity
from melody.errors import MelodyError
from melody.metrics.denoising import Denoised, score_denoiser
from melody.protocols import Codec
from melody.samplers.loop import sample
from melody.training.recipe import Recipe, mean_over_rows
from melody.training.shares import WHOLE, Share

TABLE5_BATCH = 8
SOUNDS = 2


@dataclass(frozen=True)
class LatentData:
    """``latents`` ``(segments, L, D)`` and the ``tokens`` ``(segments, N)`` of the same audio.

    With ``deviations`` ``(segments, L, D)`` the latents are means that are not clamped yet, and what is learnt are
    mapped samples (appendix B.1).
    """

    latents: Tensor
    tokens: Tensor
    deviations: Tensor | None = None

    def rows(self, rows: Tensor, noise: Tensor | None) -> Tensor:
        """Latents of some rows ``(B, L, D)``, with ``noise`` of that shape where they deviate."""
        latents = self.latents[rows]
        if self.deviations is None or noise is None:
            return latents
        return (latents + self.deviations[rows] * noise).clamp(-1, 1)

    def held_out(self, rows: Tensor) -> Tensor:
        """Latents of some rows ``(B, L, D)``; where they deviate, one sample of each row, always the same."""
        if self.deviations is None:
            return self.latents[rows]
        generators = [torch.Generator().manual_seed(int(row)) for row in rows]
        noise = [torch.randn(self.latents.shape[1:], generator=generator) for generator in generators]
        return self.rows(rows, torch.stack(noise))


class VelocityPrediction(Recipe):
    settings: DenoiserStage

    def __init__(
        self,
        part: torch.nn.Module,
        settings: DenoiserStage,
        train: LatentData,
        validation: LatentData,
        chunks: int,
        preview: AudioPreview | None = None,
    ) -> None:
        super().__init__(part, settings)
        self.preview = preview
        self.train_data, self.validation_data, self.chunks = train, validation, chunks

    def batch(self, step: int, share: Share = WHOLE) -> tuple[Tensor, ...]:
        generator, size = self.generator(step), self.settings.batch_size
        rows = torch.randint(len(self.train_data.latents), (size,), generator=generator)
        length, width = self.train_data.latents.shape[1:]
        noise = torch.randn((size, length, width), generator=generator)
        angle = draw_chunk_angles(size, length, self.chunks, generator)
        dropped = torch.rand(size, generator=generator) < self.settings.guidance_dropout
        own = share.rows(size)
        deviates = self.train_data.deviations is not None
        sampled = torch.randn((size, length, width), generator=generator)[own] if deviates else None
        latents, tokens = self.train_data.rows(rows[own], sampled), self.train_data.tokens[rows[own]]
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
        batches = torch.arange(len(self.validation_data.latents)).split(16)
        for rows in batches:
            latents, tokens = self.validation_data.held_out(rows), self.validation_data.tokens[rows]
            noise = torch.randn(latents.shape, generator=generator)
            angle = draw_chunk_angles(len(latents), latents.shape[1], self.chunks, generator)
            every = torch.ones(len(latents), dtype=torch.bool)
            for name, dropped in (("velocity_mse", ~every), ("velocity_mse_unconditional", every)):
                batch = (tensor.to(self.device) for tensor in (latents, tokens, noise, angle, dropped))
                errors[name].append(_velocity_error(part, *batch))
            errors["velocity_mse_zero"].append(velocity_target(latents, noise, angle).square().mean())
        return {name: mean_over_rows(values, batches) for name, values in errors.items()}

    def table5(self) -> Denoised:
        """Table 5's protocol on the held-out latents; those that are constant, as of silence, are left out."""
        data, part = self.validation_data, self.trained().eval()
        rows = (data.latents.amax(dim=(1, 2)) > data.latents.amin(dim=(1, 2))).nonzero().flatten()
        if not len(rows):
            raise MelodyError("stage dpd: every held-out latent is constant, as of silence; nothing can be scored")
        batches = (
            (data.held_out(some).to(self.device), data.tokens[some].to(self.device))
            for some in rows.split(TABLE5_BATCH)
        )
        generator = torch.Generator().manual_seed(self.settings.seed)
        return score_denoiser(part, batches, len(rows), generator)  # type: ignore[arg-type]

    @torch.no_grad()
    def sounds(self) -> dict[str, Tensor]:
        """Held-out tokens made to music as the preset generates, each beside the decoded true latents."""
        if self.preview is None:
            return {}
        sounds, part = {}, self.trained().eval()
        for number in range(min(SOUNDS, len(self.validation_data.tokens))):
            row = torch.tensor([number])
            tokens = self.validation_data.tokens[row].to(self.device)
            true = self.validation_data.held_out(row).to(self.device)
            sounds[f"clip {number}/original latents"] = self.preview.decode(true)
            sounds[f"clip {number}/sampled"] = self.preview.sampled(part, tokens, true.shape)
        return sounds


@dataclass(frozen=True)
class AudioPreview:
    """What turns a denoiser's work into sound."""

    codec: Codec
    generation: Generation

    def decode(self, latents: Tensor) -> Tensor:
        """The waveform ``(T,)`` of one item's latents ``(1, L, D)``."""
        return self.codec.decode(latents.to(place_of(self.codec)))[0, 0]

    def sampled(self, denoiser: Any, tokens: Tensor, shape: torch.Size) -> Tensor:
        """Music for tokens ``(1, N)``, from noise by the seed 0."""
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(tokens.device)
        settings = self.generation
        velocity = guided_velocity(denoiser, denoiser.prepare(tokens), settings.guidance_scale)
        generator = torch.Generator().manual_seed(1)
        latents = sample(
            velocity,
            noise,
            sampler=settings.sampler,
            grid=settings.grid,
            num_steps=settings.num_steps,
            generator=generator,
        )
        return self.decode(latents.clamp(-1, 1))


def _velocity_error(
    part: torch.nn.Module, latents: Tensor, tokens: Tensor, noise: Tensor, angle: Tensor, dropped: Tensor
) -> Tensor:
    condition = part.prepare(tokens)  # type: ignore[operator]
    predicted = part(add_noise(latents, noise, angle), angle, condition, dropped)
    error: Tensor = (predicted - velocity_target(latents, noise, angle)).square().mean()
    return error
