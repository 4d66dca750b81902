from __future__ import annotations

import math

import pytest
import torch

from melody.diffusion.guidance import guided_velocity
from melody.errors import MelodyError
from melody.protocols import Denoiser


class Affine(Denoiser, torch.nn.Module):
    """Velocity = latents · angle + the row's condition, which unconditional rows do not see."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        self.calls = []

    def prepare(self, semantic_tokens):
        return semantic_tokens.float()

    def forward(self, latents, angle, condition, unconditional=None):
        self.calls.append((len(latents), None if unconditional is None else unconditional.tolist()))
        seen = condition if unconditional is None else torch.where(unconditional, 0.0, condition)
        return latents * angle[..., None] + seen[:, None, None]

    def repeat(self, condition, times):
        return torch.cat([condition] * times)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 3, generator=generator), torch.rand(2, 4, generator=generator), torch.tensor([1.0, -2.0])


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.5])
def test_velocities_are_combined_linearly_in_one_call(scale, batch):
    latents, angle, condition = batch
    denoiser = Affine()
    got = guided_velocity(denoiser, condition, scale)(latents, angle)
    torch.testing.assert_close(got, latents * angle[..., None] + scale * condition[:, None, None])
    assert denoiser.calls == [(4, [False, False, True, True])]


def test_at_scale_one_only_the_conditional_half_is_computed(batch):
    latents, angle, condition = batch
    denoiser = Affine()
    got = guided_velocity(denoiser, condition, 1.0)(latents, angle)
    torch.testing.assert_close(got, latents * angle[..., None] + condition[:, None, None])
    assert denoiser.calls == [(2, None)]


def test_hooks_see_every_pass(batch):
    latents, angle, condition = batch
    denoiser, passes = Affine(), []
    denoiser.register_forward_pre_hook(lambda module, arguments: passes.append(len(arguments[0])))
    velocity = guided_velocity(denoiser, condition, 2.5)
    velocity(latents, angle)
    velocity(latents, angle)
    assert passes == [4, 4]


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_the_scale_must_be_finite(scale, batch):
    with pytest.raises(MelodyError, match="guidance_scale: expected a finite number"):
        guided_velocity(Affine(), batch[2], scale)
