"""What both codecs share: the Gaussian posterior of a frame, the scale of its latents, the checks of what comes in."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melody.protocols import Codec
from melody.vae.inputs import check_frames, check_values, check_waveform

LATENT_SCALE = 3.0
"""Samples are mapped to clamp(z̄/3, −1, 1) (appendix B.1); fewer than 0.1 % are clipped."""

LOG_VARIANCE_RANGE = (-14.0, 6.0)
"""Our bounds of the log-variance: standard deviations from 1e-3 to 20, so neither exp nor the KL overflows."""


class VariationalCodec(nn.Module, Codec):
    """Codec whose encoder gives mean and log-variance of a diagonal Gaussian for every latent frame.

    A subclass sets ``sample_rate``, ``hop_length`` and ``latent_dim``, and implements what is abstract here.
    """

    @abstractmethod
    def statistics(self, waveform: Tensor) -> Tensor:
        """Waveform ``(B, 1, L * hop_length)`` -> mean and log-variance side by side, ``(B, L, 2 * D)``."""

    @abstractmethod
    def synthesize(self, latents: Tensor) -> Tensor:
        """Latents in the posterior's own scale ``(B, L, D)`` -> waveform ``(B, 1, L * hop_length)``."""

    @property
    @abstractmethod
    def decoder_context_frames(self) -> int:
        """Latent frames on each side that a decoded frame may depend on: both codecs of ours are convolutions."""

    def posterior(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents in their own scale, appendix B.1.

        Args:
            waveform: ``(B, 1, T)`` in [-1, 1], any ``T >= 1``; its end is padded with zeros to whole frames.
        Returns:
            Two tensors ``(B, ceil(T / hop_length), D)``.
        Raises:
            MelodyError: another shape or dtype, no samples, NaN or infinity.
        """
        check_waveform(self, waveform)
        padded = F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))  # (B, 1, L * hop)
        mean, log_variance = self.statistics(padded).chunk(2, dim=-1)  # (B, L, D) each
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def encode(self, waveform: Tensor) -> Tensor:
        """Latents ``(B, ceil(T / hop_length), D)`` = clamp(mean/3, −1, 1) of a waveform ``(B, 1, T)``.

        The mean, so that it is deterministic (ours); the paper maps samples, as training does by ``distribution``.
        """
        mean, _ = self.posterior(waveform)
        return (mean / LATENT_SCALE).clamp(-1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Waveform ``(B, 1, L * hop_length)`` of scaled latents ``(B, L, D)``; raises as ``posterior`` does."""
        expected = f"(B, L, {self.latent_dim})"
        check_frames(self, latents, "latents", expected, latents.ndim == 3 and latents.shape[2] == self.latent_dim)
        check_values(self, latents, "latents")
        return self.synthesize(latents * LATENT_SCALE)

    def distribution(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of z̄/3, two ``(B, ceil(T / hop_length), D)``: a latent is a clamped sample."""
        mean, log_variance = self.posterior(waveform)
        return mean / LATENT_SCALE, torch.exp(0.5 * log_variance) / LATENT_SCALE

    def reconstruct(
        self,
        waveform: Tensor,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        mapped: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass of training: posterior, one sample of it, and its waveform.

        Args:
            noise: standard normal ``(B, L, D)``, drawn with ``generator`` if not given.
            mapped: whether the sample is clamped as latents are, between sample and decoder (figure 4).
        Returns:
            Waveform of the input's length ``(B, 1, T)``, mean and log-variance ``(B, L, D)``.
        """
        mean, log_variance = self.posterior(waveform)
        if noise is None:
            noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
        sample = mean + torch.exp(0.5 * log_variance) * noise
        if mapped:
            sample = sample.clamp(-LATENT_SCALE, LATENT_SCALE)  # decode takes clamp(z̄/3, −1, 1), times 3
        return self.synthesize(sample)[..., : waveform.shape[-1]], mean, log_variance

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``reconstruct`` with the global random state."""
        return self.reconstruct(waveform)
