"""Residual quantisation: indices and sums of another implementation, levels, gradients, averages, restarts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melody.errors import MelodyError
from melody.vae.residual_quantizer import CodebookAverages, ResidualQuantizer, nearest


def quantizer(levels: int = 4, size: int = 8, dim: int = 5, seed: int = 0) -> ResidualQuantizer:
    torch.manual_seed(seed)
    return ResidualQuantizer(levels, size, dim)


def vectors(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def learnt(steps: int = 40, decay: float = 0.9) -> tuple[ResidualQuantizer, Tensor]:
    """A quantiser that has followed vectors of six clusters, and these vectors."""
    ours, centres = quantizer(), vectors(6, 5, seed=3) * 3
    points = centres[torch.arange(300) % 6] + 0.3 * vectors(300, 5)
    averages = CodebookAverages(ours, decay)
    averages.start(ours, points)
    for _ in range(steps):
        averages.update(ours, points)
    return ours, points


@pytest.mark.filterwarnings("ignore")
def test_same_codebooks_give_the_indices_and_sums_of_vector_quantize_pytorch() -> None:
    from vector_quantize_pytorch import ResidualVQ

    ours, points = quantizer(6, 16, 12), vectors(3, 50, 12)
    theirs = ResidualVQ(dim=12, num_quantizers=6, codebook_size=16).eval()
    for layer, codebook in zip(theirs.layers, ours.codebooks, strict=True):
        layer._codebook.embed.data.copy_(codebook[None])
        layer._codebook.initted.fill_(True)
    with torch.no_grad():
        quantized, indices, _ = theirs(points)
    codes = ours.encode(points)
    assert torch.equal(codes, indices)
    torch.testing.assert_close(ours.decode(codes), quantized)
    torch.testing.assert_close(ours.decode(codes[..., :2]), theirs.get_codes_from_indices(indices)[:2].sum(0))


@settings(max_examples=30, deadline=None)
@given(levels=st.integers(1, 5), size=st.integers(1, 9), dim=st.integers(1, 6), seed=st.integers(0, 99))
def test_each_level_codes_what_the_levels_before_it_left_over(levels: int, size: int, dim: int, seed: int) -> None:
    ours, points = quantizer(levels, size, dim, seed), vectors(2, 7, dim, seed=seed)
    codes = ours.encode(points)
    assert codes.shape == (2, 7, levels)
    assert codes.dtype == torch.int64
    for level in range(levels):
        residual = points - (ours.decode(codes[..., :level]) if level else 0)
        distances = torch.cdist(residual.flatten(0, 1), ours.codebooks[level])
        taken = distances.gather(1, codes[..., level].reshape(-1, 1))[:, 0]
        torch.testing.assert_close(taken, distances.amin(dim=1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.chosen(codes).sum(-2), ours.decode(codes))


def test_more_levels_are_never_worse_on_what_was_learnt() -> None:
    ours, points = learnt()
    codes = ours.encode(points)
    errors = [float((points - ours.decode(codes[:, : level + 1])).square().mean()) for level in range(4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.2 * float(points.square().mean())
    assert errors[-1] < 0.3 * errors[0]


def test_codebooks_come_to_the_means_of_what_chooses_them() -> None:
    ours, points = learnt(steps=200)
    codes = nearest(points, ours.codebooks[0])
    for code in codes.unique():
        torch.testing.assert_close(ours.codebooks[0][code], points[codes == code].mean(0), atol=1e-2, rtol=1e-2)


def test_entries_that_nothing_chooses_restart_at_vectors_of_the_batch() -> None:
    ours, points = quantizer(1, 8, 5), vectors(400, 5)
    averages = CodebookAverages(ours, decay=0.5)
    averages.start(ours, points)
    away = points + 100  # only one entry is the nearest, and the others are never chosen again
    assert len(ours.encode(away).unique()) < 4
    restarted = [averages.update(ours, away) for _ in range(30)]
    assert sum(restarted) >= 5
    assert len(ours.encode(away).unique()) == 8
    assert restarted[-5:] == [0] * 5


def test_the_start_takes_vectors_of_the_batch_and_only_once() -> None:
    ours, points = quantizer(2, 4, 5), vectors(30, 5)
    averages = CodebookAverages(ours)
    averages.start(ours, points)
    assert torch.cdist(ours.codebooks[0], points).amin(1).max() < 1e-5
    before = ours.codebooks.clone()
    averages.start(ours, points + 1)
    assert torch.equal(ours.codebooks, before)


def test_rows_are_summed_over_as_many_levels_as_they_drew() -> None:
    ours, points = quantizer(), vectors(3, 6, 5)
    quantized, codes, _ = ours(points, torch.tensor([1, 3, 4]))
    for row, levels in enumerate((1, 3, 4)):
        torch.testing.assert_close(quantized[row], ours.decode(codes[row, :, :levels]))
    torch.testing.assert_close(ours(points)[0], ours.decode(codes))


def test_gradients_pass_as_if_nothing_were_quantised_and_commitment_pulls_to_the_sums() -> None:
    ours, points = quantizer(), vectors(2, 6, 5).requires_grad_()
    quantized, codes, commitment = ours(points)
    weights = vectors(2, 6, 5, seed=8)
    (gradient,) = torch.autograd.grad((quantized * weights).sum(), points)
    torch.testing.assert_close(gradient, weights)
    partial = [ours.decode(codes[..., : level + 1]) for level in range(4)]
    expected = torch.stack([(points - p).square().mean() for p in partial]).mean()
    torch.testing.assert_close(commitment, expected)
    (pull,) = torch.autograd.grad(commitment, points)
    torch.testing.assert_close(pull, sum(2 * (points - p) for p in partial).detach() / (4 * points.numel()))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 3, 5, dtype=torch.int64), r"shape \(2, 3, 5\): expected 1 to 4 levels"),
        (torch.zeros(2, 3, 0, dtype=torch.int64), "expected 1 to 4 levels"),
        (torch.tensor(1), "expected 1 to 4 levels"),
        (torch.tensor([[0, 8]]), r"token 8 is outside \[0, 8\)"),
        (torch.tensor([[-1]]), r"token -1 is outside \[0, 8\)"),
        (torch.zeros(1, 2), "torch.float32: expected whole numbers"),
    ],
)
def test_bad_codes_are_refused(codes: Tensor, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        quantizer().decode(codes)


def test_a_quantiser_without_entries_is_refused() -> None:
    with pytest.raises(MelodyError, match="quantiser of 0 levels of 8 × 5: expected at least 1 each"):
        ResidualQuantizer(0, 8, 5)
