"""``precision`` and ``recall`` of a set of embeddings: fidelity and diversity apart, by nearest neighbours.

- *precision*: share of generated windows that lie within the reference's manifold, the union of balls around its
  windows, each as wide as the distance to its k-th nearest other window of the reference.
- *recall*: share of reference windows within the generated set's manifold.
- k = 3, the authors' choice. Borders belong to a ball (``<=``), so a set has precision and recall 1 against itself; the
  package prdc leaves borders out, and differs where distances tie.
- Direction: higher is better, in [0, 1]. Both depend on the number of windows (larger sets have smaller balls), so sets
  of different sizes do not compare, and a single far window of a set makes a huge ball: ``density`` and ``coverage``
  mend that.
- Windows of one clip are near each other, the more so where they overlap: they make balls small, and both numbers
  lower than as many clips of one window would have.
- Euclidean distances in float64, in blocks, so beside the embeddings themselves memory stays flat.

Source: Kynkäänniemi et al. (2019), arXiv 1904.06991, equations 1 and 2. Version 1.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.bounds import Neighbours, Width
from melody.embedders.mel_stats import DIMENSION
from melody.errors import MelodyError
from melody.metrics.cat_state import EmbeddingSets
from melody.metrics.pairwise import ball_counts, checked_sets, kth_neighbour
from melody.registry import metrics

NEIGHBOURS = 3


def precision(generated: Tensor, reference: Tensor, *, k: int = NEIGHBOURS) -> float:
    """Share of generated ``(m, E)`` within the manifold of the reference ``(n, E)``, n > k.

    >>> line = torch.arange(5.0)[:, None]
    >>> precision(torch.tensor([[2.5], [9.0]]), line, k=1)
    0.5
    """
    x, y = checked_sets(generated, reference, "precision")
    return float((ball_counts(x, y, radii(y, k, "precision: the reference"))[0] > 0).double().mean())


def recall(generated: Tensor, reference: Tensor, *, k: int = NEIGHBOURS) -> float:
    """Share of the reference ``(n, E)`` within the manifold of the generated ``(m, E)``, m > k."""
    x, y = checked_sets(generated, reference, "recall")
    return float((ball_counts(y, x, radii(x, k, "recall: the generated set"))[0] > 0).double().mean())


def radii(x: Tensor, k: int, name: str) -> Tensor:
    """Squared distance to the k-th nearest other window ``(n,)``; raises ``MelodyError`` unless 1 <= k < n."""
    if not 1 <= k < len(x):
        raise MelodyError(f"{name} has {len(x)} windows; expected more than k, which is {k}, and k at least 1")
    return kth_neighbour(x, k)


class NeighbourMetric(EmbeddingSets):
    """A number of generated and reference windows, by the k nearest neighbours."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    plot_lower_bound: float | None = 0.0

    def __init__(self, dimension: Width = DIMENSION, k: Neighbours = NEIGHBOURS) -> None:
        super().__init__(dimension)
        self.k = k

    @abstractmethod
    def of_sets(self, generated: Tensor, reference: Tensor) -> float:
        """Windows ``(m, E)`` and ``(n, E)`` to the number."""

    def compute(self) -> Tensor:
        """The number, float64."""
        return torch.tensor(self.of_sets(self.kept("generated"), self.kept("reference")), dtype=torch.float64)


@metrics.register("precision")
class Precision(NeighbourMetric):
    """Share of generated windows within the manifold of the reference (higher is better)."""

    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence"})
    plot_upper_bound: float | None = 1.0

    def of_sets(self, generated: Tensor, reference: Tensor) -> float:
        return precision(generated, reference, k=self.k)


@metrics.register("recall")
class Recall(NeighbourMetric):
    """Share of reference windows within the manifold of the generated set (higher is better)."""

    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "one clip repeated"})
    plot_upper_bound: float | None = 1.0

    def of_sets(self, generated: Tensor, reference: Tensor) -> float:
        return recall(generated, reference, k=self.k)
