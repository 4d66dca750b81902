from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from melody.diffusion.angles import (
    add_noise,
    chunk_bounds,
    draw_chunk_angles,
    latents_from_velocity,
    velocity_target,
)
from melody.errors import MelodyError


@st.composite
def diffused(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, noise ``(B, L, D)`` and angles ``(B, L)``, in float64."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    latents, noise = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return latents, noise, torch.rand(shape[:2], generator=generator, dtype=torch.float64) * math.pi / 2


@given(diffused())
def test_latents_and_noise_are_found_again_from_the_velocity(example):
    latents, noise, angle = example
    noisy, velocity = add_noise(latents, noise, angle), velocity_target(latents, noise, angle)
    torch.testing.assert_close(latents_from_velocity(noisy, velocity, angle), latents)
    delta = angle[..., None]
    torch.testing.assert_close(delta.sin() * noisy + delta.cos() * velocity, noise)


@given(diffused())
def test_velocity_is_the_derivative_by_the_angle(example):
    latents, noise, angle = example
    width = 1e-5
    slope = (add_noise(latents, noise, angle + width) - add_noise(latents, noise, angle - width)) / (2 * width)
    torch.testing.assert_close(velocity_target(latents, noise, angle), slope, rtol=1e-6, atol=1e-8)


@given(diffused())
def test_latents_and_velocity_have_the_length_of_latents_and_noise(example):
    """The map is a rotation."""
    latents, noise, angle = example
    noisy, velocity = add_noise(latents, noise, angle), velocity_target(latents, noise, angle)
    torch.testing.assert_close(noisy**2 + velocity**2, latents**2 + noise**2)


def test_the_ends_and_the_frames():
    latents, noise = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    noisy = add_noise(latents, noise, torch.tensor([[0.0, math.pi / 2, math.pi / 6]]))
    assert torch.equal(noisy[:, 0], latents[:, 0])
    torch.testing.assert_close(noisy[:, 1], noise[:, 1])
    torch.testing.assert_close(noisy[:, 2], math.sqrt(3) / 2 * latents[:, 2] + noise[:, 2] / 2)


def test_angles_in_double_precision_leave_latents_in_single():
    latents = torch.ones(1, 2, 3)
    assert add_noise(latents, latents, torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float32


@given(st.integers(1, 5000).flatmap(lambda length: st.tuples(st.just(length), st.integers(1, min(length, 64)))))
def test_chunks_cover_the_frames_once_and_differ_by_one_frame_at_most(example):
    length, chunks = example
    bounds = chunk_bounds(length, chunks)
    assert len(bounds) == chunks
    assert [frame for begin, end in bounds for frame in range(begin, end)] == list(range(length))
    sizes = [end - begin for begin, end in bounds]
    assert max(sizes) - min(sizes) <= 1


def test_the_paper_s_chunks():
    """L = 2,500 frames in M = 4 chunks (main text)."""
    assert chunk_bounds(2500, 4) == [(0, 625), (625, 1250), (1250, 1875), (1875, 2500)]


@pytest.mark.parametrize("chunks", [0, -1, 6])
def test_more_chunks_than_frames_are_refused(chunks):
    with pytest.raises(MelodyError, match=rf"cannot cut 5 frames into {chunks} chunks: expected from 1 to 5"):
        chunk_bounds(5, chunks)


def test_a_chunk_has_one_angle_and_chunks_differ():
    angle = draw_chunk_angles(3, 11, 4, torch.Generator().manual_seed(0))
    assert angle.shape == (3, 11)
    heads = []
    for begin, end in chunk_bounds(11, 4):
        assert (angle[:, begin:end] == angle[:, begin : begin + 1]).all()
        heads.append(angle[:, begin])
    assert torch.stack(heads).unique().numel() == 12


def test_drawn_angles_are_uniform_from_zero_to_half_pi():
    angle = draw_chunk_angles(20_000, 4, 4, torch.Generator().manual_seed(0)) / (math.pi / 2)
    counts = torch.histc(angle, bins=10, min=0, max=1)
    assert float(angle.min()) >= 0
    assert float(angle.max()) <= 1
    assert float((counts / angle.numel() - 0.1).abs().max()) < 0.005


def test_drawing_is_decided_by_the_generator_or_else_by_the_global_one():
    first, second = (draw_chunk_angles(2, 8, 4, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)
    torch.manual_seed(7)
    assert torch.equal(first, draw_chunk_angles(2, 8, 4))
