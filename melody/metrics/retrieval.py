"""``recall-at-1``, ``recall-at-5``, ``recall-at-10`` and ``median-rank``: whether a clip finds its own text.

Row i of the queries belongs to row i of the candidates. Nearness is the cosine in a joint model's space.

- *R@k*: share of queries, in per cent, whose right candidate is among the k nearest of all N. Higher is better; by
  chance 100 k / N.
- *Median rank* of the right candidate, counted from 1; of an even number of queries the mean of the middle two. Lower
  is better; by chance (N + 1) / 2.
- The registered metrics ask with the audio and look among all prompts of the set; ``ranks`` takes either direction.
- A candidate that is as near as the right one counts as nearer, so that an embedder which maps everything to one point
  recalls nothing. Hence a prompt that occurs twice never ranks first; ``warning`` counts such prompts.
- N belongs to the number: of more prompts the right one is harder to find. The joint model belongs to the number's
  name, as with ``mcc``. Control: prompts shuffled. The embeddings are kept; the cosines are computed in blocks.

Sources: Huang et al. (2022), arXiv 2208.12415; Manco et al. (2022), arXiv 2208.12208, for R@k and median rank of music
and text. Version 1.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.checks import check_finite, check_same_shape, check_scored
from melody.errors import MelodyError
from melody.metrics.cat_state import CatStateMetric
from melody.metrics.pairwise import BLOCK
from melody.protocols import InputKind
from melody.registry import metrics


def ranks(queries: Tensor, candidates: Tensor) -> Tensor:
    """How many candidates come before the right one: two ``(N, E)`` -> ``(N,)``, int64.

    >>> ranks(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.1]])).tolist()
    [0, 0]
    """
    check_same_shape(queries, candidates, "recall-at-k")
    if queries.ndim != 2:
        raise MelodyError(f"recall-at-k: embeddings have shape {tuple(queries.shape)}; expected (N, E)")
    check_finite(queries, "recall-at-k: queries")
    check_finite(candidates, "recall-at-k: candidates")
    a, b = (torch.nn.functional.normalize(x.detach().to(torch.float64), dim=1) for x in (queries, candidates))
    right = (a * b).sum(dim=1, keepdim=True) - 1e-12  # rounding must not part what ties
    return torch.cat([(a[i : i + BLOCK] @ b.T >= right[i : i + BLOCK]).sum(dim=1) - 1 for i in range(0, len(a), BLOCK)])


def recall_at(rank: Tensor, k: int) -> float:
    """Per cent of ranks ``(N,)``, counted from 0, below ``k``."""
    return 100 * float((rank < k).double().mean())


def median_rank(rank: Tensor) -> float:
    """Median of ranks ``(N,)``, given from 0 and counted from 1.

    >>> median_rank(torch.tensor([0, 3, 1, 9]))
    3.0
    """
    return float(rank.double().quantile(0.5)) + 1


class TextRanks(CatStateMetric):
    """A number of the ranks of the right texts; every ``update`` adds pairs."""

    version: ClassVar[str] = "1"
    input_kind: ClassVar[InputKind] = "text_audio_embeddings"

    def __init__(self) -> None:
        super().__init__()
        self.keep("texts", torch.zeros(0, 0))
        self.keep("audio", torch.zeros(0, 0))

    @abstractmethod
    def of_ranks(self, rank: Tensor) -> float:
        """Ranks ``(N,)``, counted from 0, to the number."""

    def update(self, text_embeddings: Tensor, audio_embeddings: Tensor) -> None:
        """Add pairs, two ``(B, E)``; kept in float32."""
        check_same_shape(text_embeddings, audio_embeddings, "recall-at-k")
        if text_embeddings.ndim != 2:
            raise MelodyError(f"recall-at-k: embeddings have shape {tuple(text_embeddings.shape)}; expected (B, E)")
        for name, embeddings in (("texts", text_embeddings), ("audio", audio_embeddings)):
            check_finite(embeddings, f"recall-at-k: {name}")
        self.append("texts", text_embeddings)
        self.append("audio", audio_embeddings)

    def compute(self) -> Tensor:
        """The number, float64."""
        check_scored(self.scored, "recall-at-k")
        return torch.tensor(self.of_ranks(ranks(self.kept("audio"), self.kept("texts"))), dtype=torch.float64)

    @property
    def scored(self) -> int:
        """Pairs."""
        return len(self.kept("texts"))

    @property
    def warning(self) -> str | None:
        """One line if prompts occur more than once, which no ranking can tell apart."""
        texts = self.kept("texts")
        doubled = len(texts) - len(texts.unique(dim=0))
        return f"{doubled} of {len(texts)} prompts repeat another: they never rank first" if doubled else None


class RecallAt(TextRanks):
    """Per cent of clips whose own text is among the k nearest."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    tells: ClassVar[frozenset[str] | None] = frozenset(
        {"white noise", "silence", "one clip repeated", "texts shuffled"}
    )
    unit: ClassVar[str] = "%"
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 100.0
    k: ClassVar[int]

    def of_ranks(self, rank: Tensor) -> float:
        return recall_at(rank, self.k)


@metrics.register("recall-at-1")
class RecallAt1(RecallAt):
    """Per cent of clips whose own text is the nearest of all (higher is better)."""

    k: ClassVar[int] = 1


@metrics.register("recall-at-5")
class RecallAt5(RecallAt):
    """Per cent of clips whose own text is among the 5 nearest (higher is better)."""

    k: ClassVar[int] = 5


@metrics.register("recall-at-10")
class RecallAt10(RecallAt):
    """Per cent of clips whose own text is among the 10 nearest (higher is better)."""

    k: ClassVar[int] = 10


@metrics.register("median-rank")
class MedianRank(TextRanks):
    """Median rank of a clip's own text among all prompts, 1 being the best (lower is better)."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset(
        {"white noise", "silence", "one clip repeated", "texts shuffled"}
    )
    unit: ClassVar[str] = ""

    def of_ranks(self, rank: Tensor) -> float:
        return median_rank(rank)
