"""A plain convolutional autoencoder in the place of the codec."""

from __future__ import annotations

import torch
from torch import nn

from melody.protocols import Codec


class ConvCodec(nn.Module, Codec):
    """One convolution a frame into latents in [-1, 1], one back; without a posterior."""

    def __init__(self, sample_rate: int = 24_000, hop_length: int = 480, latent_dim: int = 32, width: int = 64) -> None:
        super().__init__()
        self.sample_rate, self.hop_length, self.latent_dim = sample_rate, hop_length, latent_dim
        self.encoder = nn.Sequential(
            nn.Conv1d(1, width, hop_length, stride=hop_length), nn.GELU(), nn.Conv1d(width, latent_dim, 1), nn.Tanh()
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(latent_dim, width, 3, padding=1), nn.GELU(), nn.ConvTranspose1d(width, 1, hop_length, hop_length)
        )

    @property
    def decoder_context_frames(self) -> int:
        return 1  # the convolution of three frames: so long music is decoded in pieces

    def encode(self, waveform):
        padded = nn.functional.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        return self.encoder(padded).transpose(1, 2)  # (B, L, D)

    def decode(self, latents):
        return self.decoder(latents.transpose(1, 2))  # (B, 1, L * hop_length)

    def reconstruct(self, waveform, *, noise, mapped):
        """For ``melody train vae``: the output, and a posterior whose mean is the latents."""
        latents = self.encode(waveform)
        return self.decode(latents)[..., : waveform.shape[-1]], latents, torch.zeros_like(latents)
