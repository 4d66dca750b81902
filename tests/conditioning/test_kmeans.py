"""k-means against hand-made clusters and scipy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2

from melody.conditioning.kmeans import fit_centroids, nearest
from melody.errors import MelodyError


def _points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def _inertia(points: torch.Tensor, centroids: torch.Tensor) -> float:
    return float((points - centroids[nearest(points, centroids)]).square().sum())


def test_finds_clusters_that_lie_apart() -> None:
    truth = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = (truth[:, None] + 0.1 * _points(200, 2).view(4, 50, 2)).flatten(0, 1)
    centroids = fit_centroids(points, 4, seed=0)
    assert torch.cdist(truth, centroids).min(dim=1).values.max() < 0.1


def test_from_its_own_solution_scipy_finds_no_better() -> None:
    points = _points(400, 3)
    centroids = fit_centroids(points, 8, seed=1, max_iterations=200)
    theirs, labels = kmeans2(points.numpy(), centroids.numpy(), iter=20, minit="matrix")
    assert torch.allclose(torch.from_numpy(theirs), centroids, atol=1e-5)
    assert torch.equal(torch.from_numpy(labels).long(), nearest(points, centroids))


def test_same_seed_same_bits_and_global_generator_untouched() -> None:
    points, state = _points(500, 4), torch.get_rng_state()
    assert torch.equal(fit_centroids(points, 16, seed=3), fit_centroids(points, 16, seed=3))
    assert not torch.equal(fit_centroids(points, 16, seed=3), fit_centroids(points, 16, seed=4))
    assert torch.equal(torch.get_rng_state(), state)


def test_no_cluster_stays_empty() -> None:
    points = torch.cat([torch.zeros(100, 2), _points(20, 2) + 5])
    centroids = fit_centroids(points, 12, seed=0)
    assert (torch.bincount(nearest(points, centroids), minlength=12) > 0).all()


def test_fewer_distinct_points_than_centroids_gives_copies() -> None:
    points = torch.tensor([[0.0], [1.0]]).repeat(10, 1)
    centroids = fit_centroids(points, 5, seed=0)
    assert sorted(set(centroids.flatten().tolist())) == [0.0, 1.0]
    assert _inertia(points, centroids) == 0


@settings(max_examples=25, deadline=None)
@given(n=st.integers(5, 60), k=st.integers(1, 5), d=st.integers(1, 6), seed=st.integers(0, 99))
def test_centroids_are_means_of_their_clusters(n: int, k: int, d: int, seed: int) -> None:
    points = _points(n, d, seed)
    centroids = fit_centroids(points, k, seed=seed, max_iterations=200)
    labels = nearest(points, centroids)
    for index in labels.unique():
        assert torch.allclose(points[labels == index].mean(dim=0), centroids[index], atol=1e-5)
    assert _inertia(points, centroids) <= _inertia(points, points.mean(dim=0, keepdim=True)) + 1e-4


@pytest.mark.parametrize(
    ("points", "k", "message"),
    [
        (torch.zeros(3, 2), 4, "3 points cannot give 4 centroids"),
        (torch.zeros(3), 1, "expected .points, dimensions."),
        (torch.full((3, 2), torch.nan), 2, "NaN"),
        (torch.zeros(3, 2), 0, "0 centroids"),
    ],
)
def test_bad_input(points: torch.Tensor, k: int, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        fit_centroids(points, k, seed=0)
