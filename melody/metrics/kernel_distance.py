"""Kernel audio distance, ``kad``: maximum mean discrepancy of two sets of embeddings, squared and unbiased, times 100.

    KAD = 100 · (mean over i≠j of k(xᵢ, xⱼ) + mean over i≠j of k(yᵢ, yⱼ) − 2 · mean of k(xᵢ, yⱼ))
    k(a, b) = exp(−|a − b|² / (2 σ²))

- Bandwidth: σ is the median of the distances of all pairs of reference windows (exact; of an even number of pairs the
  lower of the middle two). It comes from the reference alone, so two systems are measured with one kernel; tools that
  take it from the evaluated set measure each system with another.
- Scale: 100, as the authors' toolkit kadtk prints it.
- Direction: lower is better. Unit: none. No Gaussian is assumed. Unbiased, so near zero it may be negative; as numbers
  of two embedders, or of two window protocols, never compare, the embedder belongs to the number's name.
- "Unbiased" holds for independent windows. Pairs of one clip count like any other (as in kadtk); since they are nearer
  to each other, few long clips read as farther away than many short ones of equal quality.
- Numerics: float64, in blocks of 1,024 x 1,024, so beside the embeddings themselves memory stays flat.
- Uncertainty: ``grouped_jackknife`` deletes groups of whole clips of the generated set. The sums of the kernel are kept
  from group to group, so it costs no pass beyond the one of the number itself. The reference is taken as fixed.

Sources: Gretton et al. (2012), Journal of Machine Learning Research 13, 723-773, lemma 6; Chung et al. (2025), arXiv
2502.15602. Version 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.errors import MelodyError
from melody.metrics.cat_state import EmbeddingSets
from melody.metrics.pairwise import checked_sets, median_distance, squared_distances
from melody.registry import metrics

SCALE = 100.0


@dataclass(frozen=True)
class KernelSums:
    """Sums of the kernel over pairs of different windows, from group to group of the generated set.

    Attributes:
        sizes: ``(G,)`` windows of each group.
        within: ``(G, G)`` pairs of generated windows, ordered, so symmetric.
        across: ``(G,)`` pairs with a reference window.
        reference: over ordered pairs of reference windows.
        reference_size: reference windows.
    """

    sizes: Tensor
    within: Tensor
    across: Tensor
    reference: float
    reference_size: int

    def distance(self, without: int | None = None) -> float:
        """KAD of all groups, or of all but one; raises ``MelodyError`` for fewer than two windows on a side."""
        kept = torch.ones(len(self.sizes), dtype=torch.bool, device=self.sizes.device)
        if without is not None:
            kept[without] = False
        m, n = int(self.sizes[kept].sum()), self.reference_size
        if m < 2 or n < 2:
            raise MelodyError(f"kad: {m} generated and {n} reference windows; expected at least 2 of each")
        generated = float(self.within[kept][:, kept].sum()) / (m * (m - 1))
        across = float(self.across[kept].sum()) / (m * n)
        return SCALE * (generated + self.reference / (n * (n - 1)) - 2 * across)


def kernel_bandwidth(reference: Tensor) -> float:
    """Median distance of all pairs of ``(windows, E)``.

    Raises:
        MelodyError: fewer than two windows, or more than half of the pairs at one point, as silence gives.
    """
    _, y = checked_sets(reference, reference, "kad")
    if len(y) < 2:
        raise MelodyError("kad: the reference has 1 window; expected at least 2")
    bandwidth = median_distance(y)
    if bandwidth == 0:
        raise MelodyError("kad: most reference windows are equal, so their median distance, the bandwidth, is 0")
    return bandwidth


def kernel_sums(groups: Sequence[Tensor], reference: Tensor, bandwidth: float | None = None) -> KernelSums:
    """Sums of the kernel between groups of generated windows, ``(windows, E)`` each, and with the reference.

    Args:
        bandwidth: σ; the reference's median distance where it is not given.
    """
    sigma = kernel_bandwidth(reference) if bandwidth is None else bandwidth
    if not sigma > 0:
        raise MelodyError(f"kad: the bandwidth is {sigma}; expected a positive number")
    x, y = checked_sets(torch.cat(list(groups)), reference, "kad")
    sizes = torch.tensor([len(group) for group in groups], device=x.device)
    member = torch.eye(len(groups), dtype=torch.float64, device=x.device).repeat_interleave(sizes, dim=0)  # (n, G)
    whole = torch.ones(len(y), 1, dtype=torch.float64, device=x.device)
    across = torch.zeros(len(groups), dtype=torch.float64, device=x.device)
    for rows, _, squared in squared_distances(x, y):
        across += member[rows].T @ _kernel(squared, sigma).sum(dim=1)
    return KernelSums(sizes, _within(x, member, sigma), across, float(_within(y, whole, sigma)), len(y))


def kernel_distance(generated: Tensor, reference: Tensor, *, bandwidth: float | None = None) -> float:
    """KAD of generated ``(m, E)`` against reference ``(n, E)`` windows, m and n >= 2.

    >>> import math
    >>> a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    >>> round(kernel_distance(a, b), 6) == round(100 * (2 * math.exp(-0.5) - (1 + math.exp(-0.5))), 6)
    True
    """
    return kernel_sums([generated], reference, bandwidth).distance()


@metrics.register("kad")
class KernelDistance(EmbeddingSets):
    """Kernel audio distance between generated and reference embeddings (lower is better)."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "one clip repeated"})

    def compute(self) -> Tensor:
        """The distance; raises ``MelodyError`` unless both sets hold at least two windows."""
        value = kernel_distance(self.kept("generated"), self.kept("reference"))
        return torch.tensor(value, dtype=torch.float64)

    @staticmethod
    def without_each(parts: Sequence[KernelDistance], fixed: KernelDistance) -> list[float]:
        """The distance without each of the parts of the generated set, by one pass over the kernel's sums."""
        sums = kernel_sums([part.kept("generated") for part in parts], fixed.kept("reference"))
        return [sums.distance(without=part) for part in range(len(parts))]


def _within(x: Tensor, member: Tensor, sigma: float) -> Tensor:
    """``(G, G)`` sums over ordered pairs of different rows of ``x``."""
    sums = torch.zeros(member.shape[1], member.shape[1], dtype=torch.float64, device=x.device)
    for rows, columns, squared in squared_distances(x, x, upper=True):
        values = _kernel(squared, sigma)
        if rows == columns:
            values.fill_diagonal_(0.0)
        block = member[rows].T @ values @ member[columns]
        sums += block if rows == columns else block + block.T
    return sums


def _kernel(squared: Tensor, sigma: float) -> Tensor:
    return torch.exp(squared / (-2 * sigma**2))
