"""Fréchet audio distance, ``fad``: distance between Gaussians fitted to two sets of embeddings.

    d² = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)

- Direction: lower is better. Unit: none (that of the embedding, squared), so numbers of two embedders, or of two
  window protocols, never compare: the embedder's name and version belong to the number's name.
- Convention: the squared distance, as everybody prints it; covariance with ddof 1; every window counts one; a clip
  contributes as many windows as it is long.
- Numerics: float64. (Σ₁Σ₂)^½ has the trace of (Σ₁^½ Σ₂ Σ₁^½)^½, a symmetric form, whose eigenvalues' roots are the
  singular values of Σ₁^½ Σ₂^½; taken as singular values they keep full precision where a covariance is singular. No
  matrix square root, no imaginary parts, no constant added to the diagonal.
- Statistics (n, Σx, Σxxᵀ) merge by sum, so streaming, cached and distributed runs agree.
- Bias: with n windows in d dimensions the plain estimate is too large by an amount that falls as 1/n; at n <= d the
  covariance is singular, and ``warning`` says so. ``fad-inf`` estimates the bias and takes it off.
- Uncertainty: ``fad_with_jackknife`` deletes groups of whole clips of the generated set; the reference is taken as
  fixed.

Sources: Dowson and Landau (1982), doi:10.1016/0047-259X(82)90077-X; Heusel et al. (2017), arXiv 1706.08500; Kilgour
et al. (2019), doi:10.21437/Interspeech.2019-2219. Version 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.bounds import Width
from melody.checks import check_finite
from melody.embedders.mel_stats import DIMENSION
from melody.errors import MelodyError
from melody.metrics.base import TorchMetric
from melody.metrics.statistics import Estimate, group_labels, jackknife_estimate
from melody.protocols import InputKind, Metric
from melody.registry import metrics


@dataclass(frozen=True)
class Statistics:
    """What a Gaussian fit needs of ``n`` embeddings of width E: Σx ``(E,)`` and Σxxᵀ ``(E, E)``, float64."""

    n: int
    sum: Tensor
    outer: Tensor

    @classmethod
    def of(cls, embeddings: Tensor) -> Statistics:
        """Statistics of ``(n, E)`` embeddings, n >= 1; raises ``MelodyError`` for another shape, or NaN."""
        if embeddings.ndim != 2 or embeddings.numel() == 0:
            raise MelodyError(
                f"Fréchet distance: embeddings have shape {tuple(embeddings.shape)}; expected (windows, dimension)"
            )
        check_finite(embeddings, "Fréchet distance: embeddings")
        x = embeddings.detach().to(torch.float64)
        return cls(len(x), x.sum(dim=0), x.T @ x)

    @property
    def dimension(self) -> int:
        return len(self.sum)

    @property
    def mean(self) -> Tensor:
        return self.sum / self.n

    @property
    def covariance(self) -> Tensor:
        """``(E, E)``, ddof 1; raises ``MelodyError`` for fewer than two embeddings."""
        if self.n < 2:
            raise MelodyError(f"Fréchet distance: a covariance needs at least 2 embeddings, got {self.n}")
        return (self.outer - torch.outer(self.sum, self.sum) / self.n) / (self.n - 1)

    def __add__(self, other: Statistics) -> Statistics:
        self._check_dimension(other)
        return Statistics(self.n + other.n, self.sum + other.sum, self.outer + other.outer)

    def __sub__(self, other: Statistics) -> Statistics:
        self._check_dimension(other)
        return Statistics(self.n - other.n, self.sum - other.sum, self.outer - other.outer)

    def _check_dimension(self, other: Statistics) -> None:
        if self.dimension != other.dimension:
            raise MelodyError(
                f"Fréchet distance: embeddings of width {self.dimension} and {other.dimension}; expected the same"
            )


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians (Dowson and Landau 1982), in float64.

    Args:
        mean_a, mean_b: ``(E,)``.
        cov_a, cov_b: ``(E, E)``, symmetric, positive semi-definite to rounding.
    Raises:
        MelodyError: shapes that do not belong together, NaN or infinity.

    >>> one = torch.ones(1, 1)
    >>> frechet_distance(torch.zeros(1), one, torch.ones(1), 4 * one)  # (0 - 1)² + (1 - 2)²
    2.0
    """
    width = len(mean_a) if mean_a.ndim == 1 else -1
    if mean_b.shape != (width,) or cov_a.shape != (width, width) or cov_b.shape != (width, width):
        shapes = ", ".join(str(tuple(part.shape)) for part in (mean_a, cov_a, mean_b, cov_b))
        raise MelodyError(f"Fréchet distance: got shapes {shapes}; expected (E,), (E, E), (E,), (E, E) of one E")
    for part, name in ((mean_a, "mean"), (mean_b, "mean"), (cov_a, "covariance"), (cov_b, "covariance")):
        check_finite(part, f"Fréchet distance: {name}")
    return _distance(mean_a.to(torch.float64), _root(cov_a), mean_b.to(torch.float64), _root(cov_b))


def frechet_distance_of(generated: Statistics, reference: Statistics) -> float:
    """Squared Fréchet distance between two sets of embeddings, given by their statistics."""
    generated._check_dimension(reference)
    return frechet_distance(generated.mean, generated.covariance, reference.mean, reference.covariance)


def frechet_distances(sets: Iterable[Statistics], reference: Statistics) -> list[float]:
    """Squared Fréchet distance of each set to one reference, whose root is taken once."""
    target = _root(reference.covariance)
    distances = []
    for statistics in sets:
        statistics._check_dimension(reference)
        distances.append(_distance(statistics.mean, _root(statistics.covariance), reference.mean, target))
    return distances


def frechet_distances_of_clips(clips: Sequence[Tensor], reference: Statistics) -> list[float]:
    """Squared Fréchet distance of each clip's ``(windows, E)`` to the reference.

    A clip's own windows are the root of its covariance, so that no ``(E, E)`` matrix of a clip is taken apart.

    Raises:
        MelodyError: a clip of one window, whose covariance is not defined, or of another width.
    """
    target = _root(reference.covariance)
    distances = []
    for index, clip in enumerate(clips):
        windows = clip.detach().to(torch.float64)
        if windows.ndim != 2 or len(windows) < 2 or windows.shape[1] != reference.dimension:
            expected = f"(windows, {reference.dimension}) with at least 2 windows"
            raise MelodyError(f"Fréchet distance of clip {index}: shape {tuple(clip.shape)}; expected {expected}")
        check_finite(windows, f"Fréchet distance of clip {index}")
        mean = windows.mean(dim=0)
        distances.append(_distance(mean, (windows - mean).T / math.sqrt(len(windows) - 1), reference.mean, target))
    return distances


def warning(generated: Statistics, reference: Statistics, *, bias: float | None = None) -> str | None:
    """One line for the table if a set is too small for its embedding, else ``None``.

    Args:
        bias: by how much the distance is too large, as ``fad_infinity`` estimates it; said in the line.
    """
    small = [
        f"{name} set has {statistics.n} windows for {statistics.dimension} dimensions"
        for name, statistics in (("generated", generated), ("reference", reference))
        if statistics.n <= statistics.dimension
    ]
    if not small:
        return None
    amount = "" if bias is None else f" by about {bias:.3g}"
    return f"singular covariance, the distance is biased upwards{amount}: the {' and the '.join(small)}"


def fad_with_jackknife(
    clip_statistics_generated: Sequence[Statistics],
    reference: Statistics,
    *,
    groups: int = 20,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """FAD of a set of clips, with a delete-a-group jackknife interval over them.

    Args:
        clip_statistics_generated: one a clip; they go into groups at random, by ``seed``.
        reference: statistics of the whole reference set, taken as fixed.
    Raises:
        MelodyError: fewer than two clips, fewer than two windows left, widths that differ.
    """
    total, without = _leave_out(clip_statistics_generated, groups, seed)
    value, *replicates = frechet_distances([total, *without], reference)
    return jackknife_estimate(value, replicates, n=len(clip_statistics_generated), confidence=confidence)


@metrics.register("fad")
class FrechetDistance(TorchMetric, Metric):
    """Fréchet audio distance between generated and reference embeddings (lower is better)."""

    version: ClassVar[str] = "1"
    input_kind: ClassVar[InputKind] = "embeddings"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "one clip repeated"})
    unit: ClassVar[str] = ""
    full_state_update: bool | None = False
    plot_lower_bound: float | None = 0.0

    generated_n: Tensor
    generated_sum: Tensor
    generated_outer: Tensor
    reference_n: Tensor
    reference_sum: Tensor
    reference_outer: Tensor

    def __init__(self, dimension: Width = DIMENSION) -> None:
        super().__init__()
        self.dimension = dimension
        for side in ("generated", "reference"):
            self.add_state(f"{side}_n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state(f"{side}_sum", torch.zeros(dimension, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(
                f"{side}_outer", torch.zeros(dimension, dimension, dtype=torch.float64), dist_reduce_fx="sum"
            )

    def update(self, embeddings: Tensor, real: bool) -> None:
        """Add ``(windows, dimension)`` embeddings of reference (``real``) or generated audio."""
        added = Statistics.of(embeddings)
        if added.dimension != self.dimension:
            raise MelodyError(f"fad: embeddings of width {added.dimension}; expected {self.dimension}")
        if real:
            self.reference_n += added.n
            self.reference_sum += added.sum
            self.reference_outer += added.outer
        else:
            self.generated_n += added.n
            self.generated_sum += added.sum
            self.generated_outer += added.outer

    def compute(self) -> Tensor:
        """The squared distance; raises ``MelodyError`` unless both sets hold at least two embeddings."""
        return torch.tensor(frechet_distance_of(self.generated, self.reference), dtype=torch.float64)

    @property
    def generated(self) -> Statistics:
        return Statistics(int(self.generated_n), self.generated_sum, self.generated_outer)

    @property
    def reference(self) -> Statistics:
        return Statistics(int(self.reference_n), self.reference_sum, self.reference_outer)

    @property
    def scored(self) -> int:
        """Windows of generated audio."""
        return int(self.generated_n)

    @property
    def warning(self) -> str | None:
        """One line if a set is too small for its embedding."""
        return warning(self.generated, self.reference)


def _distance(mean_a: Tensor, root_a: Tensor, mean_b: Tensor, root_b: Tensor) -> float:
    """From means ``(E,)`` and roots ``(E, any)`` of the covariances, float64."""
    difference = mean_a - mean_b
    trace = root_a.square().sum() + root_b.square().sum() - 2 * torch.linalg.svdvals(root_a.T @ root_b).sum()
    # Both terms are >= 0 in exact arithmetic; rounding may leave −1e-15.
    return max(0.0, float(difference @ difference + trace))


def _root(covariance: Tensor) -> Tensor:
    """``(E, E)`` R with R Rᵀ = covariance: eigenvectors scaled by the eigenvalues' roots."""
    symmetric = covariance.to(torch.float64)
    eigenvalues, eigenvectors = torch.linalg.eigh((symmetric + symmetric.T) / 2)
    root: Tensor = eigenvectors * eigenvalues.clamp(min=0).sqrt()
    return root


def _leave_out(clips: Sequence[Statistics], groups: int, seed: int) -> tuple[Statistics, list[Statistics]]:
    """Statistics of all clips, and of all but each group, by subtracting the group's sums."""
    labels = group_labels(len(clips), groups, seed=seed)
    members = [
        [clip for clip, label in zip(clips, labels, strict=True) if label == g] for g in range(int(labels.max()) + 1)
    ]
    sums = [_sum(group) for group in members]
    total = _sum(sums)
    return total, [total - group for group in sums]


def _sum(parts: Sequence[Statistics]) -> Statistics:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
