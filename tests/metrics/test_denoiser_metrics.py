"""Velocity error and SI-SNR against torchmetrics and the algebra of the diffusion."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

from melody.errors import MelodyError
from melody.metrics.angle_bins import bin_index
from melody.metrics.denoising import Denoised, si_snr_improvement, velocity_mse
from melody.metrics.si_snr import si_snr


def draw(seed: int, shape: tuple[int, ...] = (3, 20, 4)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def diffuse(latents: torch.Tensor, noise: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """z_δ and v_δ of Eq. 2–9 of the paper."""
    cos, sin = angle.cos()[..., None], angle.sin()[..., None]
    return cos * latents + sin * noise, cos * noise - sin * latents


@given(st.integers(0, 1000), st.floats(0.01, 10))
def test_si_snr_equals_torchmetrics(seed: int, level: float) -> None:
    target = draw(seed) + 0.5
    preds = target + level * draw(seed + 1)
    theirs = scale_invariant_signal_noise_ratio(preds.flatten(1), target.flatten(1))
    torch.testing.assert_close(si_snr(preds, target), theirs, rtol=1e-9, atol=1e-9)


def test_si_snr_ignores_scale_and_offset() -> None:
    target, preds = draw(0), draw(0) + 0.3 * draw(1)
    torch.testing.assert_close(si_snr(3 * preds + 2, 0.1 * target - 1), si_snr(preds, target))


def test_si_snr_closed_form() -> None:
    target = torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
    other = torch.tensor([[1.0, 1.0, -1.0, -1.0]], dtype=torch.float64)  # orthogonal, of the same energy
    assert float(si_snr(target + 0.1 * other, target)) == pytest.approx(20.0)


def test_improvement_of_the_true_velocity_is_the_cap_and_of_none_is_none() -> None:
    latents, noise = draw(0), draw(1)
    angle = torch.full((3, 20), math.pi / 4, dtype=torch.float64)
    noisy, velocity = diffuse(latents, noise, angle)
    assert bool((si_snr_improvement(velocity, noisy, angle, latents) > 150).all())
    zero = torch.zeros_like(velocity)  # ẑ = cos δ · z_δ, the same up to scale
    torch.testing.assert_close(si_snr_improvement(zero, noisy, angle, latents), torch.zeros(3, dtype=torch.float64))


def test_improvement_uses_each_frames_own_angle() -> None:
    latents, noise = draw(2), draw(3)
    angle = torch.linspace(0.1, 1.5, 60, dtype=torch.float64).view(3, 20)
    noisy, velocity = diffuse(latents, noise, angle)
    preds = velocity + 0.2 * draw(4)
    estimate = angle.cos()[..., None] * noisy - angle.sin()[..., None] * preds
    expected = si_snr(estimate, latents) - si_snr(noisy, latents)
    torch.testing.assert_close(si_snr_improvement(preds, noisy, angle, latents), expected)


def test_predicting_zero_scores_the_mean_square() -> None:
    noise, latents = draw(1, (8, 200, 16)), draw(2, (8, 200, 16))
    angle = torch.rand(8, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * math.pi / 2
    velocity = diffuse(latents, noise, angle)[1]
    assert velocity_mse(torch.zeros_like(velocity), velocity) == pytest.approx(1.0, abs=0.03)


def test_bins_of_scores_add_up_and_empty_ones_have_no_value() -> None:
    scored = Denoised(angle=[0.1, 0.2, 1.5], velocity_mse=[1.0, 3.0, 5.0], si_snri=[2.0, 4.0, 9.0], zero_mse=[1.0] * 3)
    low, middle, high = scored.by_angle(3)
    assert (low["velocity_mse"], low["si_snri_db"], low["n"]) == (2.0, 3.0, 2)
    assert (middle["velocity_mse"], middle["n"]) == (None, 0)
    assert high["velocity_mse"] == 5.0
    assert scored.means() == {"velocity_mse": 3.0, "zero_mse": 1.0, "si_snri_db": 5.0}


def test_bins_hold_both_ends() -> None:
    ends = torch.tensor([0.0, math.pi / 2])  # float32: the second lies above π/2
    assert bin_index(ends, 8).tolist() == [0, 7]


def test_bad_input_is_one_clear_line() -> None:
    z, angle = draw(0), torch.zeros(3, 20)
    with pytest.raises(MelodyError, match="expected the same"):
        velocity_mse(z, z[:1])
    with pytest.raises(MelodyError, match="velocity-mse: preds: 240 of 240 values are NaN"):
        velocity_mse(z * math.nan, z)
    with pytest.raises(MelodyError, match="expected 0 to π/2"):
        bin_index(angle + 2, 8)
    with pytest.raises(MelodyError, match=r"\(B, L, D\) and \(B, L\)"):
        si_snr_improvement(z, z, angle[:, :3], z)
    with pytest.raises(MelodyError, match="target of row 1 of . is silent or constant"):
        si_snr(z, torch.ones_like(z))
    with pytest.raises(MelodyError, match="empty"):
        si_snr(z[:0], z[:0])
