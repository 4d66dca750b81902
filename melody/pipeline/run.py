"""One call of the pipeline: its random streams, its clock, its counters, and its calls of the networks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from melody.diffusion.guidance import guided_velocity
from melody.pipeline.meter import PassCounter
from melody.pipeline.parts import Networks
from melody.pipeline.prompts import Prompt
from melody.pipeline.settings import Settings
from melody.pipeline.taken import check_guidance
from melody.protocols import Velocity
from melody.samplers import sample
from melody.samplers.noise import standard_normal


class GenerationCall:
    """The networks as one call uses them: seeded, timed and counted."""

    def __init__(self, networks: Networks, settings: Settings) -> None:
        self.networks = networks
        self.settings = settings
        self.rows = len(settings.seeds)
        self.meter = PassCounter(networks.device, self.rows)
        self.totals: dict[str, int] = {}
        """How far progress goes, by part; without it there is none to report."""
        self._done: dict[str, int] = {}
        check_guidance(networks.denoiser, settings.guidance_scale)
        self._token_options = networks.token_options()
        self._token_streams = settings.generators("tokens", networks.device)
        self._noise_streams = settings.generators("latents", networks.device)

    def encode_prompt(self, prompt: Prompt) -> Tensor:
        """MuLan tokens ``(B, P)``, of texts and audio by the same quantiser."""
        with self.meter.timed("joint_embedder"):
            return self.networks.rvq.encode(prompt.embed(self.networks.joint_embedder, self.networks.device))

    def draw_tokens(self, prefix: Tensor, context: Tensor, count: int) -> Tensor:
        """``count`` semantic tokens ``(B, count)`` that follow the prefix ``(B, P)`` and the context ``(B, N)``."""
        self.meter.trace.prefill_tokens += prefix.shape[1] + context.shape[1]
        model = self.networks.language_model
        with self.meter.metered("language_model", model):  # type: ignore[arg-type]
            return model.generate(
                prefix,
                count,
                semantic_tokens=context if context.shape[1] else None,
                **self._token_options,
                generator=self._token_streams,
                callback=self._callback("language_model"),
            )

    def noise(self, frames: int) -> Tensor:
        """Standard normal latents ``(B, frames, D)``."""
        shape = (self.rows, frames, self.networks.codec.latent_dim)
        return standard_normal(shape, self._noise_streams, device=self.networks.device, dtype=torch.float32)

    def denoise(self, tokens: Tensor, latents: Tensor, known: Tensor, *, rotate_known: bool = False) -> Tensor:
        """Take the frames that are not known from noise to music, by one run of the sampler (Eq. 29, 32).

        Args:
            tokens: semantic tokens ``(B, N)`` of the window.
            latents: ``(B, L, D)``, noise where ``known`` is false.
            known: ``(L,)``, boolean: frames whose angle is 0.
            rotate_known: turn known frames too, as Algorithm 2 prints it; else they are returned to the bit.
        """
        settings, denoiser = self.settings, self.networks.denoiser
        angle = torch.where(known, 0.0, math.pi / 2).expand(latents.shape[:2])
        with self.meter.metered("denoiser", denoiser):  # type: ignore[arg-type]
            velocity = guided_velocity(denoiser, denoiser.prepare(tokens), settings.guidance_scale)
            return sample(
                _at_rest(velocity, known) if rotate_known else velocity,
                latents,
                sampler=settings.sampler,
                grid=settings.grid,
                num_steps=settings.num_steps,
                generator=self._noise_streams,
                callback=self._callback("denoiser"),
                start_angle=None if rotate_known else angle,
            )

    def _callback(self, part: str) -> Callable[[int, int], None] | None:
        progress = self.settings.progress
        if progress is None or part not in self.totals:
            return None
        before, whole = self._done.get(part, 0), self.totals[part]

        def report(done: int, total: int) -> None:
            self._done[part] = before + done
            progress(part, before + done, whole)

        return report


def _at_rest(velocity: Velocity, known: Tensor) -> Velocity:
    """The velocity of Algorithm 2 as printed: the network is told angle 0 on known frames, whatever is done to them."""

    def masked(latents: Tensor, angle: Tensor) -> Tensor:
        return velocity(latents, torch.where(known, 0.0, angle))

    return masked
