"""Conformer tokenizer: exact token counts, determinism, an objective that learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from melody import registry
from melody.artifacts.weights import load_weights, save_weights
from melody.conditioning.contrastive import negative_places
from melody.conditioning.semantic import ConformerTokenizer, span_mask
from melody.config import load_preset
from melody.errors import MelodyError
from melody.protocols import SemanticTokenizer

SMALL = {
    "codebook_size": 8,
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 32,
    "feature_layer": 1,
    "depthwise_kernel": 5,
    "conv_width": 4,
    "num_mels": 16,
    "n_fft": 512,
    "num_targets": 2,
    "target_codebook_size": 32,
    "dropout": 0.0,
}


def _built(front_end: str, **changes: object) -> ConformerTokenizer:
    torch.manual_seed(0)
    tokenizer = ConformerTokenizer(**{**SMALL, "front_end": front_end, **changes}).eval()
    with torch.inference_mode():
        tokenizer.fit_codebook(tokenizer.features(_music(2, 48_000)).flatten(0, 1), seed=0)
    return tokenizer


def _music(rows: int, samples: int) -> torch.Tensor:
    time_s = torch.arange(samples) / 24_000
    hertz = 110 * 2 ** (torch.arange(rows)[:, None] / 3 + torch.floor(time_s * 4) / 4)
    return 0.3 * torch.sin(2 * math.pi * hertz * time_s)[:, None]


@pytest.fixture(scope="module", params=["waveform", "mel"])
def tokenizer(request: pytest.FixtureRequest) -> ConformerTokenizer:
    return _built(request.param)


def test_is_registered() -> None:
    assert isinstance(registry.semantic_tokenizers.create("wav2vec2-conformer", SMALL), SemanticTokenizer)


def test_default_size_is_the_papers() -> None:
    """199.5M with the centroids, main text, within 1 %."""
    with torch.device("meta"):
        tokenizer = ConformerTokenizer()
    parameters = sum(p.numel() for p in tokenizer.parameters()) + tokenizer.centroids.numel()
    assert parameters == pytest.approx(199.5e6, rel=0.01)
    assert (tokenizer.token_rate, tokenizer.codebook_size) == (25.0, 1024)


@settings(max_examples=30, deadline=None)
@given(samples=st.one_of(st.integers(1, 9_700), st.sampled_from([959, 960, 961, 1_919, 1_920, 24_000, 47_999])))
def test_exactly_25_tokens_a_second(tokenizer: ConformerTokenizer, samples: int) -> None:
    with torch.inference_mode():
        tokens = tokenizer.tokenize(_music(2, samples))
    assert tokens.shape == (2, samples // 960)
    assert tokens.dtype == torch.int64


@torch.inference_mode()
def test_tokens_repeat_use_the_codebook_and_ignore_loudness(tokenizer: ConformerTokenizer) -> None:
    waveform = _music(2, 48_000)
    tokens = tokenizer.tokenize(waveform)
    assert torch.equal(tokens, tokenizer.tokenize(waveform))
    assert len(tokens.unique()) > 2
    assert int(tokens.min()) >= 0
    assert int(tokens.max()) < 8
    assert (tokenizer.tokenize(waveform * 0.1) == tokens).float().mean() > 0.95
    assert torch.isfinite(tokenizer.features(torch.zeros(1, 1, 9_600))).all()


@torch.inference_mode()
def test_alone_as_in_a_batch(tokenizer: ConformerTokenizer) -> None:
    waveform = _music(3, 24_000)
    together = tokenizer.features(waveform)
    for row in range(3):
        assert torch.allclose(tokenizer.features(waveform[row : row + 1])[0], together[row], atol=1e-4)


@torch.inference_mode()
def test_layers_run_as_in_transformers_own_forward() -> None:
    tokenizer = _built("waveform", feature_layer=2)
    waveform = _music(1, 9_600)
    samples = torch.nn.functional.pad(tokenizer._prepare(waveform), tokenizer.conv_padding)
    expected = tokenizer.model(samples).last_hidden_state
    ours = tokenizer.model.encoder.layer_norm(tokenizer.features(waveform))
    assert torch.allclose(ours, expected, atol=1e-5)


def test_training_goes_on_after_inference(tokenizer: ConformerTokenizer) -> None:
    """transformers keeps rotary angles by length; those of inference mode cannot be trained with."""
    waveform = _music(1, 24_000)
    with torch.inference_mode():
        tokenizer.features(waveform)
    tokenizer.self_supervised_loss(waveform).backward()
    assert tokenizer.head.weight.grad is not None
    tokenizer.zero_grad()


def test_loss_starts_at_chance_and_falls() -> None:
    torch.manual_seed(0)
    tokenizer = ConformerTokenizer(**{**SMALL, "front_end": "mel"})
    waveform = _music(4, 48_000)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = tokenizer.self_supervised_loss(waveform)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(math.log(32), rel=0.25)
    assert sum(losses[-5:]) / 5 < 0.6 * losses[0]


CONTRASTIVE: dict[str, object] = {
    "objective": "contrastive",
    "codevector_groups": 2,
    "codevectors": 6,
    "codevector_dim": 8,
    "num_negatives": 5,
}


def test_the_contrastive_loss_is_transformers_own() -> None:
    """wav2vec 2.0's (appendix B.2), with the same masks and distractors; by the library's whole model."""
    from transformers import Wav2Vec2ConformerForPreTraining

    tokenizer = _built("waveform", **CONTRASTIVE)
    config = tokenizer.model.config
    config.update({"num_codevector_groups": 2, "num_codevectors_per_group": 6, "codevector_dim": 8})
    config.update({"proj_codevector_dim": 8})
    library = Wav2Vec2ConformerForPreTraining(config).eval()
    library.wav2vec2_conformer = tokenizer.model
    library.quantizer = tokenizer.contrast.quantizer
    library.project_hid, library.project_q = tokenizer.contrast.project_hidden, tokenizer.contrast.project_target
    waveform = _music(2, 24_000) + 0.05 * torch.randn(2, 1, 24_000, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    loss = tokenizer.self_supervised_loss(waveform)
    torch.manual_seed(3)
    mask = span_mask(2, 25, tokenizer.mask_start_probability, tokenizer.mask_span)
    drawn = negative_places(mask, 5)
    places = mask.flatten().nonzero()[:, 0]  # of a masked place among all, as the library counts
    negatives = torch.zeros(50, 5, dtype=torch.int64)
    negatives[places] = places[drawn]
    samples = torch.nn.functional.pad(tokenizer._prepare(waveform), tokenizer.conv_padding)
    expected = library(samples, mask_time_indices=mask, sampled_negative_indices=negatives.view(2, 25, 5)).loss
    assert loss.item() == pytest.approx(float(expected.detach()) / int(mask.sum()), rel=1e-4)


def test_the_contrastive_objective_learns_and_gives_tokens() -> None:
    torch.manual_seed(0)
    tokenizer = ConformerTokenizer(**{**SMALL, **CONTRASTIVE, "front_end": "waveform"})
    waveform = _music(4, 48_000)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=1e-2)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        loss = tokenizer.self_supervised_loss(waveform, step=step)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    unreached = [name for name, p in tokenizer.named_parameters() if p.grad is None]
    assert unreached == []
    assert sum(losses[-5:]) / 5 < 0.8 * sum(losses[:5]) / 5
    tokenizer.eval()
    tokenizer.fit_codebook(tokenizer.features(waveform).flatten(0, 1).detach(), seed=0)
    assert tokenizer.tokenize(waveform).shape == (4, 50)


def test_the_contrastive_quantisers_tensors_have_our_names(tmp_path: Path) -> None:
    tokenizer, path = _built("waveform", **CONTRASTIVE), tmp_path / "semantic.safetensors"
    save_weights(tokenizer, path, {"use": "x"}, dtype="float32")
    assert {"contrast.quantizer.entries", "contrast.quantizer.scores.weight"} <= load_file(path).keys()
    again = ConformerTokenizer(**{**SMALL, **CONTRASTIVE, "front_end": "waveform"}).eval()
    load_weights(again, path, {"use": "x"})
    assert torch.equal(again.contrast.quantizer.codevectors, tokenizer.contrast.quantizer.codevectors)


def test_draws_of_the_contrastive_objective_become_surer() -> None:
    tokenizer = _built("waveform", **CONTRASTIVE).train()
    waveform = _music(1, 24_000)
    temperatures = []
    for step in (0, 100_000, 10_000_000):
        tokenizer.self_supervised_loss(waveform, step=step)
        temperatures.append(tokenizer.contrast.quantizer.temperature)
    assert temperatures == pytest.approx([2.0, 2.0 * 0.999995**100_000, 0.5])  # arXiv 2006.11477, section 4.2


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 4), length=st.integers(2, 30), count=st.integers(1, 7), seed=st.integers(0, 99))
def test_distractors_are_other_masked_places_of_the_same_row(rows: int, length: int, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    mask = span_mask(rows, length, 0.2, 2)
    row = mask.nonzero()[:, 0]
    drawn = negative_places(mask, count)
    assert drawn.shape == (int(mask.sum()), count)
    assert torch.equal(row[drawn], row[:, None].expand(-1, count))
    alone = mask.sum(dim=1)[row] == 1
    itself = (drawn == torch.arange(len(drawn))[:, None]).any(dim=1)
    assert torch.equal(itself, alone)


def test_a_contrastive_objective_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(MelodyError, match="objective 'contrastive' needs front_end 'waveform'.*; got 'mel'"):
        ConformerTokenizer(**{**SMALL, **CONTRASTIVE, "front_end": "mel"})
    with pytest.raises(MelodyError, match="codevector_dim 8 is not a multiple of codevector_groups 3"):
        ConformerTokenizer(**{**SMALL, **CONTRASTIVE, "front_end": "waveform", "codevector_groups": 3})


def test_the_papers_objective_keeps_the_papers_size() -> None:
    preset = load_preset("paper")
    assert preset.semantic_tokenizer.arguments["objective"] == "contrastive"  # appendix B.2
    with torch.device("meta"):
        tokenizer = ConformerTokenizer(**preset.semantic_tokenizer.arguments)
    assert sum(p.numel() for p in tokenizer.parameters()) == pytest.approx(199.5e6, rel=0.01)
    assert all(p.is_meta for p in tokenizer.contrast.parameters())


def test_weights_round_trip(tokenizer: ConformerTokenizer, tmp_path: Path) -> None:
    save_weights(tokenizer, tmp_path / "semantic.safetensors", {"use": "x"})
    loaded = ConformerTokenizer(**{**SMALL, "front_end": tokenizer.front_end}).eval()
    load_weights(loaded, tmp_path / "semantic.safetensors", {"use": "x"})
    with torch.inference_mode():
        same = loaded.tokenize(_music(2, 48_000)) == tokenizer.tokenize(_music(2, 48_000))
    assert same.float().mean() > 0.9  # stored in float16, so a frame on a border may change


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 4),
    length=st.integers(2, 60),
    probability=st.floats(0, 1),
    span=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_masks_always_leave_something_to_predict_and_to_predict_from(
    rows: int, length: int, probability: float, span: int, seed: int
) -> None:
    torch.manual_seed(seed)
    mask = span_mask(rows, length, probability, span)
    assert mask.shape == (rows, length)
    assert bool(mask.any(dim=1).all())
    assert not bool(mask.all(dim=1).any())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.tokenize(torch.full((1, 1, 9_600), torch.nan)), "NaN"),
        (lambda t: t.tokenize(torch.zeros(9_600)), "expected .batch, 1, samples."),
        (lambda t: t.self_supervised_loss(torch.zeros(1, 1, 1)), "at least 1920 samples"),
        (lambda t: t.fit_codebook(torch.zeros(9, 3)), "expected .frames, 16."),
        (lambda t: t.fit_codebook(torch.zeros(3, 16)), "3 points cannot give 8"),
    ],
)
def test_bad_input(tokenizer: ConformerTokenizer, call: Callable[[ConformerTokenizer], object], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        call(tokenizer)


def test_unfitted_tokenizer_is_refused() -> None:
    with pytest.raises(MelodyError, match="not fitted"):
        ConformerTokenizer(**SMALL).tokenize(torch.zeros(1, 1, 9_600))


@pytest.mark.parametrize(
    "change",
    [
        {"feature_layer": 3},
        {"num_heads": 3},
        {"sample_rate": 22_049},
        {"mel_hop_length": 250},
        {"conv_strides": (5, 4)},
        {"conv_kernels": (2, 8, 8, 4, 4, 4)},
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(MelodyError):
        ConformerTokenizer(**{**SMALL, **change})
