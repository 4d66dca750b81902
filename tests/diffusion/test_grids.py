from __future__ import annotations

import math

import pytest
import torch

from melody.registry import grids

NAMES = ["cosine", "karras", "log-snr", "melody-linear", "uniform"]


def test_all_are_registered():
    assert set(NAMES) <= set(grids.names())


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_positive_and_sum_to_half_pi_for_every_number(name):
    for num_steps in range(1, 1001):
        angles = grids.get(name)(num_steps)
        assert angles.shape == (num_steps + 1,)
        assert angles.dtype == torch.float64
        assert float(angles[0]) == math.pi / 2
        assert float(angles[-1]) == 0.0
        steps = -angles.diff()
        assert (steps > 0).all()
        assert float(steps.sum()) == pytest.approx(math.pi / 2, abs=1e-12)


@pytest.mark.parametrize("num_steps", [1, 2, 5, 10, 20, 999])
def test_uniform_steps_are_those_of_table_4(num_steps):
    torch.testing.assert_close(
        -grids.get("uniform")(num_steps).diff(),
        torch.full((num_steps,), math.pi / (2 * num_steps), dtype=torch.float64),
    )


@pytest.mark.parametrize("num_steps", [1, 2, 5, 10, 20, 999])
def test_linear_steps_are_those_of_equation_4(num_steps):
    expected = [
        math.pi / (6 * num_steps) + 2 * math.pi * t / (3 * num_steps * (num_steps + 1)) for t in range(num_steps, 0, -1)
    ]
    torch.testing.assert_close(
        -grids.get("melody-linear")(num_steps).diff(), torch.tensor(expected, dtype=torch.float64)
    )


@pytest.mark.parametrize("name", ["melody-linear", "cosine"])
def test_large_steps_come_first(name):
    steps = -grids.get(name)(20).diff()
    assert (steps.diff() < 0).all()


def test_karras_grid_has_the_noise_levels_of_its_source():
    """Eq. 5 of arXiv 2206.00364 with ρ = 7: a straight line in σ^(1/7), from 80 to 0.002."""
    levels = torch.tan(grids.get("karras")(10)[1:-1])
    roots = levels ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(8))
    assert float(levels[-1]) == pytest.approx(0.002)


def test_log_snr_grid_is_a_straight_line_in_the_logarithm():
    levels = torch.log(torch.tan(grids.get("log-snr")(10)[1:-1]))
    torch.testing.assert_close(levels.diff(), levels.diff().mean().expand(8))


@pytest.mark.parametrize("name", NAMES)
def test_each_has_its_sentence(name):
    assert grids.entry(name).sentence.endswith(".")
