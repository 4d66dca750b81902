"""Residual vector quantiser of the joint embedding: one unit vector to 12 MuLan tokens, the language model's prefix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from melody.artifacts.pretrained import PretrainedPart
from melody.conditioning.kmeans import fit_centroids, nearest
from melody.errors import MelodyError


class ResidualVectorQuantizer(nn.Module, PretrainedPart):
    """Quantise embeddings level by level, each level coding what the levels before it left over.

    Residual vector quantisation as in SoundStream (DOI 10.1109/TASLP.2021.3129994), with codebooks from k-means on a
    frozen embedding, since the paper prints no training of its own. Levels and sizes: 12 tokens of 1,024 (main text).

    Args:
        num_levels: P, tokens a vector.
        codebook_size: rows of each level's codebook.
        dim: E, width of the embedding.
    """

    _role = "rvq"
    codebooks: Tensor
    fitted: Tensor

    def __init__(self, num_levels: int = 12, codebook_size: int = 1024, dim: int = 128) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.codebook_size = codebook_size
        self.dim = dim
        self.register_buffer("codebooks", torch.zeros(num_levels, codebook_size, dim))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def fit(self, embeddings: Tensor, seed: int = 0) -> None:
        """Fit every level by k-means on the residuals of the levels before it.

        Args:
            embeddings: ``(n, E)``, n >= codebook_size.
        Raises:
            MelodyError: wrong width, fewer vectors than rows of a codebook, or values that are not finite.
        """
        self._check(embeddings)
        residual = embeddings.detach().to("cpu", torch.float32)
        for level in range(self.num_levels):
            codebook = fit_centroids(residual, self.codebook_size, seed=seed + level)
            residual = residual - codebook[nearest(residual, codebook)]
            self.codebooks[level].copy_(codebook)
        self.fitted.fill_(True)

    def randomize(self) -> None:
        """Fill the codebooks from the global generator: for counting and timing, where values do not matter."""
        self.codebooks.normal_().div_(self.dim**0.5)
        self.fitted.fill_(True)

    def encode(self, embeddings: Tensor) -> Tensor:
        """Embeddings ``(B, E)`` -> tokens ``(B, P)``, int64, each in ``[0, codebook_size)``."""
        self._require_fit()
        self._check(embeddings)
        return self.rows(embeddings)

    def rows(self, embeddings: Tensor) -> Tensor:
        """As ``encode``, without a look at values."""
        residual = embeddings
        tokens = []
        for codebook in self.codebooks:  # (codebook_size, E)
            tokens.append(nearest(residual, codebook))
            residual = residual - codebook[tokens[-1]]
        return torch.stack(tokens, dim=1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens ``(B, levels)`` -> embeddings ``(B, E)``; fewer levels than P give a coarser vector."""
        self._require_fit()
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.num_levels:
            raise MelodyError(
                f"rvq: the tokens have shape {tuple(tokens.shape)}, expected (batch, 1 to {self.num_levels})"
            )
        if ((tokens < 0) | (tokens >= self.codebook_size)).any():
            raise MelodyError(f"rvq: a token is outside [0, {self.codebook_size})")
        levels = torch.arange(tokens.shape[1], device=tokens.device)
        return self.codebooks[levels, tokens].sum(dim=1)

    # No component of a registry, for there is one quantiser only: its table in a preset is its two sizes.
    def _bound_to(self) -> dict[str, Any]:
        return {"num_levels": self.num_levels, "codebook_size": self.codebook_size}

    def _config_tables(self) -> dict[str, Any]:
        return {"rvq": {**self._bound_to(), "dim": self.dim}}

    @classmethod
    def _from_tables(cls, config: dict[str, Any], where: str) -> ResidualVectorQuantizer:
        table = config["rvq"]
        try:
            # A preset does not repeat the width: it is the joint embedder's.
            dim = table["dim"] if "dim" in table else config["joint_embedder"]["embedding_dim"]
            return cls(int(table["num_levels"]), int(table["codebook_size"]), int(dim))
        except (KeyError, TypeError, ValueError) as error:
            raise MelodyError(f"{where}: [rvq] lacks its sizes, or they are no numbers ({error})") from None

    def _require_fit(self) -> None:
        if not self.fitted:
            raise MelodyError("rvq: the codebooks are not fitted; run melody train rvq, or load weights")

    def _check(self, embeddings: Tensor) -> None:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise MelodyError(f"rvq: the embeddings have shape {tuple(embeddings.shape)}, expected (batch, {self.dim})")
        if not torch.isfinite(embeddings).all():
            raise MelodyError("rvq: the embeddings hold NaN or infinity")
