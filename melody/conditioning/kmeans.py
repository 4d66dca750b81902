"""k-means: k-means++ start (Arthur & Vassilvitskii 2007), Lloyd's iterations, deterministic by seed on CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from melody.errors import MelodyError

_ROWS_AT_ONCE = 16_384
_START_POINTS_PER_CENTROID = 32
"""The start looks at a random subset of this many points a centroid: it is sequential, and needs no more (ours)."""


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid by Euclidean distance; the lowest index where several are as near.

    Args:
        points: ``(n, d)``.
        centroids: ``(k, d)``.
    Returns:
        ``(n,)``, int64.

    >>> nearest(torch.tensor([[0.1], [0.9]]), torch.tensor([[0.0], [1.0]]))
    tensor([0, 1])
    """
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.int64, device=points.device)
    half_norms = centroids.square().sum(dim=1) / 2
    return torch.cat([(half_norms - chunk @ centroids.T).argmin(dim=1) for chunk in points.split(_ROWS_AT_ONCE)])


def fit_centroids(points: Tensor, num_centroids: int, *, seed: int, max_iterations: int = 50) -> Tensor:
    """Fit centroids ``(k, d)`` to points ``(n, d)``.

    Runs on the CPU in float32. An empty cluster restarts at the point that is farthest from its centroid. If there are
    fewer *distinct* points than centroids, the surplus centroids are copies of points and are never the nearest.

    Args:
        seed: of the start.
        max_iterations: bound of Lloyd's iterations; they end earlier when no point changes its cluster.
    Raises:
        MelodyError: wrong shape, fewer points than centroids, or values that are not finite.
    """
    _check(points, num_centroids)
    points = points.detach().to("cpu", torch.float32)
    generator = torch.Generator().manual_seed(seed)
    centroids = _plus_plus(points, num_centroids, generator)
    labels = nearest(points, centroids)
    for _ in range(max_iterations):
        centroids = _means(points, labels, centroids)
        previous, labels = labels, nearest(points, centroids)
        if torch.equal(previous, labels):
            break
    return centroids


def _check(points: Tensor, num_centroids: int) -> None:
    if points.ndim != 2:
        raise MelodyError(f"k-means: the points have shape {tuple(points.shape)}, expected (points, dimensions)")
    if num_centroids < 1:
        raise MelodyError(f"k-means: {num_centroids} centroids were asked for, expected 1 or more")
    if len(points) < num_centroids:
        raise MelodyError(
            f"k-means: {len(points)} points cannot give {num_centroids} centroids; "
            "use more data or a smaller codebook_size"
        )
    if not torch.isfinite(points).all():
        raise MelodyError("k-means: the points hold NaN or infinity")


def _plus_plus(points: Tensor, num_centroids: int, generator: torch.Generator) -> Tensor:
    """Draw centroids one by one, a point with a probability proportional to its squared distance from those drawn."""
    order = torch.randperm(len(points), generator=generator)
    subset = points[order[: num_centroids * _START_POINTS_PER_CENTROID]]
    chosen = [0]  # the subset is in random order
    distance = (subset - subset[0]).square().sum(dim=1)
    while len(chosen) < num_centroids:
        # Every point drawn already: any will do, and a copy never wins over its original.
        weights = distance if distance.sum() > 0 else torch.ones_like(distance)
        index = int(torch.multinomial(weights, 1, generator=generator))
        chosen.append(index)
        distance = torch.minimum(distance, (subset - subset[index]).square().sum(dim=1))
    return subset[chosen]


def _means(points: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """Mean of each cluster in float64; empty clusters restart at the points that are worst off."""
    counts = torch.bincount(labels, minlength=len(centroids))
    sums = torch.zeros(centroids.shape, dtype=torch.float64).index_add_(0, labels, points.double())
    means = (sums / counts.clamp(min=1)[:, None]).float()
    empty = (counts == 0).nonzero().flatten()
    if len(empty) == 0:
        return means
    distance = (points - centroids[labels]).square().sum(dim=1)
    worst = distance.argsort(descending=True, stable=True)[: len(empty)]
    means[empty] = points[worst]
    return means
