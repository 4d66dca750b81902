"""``density`` and ``coverage`` of a set of embeddings: fidelity and diversity apart, steady against outliers.

Around every reference window there is a ball as wide as the distance to its k-th nearest other reference window.

- *density*: how many balls a generated window lies in, on average, over k. 1 is expected of a set like the reference;
  above 1 where generated windows crowd where the reference is dense, so more is not always better there. At least 0.
- *coverage*: share of balls that hold a generated window, in [0, 1]. Of a set like the reference, as large as it, it is
  expected to be ``expected_coverage``, not 1; it grows with the number of generated windows.
- k = 5, the authors' choice. Borders belong to a ball (``<=``), so a set covers itself; the package prdc leaves
  borders out, and differs where distances tie.
- Direction: higher is better. Only the reference makes balls, so one odd generated window changes little.
- Windows of one clip are near each other and make its balls small: see ``precision``.
- Euclidean distances in float64, in blocks, so beside the embeddings themselves memory stays flat.

Source: Naeem et al. (2020), arXiv 2002.09797, equations 4 and 5, lemma 2. Version 1.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from melody.bounds import Neighbours, Width
from melody.embedders.mel_stats import DIMENSION
from melody.errors import MelodyError
from melody.metrics.pairwise import ball_counts, checked_sets
from melody.metrics.precision_recall import NeighbourMetric, radii
from melody.registry import metrics

NEIGHBOURS = 5


def density(generated: Tensor, reference: Tensor, *, k: int = NEIGHBOURS) -> float:
    """Density of generated ``(m, E)`` in the reference ``(n, E)``, n > k."""
    x, y = checked_sets(generated, reference, "density")
    return float(ball_counts(x, y, radii(y, k, "density: the reference"))[0].double().mean()) / k


def coverage(generated: Tensor, reference: Tensor, *, k: int = NEIGHBOURS) -> float:
    """Share of the balls of the reference ``(n, E)``, n > k, that hold one of the generated ``(m, E)``.

    >>> import torch
    >>> line = torch.arange(4.0)[:, None]
    >>> coverage(torch.tensor([[0.5]]), line, k=1)
    0.5
    """
    x, y = checked_sets(generated, reference, "coverage")
    return float((ball_counts(x, y, radii(y, k, "coverage: the reference"))[1] > 0).double().mean())


def expected_coverage(generated: int, reference: int, *, k: int = NEIGHBOURS) -> float:
    """Coverage of so many independent windows of the reference's own distribution (lemma 2).

    >>> round(expected_coverage(1000, 1000), 3)
    0.969
    """
    if not 1 <= k < reference or generated < 0:
        raise MelodyError(f"coverage: {reference} reference windows and k = {k}; expected 1 <= k < windows")
    missed, n = 1.0, reference - 1
    for i in range(k):
        missed *= (n - i) / (n + generated - i)
    return 1.0 - missed


@metrics.register("density")
class Density(NeighbourMetric):
    """How many of the reference's balls a generated window lies in, over k (higher is better)."""

    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence"})

    def __init__(self, dimension: Width = DIMENSION, k: Neighbours = NEIGHBOURS) -> None:
        super().__init__(dimension, k)

    def of_sets(self, generated: Tensor, reference: Tensor) -> float:
        return density(generated, reference, k=self.k)


@metrics.register("coverage")
class Coverage(NeighbourMetric):
    """Share of the reference's balls that hold a generated window (higher is better)."""

    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "one clip repeated"})
    plot_upper_bound: float | None = 1.0

    def __init__(self, dimension: Width = DIMENSION, k: Neighbours = NEIGHBOURS) -> None:
        super().__init__(dimension, k)

    def of_sets(self, generated: Tensor, reference: Tensor) -> float:
        return coverage(generated, reference, k=self.k)
