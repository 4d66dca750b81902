"""Stage ``vae``: the audio VAE-GAN (appendix B.1): spectra, KL, and two discriminators from a given step on."""

from __future__ import annotations

import torch
from torch import Tensor

from melody.config import CodecStage
from melody.training.reconstruction import Reconstruction
from melody.vae.losses import kl_loss


class AudioVae(Reconstruction):
    """A variational codec."""

    settings: CodecStage

    def draw(self) -> Tensor:
        """The posterior's noise: ``(batch, L, D)``."""
        samples = round(self.settings.clip_s * self.train_corpus.sample_rate)
        frames = -(-samples // int(self.part.hop_length))  # type: ignore[arg-type]
        return torch.randn(self.settings.batch_size, frames, int(self.part.latent_dim), device=self.device)  # type: ignore[arg-type]

    def reconstruct(self, target: Tensor, drawn: Tensor) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        preds, mean, log_variance = self.part.reconstruct(  # type: ignore[operator]
            target, noise=drawn, mapped=self.settings.map_samples
        )
        return preds, {"kl": (self.settings.kl_weight, kl_loss(mean, log_variance))}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Reconstruction of held-out clips from the latents' mean, and the spread of these latents."""
        part, batches = self.trained().eval(), self._held_out()
        encoded = [part.encode(batch) for batch in batches]  # type: ignore[operator]
        figures = self._distances([part.decode(latents) for latents in encoded], batches)  # type: ignore[operator]
        latents = torch.cat(encoded)
        return {
            **figures,
            "latent_mean": float(latents.mean()),
            "latent_std": float(latents.std()),
            "latents_clipped": float((latents.abs() >= 1).float().mean()),
        }
