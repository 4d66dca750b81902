"""Measured order of convergence, against a reference solution of a closed-form velocity."""

from __future__ import annotations

import math

import pytest
import torch

from melody.registry import samplers
from melody.samplers import sample

# The corrector of unipc raises the order of its predictor by one (arXiv 2302.04867). What it declares is the order of a
# whole run, whose last step is of order 1.
INTERIOR_ORDER = {"ddim": 1, "heun": 2, "dpmpp_2m": 2, "unipc": 3}
STEPS = (40, 80, 160)


def _slope(errors: list[float]) -> float:
    return math.log2(errors[0] / errors[-1]) / math.log2(STEPS[-1] / STEPS[0])


def test_the_closed_form_is_the_definition(mixture):
    """The velocity is E[cos(δ)·ε − sin(δ)·x | z]: here by quadrature over x."""
    x = torch.linspace(-5, 5, 20_001, dtype=torch.float64)
    delta, z = 0.7, 0.4
    components = zip(mixture.weights, mixture.means, mixture.deviations, strict=True)
    prior = sum(w / s * torch.exp(-((x - m) ** 2) / (2 * s * s)) for w, m, s in components)
    noise = (z - math.cos(delta) * x) / math.sin(delta)
    posterior = prior * torch.exp(-(noise**2) / 2)
    expected = ((math.cos(delta) * noise - math.sin(delta) * x) * posterior).sum() / posterior.sum()
    got = mixture.velocity(
        torch.full((1, 1, 1), z, dtype=torch.float64), torch.full((1, 1), delta, dtype=torch.float64)
    )
    assert float(got) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("name", INTERIOR_ORDER)
def test_order_in_the_interior(name, mixture, noise):
    begin, end, latents = 1.3, 0.2, noise.double()
    reference = mixture.solve(latents, begin, end)
    errors = []
    for num_steps in STEPS:
        angles = torch.linspace(begin, end, num_steps + 1, dtype=torch.float64).view(-1, 1, 1).expand(-1, 2, 5)
        sampler, z = samplers.create(name), latents
        state = sampler.init(z, angles)
        for step in range(num_steps):
            z, state = sampler.step(mixture.velocity, z, angles[step], angles[step + 1], state, None)
        errors.append(float((z - reference).norm()))
    assert _slope(errors) == pytest.approx(INTERIOR_ORDER[name], abs=0.15)
    assert samplers.get(name).order <= INTERIOR_ORDER[name]


# From noise to clean λ spans an infinite range, and the first and the last step are of order 1, with an error of ω². So
# a multi-step method of order 2 measures between 1.5 and 2 at these numbers of steps.
@pytest.mark.parametrize(("name", "least"), [("ddim", 0.95), ("heun", 1.85), ("dpmpp_2m", 1.5), ("unipc", 1.9)])
def test_order_from_noise_to_latents(name, least, mixture, noise):
    latents = noise.double()
    reference = mixture.solve(latents, math.pi / 2, 0.0)
    errors = [
        float((sample(mixture.velocity, latents, sampler=name, grid="melody-linear", num_steps=n) - reference).norm())
        for n in STEPS
    ]
    assert _slope(errors) > least


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m", "unipc"])
def test_second_order_beats_the_paper_s_sampler_at_twenty_evaluations(name, mixture, noise):
    def error(sampler: str) -> float:
        num_steps = 20 // samplers.get(sampler).evaluations_per_step
        got = sample(mixture.velocity, noise, sampler=sampler, grid="melody-linear", num_steps=num_steps)
        return float((got - mixture.solve(noise, math.pi / 2, 0.0)).norm())

    assert error(name) < error("ddim") / 4


@pytest.mark.parametrize("name", ["ancestral", "ddim", "diffusers", "dpmpp_2m", "heun", "unipc"])
@pytest.mark.parametrize("num_steps", [1, 7])
def test_declared_evaluations_are_made(name, num_steps, mixture, noise):
    calls = []

    def counted(latents, angle):
        calls.append(angle)
        return mixture.velocity(latents, angle)

    sample(counted, noise, sampler=name, grid="uniform", num_steps=num_steps)
    assert len(calls) == num_steps * samplers.get(name).evaluations_per_step


@pytest.mark.parametrize("name", ["ancestral", "ddim", "diffusers", "dpmpp_2m", "heun", "unipc"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 20])
def test_a_single_data_point_is_found_exactly(name, num_steps, noise):
    """With one point x, v = (cos(δ)·z − x) / sin(δ), and every consistent step keeps on the way to x."""
    point = noise.flip(0) + 1

    def velocity(latents, angle):
        return (torch.cos(angle)[..., None] * latents - point) / torch.sin(angle)[..., None]

    got = sample(velocity, noise, sampler=name, grid="cosine", num_steps=num_steps)
    torch.testing.assert_close(got, point, rtol=1e-4, atol=1e-4)
