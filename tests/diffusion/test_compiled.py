"""``torch.compile`` follows the denoiser: whole graphs where values decide nothing, and the same velocities."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from melody.diffusion.dual_path import DualPathDenoiser
from melody.diffusion.sru import SRU

SMALL: dict[str, Any] = {
    "latent_dim": 4,
    "hidden_size": 16,
    "num_blocks": 1,
    "segment_size": 4,
    "frame_rate": 50.0,
    "codebook_size": 11,
    "angle_embedding_dim": 6,
    "merge_widths": (2,),
    "num_heads": 2,
    "coarse_layers": 1,
    "feed_forward_size": 24,
    "recurrent_size": 8,
}


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def network() -> DualPathDenoiser:
    torch.manual_seed(0)
    network = DualPathDenoiser(**SMALL).eval()
    with torch.no_grad():  # an output of the size of a trained network's, so that tolerances mean something
        network.latents_out.weight.mul_(20)
    return network


def inputs(network: DualPathDenoiser) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(11, (2, 7), generator=generator)
    latents, angle = torch.randn(2, 13, 4, generator=generator), torch.rand(2, 13, generator=generator)
    return latents, angle, network.prepare(tokens)


@torch.no_grad()
def test_a_pass_without_guidance_is_one_graph(network: DualPathDenoiser) -> None:
    arguments = inputs(network)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), network(*arguments))


def test_gradients_are_those_of_the_network(network: DualPathDenoiser) -> None:
    compiled = torch.compile(network, backend="aot_eager")
    gradients = []
    for called in (network, compiled):
        network.zero_grad()
        called(*inputs(network), torch.tensor([False, True])).square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 20
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, other)


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="inductor needs a C++ compiler")
@torch.no_grad()
def test_compiled_kernels_give_the_same_velocity_with_guidance(network: DualPathDenoiser) -> None:
    arguments = (*inputs(network), torch.tensor([False, True]))
    torch.testing.assert_close(torch.compile(network)(*arguments), network(*arguments), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("input_size", "hidden_size"), [(6, 3), (5, 2)])
def test_the_compilers_form_of_the_recurrence_is_the_recurrence(input_size: int, hidden_size: int) -> None:
    torch.manual_seed(0)
    unit = SRU(input_size, hidden_size, num_layers=2)
    x, padding = torch.randn(6, 3, input_size), torch.rand(6, 3, 1) < 0.4
    compiled = torch.compile(unit, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), unit(x))
    torch.testing.assert_close(compiled(x, padding), unit(x, padding))
