"""Residual vector quantiser: what must hold for any data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from melody.artifacts.weights import load_weights, save_weights
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.errors import MelodyError


def _unit_vectors(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def _fitted(
    levels: int = 4, size: int = 16, dim: int = 8, seed: int = 0
) -> tuple[ResidualVectorQuantizer, torch.Tensor]:
    quantizer, vectors = ResidualVectorQuantizer(levels, size, dim), _unit_vectors(300, dim, seed)
    quantizer.fit(vectors, seed=seed)
    return quantizer, vectors


def test_paper_defaults() -> None:
    quantizer = ResidualVectorQuantizer()
    assert quantizer.codebooks.shape == (12, 1024, 128)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 50), levels=st.integers(2, 5), size=st.integers(2, 24))
def test_error_falls_with_every_level(seed: int, levels: int, size: int) -> None:
    quantizer, vectors = _fitted(levels, size, seed=seed)
    tokens = quantizer.encode(vectors)
    errors = [float((quantizer.decode(tokens[:, :n]) - vectors).square().mean()) for n in range(1, levels + 1)]
    assert errors == sorted(errors, reverse=True)
    assert len(set(errors)) == levels


def test_shapes_types_and_range() -> None:
    quantizer, vectors = _fitted()
    tokens = quantizer.encode(vectors[:5])
    assert tokens.shape == (5, 4)
    assert tokens.dtype == torch.int64
    assert int(tokens.min()) >= 0
    assert int(tokens.max()) < 16
    assert quantizer.decode(tokens).shape == (5, 8)
    assert quantizer.encode(vectors[:0]).shape == (0, 4)


def test_each_level_picks_the_nearest_row() -> None:
    quantizer, vectors = _fitted()
    residual = vectors[7].clone()
    for level, token in enumerate(quantizer.encode(vectors[7:8])[0]):
        distances = (quantizer.codebooks[level] - residual).square().sum(dim=1)
        assert float(distances[token]) == pytest.approx(float(distances.min()), abs=1e-6)
        residual -= quantizer.codebooks[level, token]


def test_equals_vector_quantize_pytorch_on_the_same_codebooks() -> None:
    peer_class = pytest.importorskip("vector_quantize_pytorch").ResidualVQ
    quantizer, _ = _fitted(levels=5, size=16)
    vectors = _unit_vectors(200, 8, seed=9)
    peer = peer_class(dim=8, num_quantizers=5, codebook_size=16, kmeans_init=False).eval()
    for layer, codebook in zip(peer.layers, quantizer.codebooks, strict=True):
        layer._codebook.embed.copy_(codebook[None])
    decoded, tokens, _ = peer(vectors[:, None])
    assert torch.equal(quantizer.encode(vectors), tokens[:, 0])
    torch.testing.assert_close(quantizer.decode(tokens[:, 0]), decoded[:, 0])
    coarse = torch.full_like(tokens[:, 0], -1)
    coarse[:, :2] = tokens[:, 0, :2]  # theirs leaves out levels marked -1
    torch.testing.assert_close(quantizer.decode(tokens[:, 0, :2]), peer.get_output_from_indices(coarse))


def test_same_seed_same_codebooks_and_a_row_alone_as_in_a_batch() -> None:
    quantizer, vectors = _fitted(seed=5)
    assert torch.equal(quantizer.codebooks, _fitted(seed=5)[0].codebooks)
    assert torch.equal(quantizer.encode(vectors)[3], quantizer.encode(vectors[3:4])[0])


def test_weights_round_trip(tmp_path: Path) -> None:
    quantizer, vectors = _fitted()
    save_weights(quantizer, tmp_path / "rvq.safetensors", {"part": "rvq"})
    loaded = ResidualVectorQuantizer(4, 16, 8)
    load_weights(loaded, tmp_path / "rvq.safetensors", {"part": "rvq"})
    assert torch.allclose(loaded.decode(loaded.encode(vectors)), quantizer.decode(quantizer.encode(vectors)), atol=5e-3)


def test_unfitted_use_is_refused_and_random_codebooks_allow_counting() -> None:
    quantizer = ResidualVectorQuantizer(2, 4, 3)
    for call in (
        lambda: quantizer.encode(torch.zeros(1, 3)),
        lambda: quantizer.decode(torch.zeros(1, 2, dtype=torch.int64)),
    ):
        with pytest.raises(MelodyError, match="not fitted"):
            call()
    quantizer.randomize()
    assert quantizer.encode(_unit_vectors(5, 3)).shape == (5, 2)


def test_bad_input() -> None:
    quantizer, _ = _fitted()
    with pytest.raises(MelodyError, match=r"expected \(batch, 8\)"):
        quantizer.encode(torch.zeros(2, 7))
    with pytest.raises(MelodyError, match="NaN"):
        quantizer.encode(torch.full((2, 8), torch.nan))
    with pytest.raises(MelodyError, match="outside"):
        quantizer.decode(torch.full((1, 4), 16))
    with pytest.raises(MelodyError, match=r"expected \(batch, 1 to 4\)"):
        quantizer.decode(torch.zeros(1, 5, dtype=torch.int64))
    with pytest.raises(MelodyError, match="9 points cannot give 16"):
        quantizer.fit(_unit_vectors(9, 8))
