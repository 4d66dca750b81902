"""Text correlation, ``mcc``: mean cosine between the embedding of a prompt and that of the audio made for it.

- The paper's name is MuLan cycle consistency; its MuLan is not public, so the joint model that was used is part of
  the number's name, as in ``mcc[melody-demo]``, and numbers of two models never compare.
- The "CLAP score" of the field is this very number with a CLAP model's embeddings: ``mcc[laion-clap 630k-audioset]``.
  No second name, so that nobody compares the two as if they were two metrics. Tools that print cosine times 100,
  negative ones cut to 0 (torchmetrics), or of one random crop differ from it.
- Direction: higher is better, in [−1, 1]. Every pair counts one. Both embeddings are normalised here, in float64.
- Pairs are by position: row i of the text belongs to row i of the audio.
- Control: ``shuffled_control`` gives each audio another row's text (a derangement by seed). A score that is not
  well above its control says nothing about the prompts. Two equal prompts may swap, which pulls the control up a
  little.
- ``permutation_p_value``: one-sided, how often a random assignment of texts scores at least as high.

Sources: Table 2 of the paper; Huang et al. (2022), arXiv 2208.12415 (MuLan); Agostinelli et al. (2023), arXiv
2301.11325, section 5 (the metric). Version 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from melody.checks import check_finite, check_same_shape
from melody.errors import MelodyError
from melody.metrics.running_mean import RunningMean
from melody.protocols import InputKind
from melody.registry import metrics


def cosines(text_embeddings: Tensor, audio_embeddings: Tensor) -> Tensor:
    """Cosine of each pair: two ``(B, E)`` -> ``(B,)``, float64; raises ``MelodyError`` for a zero vector or NaN."""
    return (_unit(text_embeddings, "text", audio_embeddings) * _unit(audio_embeddings, "audio", text_embeddings)).sum(
        dim=1
    )


def mean_cosine(text_embeddings: Tensor, audio_embeddings: Tensor) -> float:
    """Mean over pairs of ``cosines``.

    >>> mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]]))
    0.5
    """
    return float(cosines(text_embeddings, audio_embeddings).mean())


def derangement(count: int, seed: int) -> list[int]:
    """A random permutation of ``count`` places that leaves none where it is; raises ``MelodyError`` below 2."""
    if count < 2:
        raise MelodyError(f"shuffled control: got {count} pair; expected at least 2")
    rng = np.random.default_rng(seed)
    places = np.arange(count)
    drawn = places
    # A permutation is a derangement with probability 1/e, so this takes 2.7 draws on average.
    while (drawn == places).any():
        drawn = rng.permutation(count)
    return [int(row) for row in drawn]


def shuffled_cosines(text_emb: Tensor, audio_emb: Tensor, seed: int) -> Tensor:
    """Cosine of each audio with another row's text: two ``(B, E)`` -> ``(B,)``, float64."""
    return cosines(text_emb[derangement(len(text_emb), seed)], audio_emb)


def shuffled_control(text_emb: Tensor, audio_emb: Tensor, seed: int) -> float:
    """Mean of ``shuffled_cosines``: what the score would be if prompts did not matter."""
    return float(shuffled_cosines(text_emb, audio_emb, seed).mean())


def permutation_p_value(text_emb: Tensor, audio_emb: Tensor, *, seed: int = 0, permutations: int = 9_999) -> float:
    """Share of random assignments of texts to audio that score at least as high, the observed one counted with them.

    Args:
        text_emb, audio_emb: ``(B, E)``, B >= 2; all B² cosines are held in memory.
    """
    check_same_shape(text_emb, audio_emb, "text correlation")
    similarity = (_unit(text_emb, "text", audio_emb) @ _unit(audio_emb, "audio", text_emb).T).cpu().numpy()
    count = len(similarity)
    if count < 2:
        raise MelodyError(f"permutation test: got {count} pair; expected at least 2")
    rng, places = np.random.default_rng(seed), np.arange(count)
    observed = similarity.trace()
    drawn = np.array([similarity[rng.permutation(count), places].sum() for _ in range(permutations)])
    return float((1 + (drawn >= observed - 1e-12 * count).sum()) / (permutations + 1))


@metrics.register("mcc")
class TextCorrelation(RunningMean):
    """Mean cosine of the text's and the audio's embedding in a joint space (higher is better)."""

    input_kind: ClassVar[InputKind] = "text_audio_embeddings"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    tells: ClassVar[frozenset[str] | None] = frozenset(
        {"white noise", "silence", "one clip repeated", "texts shuffled"}
    )

    def update(self, text_embeddings: Tensor, audio_embeddings: Tensor) -> None:
        """Add pairs, two ``(B, E)``."""
        self.add(cosines(text_embeddings, audio_embeddings))


def _unit(embeddings: Tensor, name: str, other: Tensor) -> Tensor:
    check_same_shape(embeddings, other, "text correlation")
    if embeddings.ndim != 2:
        raise MelodyError(f"text correlation: {name} embeddings have shape {tuple(embeddings.shape)}; expected (B, E)")
    check_finite(embeddings, f"text correlation: {name} embeddings")
    rows = embeddings.detach().to(torch.float64)
    norms = torch.linalg.vector_norm(rows, dim=1)
    zero = int((norms == 0).sum())
    if zero:
        raise MelodyError(
            f"text correlation: {zero} of {len(rows)} {name} embeddings are all zeros; expected a direction"
        )
    unit_rows: Tensor = rows / norms[:, None]
    return unit_rows
