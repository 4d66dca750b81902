"""Residual vector quantisation of latent frames, as it learns: SoundStream (DOI 10.1109/TASLP.2021.3129994), III-C.

The quantiser holds codebooks only. What their training needs beside them (moving averages, restarts of dead entries) is
``CodebookAverages``, which a recipe keeps, so weights files stay small.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melody.errors import MelodyError

SMOOTHING = 1e-5
"""Added to the counts, so that no entry divides by zero (van den Oord et al., arXiv 1711.00937, appendix A.1)."""


class ResidualQuantizer(nn.Module):
    """Codes a vector level by level, each level coding what the levels before it left over.

    Args:
        num_levels: codebooks, coarse to fine.
        codebook_size: entries of each.
        dim: D, width of a vector.
    Raises:
        MelodyError: a size below 1.
    """

    codebooks: Tensor

    def __init__(self, num_levels: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        if min(num_levels, codebook_size, dim) < 1:
            raise MelodyError(f"quantiser of {num_levels} levels of {codebook_size} × {dim}: expected at least 1 each")
        self.register_buffer("codebooks", torch.randn(num_levels, codebook_size, dim) / dim**0.5)

    @property
    def num_levels(self) -> int:
        return len(self.codebooks)

    @property
    def codebook_size(self) -> int:
        return self.codebooks.shape[1]

    def encode(self, vectors: Tensor) -> Tensor:
        """Vectors ``(..., D)`` -> the nearest entry of each level, ``(..., num_levels)``, int64."""
        residual, codes = vectors, []
        for codebook in self.codebooks:  # (codebook_size, D)
            codes.append(nearest(residual, codebook))
            residual = residual - codebook[codes[-1]]
        return torch.stack(codes, dim=-1)

    def chosen(self, codes: Tensor) -> Tensor:
        """Entries of codes ``(..., levels)``: ``(..., levels, D)``; their sum over levels is the quantised vector.

        Raises:
            MelodyError: no level or more than there are, or a code outside ``[0, codebook_size)``.
        """
        levels = codes.shape[-1] if codes.ndim else 0
        if not 1 <= levels <= self.num_levels:
            raise MelodyError(
                f"tokens of shape {tuple(codes.shape)}: expected 1 to {self.num_levels} levels at the end"
            )
        if codes.is_floating_point() or codes.dtype == torch.bool:
            raise MelodyError(f"tokens of {codes.dtype}: expected whole numbers")
        if codes.device.type != "meta" and ((codes < 0) | (codes >= self.codebook_size)).any():
            wrong = codes[(codes < 0) | (codes >= self.codebook_size)].flatten()[0]
            raise MelodyError(f"token {int(wrong)} is outside [0, {self.codebook_size})")
        return self.codebooks[torch.arange(levels, device=codes.device), codes]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``(..., levels)`` -> vectors ``(..., D)``; fewer levels than ``num_levels`` give coarser ones."""
        return self.chosen(codes).sum(dim=-2)

    def forward(self, vectors: Tensor, levels: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """One pass of training.

        Args:
            vectors: ``(B, L, D)``.
            levels: ``(B,)``, how many levels each row is summed over (quantiser dropout); all if not given.
        Returns:
            The quantised vectors ``(B, L, D)``, through which gradients pass as if nothing had been quantised; the
            codes ``(B, L, num_levels)``; the commitment loss, a scalar: the mean squared distance of each level's
            residual from its entry, over all levels.
        """
        codes = self.encode(vectors.detach())
        chosen = self.chosen(codes)  # (B, L, levels, D)
        before = chosen.cumsum(dim=-2) - chosen  # what the earlier levels have coded
        commitment = (vectors.unsqueeze(-2) - before - chosen).square().mean()
        if levels is not None:
            chosen = chosen * (torch.arange(self.num_levels, device=levels.device) < levels[:, None])[:, None, :, None]
        quantized = vectors + (chosen.sum(dim=-2) - vectors).detach()
        return quantized, codes, commitment


class CodebookAverages(nn.Module):
    """Moving averages that a quantiser's codebooks follow, and restarts of entries that nothing chooses.

    Args:
        decay: of the averages (arXiv 1711.00937, appendix A.1).
        restart_below: an entry restarts at a vector of the batch when its moving count falls below this share of an
            entry's mean count. SoundStream restarts below 2 of a batch; a share does not hang on the batch: ours.
    """

    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(self, quantizer: ResidualQuantizer, decay: float = 0.99, restart_below: float = 0.1) -> None:
        super().__init__()
        self.decay, self.restart_below = decay, restart_below
        self.register_buffer("counts", torch.zeros(quantizer.codebooks.shape[:2]))
        self.register_buffer("sums", torch.zeros_like(quantizer.codebooks))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def start(self, quantizer: ResidualQuantizer, vectors: Tensor) -> None:
        """Once, at the first batch ``(n, D)``: entries are residuals of the batch, drawn by the global generator."""
        if self.started:
            return
        residual = vectors
        for level, codebook in enumerate(quantizer.codebooks):
            self._restart(codebook, torch.ones(len(codebook), dtype=torch.bool, device=vectors.device), residual, level)
            residual = residual - codebook[nearest(residual, codebook)]
        self.started.fill_(True)

    @torch.no_grad()
    def update(self, quantizer: ResidualQuantizer, vectors: Tensor) -> int:
        """Move the codebooks towards the vectors ``(n, D)`` that choose them; returns how many entries restarted."""
        residual, restarted = vectors, 0
        for level, codebook in enumerate(quantizer.codebooks):
            codes = nearest(residual, codebook)
            following = residual - codebook[codes]  # by the entries as the pass found them
            counts = torch.bincount(codes, minlength=len(codebook)).to(vectors.dtype)
            self.counts[level].lerp_(counts, 1 - self.decay)
            self.sums[level].lerp_(torch.zeros_like(codebook).index_add_(0, codes, residual), 1 - self.decay)
            codebook.copy_(self.sums[level] / (self.counts[level] + SMOOTHING)[:, None])
            dead = self.counts[level] < self.restart_below * len(vectors) / len(codebook)
            self._restart(codebook, dead, residual, level)
            restarted += int(dead.sum())
            residual = following
        return restarted

    def _restart(self, codebook: Tensor, dead: Tensor, residual: Tensor, level: int) -> None:
        rows = torch.randint(len(residual), (int(dead.sum()),), device="cpu").to(residual.device)
        codebook[dead] = residual[rows]
        share = len(residual) / len(codebook)
        self.counts[level, dead] = share
        self.sums[level, dead] = share * residual[rows]


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest entry by Euclidean distance: ``(..., D)``, ``(K, D)`` -> ``(...)``, int64."""
    return (codebook.square().sum(dim=-1) / 2 - vectors @ codebook.T).argmin(dim=-1)
