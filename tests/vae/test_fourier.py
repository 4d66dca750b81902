"""The transform at both ends of ``fourier-vae``."""

from __future__ import annotations

import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melody.registry import codecs
from melody.vae.fourier import ShortTimeFourier, spectrum_features
from melody.vae.losses import MultiResolutionStftLoss


@settings(max_examples=40, deadline=None)
@given(hop=st.integers(1, 40), overlap=st.integers(2, 6), frames=st.integers(1, 12), seed=st.integers(0, 99))
def test_inverse_of_the_transform_is_the_signal(hop: int, overlap: int, frames: int, seed: int) -> None:
    if overlap % 2 and hop % 2:
        hop += 1  # an odd hop needs an even overlap, and then the margin is no whole number: even hops only
    hop += hop % 2
    stft = ShortTimeFourier(hop * overlap, hop)
    samples = torch.randn(2, frames * hop, generator=torch.Generator().manual_seed(seed))
    spectrum = stft(samples)
    assert spectrum.shape == (2, frames, hop * overlap // 2 + 1)
    assert torch.allclose(stft.inverse(spectrum), samples, atol=1e-4)


def test_transform_equals_scipys() -> None:
    stft = ShortTimeFourier(96, 24)
    samples = torch.randn(96 * 4, generator=torch.Generator().manual_seed(0))
    window = scipy.signal.windows.hann(96, sym=False)
    reference = scipy.signal.ShortTimeFFT(window, 24, 24000, scale_to=None, fft_mode="onesided", phase_shift=None)
    # scipy centres slice p at sample p * hop; ours at half a hop later.
    shifted = torch.nn.functional.pad(samples, (36 + 48, 48 + 96)).double().numpy()
    expected = torch.from_numpy(reference.stft(shifted, p0=4, p1=4 + 16, padding="zeros")).T / 96**0.5
    assert torch.allclose(stft(samples[None])[0], expected.to(torch.complex64), atol=1e-5)


def test_features_are_compressed_magnitude_and_phase() -> None:
    spectrum = torch.polar(torch.rand(1, 3, 5) + 0.1, torch.rand(1, 3, 5) * 6)
    magnitude, real, imaginary = spectrum_features(spectrum).chunk(3, dim=-1)
    assert torch.allclose(magnitude, spectrum.abs() ** 0.3, atol=1e-4)
    assert torch.allclose(torch.complex(real, imaginary).angle(), spectrum.angle(), atol=1e-4)
    assert torch.allclose(torch.complex(real, imaginary).abs(), magnitude, atol=1e-4)


def test_a_few_steps_of_training_lower_the_loss() -> None:
    torch.manual_seed(0)
    codec = codecs.create(
        "fourier-vae", {"hop_length": 120, "hidden_dim": 32, "n_fft": 240, "stft_hop_length": 60, "latent_dim": 8}
    )
    time = torch.arange(2400) / 24000
    pitches = torch.tensor([220.0, 330.0, 440.0, 550.0])
    target = 0.3 * torch.sin(2 * torch.pi * pitches[:, None] * time)[:, None]
    loss = MultiResolutionStftLoss((512, 128, 32), (256, 64, 16), (128, 32, 8))
    optimizer = torch.optim.Adam(codec.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        preds, *_ = codec(target)
        spectral = loss(preds, target)
        optimizer.zero_grad()
        (spectral + 2 * (preds - target).abs().mean()).backward()
        optimizer.step()
        history.append(spectral.item())
    assert sum(history[-5:]) < 0.5 * sum(history[:5])
