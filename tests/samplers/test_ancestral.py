from __future__ import annotations

import pytest
import torch

from melody.errors import MelodyError
from melody.registry import samplers
from melody.samplers import sample


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_marginal_is_kept(eta, gaussian):
    """Mean and variance of many samples of a Gaussian; standard errors are 0.0035 and 0.0025."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(1, 100, 200, generator=generator)
    sampler = samplers.create("ancestral", {"eta": eta})
    got = sample(gaussian.velocity, noise, sampler=sampler, grid="uniform", num_steps=400, generator=generator)
    assert float(got.mean()) == pytest.approx(0.3, abs=0.015)
    assert float(got.var()) == pytest.approx(0.25, abs=0.01)


def test_fresh_noise_decides_the_outcome(gaussian, noise):
    def run(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return sample(gaussian.velocity, noise, sampler="ancestral", grid="uniform", num_steps=8, generator=generator)

    assert float((run(0) - run(1)).std()) > 0.3


def test_without_fresh_noise_it_is_the_paper_s_sampler(mixture, noise):
    still = sample(
        mixture.velocity, noise, sampler=samplers.create("ancestral", {"eta": 0.0}), grid="cosine", num_steps=9
    )
    torch.testing.assert_close(still, sample(mixture.velocity, noise, sampler="ddim", grid="cosine", num_steps=9))


@pytest.mark.parametrize("eta", [-0.1, 1.5])
def test_eta_is_a_share(eta):
    with pytest.raises(MelodyError, match="'ancestral': eta: Input should be (less|greater) than or equal to"):
        samplers.create("ancestral", {"eta": eta})
