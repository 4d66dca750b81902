"""Losses and discriminators of the VAE-GAN against direct computations and independent references."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melody.errors import MelodyError
from melody.vae.discriminators import (
    PERIODS,
    RESOLUTIONS,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
)
from melody.vae.losses import (
    FFT_SIZES,
    HOP_LENGTHS,
    WINDOW_LENGTHS,
    MultiResolutionStftLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    kl_loss,
    stft_magnitude,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_resolutions_are_the_papers() -> None:
    assert MultiResolutionStftLoss().resolutions == (
        (8192, 4096, 2048),
        (4096, 2048, 1024),
        (2048, 1024, 512),
        (512, 256, 128),
        (128, 64, 32),
        (64, 32, 16),
        (32, 16, 8),
    )


@pytest.mark.parametrize(("fft_size", "window_length", "hop_length"), [(512, 256, 128), (128, 64, 32), (32, 16, 8)])
def test_magnitudes_equal_scipys(fft_size: int, window_length: int, hop_length: int) -> None:
    waveform = noise(1, 1, 1000)
    window = scipy.signal.windows.hann(window_length, sym=False)
    margin = (fft_size - window_length) // 2
    reference = scipy.signal.ShortTimeFFT(np.pad(window, margin), hop_length, 1.0, fft_mode="onesided")
    reflected = np.pad(waveform[0, 0].double().numpy(), fft_size // 2, mode="reflect")
    first = fft_size // 2 // hop_length
    frames = 1000 // hop_length + 1
    expected = np.abs(reference.stft(reflected, p0=first, p1=first + frames))
    got = stft_magnitude(waveform, fft_size, hop_length, torch.hann_window(window_length))
    np.testing.assert_allclose(got[0].numpy(), expected, atol=1e-4)


def test_spectral_loss_equals_a_direct_computation() -> None:
    preds, target = noise(2, 1, 9000), noise(2, 1, 9000, seed=1)
    terms = []
    for size, length, hop in zip(FFT_SIZES, WINDOW_LENGTHS, HOP_LENGTHS, strict=True):
        window = torch.hann_window(length)
        p, t = (torch.stft(x[:, 0], size, hop, length, window, return_complex=True).abs() for x in (preds, target))
        terms.append((p - t).abs().mean())
    assert MultiResolutionStftLoss()(preds, target).item() == pytest.approx(float(sum(terms)), rel=1e-5)  # Eq. 34
    averaged = MultiResolutionStftLoss(reduction="mean")(preds, target).item()
    assert averaged == pytest.approx(float(sum(terms)) / 7.0, rel=1e-5)


def test_spectral_loss_equals_auralosss_linear_term() -> None:
    freq = pytest.importorskip("auraloss.freq")
    reference = freq.MultiResolutionSTFTLoss(
        list(FFT_SIZES), list(HOP_LENGTHS), list(WINDOW_LENGTHS), w_sc=0.0, w_log_mag=0.0, w_lin_mag=1.0
    )
    preds, target = noise(2, 1, 9000), noise(2, 1, 9000, seed=1)
    expected = reference(preds, target).item()
    assert MultiResolutionStftLoss(reduction="mean")(preds, target).item() == pytest.approx(expected, rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(samples=st.integers(1, 5000))
def test_spectral_loss_of_any_length_is_finite_and_zero_for_equal_clips(samples: int) -> None:
    loss = MultiResolutionStftLoss()
    target = noise(1, 1, samples, seed=samples)
    preds = torch.zeros_like(target).requires_grad_()
    value = loss(preds, target)
    value.backward()
    assert value > 0
    assert preds.grad is not None
    assert torch.isfinite(preds.grad).all()
    assert loss(target, target) == 0


def test_log_magnitudes_hear_what_is_quiet() -> None:
    target = noise(1, 1, 9000)
    for gain in (0.5, 0.25):
        linear, log = MultiResolutionStftLoss().linear_and_log(gain * target, target)
        # Far above the floor, a change of gain is the same number of nepers at any level.
        assert log.item() == pytest.approx(-np.log(gain), rel=0.05)
        quiet_linear, quiet_log = MultiResolutionStftLoss().linear_and_log(0.1 * gain * target, 0.1 * target)
        assert quiet_linear.item() == pytest.approx(0.1 * linear.item(), rel=1e-4)
        assert quiet_log.item() == pytest.approx(log.item(), rel=0.15)
    silence = torch.zeros_like(target)
    assert [float(term) for term in MultiResolutionStftLoss().linear_and_log(silence, silence)] == [0.0, 0.0]


def test_spectral_loss_scales_with_the_signal() -> None:
    preds, target = noise(1, 1, 3000), noise(1, 1, 3000, seed=1)
    loss = MultiResolutionStftLoss((512,), (256,), (128,))
    assert loss(2 * preds, 2 * target).item() == pytest.approx(2 * loss(preds, target).item(), rel=1e-5)


def test_spectral_loss_sends_gradients_to_the_prediction_only() -> None:
    preds, target = noise(1, 1, 600).requires_grad_(), noise(1, 1, 600, seed=1).requires_grad_()
    MultiResolutionStftLoss()(preds, target).backward()
    assert preds.grad is not None
    assert preds.grad.abs().sum() > 0
    assert target.grad is None


def test_bad_resolutions_and_shapes_are_refused() -> None:
    with pytest.raises(MelodyError, match="expected as many of each"):
        MultiResolutionStftLoss((64,), (32, 16), (8,))
    with pytest.raises(MelodyError, match=r"windows \[128\] are longer"):
        MultiResolutionStftLoss((64,), (128,), (8,))
    with pytest.raises(MelodyError, match="expected one shape"):
        MultiResolutionStftLoss()(noise(1, 1, 100), noise(1, 1, 101))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), width=st.integers(1, 20))
def test_kl_equals_torchs(seed: int, width: int) -> None:
    mean, log_variance = noise(2, 5, width, seed=seed) * 5, noise(2, 5, width, seed=seed + 1) * 5
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(-1).mean()
    assert kl_loss(mean, log_variance).item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)


def test_kl_of_the_prior_is_zero() -> None:
    assert kl_loss(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4)) == 0


def test_least_squares_losses_at_known_points() -> None:
    real, fake = [torch.ones(2, 5), torch.ones(2, 3)], [torch.zeros(2, 5), torch.zeros(2, 3)]
    assert discriminator_loss(real, fake) == 0
    assert discriminator_loss(fake, real) == 4  # two discriminators, each wrong by 1 on both sides
    assert discriminator_loss(fake, real, "mean") == 2
    assert generator_loss(real) == 0
    assert generator_loss([torch.full((2, 5), 3.0), torch.full((2, 3), 2.0)]) == 5
    assert generator_loss([torch.full((2, 5), 3.0), torch.full((2, 3), 2.0)], "mean") == 2.5


def test_the_losses_of_all_discriminators_are_those_of_the_equations() -> None:
    """Eq. 35 and 36 by hand, over the eight discriminators of both kinds, and how much the mean form lacks."""
    torch.manual_seed(0)
    target = noise(1, 1, 6000)
    preds = target + noise(1, 1, 6000, seed=1)
    kinds = [MultiPeriodDiscriminator(width=8), MultiResolutionDiscriminator(width=8)]
    feature, adversarial, judges = 0.0, 0.0, 0
    got, averaged = torch.zeros(2), torch.zeros(2)
    with torch.no_grad():
        for kind in kinds:
            for part in kind.parts:
                (_, real), (logits, fake) = part(target), part(preds)
                feature += sum(float((r - f).abs().mean()) for r, f in zip(real, fake, strict=True)) / len(real)
                adversarial += float(((logits - 1) ** 2).mean())
                judges += 1
            (_, reals), (judged, fakes) = kind(target), kind(preds)
            got += torch.stack([feature_matching_loss(reals, fakes), generator_loss(judged)])
            averaged += torch.stack([feature_matching_loss(reals, fakes, "mean"), generator_loss(judged, "mean")])
    assert judges == 8
    assert got.tolist() == pytest.approx([feature, adversarial], rel=1e-5)
    ratios = (got / averaged).tolist()
    # Untrained, all judge alike, so (5 a + 3 a) / (a + a); features of spectrograms differ more than of waveforms.
    assert ratios[1] == pytest.approx(4.0, rel=0.05)
    assert ratios[0] == pytest.approx(3.2, rel=0.1)


def test_feature_matching_averages_layers_and_spares_the_real_side() -> None:
    real = [[torch.zeros(2, 3).requires_grad_(), torch.zeros(4)], [torch.zeros(1)]]
    fake = [[torch.ones(2, 3).requires_grad_(), torch.full((4,), 2.0)], [torch.full((1,), 3.0)]]
    value = feature_matching_loss(real, fake)
    assert value == 1.5 + 3
    assert feature_matching_loss(real, fake, "mean") == 2
    value.backward()
    assert real[0][0].grad is None
    assert fake[0][0].grad is not None


@pytest.mark.parametrize("samples", [1, 17, 800])
def test_period_discriminator_judges_every_period(samples: int) -> None:
    logits, features = MultiPeriodDiscriminator(width=2)(noise(3, 1, samples))
    assert len(logits) == len(features) == len(PERIODS) == 5
    assert all(one.ndim == 2 and len(one) == 3 for one in logits)
    assert [[f.shape[1] for f in maps] for maps in features] == [[2, 8, 32, 64, 64, 1]] * 5
    assert [maps[0].shape[-1] for maps in features] == list(PERIODS)


@pytest.mark.parametrize("samples", [1, 17, 3000])
def test_spectrogram_discriminator_judges_every_resolution(samples: int) -> None:
    logits, features = MultiResolutionDiscriminator(width=2)(noise(3, 1, samples))
    assert len(logits) == len(features) == len(RESOLUTIONS) == 3
    assert all(one.ndim == 2 and len(one) == 3 for one in logits)
    assert [[f.shape[1] for f in maps] for maps in features] == [[2, 2, 2, 2, 2, 1]] * 3
    assert [maps[0].shape[2] for maps in features] == [513, 1025, 257]


@pytest.mark.parametrize("kind", [MultiPeriodDiscriminator, MultiResolutionDiscriminator])
def test_discriminators_learn_and_pass_gradients_to_the_waveform(kind: type) -> None:
    torch.manual_seed(0)
    discriminator = kind(width=2)
    real, fake = noise(2, 1, 600), noise(2, 1, 600, seed=1).requires_grad_()
    real_logits, real_features = discriminator(real)
    fake_logits, fake_features = discriminator(fake)
    discriminator_loss(real_logits, fake_logits).backward(retain_graph=True)
    assert [n for n, p in discriminator.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    fake.grad = None
    (generator_loss(fake_logits) + feature_matching_loss(real_features, fake_features)).backward()
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0


def test_width_32_is_the_size_of_the_originals() -> None:
    period, resolution = MultiPeriodDiscriminator(), MultiResolutionDiscriminator()
    assert [part.layers[-1].out_channels for part in period.parts] == [1024] * 5  # HiFi-GAN
    assert [part.layers[-1].out_channels for part in resolution.parts] == [32] * 3  # UnivNet
