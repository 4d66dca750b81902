"""Stage ``codec``: a codec of tokens, as SoundStream (DOI 10.1109/TASLP.2021.3129994) with the VAE-GAN's losses.

Commitment pulls the encoder to the codebooks, moving averages pull the codebooks to the encoder, entries that nothing
chooses restart, and a row is decoded from a random number of levels, so that few levels sound coarse and not broken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from melody.config import TokenCodecStage
from melody.data.corpus import Corpus
from melody.training.reconstruction import Reconstruction
from melody.training.shares import gathered
from melody.vae.residual_quantizer import CodebookAverages, ResidualQuantizer

FEW_LEVELS = 4
"""Held-out figures are given for all levels and for these: what MusicLM's coarse stage makes."""


class TokenCodecTraining(Reconstruction):
    """A codec with residual vector quantisation."""

    settings: TokenCodecStage

    def __init__(self, part: torch.nn.Module, settings: TokenCodecStage, train: Corpus, validation: Corpus) -> None:
        super().__init__(part, settings, train, validation)
        self.codebooks = CodebookAverages(self.quantizer, settings.codebook_decay, settings.restart_below)
        self._vectors: list[Tensor] = []

    @property
    def quantizer(self) -> ResidualQuantizer:
        return self.part.quantizer  # type: ignore[return-value]

    def draw(self) -> Tensor:
        """How many levels each row is decoded from: ``(batch,)``."""
        size, levels = self.settings.batch_size, self.quantizer.num_levels
        drawn = torch.randint(1, levels + 1, (size,))
        return torch.where(torch.rand(size) < self.settings.full_levels_share, levels, drawn).to(self.device)

    def reconstruct(self, target: Tensor, drawn: Tensor) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        if not self.codebooks.started:
            self.codebooks.start(self.quantizer, gathered(self.part.vectors(target).detach().flatten(0, 1)))  # type: ignore[operator]
        preds, vectors, commitment = self.part.reconstruct(target, levels=drawn)  # type: ignore[operator]
        self._vectors.append(vectors.detach().flatten(0, 1).float())
        return preds, {"commitment": (self.settings.commitment_weight, commitment)}

    def after_update(self, step: int) -> None:
        """Move the codebooks, all processes alike; once the encoder stays, they stay too."""
        vectors, self._vectors = torch.cat(self._vectors), []
        if not self.is_decoder_only(step):
            self.codebooks.update(self.quantizer, gathered(vectors))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Reconstruction of held-out clips from all levels and from few, and how evenly levels are used."""
        part, batches = self.trained().eval(), self._held_out()
        tokens = [part.encode(batch) for batch in batches]  # type: ignore[operator]
        figures = self._distances([part.decode(t) for t in tokens], batches)  # type: ignore[operator]
        few = self._distances([part.decode(t[..., :FEW_LEVELS]) for t in tokens], batches)  # type: ignore[operator]
        used = perplexity(torch.cat(tokens), self.quantizer.codebook_size)
        return {
            **figures,
            **{f"{name}_of_{FEW_LEVELS}_levels": value for name, value in few.items()},
            **{f"perplexity_{level}": value for level, value in enumerate(used.tolist())},
        }


def perplexity(tokens: Tensor, codebook_size: int) -> Tensor:
    """Exponential of the entropy of each level's entries: ``(B, L, levels) -> (levels,)``, from 1 to codebook_size."""
    counts = torch.stack([t.bincount(minlength=codebook_size) for t in tokens.flatten(0, 1).unbind(-1)]).double()
    shares = counts / counts.sum(-1, keepdim=True)
    used: Tensor = torch.special.entr(shares).sum(-1).exp()
    return used
