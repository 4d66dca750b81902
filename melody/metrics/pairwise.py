"""Distances between all pairs of two sets of vectors, a block at a time, so that memory stays flat.

Float64, by |x|² + |y|² − 2 x·y. The sets are centred on the reference first, so that the norms, and with them the
rounding, are those of the spread and not of the place. What is below that rounding counts as zero, and a distance that
misses a radius by no more than it counts as within: so equal vectors are equal, and ties do not depend on the order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from melody.checks import check_finite
from melody.errors import MelodyError

BLOCK = 1024
ROUNDING = 1e-13
"""Of the largest squared norm: a few hundred times what float64 loses in a sum of a few hundred products."""
BINS = 65_536
GATHERED = 1_000_000
"""So many distances are sorted at once when a median is looked for."""


def checked_sets(generated: Tensor, reference: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Two ``(windows, E)`` sets in float64, centred on the reference's mean.

    Raises:
        MelodyError: another shape, an empty set, widths that differ, NaN or infinity.
    """
    for side, embeddings in (("generated", generated), ("reference", reference)):
        if embeddings.ndim != 2 or embeddings.numel() == 0:
            shape = tuple(embeddings.shape)
            raise MelodyError(f"{name}: {side} embeddings have shape {shape}; expected (windows, dimension)")
        check_finite(embeddings, f"{name}: {side} embeddings")
    if generated.shape[1] != reference.shape[1]:
        widths = f"{generated.shape[1]} and {reference.shape[1]}"
        raise MelodyError(f"{name}: embeddings of width {widths}; expected the same")
    x, y = generated.detach().to(torch.float64), reference.detach().to(torch.float64)
    centre = y.mean(dim=0)
    return x - centre, y - centre


def squared_distances(x: Tensor, y: Tensor, *, upper: bool = False) -> Iterator[tuple[slice, slice, Tensor]]:
    """Blocks of |xᵢ − yⱼ|² of ``(n, E)`` and ``(m, E)``: rows, columns, and the block ``(rows, columns)``.

    Args:
        upper: only blocks on and above the diagonal, for a set against itself.
    """
    x_norms, y_norms = x.square().sum(dim=1), y.square().sum(dim=1)
    floor = rounding(x, y)
    for i in range(0, len(x), BLOCK):
        for j in range(i if upper else 0, len(y), BLOCK):
            rows, columns = slice(i, i + BLOCK), slice(j, j + BLOCK)
            squared = x_norms[rows, None] + y_norms[None, columns] - 2 * x[rows] @ y[columns].T
            yield rows, columns, squared.masked_fill_(squared <= floor, 0.0)


def rounding(x: Tensor, y: Tensor) -> float:
    """What a squared distance may be off by."""
    return ROUNDING * float(torch.maximum(x.square().sum(dim=1).max(), y.square().sum(dim=1).max()))


def median_distance(x: Tensor) -> float:
    """Median of the distances of all pairs of ``(n, E)``, n >= 2; of an even number the lower of the middle two.

    Exact in flat memory: the bin of a histogram that holds the median is divided until what is in it can be sorted.

    >>> median_distance(torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64))
    2.0
    """
    inside = len(x) * (len(x) - 1) // 2
    rank, low, high = (inside - 1) // 2, 0.0, 4.0 * float(x.square().sum(dim=1).max()) + 1e-300
    smallest = high * 1e-15
    while inside > GATHERED and high - low > smallest:
        counts, width = torch.zeros(BINS, dtype=torch.int64, device=x.device), (high - low) / BINS
        for squared in _pairs(x):
            kept = squared[(squared >= low) & (squared < high)]
            counts += torch.bincount(((kept - low) / width).long().clamp(max=BINS - 1), minlength=BINS)
        bin_of_rank = int((counts.cumsum(dim=0) <= rank).sum().clamp(max=BINS - 1))
        rank -= int(counts[:bin_of_rank].sum())
        low, high, inside = low + bin_of_rank * width, low + (bin_of_rank + 1) * width, int(counts[bin_of_rank])
    if inside > GATHERED:  # so many pairs at one distance
        return math.sqrt(low)
    values = torch.cat([squared[(squared >= low) & (squared <= high)] for squared in _pairs(x)])
    return math.sqrt(float(values.kthvalue(min(rank + 1, len(values))).values))


def kth_neighbour(x: Tensor, k: int) -> Tensor:
    """Squared distance of each of ``(n, E)`` to its k-th nearest other: ``(n,)``; n must be above k."""
    nearest = torch.full((len(x), k), math.inf, dtype=torch.float64, device=x.device)
    for rows, columns, squared in squared_distances(x, x):
        if rows == columns:
            squared.fill_diagonal_(math.inf)
        nearest[rows] = torch.cat([nearest[rows], squared], dim=1).topk(k, dim=1, largest=False).values
    return nearest.amax(dim=1)


def ball_counts(points: Tensor, centres: Tensor, squared_radii: Tensor) -> tuple[Tensor, Tensor]:
    """In how many balls each point lies ``(n,)``, and how many points each ball holds ``(m,)``; borders belong to it.

    Args:
        points: ``(n, E)``.
        centres: ``(m, E)``.
        squared_radii: ``(m,)``.
    """
    of_points = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    of_balls = torch.zeros(len(centres), dtype=torch.int64, device=points.device)
    reach = squared_radii + rounding(points, centres)
    for rows, columns, squared in squared_distances(points, centres):
        held = squared <= reach[columns]
        of_points[rows] += held.sum(dim=1)
        of_balls[columns] += held.sum(dim=0)
    return of_points, of_balls


def _pairs(x: Tensor) -> Iterator[Tensor]:
    """Squared distances of every pair once, a flat block at a time."""
    for rows, columns, squared in squared_distances(x, x, upper=True):
        if rows == columns:
            above = torch.ones_like(squared, dtype=torch.bool).triu_(1)
            yield squared[above]
        else:
            yield squared.flatten()
