"""A diffusion whose velocity is known in closed form: data from a mixture of Gaussians, independent by coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def velocity(self, latents: Tensor, angle: Tensor) -> Tensor:
        """E[cos(δ)·ε − sin(δ)·x | z], for z = cos(δ)·x + sin(δ)·ε: by component Gaussian, so linear in z."""
        z, delta = latents.double().unsqueeze(-1), angle.double()[..., None, None]
        weights, means, deviations = (
            torch.tensor(v, dtype=torch.float64) for v in (self.weights, self.means, self.deviations)
        )
        cos, sin = torch.cos(delta), torch.sin(delta)
        variance = (cos * deviations) ** 2 + sin**2  # of z, given the component
        residual = z - cos * means
        responsibility = torch.softmax(torch.log(weights / variance.sqrt()) - residual**2 / (2 * variance), dim=-1)
        x = (responsibility * (means + cos * deviations**2 / variance * residual)).sum(-1)
        noise = (responsibility * sin / variance * residual).sum(-1)
        return (cos[..., 0] * noise - sin[..., 0] * x).to(latents.dtype)

    def solve(self, latents: Tensor, begin: float, end: float) -> Tensor:
        """Where the ordinary differential equation dz/dδ = v leads, by SciPy to 1e-11."""

        def slope(delta: float, z: np.ndarray) -> np.ndarray:
            z = torch.from_numpy(z).view(latents.shape)
            return self.velocity(z, torch.full(latents.shape[:2], delta, dtype=torch.float64)).flatten().numpy()

        flat = latents.double().flatten().numpy()
        solution = solve_ivp(slope, (begin, end), flat, method="DOP853", rtol=1e-11, atol=1e-12)
        return torch.from_numpy(solution.y[:, -1]).view(latents.shape)


@pytest.fixture(scope="session")
def mixture() -> Mixture:
    return Mixture(weights=(0.3, 0.5, 0.2), means=(-1.0, 0.2, 1.1), deviations=(0.35, 0.3, 0.4))


@pytest.fixture(scope="session")
def gaussian() -> Mixture:
    return Mixture(weights=(1.0,), means=(0.3,), deviations=(0.5,))


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def near_noise() -> Tensor:
    """The start that a scheduler with noise levels tan δ can represent."""
    return torch.full((2, 5), math.pi / 2 - 1e-3, dtype=torch.float64)
