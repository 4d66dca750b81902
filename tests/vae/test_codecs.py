"""What every codec keeps: lengths, determinism, the scale of latents, gradients, clear errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melody.errors import MelodyError
from melody.registry import codecs
from melody.vae.variational import LATENT_SCALE, VariationalCodec

TINY = {
    "fourier-vae": {"hop_length": 48, "latent_dim": 4, "hidden_dim": 16, "n_fft": 96, "stft_hop_length": 24},
    "hifi-vae": {
        "latent_dim": 4,
        "encoder_rates": (2, 3),
        "encoder_widths": (4, 8),
        "encoder_kernels": (5, 7),
        "encoder_residual_kernels": (3, 5),
        "encoder_units": 1,
        "decoder_rates": (3, 2),
        "decoder_widths": (8, 4),
        "decoder_kernels": (5, 7),
        "decoder_residual_kernels": (3, 5),
        "decoder_input_width": 8,
    },
}


def tiny(name: str, **changes: object) -> VariationalCodec:
    torch.manual_seed(0)
    codec: VariationalCodec = codecs.create(name, {**TINY[name], **changes})
    return codec.eval()


CODECS = {name: tiny(name) for name in TINY}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(params=sorted(TINY))
def codec(request: pytest.FixtureRequest) -> VariationalCodec:
    return CODECS[request.param]


@pytest.mark.parametrize("name", sorted(TINY))
@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 3), samples=st.integers(1, 400))
def test_any_length_gives_whole_frames_and_back(name: str, batch: int, samples: int) -> None:
    codec = CODECS[name]
    waveform = noise(batch, 1, samples, seed=samples)
    frames = math.ceil(samples / codec.hop_length)
    with torch.no_grad():
        mean, log_variance = codec.posterior(waveform)
        latents = codec.encode(waveform)
        decoded = codec.decode(latents)
        reconstructed, *_ = codec.reconstruct(waveform)
    assert mean.shape == log_variance.shape == latents.shape == (batch, frames, codec.latent_dim)
    assert decoded.shape == (batch, 1, frames * codec.hop_length)
    assert reconstructed.shape == waveform.shape
    assert latents.abs().max() <= 1
    assert torch.isfinite(decoded).all()


@torch.no_grad()
def test_latents_are_the_clamped_third_of_the_mean(codec: VariationalCodec) -> None:
    waveform = noise(2, 1, 300)
    mean, _ = codec.posterior(waveform)
    assert torch.equal(codec.encode(waveform), (mean / 3).clamp(-1, 1))
    unscaled = noise(2, 5, codec.latent_dim) * LATENT_SCALE
    assert torch.allclose(codec.decode(unscaled / 3), codec.synthesize(unscaled), atol=1e-6)


@torch.no_grad()
def test_the_end_is_padded_with_zeros(codec: VariationalCodec) -> None:
    waveform = noise(1, 1, 2 * codec.hop_length - 3)
    padded = torch.nn.functional.pad(waveform, (0, 3))
    assert torch.equal(codec.encode(waveform), codec.encode(padded))


@torch.no_grad()
def test_same_input_same_bits_and_rows_do_not_touch(codec: VariationalCodec) -> None:
    waveform = noise(3, 1, 333)
    latents = codec.encode(waveform)
    assert torch.equal(latents, codec.encode(waveform))
    assert torch.equal(codec.decode(latents), codec.decode(latents))
    assert torch.allclose(latents[1:2], codec.encode(waveform[1:2]), atol=1e-5)
    assert torch.allclose(codec.decode(latents)[1:2], codec.decode(latents[1:2]), atol=1e-5)


@torch.no_grad()
def test_reconstruct_draws_from_the_posterior(codec: VariationalCodec) -> None:
    waveform = noise(2, 1, 4 * codec.hop_length)
    first, mean, log_variance = codec.reconstruct(waveform, torch.Generator().manual_seed(5))
    again, *_ = codec.reconstruct(waveform, torch.Generator().manual_seed(5))
    other, *_ = codec.reconstruct(waveform, torch.Generator().manual_seed(6))
    drawn = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
    sample = mean + torch.exp(log_variance / 2) * drawn
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.allclose(first, codec.synthesize(sample.clamp(-3, 3)), atol=1e-6)
    state = torch.get_rng_state()
    codec.reconstruct(waveform, torch.Generator().manual_seed(5))
    assert torch.equal(state, torch.get_rng_state())


@torch.no_grad()
def test_the_decoder_is_trained_on_what_it_decodes_later(codec: VariationalCodec) -> None:
    """Appendix B.1, figure 4: clamp(z̄/3, −1, 1) lies between sample and decoder, but where it is left out."""
    waveform = noise(2, 1, 4 * codec.hop_length)
    mean, log_variance = codec.posterior(waveform)
    drawn = 9 * noise(*mean.shape, seed=3)  # far out, so that many are clipped
    sample = mean + torch.exp(log_variance / 2) * drawn
    assert (sample.abs() > 3).float().mean() > 0.05
    mapped, *_ = codec.reconstruct(waveform, noise=drawn)
    free, *_ = codec.reconstruct(waveform, noise=drawn, mapped=False)
    assert torch.allclose(mapped, codec.decode((sample / 3).clamp(-1, 1)), atol=1e-5)
    assert torch.allclose(free, codec.synthesize(sample), atol=1e-5)
    assert not torch.allclose(mapped, free, atol=1e-3)
    centre, deviation = codec.distribution(waveform)
    assert torch.allclose((centre + deviation * drawn) * 3, sample, atol=1e-5)


@pytest.mark.parametrize("name", sorted(TINY))
def test_gradients_reach_every_parameter(name: str) -> None:
    codec = tiny(name).train()
    waveform, mean, log_variance = codec(noise(2, 1, 600))
    (waveform.square().mean() + mean.mean() + log_variance.mean()).backward()
    dead = [n for n, p in codec.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@torch.no_grad()
def test_chunks_that_overlap_by_the_context_decode_to_the_whole(codec: VariationalCodec) -> None:
    context, hop = codec.decoder_context_frames, codec.hop_length
    latents = noise(1, 2 * context + 20, codec.latent_dim)
    whole = codec.decode(latents)
    first, last = context + 7, context + 13
    piece = codec.decode(latents[:, first - context : last + context])
    assert torch.allclose(piece[..., context * hop : -context * hop], whole[..., first * hop : last * hop], atol=1e-5)


@torch.no_grad()
def test_the_context_is_not_far_too_large(codec: VariationalCodec) -> None:
    """A change of one frame must be heard at least half as far away as the context says."""
    context, hop = codec.decoder_context_frames, codec.hop_length
    latents = noise(1, 2 * context + 1, codec.latent_dim).double()
    changed = latents.clone()
    changed[:, context] += 0.5
    codec = codec.double()
    heard = (codec.decode(changed) - codec.decode(latents)).abs().unflatten(-1, (-1, hop)).amax(-1).flatten().nonzero()
    codec.float()
    assert context - heard.min() >= context // 2


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(1, 100), r"shape \(1, 100\), expected \(B, 1, T\)"),
        (torch.zeros(1, 2, 100), r"shape \(1, 2, 100\)"),
        (torch.zeros(1, 1, 0), "without an empty axis"),
        (torch.zeros(0, 1, 100), "without an empty axis"),
        (torch.zeros(1, 1, 100, dtype=torch.int16), "torch.int16, expected torch.float32"),
        (torch.zeros(1, 1, 100, dtype=torch.float64), "torch.float64, expected torch.float32"),
        (torch.full((1, 1, 100), torch.nan), "NaN or infinity"),
        (torch.full((1, 1, 100), torch.inf), "NaN or infinity"),
    ],
)
def test_bad_waveforms_are_refused(codec: VariationalCodec, waveform: Tensor, message: str) -> None:
    for call in (codec.posterior, codec.encode, codec.reconstruct):
        with pytest.raises(MelodyError, match=message):
            call(waveform)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (torch.zeros(5, 4), r"expected \(B, L, 4\)"),
        (torch.zeros(1, 5, 3), r"shape \(1, 5, 3\), expected \(B, L, 4\)"),
        (torch.zeros(1, 0, 4), "without an empty axis"),
        (torch.zeros(1, 5, 4, dtype=torch.int64), "torch.int64"),
        (torch.full((1, 5, 4), torch.nan), "NaN or infinity"),
    ],
)
def test_bad_latents_are_refused(codec: VariationalCodec, latents: Tensor, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        codec.decode(latents)


@pytest.mark.parametrize("gain", [0.0, 1.0, 100.0])
@torch.no_grad()
def test_silence_and_loud_input_stay_finite(codec: VariationalCodec, gain: float) -> None:
    mean, log_variance = codec.posterior(gain * noise(1, 1, 500))
    assert torch.isfinite(mean).all()
    assert torch.isfinite(log_variance.exp()).all()


@pytest.fixture(scope="module")
def full_size() -> dict[str, VariationalCodec]:
    # Not on the meta device: there weight norms load torch's compiler, which takes longer than filling the weights.
    return {name: codecs.create(name) for name in TINY}


def count_weights(codec: VariationalCodec) -> dict[str, int]:
    """Weights of the encoder and the decoder, with the weight norms (``original0``) folded in."""
    counts = {"encoder": 0, "decoder": 0}
    for parameter_name, parameter in codec.named_parameters():
        if not parameter_name.endswith("original0"):
            counts[parameter_name.partition("_")[0]] += parameter.numel()
    return counts


def test_sizes_of_the_papers_codec_are_within_one_percent(full_size: dict[str, VariationalCodec]) -> None:
    counts = count_weights(full_size["hifi-vae"])
    assert counts["encoder"] == pytest.approx(40e6, rel=0.01)  # appendix B.1
    assert counts["decoder"] == pytest.approx(60.1e6, rel=0.01)
    assert sum(counts.values()) == pytest.approx(100.1e6, rel=0.01)


def test_papers_codec_has_the_papers_rate(full_size: dict[str, VariationalCodec]) -> None:
    codec = full_size["hifi-vae"]
    assert (codec.sample_rate, codec.hop_length, codec.latent_dim, codec.frame_rate) == (24000, 96, 16, 250.0)


def test_small_codec_fits_the_demo(full_size: dict[str, VariationalCodec]) -> None:
    codec = full_size["fourier-vae"]
    assert sum(count_weights(codec).values()) <= 2.4e6
    assert (codec.sample_rate, codec.hop_length, codec.latent_dim, codec.frame_rate) == (24000, 480, 32, 50.0)
    assert all(torch.isfinite(tensor).all() for tensor in codec.state_dict().values())


@torch.no_grad()
def test_removing_weight_norm_keeps_the_output() -> None:
    codec = tiny("hifi-vae")
    waveform = noise(1, 1, 200)
    before, latents = codec.decode(codec.encode(waveform)), codec.encode(waveform)
    codec.remove_weight_norm()
    assert torch.allclose(codec.encode(waveform), latents, atol=1e-6)
    assert torch.allclose(codec.decode(latents), before, atol=1e-6)
    assert not [name for name in codec.state_dict() if "parametrizations" in name]


@torch.no_grad()
def test_weights_load_with_norms_and_with_norms_folded_in() -> None:
    """Whichever way they were saved, and whichever way the codec is that takes them in."""
    trained, latents = tiny("hifi-vae"), noise(1, 5, 4)
    for parameter in trained.parameters():
        parameter.mul_(1.1)  # gains that are no longer the norms of their directions
    expected = trained.decode(latents)
    with_norms = trained.state_dict()
    trained.remove_weight_norm()
    folded = trained.state_dict()
    assert not set(with_norms) & {name for name in folded if name.endswith("weight")}
    for state in (with_norms, folded):
        for fold in (False, True):
            codec = codecs.create("hifi-vae", TINY["hifi-vae"]).eval()
            if fold:
                codec.remove_weight_norm()
            names = set(state)
            codec.load_state_dict(state)
            assert set(state) == names, "the weights of the caller are left as they are"
            assert torch.allclose(codec.decode(latents), expected, atol=1e-6)


@pytest.mark.parametrize("name", sorted(TINY))
@torch.no_grad()
def test_removing_norms_where_there_are_none_changes_nothing(name: str) -> None:
    codec = tiny(name)
    before = codec.decode(noise(1, 3, 4))
    codec.remove_weight_norm()
    codec.remove_weight_norm()
    assert torch.allclose(codec.decode(noise(1, 3, 4)), before, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fourier-vae", {"stft_hop_length": 25}, "does not divide hop_length 48"),
        ("fourier-vae", {"n_fft": 100}, "n_fft 100 with a hop of 24"),
        ("fourier-vae", {"n_fft": 24}, "at least two hops"),
        ("fourier-vae", {"latent_dim": 0}, "at least 1|equal to 1"),
        ("fourier-vae", {"decoder_layers": -1}, "equal to 0"),
        ("fourier-vae", {"hidden": 3}, "did you mean 'hidden_dim'"),
        ("hifi-vae", {"encoder_rates": (2, 2)}, "differ in their product"),
        ("hifi-vae", {"encoder_kernels": (5,)}, "expected as many of each"),
        ("hifi-vae", {"encoder_kernels": (4, 7)}, r"\[4\] are even"),
        ("hifi-vae", {"decoder_kernels": (1, 7)}, r"\[1\] are shorter than their rates"),
        ("hifi-vae", {"decoder_widths": (0, 7)}, "at least 1|equal to 1"),
        ("hifi-vae", {"encoder_units": 0}, "at least 1|equal to 1"),
    ],
)
def test_bad_settings_are_refused(name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        tiny(name, **changes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", sorted(TINY))
@torch.no_grad()
def test_cuda_gives_what_the_cpu_gives(name: str) -> None:
    codec = tiny(name)
    waveform = noise(2, 1, 500)
    latents = codec.encode(waveform)
    decoded = codec.decode(latents)
    codec = codec.cuda()
    assert torch.allclose(codec.encode(waveform.cuda()).cpu(), latents, atol=1e-3)
    assert torch.allclose(codec.decode(latents.cuda()).cpu(), decoded, atol=1e-3)
