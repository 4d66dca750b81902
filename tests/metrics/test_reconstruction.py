"""Distances of a codec's sound to the original, against auraloss, torchmetrics and what must hold of any distance."""

from __future__ import annotations

import math

import auraloss
import pytest
import torch
from torchmetrics.functional.audio import (
    scale_invariant_signal_distortion_ratio,
    scale_invariant_signal_noise_ratio,
)

from melody.errors import MelodyError
from melody.metrics.reconstruction import (
    SISDR,
    LogMelDistance,
    MRSTFTDistance,
    log_mel_distance,
    mr_stft_distance,
    si_sdr,
)
from melody.metrics.si_snr import SISNR

RATE = 24_000


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(RATE) / RATE
    target = torch.stack([0.4 * torch.sin(2 * math.pi * f * time) for f in (220.0, 1000.0)])
    return target + 0.05 * torch.randn(target.shape, generator=generator), target


def test_mr_stft_equals_auraloss(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference = auraloss.freq.MultiResolutionSTFTLoss()
    ours = mr_stft_distance(*pair)
    for index in range(2):
        theirs = reference(pair[0][index][None, None], pair[1][index][None, None])
        assert float(ours[index]) == pytest.approx(float(theirs), rel=1e-4)


def test_si_sdr_equals_torchmetrics_and_ignores_gain(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    theirs = scale_invariant_signal_distortion_ratio(*(x.double() for x in pair))
    assert torch.allclose(si_sdr(*pair), theirs, atol=1e-6)
    assert torch.allclose(si_sdr(3 * pair[0], pair[1]), theirs, atol=1e-5)


def test_log_mel_distance_of_another_level_is_that_level(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    noisy, _ = pair  # no band of it lies at the floor
    assert float(log_mel_distance(noisy, noisy, RATE).max()) == 0
    assert log_mel_distance(noisy / 10, noisy, RATE).tolist() == pytest.approx([20.0, 20.0], abs=1.0)


def test_bad_clips_are_refused(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(MelodyError, match="silent"):
        si_sdr(pair[0], 0 * pair[1])
    with pytest.raises(MelodyError, match=r"expected \(B, T\)"):
        mr_stft_distance(pair[0][0], pair[1][0])
    with pytest.raises(MelodyError, match="NaN"):
        log_mel_distance(pair[0] * math.nan, pair[1], RATE)
    with pytest.raises(MelodyError, match="got clips of 1024 samples; expected at least 1025"):
        mr_stft_distance(pair[0][:, :1024], pair[1][:, :1024])
    with pytest.raises(MelodyError, match=r"expected mono \(B, 1, T\)"):
        MRSTFTDistance().update(pair[0], pair[1])
    with pytest.raises(MelodyError, match=r"expected mono \(B, 1, T\)"):
        SISDR().update(pair[0][None], pair[1][None])  # stereo is not two clips


def test_registered_metrics_are_means_over_clips(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    values = {
        MRSTFTDistance(): mr_stft_distance(*pair),
        LogMelDistance(sample_rate=RATE): log_mel_distance(*pair, RATE),
        SISDR(): si_sdr(*pair),
        SISNR(): scale_invariant_signal_noise_ratio(*(x.double() for x in pair)),
    }
    for metric, expected in values.items():
        for preds, target in zip(*pair, strict=True):
            metric.update(preds[None, None], target[None, None])
        assert metric.input_kind == "waveform_pairs"
        assert float(metric.compute()) == pytest.approx(float(expected.double().mean()), rel=1e-6)
